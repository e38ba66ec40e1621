/**
 * `npm run bench [-- suite…] [--json] [--quick]`: every measurement of the project, and whether the targets are met.
 * Exit code 0 when everything that was asked for ran and no target was missed, 1 otherwise, 2 for a bad command line.
 */
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findTor, type TorVariant } from '@nyx/test/peers/tor/network.ts';
import type { EchoMeasures } from './echo.ts';
import { Parts } from './lib/parts.ts';
import type { NetworkMeasures } from './network.ts';
import { measureTor, type TorMeasures } from './peers/tor/measure.ts';
import { measurePrimitives } from './primitives.ts';
import { checkTargets, type MixMeasures, type TargetResult } from './targets.ts';

const suites = [
  'primitives',
  'onion',
  'relay',
  'session',
  'multipath',
  'fec',
  'udp',
  'directory',
  'paths',
  'mix',
  'cmix',
  'cover',
  'messages',
  'network',
  'tor',
  'echo',
] as const;
type Suite = (typeof suites)[number];

interface Report {
  readonly machine: { readonly cpus: number; readonly node: string; readonly platform: string };
  readonly suites: Partial<Record<Suite, unknown>>;
  /** Why a suite, or a part of it, has no figures. */
  readonly notRun: Record<string, string>;
  targets: readonly TargetResult[];
}

const run = promisify(execFile);
/** How long a script may take. */
const SCRIPT_MS = 120_000;
/** Nine rounds of two classes and two relays take some 200 s. */
const MIX_RELAY_MS = 600_000;
const flags = process.argv.slice(2).filter((word) => word.startsWith('-'));
const names = process.argv.slice(2).filter((word) => !word.startsWith('-'));
const unknown = [
  ...flags.filter((flag) => flag !== '--json' && flag !== '--quick'),
  ...names.filter((name) => !suites.some((suite) => suite === name)),
];
if (unknown.length > 0) {
  process.stderr.write(`bench: ${unknown.join(', ')}? Suites: ${suites.join(', ')}. Options: --json, --quick.\n`);
  process.exit(2);
}
const json = flags.includes('--json');
const quick = flags.includes('--quick');
const wanted = suites.filter((suite) => names.length === 0 || names.includes(suite));
/** Just-in-time compilers need some seconds of the real thing; every network gets the same. */
const warmMs = quick ? 1_000 : 15_000;
const NO_COMPILER = 'no C compiler (cc) for the TCP_NODELAY preload of tuned Tor';
const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupt.abort(new Error('interrupted')));
const onProgress = (message: string) => void process.stderr.write(`${message}\n`);

const report: Report = {
  machine: {
    cpus: availableParallelism(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  },
  suites: {},
  notRun: {},
  targets: [],
};
let failed = false;
for (const suite of wanted) {
  const parts = new Parts('bench', interrupt.signal, onProgress);
  report.suites[suite] = await parts.run(suite, () => runSuite(suite));
  const { failed: inside } = (report.suites[suite] ?? {}) as { failed?: Readonly<Record<string, string>> };
  Object.assign(report.notRun, parts.failed);
  for (const [part, why] of Object.entries(inside ?? {})) report.notRun[`${suite}: ${part}`] = why;
  failed ||= report.suites[suite] === undefined || Object.keys(inside ?? {}).length > 0;
}
const tor = report.suites.tor as Partial<Record<TorVariant, TorMeasures>> | undefined;
report.targets = checkTargets({
  network: report.suites.network as NetworkMeasures | undefined,
  torStock: tor?.stock,
  torTuned: tor?.tuned,
  echoToTor: (report.suites.echo as EchoMeasures | undefined)?.ratio,
  relayToOpen: (report.suites.relay as { ratio?: number } | undefined)?.ratio,
  slowestPathMs: (report.suites.paths as { slowestP90Ms?: number } | undefined)?.slowestP90Ms,
  mix: report.suites.mix as MixMeasures | undefined,
  delayCheckShare: (report.suites.cmix as { openssl?: { verifyShare: number } } | undefined)?.openssl?.verifyShare,
});
process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${formatReport(report)}\n`);
process.exitCode = failed || report.targets.some(({ status }) => status === 'fail') ? 1 : 0;

async function runSuite(suite: Suite): Promise<unknown> {
  switch (suite) {
    case 'primitives':
      return measurePrimitives();
    case 'onion':
      return runScript('onion.ts', []);
    case 'relay':
      return runScript('relay.ts', []);
    case 'session':
      return runScript('session.ts', [String(quick ? 200_000_000 : 1_000_000_000)]);
    case 'multipath':
      return runScript('multipath.ts', [String(quick ? 50_000_000 : 200_000_000)]);
    case 'fec':
      return runScript('fec.ts', [quick ? '1000' : '8000']);
    case 'udp':
      return runScript('udp.ts', [quick ? '1' : '2']);
    case 'directory':
      return runScript('directory.ts', [quick ? '2000' : '10000']);
    case 'paths':
      return runScript('paths.ts', [quick ? '1000' : '5000']);
    case 'cmix': {
      const alone = (await runScript('cmix.ts', [])) as object;
      const { measureCmixNetwork } = await import('./cmix-network.ts');
      const network = await measureCmixNetwork({
        rounds: quick ? 5 : 20,
        bytes: (quick ? 0.5 : 2) * 2 ** 20,
        timeoutMs: 120_000,
        signal: interrupt.signal,
      });
      return { ...alone, network };
    }
    case 'cover':
      return runScript('cover.ts', []);
    case 'messages':
      return runScript('messages.ts', []);
    case 'mix': {
      const alone = (await runScript('mix.ts', [])) as object;
      const { measureMixNetwork } = await import('./mix-network.ts');
      const network = await measureMixNetwork({
        bytesPerStream: (quick ? 4 : 16) * 2 ** 20,
        timeoutMs: 60_000,
        signal: interrupt.signal,
      });
      const { relays: saturated } = (await runScript('mix-relay.ts', quick ? ['96'] : [], MIX_RELAY_MS)) as {
        relays: unknown;
      };
      return { ...alone, saturated, network };
    }
    case 'network':
      return (await import('./network.ts')).measureNetwork({
        bytes: (quick ? 32 : 256) * 2 ** 20,
        warmMs,
        rounds: quick ? 200 : 1000,
        count: quick ? 10 : 50,
        warmSetups: quick ? 20 : 600,
        setups: quick ? 50 : 200,
        idleCircuits: quick ? 200 : 2000,
        stallMs: quick ? 2_000 : 10_000,
        hops: quick ? [3] : [3, 5, 7],
        timeoutMs: 60_000,
        signal: interrupt.signal,
        onProgress,
      });
    case 'tor':
      return runTor();
    case 'echo': {
      const { compiler } = await torHere();
      if (!compiler) throw new Error(NO_COMPILER);
      return (await import('./echo.ts')).measureEchoes({
        warmMs: quick ? 1_000 : 5_000,
        warmBlocks: quick ? 8 : 16,
        blocks: quick ? 4 : 24,
        timeoutMs: 60_000,
        signal: interrupt.signal,
        onProgress: (message) => onProgress(`echo: ${message}`),
      });
    }
  }
}

async function torHere() {
  const found = await findTor();
  if ('missing' in found) throw new Error(found.missing);
  return found;
}

async function runTor(): Promise<Partial<Record<TorVariant, TorMeasures>> & Pick<Parts, 'failed'>> {
  const found = await torHere();
  const measures: Partial<Record<TorVariant, TorMeasures>> = {};
  const parts = new Parts('tor', interrupt.signal, onProgress);
  for (const variant of ['stock', 'tuned'] as const) {
    if (variant === 'tuned' && !found.compiler) {
      report.notRun['tor tuned'] = NO_COMPILER;
      continue;
    }
    measures[variant] = await parts.run(variant, () =>
      measureTor({
        variant,
        bytes: (quick ? 32 : 64) * 2 ** 20,
        warmMs,
        rounds: quick ? 200 : 1000,
        circuits: quick ? 10 : 30,
        timeoutMs: 90_000,
        signal: interrupt.signal,
        onProgress,
      }),
    );
  }
  return { ...measures, failed: parts.failed };
}

/** One that prints a JSON object, in a process of its own so that it is not disturbed by this one's heap. */
async function runScript(file: string, args: readonly string[], timeout = SCRIPT_MS): Promise<unknown> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  try {
    const { stdout } = await run(process.execPath, [path, ...args], {
      timeout,
      maxBuffer: 16 * 2 ** 20,
      signal: interrupt.signal,
    });
    return JSON.parse(stdout);
  } catch (error) {
    const { killed } = error as { killed?: boolean };
    if (killed === true) throw new Error(`${file} took longer than ${timeout / 1000} s`);
    throw error;
  }
}

function formatReport({ suites: done, notRun, targets }: Report): string {
  const lines: string[] = [];
  const row = (name: string, ...cells: readonly (string | number | undefined)[]) =>
    lines.push(name.padEnd(38) + cells.map((cell) => String(cell ?? '–').padStart(12)).join(''));
  const fixed = (value: number | undefined, digits = 1) => value?.toFixed(digits);
  for (const [suite, result] of Object.entries(done)) {
    if (suite === 'network' || suite === 'tor') continue;
    lines.push(
      `== ${suite}`,
      JSON.stringify(result, (_key, value) => (typeof value === 'number' ? Number(value.toFixed(3)) : value), 1),
    );
  }
  const network = done.network as NetworkMeasures | undefined;
  const torMeasures = done.tor as Partial<Record<TorVariant, TorMeasures>> | undefined;
  if (network || torMeasures) {
    const columns = [
      ...(network?.byHops ?? []).map((hops) => ({
        title: `nyx ${hops.hops} hops`,
        ...hops,
        build: hops.setup,
        inside: hops.setupInside,
      })),
      ...[torMeasures?.stock, torMeasures?.tuned]
        .flatMap((measured) => measured ?? [])
        .map((measured) => ({
          title: `tor ${measured.variant}`,
          ...measured,
          cold: undefined,
          upload: undefined,
          build: measured.circuitBuild,
          inside: undefined,
          readyDial: undefined,
          middleCpuSecondsPerGb: measured.oneStream.processes.find(({ name }) => name === 'middle')?.cpuSecondsPerGb,
        })),
    ];
    lines.push('== networks');
    row('', ...columns.map(({ title }) => title));
    row('one stream down, Mbit/s', ...columns.map((column) => fixed(column.oneStream?.mbitPerSecond, 0)));
    row('the same, first transfer', ...columns.map((column) => fixed(column.cold?.mbitPerSecond, 0)));
    row('one stream up, Mbit/s', ...columns.map((column) => fixed(column.upload?.mbitPerSecond, 0)));
    row('four streams down, Mbit/s', ...columns.map((column) => fixed(column.fourStreams?.mbitPerSecond, 0)));
    row('64-byte echo p50, ms', ...columns.map((column) => fixed(column.echo?.p50, 2)));
    row('64-byte echo p99, ms', ...columns.map((column) => fixed(column.echo?.p99, 2)));
    row('open a stream p50, ms', ...columns.map((column) => fixed(column.streamOpen?.p50, 2)));
    row('dial with a circuit ready p50, ms', ...columns.map((column) => fixed(column.readyDial?.p50, 2)));
    row('build a circuit p50, ms', ...columns.map((column) => fixed(column.build?.p50, 2)));
    row('build a circuit p99, ms', ...columns.map((column) => fixed(column.build?.p99, 2)));
    row('the same inside the client, p50, ms', ...columns.map((column) => fixed(column.inside?.p50, 2)));
    row('middle relay CPU, s/GB', ...columns.map((column) => fixed(column.middleCpuSecondsPerGb, 2)));
  }
  lines.push('== targets');
  for (const { name, value, bound, status } of targets) {
    lines.push(`${status.padEnd(14)}${name.padEnd(40)}${(value?.toFixed(2) ?? '–').padStart(10)}   ${bound}`);
  }
  for (const [what, why] of Object.entries(notRun)) lines.push(`not run: ${what}: ${why}`);
  return lines.join('\n');
}
