/** What of the configuration a pump worker goes by and can change to while it runs. */
import type { Config } from '../config/schema.ts';
import type { PumpTuning } from '../pump/contract.ts';
import { MAX_LOGGED_MESSAGES } from '../pump/message-memory.ts';

/** The epochs that an epoch's key lives: its own and the next one, and a little for clocks that differ. */
const KEY_LIFE_EPOCHS = 2.1;

export const pumpTuning = (config: Config, generation: number): PumpTuning => ({
  generation,
  exit: config.roles.includes('exit') ? config.exit : undefined,
  limits: { ...config.limits, messagesPerSecond: messagesPerSecond(config) },
  defaultHops: config.path.hops,
  spareCircuits: config.path.spareCircuits,
  mix: config.mix,
  cmixHops: config.cmix.hops,
  multipath: config.multipath,
  fec: {
    policy: typeof config.fec.policy === 'number' ? { ratio: config.fec.policy } : config.fec.policy,
    cpuShare: config.fec.cpuShare,
  },
  cover: config.cover,
});

/** Of each worker: no more than fit into the memory of packets seen, for as long as an epoch's key lives. */
const messagesPerSecond = ({ limits, epochSeconds, workers }: Config): number => {
  const fits = Math.floor(MAX_LOGGED_MESSAGES / (KEY_LIFE_EPOCHS * epochSeconds * workers));
  return Math.max(1, Math.min(limits.messagesPerSecond, fits));
};
