/**
 * The n−1 attack: who blocks or holds back everybody else's cells in front of a mix is left with the target's. Loops are among
 * what is blocked. How often and how soon does a client's alarm say so, and how often does it when nobody attacks?
 */
import type { SimNode } from '../virtual-network.ts';
import { type Attack, LoopNetwork } from './loop-network.ts';

export interface Scenario {
  readonly name: string;
  readonly attack: Attack;
  /** `on the path`: a relay that the loops pass when it begins. `any`: one of the middle relays, wherever the loops are. */
  readonly where: 'on the path' | 'any';
}

export const scenarios: readonly Scenario[] = [
  { name: 'blocks all but the target', attack: { drop: 1, holdMs: 0 }, where: 'on the path' },
  { name: 'blocks all but the target, at any relay', attack: { drop: 1, holdMs: 0 }, where: 'any' },
  { name: 'lets a tenth pass', attack: { drop: 0.9, holdMs: 0 }, where: 'on the path' },
  { name: 'lets half pass', attack: { drop: 0.5, holdMs: 0 }, where: 'on the path' },
  { name: 'lets nine tenths pass', attack: { drop: 0.1, holdMs: 0 }, where: 'on the path' },
  { name: 'holds all back for 0.5 s', attack: { drop: 0, holdMs: 500 }, where: 'on the path' },
  { name: 'holds all back for 3 s', attack: { drop: 0, holdMs: 3000 }, where: 'on the path' },
];

export interface Detection {
  readonly scenario: string;
  readonly runs: number;
  /** Share of runs with an alarm within so many seconds of the attack's beginning; it lasts ten minutes. */
  readonly within: Readonly<Record<'30 s' | '60 s' | '120 s' | '600 s', number>>;
  readonly medianSeconds: number | undefined;
}

const CALM_MS = 300_000;
const ATTACK_MS = 600_000;

export async function detect({ name, attack, where }: Scenario, runs: number, seed: number): Promise<Detection> {
  const seconds: number[] = [];
  for (let run = 0; run < runs; run++) {
    const world = new LoopNetwork(seed * 1000 + run, 0);
    await world.run(CALM_MS);
    const before = world.alarms.length;
    const target: SimNode = where === 'any' ? world.middles[run % world.middles.length]! : world.path[2]!;
    const beganMs = world.network.nowMs;
    world.attack(target, attack);
    await world.run(ATTACK_MS, () => world.alarms.length > before);
    if (world.alarms.length > before) seconds.push((world.alarms[before]!.atMs - beganMs) / 1000);
    world.loops.stop();
  }
  seconds.sort((a, b) => a - b);
  const share = (limit: number) => seconds.filter((value) => value <= limit).length / runs;
  return {
    scenario: name,
    runs,
    within: { '30 s': share(30), '60 s': share(60), '120 s': share(120), '600 s': share(600) },
    medianSeconds: seconds.length > runs / 2 ? seconds[Math.floor((runs - 1) / 2)] : undefined,
  };
}

export interface FalseAlarms {
  readonly wireLossRatio: number;
  readonly hours: number;
  readonly loops: number;
  readonly loopsLost: number;
  readonly alarms: number;
}

export async function falseAlarms(wireLossRatio: number, hours: number, seed: number): Promise<FalseAlarms> {
  const world = new LoopNetwork(seed, wireLossRatio);
  await world.run(hours * 3_600_000);
  const { sent, lost } = world.loops.stats;
  world.loops.stop();
  return { wireLossRatio, hours, loops: sent, loopsLost: lost, alarms: world.alarms.length };
}
