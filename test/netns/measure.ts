/** Starts socks-process.ts on a client's host and gives what it measured. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { HostPort } from '@nyx/cli/measure/socks.ts';
import type { LabHost } from './lab.ts';
import type { DownloadReport, MessagesReport } from './socks-process.ts';

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL('./socks-process.ts', import.meta.url));

/** How a probe reaches the target from its host. */
export interface Via {
  /** On the same host; 0 = no proxy, plain TCP. */
  readonly socksPort: number;
  readonly username: string;
}

export const PLAIN_TCP: Via = { socksPort: 0, username: '' };

/** The host's own daemon; what streams want is said by the user name. */
export function throughNyx(username: string): Via {
  return { socksPort: 9150, username };
}

export async function measureDownload(
  host: LabHost,
  target: HostPort,
  via: Via,
  limits: { readonly sizeBytes: number; readonly stopAfterMs: number },
): Promise<DownloadReport> {
  const { sizeBytes, stopAfterMs } = limits;
  return (await measure(host, [
    'download',
    target.host,
    target.port,
    via.socksPort,
    via.username,
    sizeBytes,
    stopAfterMs,
  ])) as DownloadReport;
}

export async function measureMessages(
  host: LabHost,
  target: HostPort,
  via: Via,
  flow: { readonly count: number; readonly gapMs: number; readonly sizeBytes: number },
): Promise<MessagesReport> {
  const { count, gapMs, sizeBytes } = flow;
  return (await measure(host, [
    'messages',
    target.host,
    target.port,
    via.socksPort,
    via.username,
    count,
    gapMs,
    sizeBytes,
  ])) as MessagesReport;
}

async function measure(host: LabHost, words: readonly (string | number)[]): Promise<unknown> {
  const [command, ...rest] = host.launcher;
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', MAIN];
  const { stdout } = await run(command!, [...rest, ...node, ...words.map(String)], {
    maxBuffer: 16 << 20,
    timeout: 300_000,
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
  });
  return JSON.parse(stdout);
}
