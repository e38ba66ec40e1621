/**
 * What the DHT may hold, and which of two records is the better one:
 *
 *   /nyx/node/NODEID          a node's descriptor (core/directory/descriptor.ts)
 *   /nyx/authority/KEY        where an authority takes descriptors (statements.ts)
 *   /nyx/service/ID           a service's record (service-record.ts)
 *
 * The last part is 64 lower-case hex digits and follows from the identity that signs. Everything else is refused.
 */
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { decodeDescriptor, MAX_DESCRIPTOR_BYTES, verifyDescriptorSignature } from '@nyx/core/directory/descriptor.ts';
import { DirectoryError, DirectoryErrorCode } from '@nyx/core/directory/directory-error.ts';
import { Refusal, RefusedError } from './contract.ts';
import { serviceRecordKind } from './service-record.ts';
import { assertDates, decodeRecord, openRecord } from './signed-record.ts';
import { authorityRecordKind } from './statements.ts';

export type Namespace = 'node' | 'authority' | 'service';

interface RecordKey {
  readonly namespace: Namespace;
  /** 64 hex digits. */
  readonly id: string;
}

/** Order of two records of one key: `rank` first, then the bytes, so that everybody chooses the same one. */
interface Ranked {
  readonly id: string;
  /** Descending significance. */
  readonly rank: readonly number[];
  readonly expires: number;
}

const keyPattern = /^\/nyx\/(node|authority|service)\/([0-9a-f]{64})$/;
const MAX_KEY_BYTES = 80;
const ascii = new TextDecoder('latin1');

export const recordKey = (namespace: Namespace, id: string): Uint8Array =>
  new TextEncoder().encode(`/nyx/${namespace}/${id}`);

export class RecordRules {
  readonly #suite: CryptoSuite;
  readonly #unixMs: () => number;

  constructor(suite: CryptoSuite, unixMs: () => number) {
    this.#suite = suite;
    this.#unixMs = unixMs;
  }

  /** Throws RefusedError unless `value` may be held under `key` now. */
  check(key: Uint8Array, value: Uint8Array): void {
    const { namespace, id } = parseKey(key);
    const found = this.#open(namespace, value);
    if (found.id !== id) throw new RefusedError(Refusal.misplaced, `a record of ${found.id} under the key of ${id}`);
  }

  /** A descriptor without its key. Throws RefusedError. */
  checkNode(value: Uint8Array): { readonly id: string; readonly published: number; readonly expires: number } {
    const { id, rank, expires } = this.#open('node', value);
    return { id, published: rank[0]!, expires };
  }

  /**
   * The index of the best record; `records` is not empty. Those that can't be read come last. Their signatures have
   * been checked before.
   */
  select(key: Uint8Array, records: readonly Uint8Array[]): number {
    const { namespace } = parseKey(key);
    let best = 0;
    for (let index = 1; index < records.length; index++) {
      if (this.#compare(namespace, records[index]!, records[best]!) > 0) best = index;
    }
    return best;
  }

  /** Throws RefusedError `replayed` unless `next` is `held` or better. */
  assertNotOlder(key: Uint8Array, held: Uint8Array, next: Uint8Array): void {
    const { namespace, id } = parseKey(key);
    if (this.#compare(namespace, next, held) < 0) {
      throw new RefusedError(Refusal.replayed, `a newer record of ${id} is held`);
    }
  }

  /** When a record ends, Unix seconds; 0 when it can't be read. */
  expiryOf(key: Uint8Array, value: Uint8Array): number {
    try {
      return this.#read(parseKey(key).namespace, value).expires;
    } catch (error) {
      if (error instanceof RefusedError) return 0;
      throw error;
    }
  }

  #compare(namespace: Namespace, a: Uint8Array, b: Uint8Array): number {
    const [ranksA, ranksB] = [a, b].map((value) => {
      try {
        return this.#read(namespace, value).rank;
      } catch (error) {
        if (error instanceof RefusedError) return [-1];
        throw error;
      }
    });
    for (let i = 0; i < Math.max(ranksA!.length, ranksB!.length); i++) {
      const difference = (ranksA![i] ?? -1) - (ranksB![i] ?? -1);
      if (difference !== 0) return difference;
    }
    return Buffer.compare(a, b);
  }

  #open(namespace: Namespace, value: Uint8Array): Ranked {
    const nowUnixSeconds = Math.floor(this.#unixMs() / 1000);
    const found = this.#read(namespace, value);
    if (namespace === 'node') {
      const descriptor = decodeDescriptor(value, this.#suite);
      assertDates(descriptor, nowUnixSeconds, 'descriptor');
      refuseDirectoryErrors(() => verifyDescriptorSignature(descriptor, this.#suite));
    } else if (namespace === 'authority') openRecord(authorityRecordKind, value, this.#suite, nowUnixSeconds);
    else openRecord(serviceRecordKind, value, this.#suite, nowUnixSeconds);
    return found;
  }

  #read(namespace: Namespace, value: Uint8Array): Ranked {
    switch (namespace) {
      case 'node': {
        if (value.length > MAX_DESCRIPTOR_BYTES) {
          throw new RefusedError(Refusal.oversized, `descriptor of ${value.length} bytes`);
        }
        const { nodeId, published, expires } = refuseDirectoryErrors(() => decodeDescriptor(value, this.#suite));
        return { id: hex(nodeId), rank: [published], expires };
      }
      case 'authority': {
        const { key, published, expires } = decodeRecord(authorityRecordKind, value);
        return { id: hex(key), rank: [published], expires };
      }
      case 'service': {
        const { key, revision, published, expires } = decodeRecord(serviceRecordKind, value);
        return { id: hex(this.#suite.blake3(key)), rank: [revision, published], expires };
      }
    }
  }
}

const parseKey = (key: Uint8Array): RecordKey => {
  const match = key.length > MAX_KEY_BYTES ? null : keyPattern.exec(ascii.decode(key));
  if (match === null) throw new RefusedError(Refusal.unknownKey, 'not a key of this network');
  return { namespace: match[1] as Namespace, id: match[2]! };
};

const refusalOf: Partial<Record<DirectoryErrorCode, Refusal>> = {
  [DirectoryErrorCode.tooLarge]: Refusal.oversized,
  [DirectoryErrorCode.badSignature]: Refusal.badSignature,
  [DirectoryErrorCode.expired]: Refusal.expired,
  [DirectoryErrorCode.notYetValid]: Refusal.notYetValid,
};

const refuseDirectoryErrors = <T>(read: () => T): T => {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof DirectoryError)) throw error;
    throw new RefusedError(refusalOf[error.code] ?? Refusal.malformed, error.message);
  }
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
