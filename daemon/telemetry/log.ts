/** Logs: NDJSON on stderr. `setLevel` is for what comes from then on. Nothing at any level names a stream's target or a peer's traffic. */
import pino from 'pino';
import type { Log } from '../actors/context.ts';

export const createLog = (
  level: string,
  nodeId: () => string,
): { readonly log: Log; readonly setLevel: (level: string) => void } => {
  const logger = pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: () => ({ node: nodeId().slice(0, 8) }),
      messageKey: 'message',
    },
    pino.destination({ fd: 2, sync: true }),
  );
  return {
    log: (at, message, fields = {}) => logger[at](fields, message),
    setLevel: (next) => {
      logger.level = next;
    },
  };
};
