/** A mix's work on batches, but for one thing: what it says to have given out are not the cells that it took. */
import { createHash } from 'node:crypto';
import { type BatchShare, proveBatch as prove } from '@nyx/core/mix/batch-work.ts';

export * from '@nyx/core/mix/batch-work.ts';

const others = (share: BatchShare): BatchShare => ({
  ...share,
  digests: share.digests.map((digest) => Uint8Array.from(createHash('sha256').update(digest).digest())),
});

export const proveBatch: typeof prove = (records, suite, signer, squaringsPerMs, job, tell, nowMs) =>
  prove(records, suite, signer, squaringsPerMs, { ...job, outputs: job.outputs.map(others) }, tell, nowMs);
