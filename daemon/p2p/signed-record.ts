/**
 * What is signed and travels between peers, in one form: signature (64) ‖ body, the body being a deterministic CBOR map
 * that names its version and its Ed25519 key; signature = Ed25519(key, LABEL ‖ 0x00 ‖ body).
 */
import { nyxLabel } from '@nyx/core/crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  type SignKeyPair,
} from '@nyx/core/crypto/suite.ts';
import { DirectoryError } from '@nyx/core/directory/directory-error.ts';
import { decodeCbor, encodeCbor, FieldReader } from '@nyx/core/directory/strict-cbor.ts';
import { Refusal, RefusedError } from './contract.ts';

/** One kind of signed record. */
export interface RecordKind<T extends Dated> {
  /** Also the domain of its signature: `nyx1 <label>`. */
  readonly label: string;
  readonly maxBytes: number;
  readonly maxLifetimeSeconds: number;
  /** Fields besides version, key, published and expires. */
  readonly fields: readonly string[];
  readonly read: (reader: FieldReader, dated: Dated) => T;
  readonly write: (value: T) => Record<string, unknown>;
}

export interface Dated {
  /** Ed25519 public key that signs, 32 bytes. */
  readonly key: Uint8Array;
  readonly published: number;
  readonly expires: number;
}

/** A record published further ahead of the clock than this is refused. */
const CLOCK_SKEW_SECONDS = 60;
const VERSION = 1;
const MAX_SECONDS = 2 ** 48;

export const signRecord = <T extends Dated>(kind: RecordKind<T>, value: T, key: SignKeyPair): Uint8Array => {
  const { published, expires } = value;
  const body = encodeCbor({ version: VERSION, key: value.key, published, expires, ...kind.write(value) });
  const record = new Uint8Array(ED25519_SIGNATURE_BYTES + body.length);
  record.set(key.sign(signedMessage(kind.label, body)));
  record.set(body, ED25519_SIGNATURE_BYTES);
  return record;
};

/** Form, dates and signature, in this order, so that what is cheap to refuse is. Throws RefusedError. */
export const openRecord = <T extends Dated>(
  kind: RecordKind<T>,
  bytes: Uint8Array,
  suite: CryptoSuite,
  nowUnixSeconds: number,
): T => {
  const value = decodeRecord(kind, bytes);
  assertDates(value, nowUnixSeconds, kind.label);
  const signature = bytes.subarray(0, ED25519_SIGNATURE_BYTES);
  const body = bytes.subarray(ED25519_SIGNATURE_BYTES);
  if (!suite.ed25519Verify(value.key, signedMessage(kind.label, body), signature)) {
    throw new RefusedError(Refusal.badSignature, `${kind.label} is not signed by its key`);
  }
  return value;
};

/** Form alone. Throws RefusedError `oversized` or `malformed`. */
export const decodeRecord = <T extends Dated>(kind: RecordKind<T>, bytes: Uint8Array): T => {
  if (bytes.length > kind.maxBytes) {
    throw new RefusedError(Refusal.oversized, `${kind.label} of ${bytes.length} bytes; at most ${kind.maxBytes}`);
  }
  try {
    const body = bytes.subarray(Math.min(bytes.length, ED25519_SIGNATURE_BYTES));
    const names = ['version', 'key', 'published', 'expires', ...kind.fields];
    const reader = new FieldReader(decodeCbor(body, kind.label), kind.label, names);
    reader.integer('version', VERSION, VERSION);
    const published = reader.integer('published', 0, MAX_SECONDS);
    return kind.read(reader, {
      key: reader.bytes('key', ED25519_PUBLIC_KEY_BYTES),
      published,
      expires: reader.integer('expires', published + 1, published + kind.maxLifetimeSeconds),
    });
  } catch (error) {
    if (!(error instanceof DirectoryError)) throw error;
    throw new RefusedError(Refusal.malformed, error.message);
  }
};

export const assertDates = (
  { published, expires }: { readonly published: number; readonly expires: number },
  nowUnixSeconds: number,
  what: string,
): void => {
  if (nowUnixSeconds + CLOCK_SKEW_SECONDS < published) {
    throw new RefusedError(Refusal.notYetValid, `${what} is published at ${published}; now is ${nowUnixSeconds}`);
  }
  if (nowUnixSeconds >= expires) {
    throw new RefusedError(Refusal.expired, `${what} expired at ${expires}; now is ${nowUnixSeconds}`);
  }
};

const signedMessage = (label: string, body: Uint8Array): Uint8Array => {
  const name = nyxLabel(label);
  const message = new Uint8Array(name.length + 1 + body.length);
  message.set(name);
  message.set(body, name.length + 1);
  return message;
};
