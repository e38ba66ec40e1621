/** Does the router do what it says? Sends over it, measures what comes, and compares. */
import { distribution } from '@nyx/cli/measure/quantiles.ts';
import type { Impairment } from '../impairment.ts';
import { Lab } from '../lab.ts';
import { downloadTcp, measureUdp, startTargetOn } from '../probe.ts';
import { isChosen, type ScenarioContext } from '../scenario.ts';

interface Case {
  readonly name: string;
  readonly line: Impairment;
  readonly packetsPerSecond: number;
  readonly count: number;
  readonly sizeBytes: number;
  /** What has to come out: name, value measured, lowest and highest that will do. */
  readonly check: (measured: Measured) => readonly Check[];
}
type Check = readonly [name: string, value: number, low: number, high: number];

interface Measured {
  readonly lossShare: number;
  readonly duplicateShare: number;
  readonly reorderedShare: number;
  readonly meanGap: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mbit: number;
}

interface CalibrationRow extends Measured {
  readonly name: string;
}

interface Calibration {
  readonly rows: readonly CalibrationRow[];
  /** TCP through the router without impairments. */
  readonly throughputMbit: number;
  /** CPU time of the router for each second of it. */
  readonly cpuShare: number;
}

const A = '10.1.0.2';
const B = '10.2.0.2';
/** A busy machine wakes programs late; that is not the router's delay. */
const LATE_MS = 4;

const cases: readonly Case[] = [
  {
    name: 'nothing',
    ...{ line: {}, packetsPerSecond: 1000, count: 2000, sizeBytes: 1200 },
    check: (m) => [
      ['loss', m.lossShare, 0, 0],
      ['p50', m.p50Ms, 0, LATE_MS],
    ],
  },
  {
    name: '100 ms',
    ...{ line: { delayMs: 100 }, packetsPerSecond: 1000, count: 2000, sizeBytes: 1200 },
    check: (m) => [
      ['loss', m.lossShare, 0, 0],
      ['p50', m.p50Ms, 100, 100 + LATE_MS],
      ['reordered', m.reorderedShare, 0, 0],
    ],
  },
  {
    name: '25 ms, 50 ms jitter',
    ...{ line: { delayMs: 25, jitterMs: 50 }, packetsPerSecond: 1000, count: 4000, sizeBytes: 200 },
    check: (m) => [
      ['p50', m.p50Ms, 40, 65],
      ['p99', m.p99Ms, 65, 75 + LATE_MS],
      ['reordered', m.reorderedShare, 0, 0],
    ],
  },
  {
    name: '5 % loss',
    ...{ line: { lossShare: 0.05 }, packetsPerSecond: 4000, count: 20_000, sizeBytes: 200 },
    check: (m) => [
      ['loss', m.lossShare, 0.044, 0.056],
      ['run of losses', m.meanGap, 1, 1.12],
    ],
  },
  {
    name: '5 % loss in bursts of 5',
    ...{ line: { lossShare: 0.05, lossBurstPackets: 5 }, packetsPerSecond: 4000, count: 20_000, sizeBytes: 200 },
    check: (m) => [
      ['loss', m.lossShare, 0.035, 0.065],
      ['run of losses', m.meanGap, 4.2, 5.8],
    ],
  },
  {
    name: '2 % come 20 ms late, 1 % twice',
    ...{
      line: { delayMs: 10, reorderShare: 0.02, reorderMs: 20, duplicateShare: 0.01 },
      ...{ packetsPerSecond: 2000, count: 10_000, sizeBytes: 200 },
    },
    check: (m) => [
      ['reordered', m.reorderedShare, 0.015, 0.025],
      ['twice', m.duplicateShare, 0.006, 0.014],
      ['loss', m.lossShare, 0, 0],
    ],
  },
  {
    name: '20 Mbit/s, sent at 40',
    ...{ line: { rateMbit: 20, queueBytes: 100_000 }, packetsPerSecond: 4000, count: 12_000, sizeBytes: 1222 },
    check: (m) => [
      // 28 bytes of headers come on top; a full queue takes 40 ms.
      ['Mbit/s', m.mbit * (1250 / 1222), 19, 20.6],
      ['p50', m.p50Ms, 37, 40 + LATE_MS],
    ],
  },
];

export async function calibrate({ seed, say, fail, only, signal }: ScenarioContext): Promise<Calibration> {
  const lab = Lab.open(seed);
  try {
    const from = await lab.addHost('a', { addresses: [A] });
    const to = await lab.addHost('b', { addresses: [B] });
    const rows: CalibrationRow[] = [];
    for (const { name, line, check, ...flow } of cases) {
      if (!isChosen(only, name)) continue;
      signal.throwIfAborted();
      await lab.impair('a', { up: line });
      const report = await measureUdp(from, to, B, flow);
      const { p50, p99 } = distribution(report.delaysMs);
      const measured: Measured = {
        lossShare: 1 - report.received / flow.count,
        duplicateShare: report.duplicates / flow.count,
        reorderedShare: report.reordered / flow.count,
        meanGap: report.gaps.reduce((sum, gap) => sum + gap, 0) / Math.max(1, report.gaps.length),
        p50Ms: p50,
        p99Ms: p99,
        mbit: (report.bytes * 8) / report.spanMs / 1000,
      };
      const wrong = check(measured)
        .filter(([, value, low, high]) => !(value >= low && value <= high))
        .map(([what, value, low, high]) => `${what} is ${value.toFixed(3)}, not ${low}…${high}`);
      for (const what of wrong) fail(`${name}: ${what}`);
      rows.push({ name, ...measured });
      say(
        `${name.padEnd(32)} loss ${percent(measured.lossShare)}  runs ${measured.meanGap.toFixed(2)}  reordered ${percent(measured.reorderedShare)}  twice ${percent(measured.duplicateShare)}  p50 ${measured.p50Ms.toFixed(1)} ms  p99 ${measured.p99Ms.toFixed(1)} ms  ${measured.mbit.toFixed(1)} Mbit/s`,
      );
    }
    await lab.impair('a', { up: {} });
    await startTargetOn(to, B, 7001);
    const before = await lab.count();
    const startedMs = performance.now();
    const { bytes, tookMs } = await downloadTcp(from, { host: B, port: 7001 }, 2 ** 36, 5000);
    const after = await lab.count();
    const spentMs = (after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system) / 1000;
    const throughputMbit = (bytes * 8) / tookMs / 1000;
    const cpuShare = spentMs / (performance.now() - startedMs);
    say(
      `TCP without impairments: ${throughputMbit.toFixed(0)} Mbit/s, router at ${percent(cpuShare)} of a core, ${(after.rssBytes / 2 ** 20).toFixed(0)} MiB`,
    );
    if (throughputMbit < 200) fail(`the router carried ${throughputMbit.toFixed(0)} Mbit/s, less than 200`);
    if (after.network.noBuffer > 0) fail(`the router had no buffer for ${after.network.noBuffer} packets`);
    return { rows, throughputMbit, cpuShare };
  } finally {
    await lab.close();
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}
