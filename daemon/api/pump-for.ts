/** Which worker serves a request. */
import { workerOf } from '../actors/pump-pool.ts';
import type { PumpClient } from '../pump/pump-client.ts';
import { notFound } from './errors.ts';
import type { ApiHost } from './host.ts';

/** The worker that holds the path, or any. */
export const pumpFor = (host: ApiHost, pathId: number): { readonly worker: number; readonly pump: PumpClient } => {
  if (pathId === 0) return host.pool.choose();
  const worker = workerOf(pathId);
  const pump = host.pool.get(worker);
  if (pump === undefined) throw notFound('path', pathId);
  return { worker, pump };
};
