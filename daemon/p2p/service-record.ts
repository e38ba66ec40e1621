/**
 * /nyx/service/ID: what a service publishes about itself. The record says nothing about the service but its key, which
 * may be one that changes with the epoch, its age and its length; the content is sealed by whoever publishes it.
 * ID = BLAKE3-256(key) in hex, so the key itself is known only to those who have the record.
 */
import { Refusal, RefusedError } from './contract.ts';
import type { Dated, RecordKind } from './signed-record.ts';

export interface ServiceRecord extends Dated {
  /** Counts up with every change; the highest is the one that holds. */
  readonly revision: number;
  /** Opaque, at most 12 KiB. */
  readonly content: Uint8Array;
}

const MAX_CONTENT_BYTES = 12 * 1024;

export const serviceRecordKind: RecordKind<ServiceRecord> = {
  label: 'service record',
  maxBytes: MAX_CONTENT_BYTES + 512,
  maxLifetimeSeconds: 86_400,
  fields: ['revision', 'content'],
  read: (reader, dated) => {
    const revision = reader.integer('revision', 0, 2 ** 48);
    const content = reader.get('content');
    if (!(content instanceof Uint8Array) || content.length > MAX_CONTENT_BYTES) {
      throw new RefusedError(Refusal.malformed, `content must be at most ${MAX_CONTENT_BYTES} bytes`);
    }
    return { ...dated, revision, content: new Uint8Array(content) };
  },
  write: ({ revision, content }) => ({ revision, content }),
};
