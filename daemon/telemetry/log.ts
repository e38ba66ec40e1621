/** Logs: NDJSON on stderr. Nothing at any level names a stream's target or a peer's traffic. */
import pino from 'pino';
import type { Log } from '../actors/context.ts';

export const createLog = (level: string, nodeId: () => string): Log => {
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
  return (at, message, fields = {}) => logger[at](fields, message);
};
