/** What every actor of the node is given. */
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import type { Random } from '@nyx/core/ports.ts';
import type { Config } from '../config/load.ts';
import type { Timers } from '../supervision/timers.ts';
import type { EventBus } from './event-bus.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
/** Fields must not name a peer's traffic or target. */
export type Log = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;

export interface NodeContext {
  /** In force now: a reload may have changed it by the next look. */
  readonly config: Config;
  readonly log: Log;
  readonly timers: Timers;
  readonly unixMs: () => number;
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly events: EventBus;
}

export const unixSeconds = (context: NodeContext): number => Math.floor(context.unixMs() / 1000);
