/** Which daemon a command talks to: --api, $NYX_API_SOCKET, a local network that is up, ./nyx-data, the default socket. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ConnectOptions, connectNyx, defaultSocketPath, type NyxClient } from '@nyx/sdk/index.ts';
import { CliError, ExitCode } from './exit-codes.ts';
import type { Io } from './output.ts';
import { readPointer } from './pointer.ts';

export interface ApiOptions {
  /** Path of a Unix socket (`unix:` before it or not), or HOST:PORT (`https://` before it or not): TLS. */
  readonly api?: string;
  readonly tokenFile?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

export function apiAddress(options: ApiOptions, io: Io): Pick<ConnectOptions, 'socketPath' | 'address'> {
  const { api } = options;
  if (api !== undefined) {
    const url = /^https:\/\/([^/]+)\/?$/.exec(api);
    if (url !== null) return { address: /:\d+$/.test(url[1]!) ? url[1]! : `${url[1]}:443` };
    if (/^[a-z]+:\/\//.test(api)) {
      throw new CliError(
        ExitCode.usage,
        `--api ${api}: the API on TCP is spoken over TLS only; write https://HOST:PORT`,
      );
    }
    const isPath = api.includes('/') || !/:\d+$/.test(api);
    return isPath ? { socketPath: api } : { address: api };
  }
  if (io.env.NYX_API_SOCKET) return { socketPath: io.env.NYX_API_SOCKET };
  const pointer = readPointer(io.env, io.cwd);
  if (pointer) return { socketPath: pointer.apiSocket };
  // Where a daemon that was started in this directory without further configuration has its socket.
  const here = join(io.cwd, 'nyx-data', 'api.sock');
  return { socketPath: existsSync(here) ? here : defaultSocketPath(io.env) };
}

export async function findDaemon(options: ApiOptions, io: Io): Promise<NyxClient> {
  const { tokenFile, tlsCa: ca, tlsCert: cert, tlsKey: key } = options;
  const token = readOption('--token-file', tokenFile)?.trim();
  readOption('--tls-ca', ca);
  readOption('--tls-cert', cert);
  readOption('--tls-key', key);
  if ((cert === undefined) !== (key === undefined)) {
    throw new CliError(ExitCode.usage, '--tls-cert and --tls-key belong together; give both or none');
  }
  return await connectNyx({ ...apiAddress(options, io), token, tls: { ca, cert, key }, signal: io.signal });
}

function readOption(option: string, path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, 'utf8');
  } catch (error) {
    throw new CliError(ExitCode.usage, `${option}: ${(error as Error).message}`);
  }
}

/** Runs `work` with a connected client and closes it whatever happens. */
export async function withDaemon<T>(options: ApiOptions, io: Io, work: (client: NyxClient) => Promise<T>): Promise<T> {
  const client = await findDaemon(options, io);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
