/** Everything that the simulation of the adversary measures, in one report. */

import { defaults } from '@nyx/daemon/config/defaults.ts';
import type { Mode } from './carry.ts';
import { type AttackOptions, type AttackResult, attack, Crowd } from './correlate.ts';
import { attackEngines, type EngineAttack } from './engines.ts';
import { type Detection, detect, type FalseAlarms, falseAlarms, scenarios } from './n-minus-one.ts';
import { loopixFigure4, type Published, published } from './published.ts';
import { poissonArrivals, type RelayEntropy, relayEntropy, webArrivals } from './relay-entropy.ts';
import type { TrafficModel } from './traffic.ts';

const HOPS = 5;
const mix = (delayMs: number, cover: Mode['cover'] = 'off'): Mode => ({
  name: cover === 'off' ? `mix ${delayMs} ms` : `mix ${delayMs} ms, ${cover}`,
  class: 'mix',
  hops: HOPS,
  delayMs,
  cover,
});

export const fast: Mode = { name: 'fast', class: 'fast', hops: 3, delayMs: 0, cover: 'off' };
export const constant: Mode = { ...mix(20, 'constant'), name: 'mix 20 ms, constant' };
export const cmix: Mode = { name: 'cmix', class: 'cmix', hops: defaults.cmix.hops, delayMs: 0, cover: 'off' };
export const modes: readonly Mode[] = [
  fast,
  mix(5),
  mix(20),
  mix(100),
  mix(500),
  mix(2000),
  mix(100, 'adaptive'),
  constant,
  cmix,
];

const durations: Readonly<Record<TrafficModel, number>> = { web: 60_000, chat: 120_000, single: 60_000 };

export interface SimulateOptions {
  readonly users: readonly number[];
  readonly targets: number;
  readonly seed: string;
}

export interface AdversaryReport {
  readonly options: SimulateOptions;
  /** Of all parts, whenever they were run. */
  readonly cpuSeconds: number;
  readonly durationsMs: Readonly<Record<TrafficModel, number>>;
  readonly meanCells: Readonly<Record<TrafficModel, number>>;
  readonly attacks: readonly AttackResult[];
  readonly engines: readonly EngineAttack[];
  readonly relays: readonly RelayEntropy[];
  readonly detections: readonly Detection[];
  readonly falseAlarms: readonly FalseAlarms[];
  readonly loopixFigure4: ReturnType<typeof loopixFigure4>;
  readonly published: readonly Published[];
}

export const parts = ['web', 'single', 'chat', 'relays', 'engines', 'loops'] as const;
export type Part = (typeof parts)[number];

/** @param earlier a report whose parts that are not wanted now are kept. */
export async function simulate(
  options: SimulateOptions,
  wanted: readonly Part[],
  earlier: AdversaryReport | undefined,
  progress: (line: string) => void,
): Promise<AdversaryReport> {
  const cpuBefore = process.cpuUsage();
  const { users, targets, seed } = options;
  const isWanted = (part: Part) => wanted.includes(part);
  const attacks = (earlier?.attacks ?? []).filter(({ model }) => !isWanted(model));
  const meanCells = { ...earlier?.meanCells } as Record<TrafficModel, number>;
  for (const model of ['web', 'single', 'chat'] as const) {
    if (!isWanted(model)) continue;
    const attackOptions: AttackOptions = { model, durationMs: durations[model], users, targets, seed };
    const crowd = new Crowd(attackOptions);
    meanCells[model] = crowd.flows.reduce((sum, { length }) => sum + length, 0) / crowd.flows.length;
    for (const mode of modes) {
      progress(`${model}, ${mode.name}`);
      attacks.push(...attack(mode, crowd));
    }
  }
  const relays = isWanted('relays') ? measureRelays(seed, progress) : (earlier?.relays ?? []);
  const engines = isWanted('engines') ? measureEngines(seed, progress) : (earlier?.engines ?? []);
  let { detections = [], falseAlarms: calm = [] } = earlier ?? {};
  if (isWanted('loops')) {
    detections = [];
    for (const scenario of scenarios) {
      progress(`n−1: ${scenario.name}`);
      detections = [...detections, await detect(scenario, ATTACK_RUNS, Number(seed))];
    }
    calm = [];
    for (const loss of [0, 0.001, 0.003, 0.01]) {
      progress(`n−1: nobody attacks, the wire loses ${loss}`);
      calm = [...calm, await falseAlarms(loss, CALM_HOURS, 900 + Number(seed))];
    }
  }
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    options,
    cpuSeconds: (user + system) / 1e6 + (earlier?.cpuSeconds ?? 0),
    durationsMs: durations,
    meanCells,
    attacks,
    engines,
    relays,
    detections,
    falseAlarms: calm,
    loopixFigure4: loopixFigure4(),
    published,
  };
}

function measureRelays(seed: string, progress: (line: string) => void): RelayEntropy[] {
  progress('relays: what an observer is surprised by');
  const relays: RelayEntropy[] = [];
  for (const [cellsPerSecond, delayMs, durationMs] of relayCases) {
    const times = poissonArrivals(cellsPerSecond, durationMs, `${seed} ${cellsPerSecond}`);
    relays.push(relayEntropy('poisson', times, delayMs, durationMs, seed));
  }
  for (const [webUsers, delayMs, durationMs] of webCases) {
    relays.push(relayEntropy('web', webArrivals(webUsers, durationMs, seed), delayMs, durationMs, seed));
  }
  return relays;
}

function measureEngines(seed: string, progress: (line: string) => void): EngineAttack[] {
  return [fast, mix(20), mix(100), mix(100, 'adaptive'), constant].map((mode) => {
    progress(`engines: ${mode.name}`);
    return attackEngines(mode, ENGINE_USERS, ENGINE_MS, ENGINE_RUNS, Number(seed));
  });
}

/** Cells a second, mean delay, time. */
const relayCases = [
  [50, 20, 600_000],
  [250, 20, 300_000],
  [1000, 20, 120_000],
  [1000, 100, 120_000],
  [5000, 100, 60_000],
  [5000, 500, 60_000],
] as const;
/** Web users whose cells pass the relay, some 9.5 a second each on average; mean delay, time. */
const webCases = [
  [5, 20, 1_200_000],
  [26, 20, 600_000],
  [105, 20, 300_000],
  [105, 100, 300_000],
  [525, 100, 60_000],
] as const;
const ENGINE_USERS = 24;
const ENGINE_MS = 20_000;
const ENGINE_RUNS = 3;
const ATTACK_RUNS = 30;
const CALM_HOURS = 8;
