/** Which daemon a command talks to: --api, $NYX_API_SOCKET, a local network that is up, ./nyx-data, the default socket. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ConnectOptions, connectNyx, defaultSocketPath, type NyxClient } from '@nyx/sdk/index.ts';
import { CliError, ExitCode } from './exit-codes.ts';
import type { Io } from './output.ts';
import { readPointer } from './pointer.ts';

export interface ApiOptions {
  /** Path of a Unix socket, or HOST:PORT (TLS). */
  readonly api?: string;
  readonly tokenFile?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

export function apiAddress(options: ApiOptions, io: Io): Pick<ConnectOptions, 'socketPath' | 'address'> {
  const { api } = options;
  if (api !== undefined) {
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
  let token: string | undefined;
  try {
    token = tokenFile === undefined ? undefined : readFileSync(tokenFile, 'utf8').trim();
  } catch (error) {
    throw new CliError(ExitCode.usage, `--token-file: ${(error as Error).message}`);
  }
  return await connectNyx({ ...apiAddress(options, io), token, tls: { ca, cert, key }, signal: io.signal });
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
