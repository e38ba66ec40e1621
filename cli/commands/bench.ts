import type { NyxClient } from '@nyx/sdk/client.ts';
import { SingleBar } from 'cli-progress';
import { type Command, Option } from 'commander';
import { integerBetween, parseBytes, parseDurationMs, parseHostPort } from '../arguments.ts';
import { CliError, ExitCode } from '../exit-codes.ts';
import { withDaemon } from '../find-daemon.ts';
import { type BenchResult, runBench } from '../measure/bench-run.ts';
import { type Distribution, histogram } from '../measure/quantiles.ts';
import { spawnTarget } from '../measure/server-process.ts';
import { type HostPort, SocksError, socksConnect } from '../measure/socks.ts';
import { startTarget } from '../measure/target.ts';
import { formatBytes, type Io, printJson, printLine, shortId } from '../output.ts';
import {
  type CommonOptions,
  type FecFlags,
  type MultipathFlags,
  type PathFlags,
  withApi,
  withFec,
  withMultipath,
  withPath,
} from './common.ts';

interface Flags extends CommonOptions, PathFlags, MultipathFlags, FecFlags {
  readonly target?: HostPort;
  readonly serve?: HostPort;
  readonly via: 'socks' | 'api';
  readonly bytes: number;
  readonly streams: number;
  readonly rounds: number;
  readonly circuits: number;
  readonly duration: number;
}

export function addBenchCommand(program: Command, io: Io): void {
  withFec(withMultipath(withPath(withApi(program.command('bench')))))
    .description('Measures the network: set-up, throughput both ways, latency, loss, with real bytes through an exit.')
    .option(
      '--target <host:port>',
      'a target run elsewhere with --serve (default: a built-in one on this machine)',
      parseHostPort,
    )
    .option('--serve <host:port>', 'be a target for others until Ctrl-C; needs no daemon', parseHostPort)
    .addOption(new Option('--via <way>', 'how streams enter the network').choices(['socks', 'api']).default('socks'))
    .option('--bytes <size>', 'per direction', parseBytes, 64 * 2 ** 20)
    .option('--streams <n>', 'at once, each on its own circuit', integerBetween(1, 64), 1)
    .option('--rounds <n>', 'round trips for the latency', integerBetween(1, 100_000), 500)
    .option('--circuits <n>', 'set-ups to time', integerBetween(1, 10_000), 20)
    .option('--duration <time>', 'longest time of each phase', parseDurationMs, 15_000)
    .action(async (flags: Flags) => {
      if (flags.serve) await serve(flags.serve, flags, io);
      else await withDaemon(flags, io, (client) => measure(client, flags, io));
    });
}

async function serve(at: HostPort, flags: Flags, io: Io): Promise<void> {
  const target = await startTarget(at.host, at.port);
  if (flags.json) printJson(io, { target: target.address });
  else printLine(io, `target at ${target.address.host}:${target.address.port}, until Ctrl-C`);
  if (!io.signal.aborted) await new Promise((resolve) => io.signal.addEventListener('abort', resolve, { once: true }));
  await target.close();
}

async function measure(client: NyxClient, flags: Flags, io: Io): Promise<void> {
  const info = await client.status({ signal: io.signal });
  const socks = info.addresses?.socks;
  if (flags.via === 'socks' && !socks) {
    throw new CliError(ExitCode.usage, 'this daemon has no SOCKS port; use --via api');
  }
  const builtIn = flags.target === undefined ? await spawnTarget() : undefined;
  const target = flags.target ?? builtIn!.address;
  const progress = new Progress(io);
  try {
    const dial = flags.via === 'socks' ? socksDialer(socks!, target, flags, io) : apiDialer(client, target, flags, io);
    const result = await runBench(client, {
      path: { hops: flags.hops, class: flags.class },
      target,
      bytes: flags.bytes,
      streams: flags.streams,
      rounds: flags.rounds,
      circuits: flags.circuits,
      phaseMs: flags.duration,
      signal: io.signal,
      dial,
      onPhase: (name, total) => progress.phase(name, total),
      onStep: (steps) => progress.step(steps),
    });
    progress.end();
    if (flags.json) {
      const { echoSampleMs: _, ...rest } = result;
      printJson(io, { ok: true, via: flags.via, target: flags.target ?? 'built-in', ...rest });
    } else printLine(io, formatBench(result, flags.via));
  } catch (error) {
    if (io.signal.aborted) throw new CliError(ExitCode.failure, 'interrupted; nothing was measured to its end');
    throw error;
  } finally {
    progress.end();
    await builtIn?.close();
  }
}

/** One isolation key per stream number and run, so that streams have circuits of their own and phases reuse them. */
function socksDialer(socks: string, target: HostPort, flags: Flags, io: Io) {
  const proxy = parseHostPort(socks);
  const run = `${process.pid}-${Date.now()}`;
  return async (stream: number) => {
    const options = [`nyx`, `isolation=bench-${run}-${stream}`];
    if (flags.hops !== undefined) options.push(`hops=${flags.hops}`);
    if (flags.class !== undefined) options.push(`class=${flags.class}`);
    if (flags.paths !== undefined) options.push(`paths=${flags.paths}`);
    if (flags.strategy !== undefined) options.push(`strategy=${flags.strategy}`);
    if (flags.fec !== undefined) options.push(`fec=${typeof flags.fec === 'object' ? flags.fec.ratio : flags.fec}`);
    try {
      return await socksConnect(proxy, target, {
        auth: { username: options.join(';'), password: 'x' },
        timeoutMs: 30_000,
        signal: io.signal,
      });
    } catch (error) {
      if (!(error instanceof SocksError)) throw error;
      const code = error.reply === 1 ? ExitCode.path : ExitCode.target;
      throw new CliError(code, `${target.host}:${target.port}: ${error.message}. \`--via api\` tells more.`);
    }
  };
}

function apiDialer(client: NyxClient, target: HostPort, flags: Flags, io: Io) {
  const run = `${process.pid}-${Date.now()}`;
  return (stream: number) =>
    client.connect({
      ...target,
      hops: flags.hops,
      class: flags.class,
      paths: flags.paths,
      strategy: flags.strategy,
      fec: flags.fec,
      isolation: `bench-${run}-${stream}`,
      allowHalfOpen: true,
      signal: io.signal,
    });
}

/** A bar on stderr when that is a terminal; otherwise nothing. */
class Progress {
  readonly #bar: SingleBar | undefined;

  constructor(io: Io) {
    if (!io.stderr.isTTY) return;
    this.#bar = new SingleBar({
      format: '{phase} {bar} {percentage} %',
      stream: io.stderr,
      clearOnComplete: true,
      hideCursor: true,
      barCompleteChar: '█',
      barIncompleteChar: '░',
    });
  }

  phase(name: string, total: number): void {
    this.#bar?.stop();
    this.#bar?.start(total, 0, { phase: name.padEnd(8) });
  }

  step(steps: number): void {
    this.#bar?.increment(steps);
  }

  end(): void {
    this.#bar?.stop();
  }
}

function formatBench(result: BenchResult, via: string): string {
  const transfer = ({ mbitPerSecond, bytes, seconds }: BenchResult['download']) =>
    `${mbitPerSecond.toFixed(0).padStart(6)} Mbit/s  (${formatBytes(bytes)} in ${seconds.toFixed(2)} s)`;
  const spread = ({ p50, p90, p99, max, count }: Distribution) =>
    `p50 ${p50.toFixed(2)}  p90 ${p90.toFixed(2)}  p99 ${p99.toFixed(2)}  max ${max.toFixed(2)} ms  (${count} measured)`;
  const used = result.paths.map((path) => `            ${path.map(shortId).join(' → ')}`);
  return [
    `${result.hops} hops, ${result.streams} stream(s), through ${via === 'socks' ? 'SOCKS5' : 'the API'}`,
    `download    ${transfer(result.download)}`,
    `upload      ${transfer(result.upload)}`,
    `set-up      ${spread(result.setupMs)}`,
    `round trip  ${spread(result.echoMs)}`,
    `loss        ${result.lossRatio === undefined ? 'not shown by the daemon' : `${(result.lossRatio * 100).toFixed(3)} %`}`,
    'circuits',
    ...used,
    '',
    histogram(result.echoSampleMs),
  ].join('\n');
}
