/** Starts probe-process.ts on hosts and gives what it says. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LabHost } from './lab.ts';
import type { TransferReport, UdpReport } from './probe-process.ts';

const MAIN = fileURLToPath(new URL('./probe-process.ts', import.meta.url));

interface Probe {
  readonly child: ChildProcess;
  readonly lines: Interface;
}

export async function measureUdp(
  from: LabHost,
  to: LabHost,
  address: string,
  flow: { readonly packetsPerSecond: number; readonly count: number; readonly sizeBytes: number },
): Promise<UdpReport> {
  const sink = start(to, ['udp-sink', address, '7000']);
  await nextLine(sink);
  const words = ['udp-source', address, '7000', flow.packetsPerSecond, flow.count, flow.sizeBytes].map(String);
  const source = start(from, words);
  await ended(source);
  await delay(1000); // what is still under way
  const report = nextLine(sink);
  sink.child.stdin!.end();
  return JSON.parse(await report) as UdpReport;
}

/** Source, sink and echo for measurements (cli/measure/target.ts), until the host ends. */
export async function startTargetOn(host: LabHost, address: string, port: number): Promise<void> {
  await nextLine(start(host, ['tcp-target', address, String(port)]));
}

export async function downloadTcp(
  from: LabHost,
  target: { readonly host: string; readonly port: number },
  sizeBytes: number,
  stopAfterMs: number,
): Promise<TransferReport> {
  const probe = start(from, ['tcp-download', target.host, ...[target.port, sizeBytes, stopAfterMs].map(String)]);
  return JSON.parse(await nextLine(probe)) as TransferReport;
}

function start(host: LabHost, words: readonly string[]): Probe {
  const child = host.spawn([process.execPath, '--disable-warning=ExperimentalWarning', MAIN, ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
  });
  child.stdin!.on('error', () => {}); // told by its exit
  return { child, lines: createInterface({ input: child.stdout! }) };
}

function nextLine({ child, lines }: Probe): Promise<string> {
  return new Promise((resolve, reject) => {
    lines.once('line', resolve);
    lines.once('close', () => reject(new Error(`a probe ended (${child.signalCode ?? `code ${child.exitCode}`})`)));
  });
}

async function ended({ child }: Probe): Promise<void> {
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  if (code !== 0) throw new Error(`a probe ended with ${signal ?? `code ${code}`}`);
}
