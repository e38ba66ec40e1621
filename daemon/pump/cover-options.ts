/** What the configuration of cover traffic means to the engine. */
import type { EngineOptions } from '@nyx/core/engine/contract.ts';
import type { CoverConfig } from './contract.ts';

/** A client that saves power: a word a minute, and it is missed only after four. */
const LOW_POWER_KEEP_ALIVE_MS = 60_000;
/** Of links without it (core/link/link.ts). */
const DEFAULT_KEEP_ALIVE_MS = 15_000;
const ANSWER_MS = 5000;
const LOW_POWER_IDLE_MS = 240_000;
const LOW_POWER_RATIO = 0.1;
/** Its cover beside that of real cells, its loops and its slots for messages, over what is configured. */
const LOW_POWER_SHARE = 0.1;

type CoverEngineOptions = Pick<EngineOptions, 'cover' | 'coverGrantPerSecond' | 'linkKeepAliveMs' | 'session'>;

export function coverEngineOptions(config: CoverConfig): CoverEngineOptions {
  const { mode, lowPower, budgetBytesPerHour } = config;
  const share = lowPowerShare(config);
  return {
    session: lowPower ? { keepAliveMs: LOW_POWER_KEEP_ALIVE_MS, idleTimeoutMs: LOW_POWER_IDLE_MS } : {},
    ...(lowPower ? { linkKeepAliveMs: LOW_POWER_KEEP_ALIVE_MS } : {}),
    coverGrantPerSecond: config.grantCellsPerSecond,
    ...(mode === 'off'
      ? {}
      : {
          cover: {
            mode,
            cellsPerSecond: mode === 'constant' ? config.constantCellsPerSecond : config.baseCellsPerSecond * share,
            ratio: lowPower ? LOW_POWER_RATIO : config.ratio,
            dropCellsPerSecond: config.dropCellsPerSecond * share,
            budgetBytesPerHour,
          },
        }),
  };
}

/** Of what is configured to be sent without need, a client that saves power sends so much. */
export function lowPowerShare({ lowPower }: Pick<CoverConfig, 'lowPower'>): number {
  return lowPower ? LOW_POWER_SHARE : 1;
}

/** A link that is up is heard at least this often, with some room. */
export function onlineMs(config: CoverConfig): number {
  return (config.lowPower ? LOW_POWER_KEEP_ALIVE_MS : DEFAULT_KEEP_ALIVE_MS) + ANSWER_MS;
}

/** Loops a minute of a client; 0 = none. */
export function loopsPerMinute(config: CoverConfig): number {
  return config.mode === 'off' ? 0 : config.loopsPerMinute * lowPowerShare(config);
}
