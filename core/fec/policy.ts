/** What is protected, and how much of it: the application's wish and the class of the circuit. */
import type { BlockCodec } from './block-codec.ts';
import type { FecBudget } from './budget.ts';
import type { FecTally } from './stats.ts';

/**
 * `off`: nothing is ever protected. `adaptive`: nothing while nothing is lost; with loss, packets that somebody waits
 * for, as well as the measured loss asks for. A ratio (0…1]: every packet, so many repair symbols per source, whatever is lost.
 */
export type FecPolicy = 'off' | 'adaptive' | { readonly ratio: number };

/** What coding needs besides packets; without it a session neither makes nor takes repair symbols. */
export interface FecResources {
  /** In order of preference where the cost is the same. */
  readonly codecs: readonly BlockCodec[];
  readonly budget: FecBudget;
  /** What all paths together did. */
  readonly tally: FecTally;
}

export interface FecTuning {
  /** Repair symbols per source at most, when adaptive; one more is always allowed. */
  readonly maxRatio: number;
  /** Blocks that may fail to decode. */
  readonly targetFailure: 0.0005;
  /** How long a block stays open: a share of the round trip, within bounds. */
  readonly rttShare: number;
  readonly minBlockMs: number;
  readonly maxBlockMs: number;
  /** Source packets of one block. */
  readonly blockPackets: number;
}

/** A repair may arrive an eighth of a round trip after its packet, long before a retransmission could. */
const fastTuning: FecTuning = {
  maxRatio: 0.5,
  targetFailure: 0.0005,
  rttShare: 1 / 8,
  minBlockMs: 3,
  maxBlockMs: 25,
  blockPackets: 32,
};

/** By class; cmix is as mix. Where relays hold packets anyway, longer blocks cost no time that would show, and fewer repairs. */
export const fecTunings = {
  fast: fastTuning,
  mix: { ...fastTuning, rttShare: 1 / 6, maxBlockMs: 60 },
} as const;

/** Throws RangeError for a ratio that is none. */
export function checkFecPolicy(policy: FecPolicy): FecPolicy {
  if (typeof policy === 'object' && !(policy.ratio > 0 && policy.ratio <= 1)) {
    throw new RangeError(`fec: a ratio is above 0 and at most 1, not ${policy.ratio}`);
  }
  return policy;
}

/** `off`, `adaptive`, or a ratio above 0 and at most 1, as in `0.3`; undefined: none of these. */
export function parseFecPolicy(text: string): FecPolicy | undefined {
  if (text === 'off' || text === 'adaptive') return text;
  if (!/^(?:0?\.\d{1,4}|1(?:\.0{1,4})?)$/.test(text)) return undefined;
  const ratio = Number(text);
  return ratio > 0 ? { ratio } : undefined;
}

export function fecPolicyText(policy: FecPolicy): string {
  return typeof policy === 'object' ? String(policy.ratio) : policy;
}

const RATIO_BASE = 2;

/** As the value of SETTINGS 0x0005: 0 off, 1 adaptive, 2 + percent for a ratio. */
export function encodeFecPolicy(policy: FecPolicy): number {
  if (policy === 'off') return 0;
  if (policy === 'adaptive') return 1;
  return RATIO_BASE + Math.max(1, Math.round(policy.ratio * 100));
}

/** Undefined: a value that says nothing. */
export function decodeFecPolicy(value: number): FecPolicy | undefined {
  if (value === 0) return 'off';
  if (value === 1) return 'adaptive';
  const percent = value - RATIO_BASE;
  return percent >= 1 && percent <= 100 ? { ratio: percent / 100 } : undefined;
}
