/**
 * What a mix of class cmix signs of a circuit when it takes it (docs/protocol.md §7.1): as what its cells are known on both sides,
 * and its layer's keys, as hashes. A cell opens under other keys too if somebody looks for them; under those that the mix
 * itself has named, what it took becomes one thing only. Pledges of all hops come back in one train that is as long for three as
 * for seven, and says nothing to the hops that pass it on.
 */
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import { compareBytes, joinBytes, writeNumber } from '../directory/bytes.ts';
import { CellKeys, type Direction, ratchet } from '../onion/direction-keys.ts';
import type { HopRoute } from '../onion/hop-route.ts';
import type { HopSecrets } from '../onion/hop-secrets.ts';
import { MAX_HOPS, readCounter } from '../wire/datagram.ts';
import { CERTIFICATE_BYTES, type Certificate, readCertificate } from './batch-records.ts';

/** Generations of a layer's keys that a pledge names: with one every ten minutes they last for 80. */
const PLEDGED_GENERATIONS = 8;
const HASH_BYTES = 32;
export const LAYER_KEYS_BYTES = 2 * PLEDGED_GENERATIONS * HASH_BYTES;
const FIELDS_BYTES = 3 * HASH_BYTES + 4 * 6;
const SIGNATURE_BYTES = 64;
/** What comes back of a hop: the rest of its pledge the client knows. */
const SLOT_BYTES = CERTIFICATE_BYTES + SIGNATURE_BYTES;
const PLEDGE_BYTES = SLOT_BYTES + FIELDS_BYTES;
export const PLEDGE_TRAIN_BYTES = MAX_HOPS * SLOT_BYTES;

const text = new TextEncoder();
const PLEDGE_DOMAIN = text.encode('nyx1 cmix pledge');
const LAYER_KEY_DOMAIN = text.encode('nyx1 cmix layer key');
const LAYER_KEYS_DOMAIN = text.encode('nyx1 cmix layer keys');
const INFO_TRAIN = text.encode('nyx1 cmix pledges');
const EMPTY = new Uint8Array(0);
const noHash = new Uint8Array(HASH_BYTES);
const zeroNonce = new Uint8Array(12);

/** A circuit of class cmix at one of its hops, as hop and client know it. */
export interface PledgedCircuit {
  /** circuitTag() of the trains that came, and went; undefined: it ends here. */
  readonly inward: Uint8Array;
  readonly outward: Uint8Array | undefined;
  /** What is signed, behind the certificate. */
  readonly fields: Uint8Array;
  /** Hashes of the layer's keys by direction and generation; none where the circuit ends. */
  readonly layerKeys: Uint8Array;
  /** Of the hop's layer around the pledges, 32 bytes; used once. */
  readonly trainKey: Uint8Array;
}

export interface Pledge {
  readonly certificate: Certificate;
  readonly inward: Uint8Array;
  /** Undefined: the circuit ends here. */
  readonly outward: Uint8Array | undefined;
  /** By direction: the counter of the cell with index 0 as it comes, and what is added to counters here. */
  readonly starts: readonly [number, number];
  readonly offsets: readonly [number, number];
  /** Hash of the list of layer keys. */
  readonly layerKeys: Uint8Array;
}

type Suite = Pick<CryptoSuite, 'sha256' | 'blake3' | 'ed25519Verify'>;

/** Borrows all. */
export function pledgedCircuit(
  suite: CryptoSuite,
  secrets: HopSecrets,
  route: HopRoute,
  inward: Uint8Array,
  outward: Uint8Array | undefined,
): PledgedCircuit {
  const layerKeys = outward === undefined ? EMPTY : listLayerKeys(suite, secrets);
  const { forwardStart, forwardOffset, backwardStart, backwardOffset } = route;
  const fields = joinBytes(
    inward,
    outward ?? noHash,
    ...[forwardStart, forwardOffset, backwardStart, backwardOffset].map((counter) => {
      const bytes = new Uint8Array(6);
      writeNumber(bytes, 0, counter, 6);
      return bytes;
    }),
    outward === undefined ? noHash : hashLayerKeys(suite, layerKeys),
  );
  return { inward, outward, fields, layerKeys, trainKey: suite.hkdf(secrets.binding, EMPTY, INFO_TRAIN, 32) };
}

function listLayerKeys(suite: CryptoSuite, { forwardChain, backwardChain }: HopSecrets): Uint8Array {
  const hashes: Uint8Array[] = [];
  for (const first of [forwardChain, backwardChain]) {
    let chain: Uint8Array = first.slice();
    for (let generation = 0; generation < PLEDGED_GENERATIONS; generation++) {
      const next = ratchet(suite, chain);
      const keys = new CellKeys(suite, chain, generation, -1);
      hashes.push(hashLayerKey(suite, keys.aeadKey));
      keys.wipe(suite);
      chain = next;
    }
    suite.wipe(chain);
  }
  return joinBytes(...hashes);
}

function hashLayerKey(suite: Pick<CryptoSuite, 'sha256'>, aeadKey: Uint8Array): Uint8Array {
  return suite.sha256(LAYER_KEY_DOMAIN, aeadKey);
}

function hashLayerKeys(suite: Pick<CryptoSuite, 'sha256'>, list: Uint8Array): Uint8Array {
  return suite.sha256(LAYER_KEYS_DOMAIN, list);
}

/** Whether this is the key of that layer, by a list that the pledge has the hash of. */
export function arePledged(
  suite: Pick<CryptoSuite, 'sha256'>,
  pledge: Pledge,
  list: Uint8Array,
  direction: Direction,
  generation: number,
  aeadKey: Uint8Array,
): boolean {
  if (generation >= PLEDGED_GENERATIONS || list.length !== LAYER_KEYS_BYTES) return false;
  if (compareBytes(hashLayerKeys(suite, list), pledge.layerKeys) !== 0) return false;
  const at = (direction * PLEDGED_GENERATIONS + generation) * HASH_BYTES;
  return compareBytes(hashLayerKey(suite, aeadKey), list.subarray(at, at + HASH_BYTES)) === 0;
}

/** By a batch key that the certificate is for: certificate and signature. */
export function signPledge(certificate: Uint8Array, key: SignKeyPair, fields: Uint8Array): Uint8Array {
  return joinBytes(certificate, key.sign(joinBytes(PLEDGE_DOMAIN, certificate, fields)));
}

/** The whole pledge of the node for the circuit, if this is what has come back of it. */
export function completePledge(
  suite: Suite,
  nodeId: Uint8Array,
  fields: Uint8Array,
  slot: Uint8Array,
): Uint8Array | undefined {
  const bytes = joinBytes(slot.subarray(0, CERTIFICATE_BYTES), fields, slot.subarray(CERTIFICATE_BYTES));
  const pledge = readPledge(suite, bytes);
  return pledge !== undefined && compareBytes(pledge.certificate.nodeId, nodeId) === 0 ? bytes : undefined;
}

/** Undefined: not the form of a pledge, or not signed. */
export function readPledge(suite: Suite, bytes: Uint8Array): Pledge | undefined {
  if (bytes.length !== PLEDGE_BYTES) return undefined;
  const signed = bytes.subarray(0, PLEDGE_BYTES - SIGNATURE_BYTES);
  const certificate = readCertificate(suite, bytes.subarray(0, CERTIFICATE_BYTES));
  if (certificate === undefined) return undefined;
  const signature = bytes.subarray(PLEDGE_BYTES - SIGNATURE_BYTES);
  if (!suite.ed25519Verify(certificate.key, joinBytes(PLEDGE_DOMAIN, signed), signature)) return undefined;
  const fields = signed.subarray(CERTIFICATE_BYTES);
  const outward = fields.subarray(HASH_BYTES, 2 * HASH_BYTES);
  const counters = [0, 1, 2, 3].map((i) => readCounter(fields, 2 * HASH_BYTES + 6 * i)) as [
    number,
    number,
    number,
    number,
  ];
  return {
    certificate,
    inward: fields.subarray(0, HASH_BYTES),
    outward: compareBytes(outward, noHash) === 0 ? undefined : outward,
    starts: [counters[0], counters[2]],
    offsets: [counters[1], counters[3]],
    layerKeys: fields.subarray(FIELDS_BYTES - HASH_BYTES),
  };
}

// --- on their way to the client

/** A hop's pledge in front of those of later hops (or, at the last hop, of random bytes), under its layer. Takes `trainKey`. */
export function addPledge(suite: CryptoSuite, trainKey: Uint8Array, slot: Uint8Array, later: Uint8Array): Uint8Array {
  const train = new Uint8Array(PLEDGE_TRAIN_BYTES);
  train.set(slot);
  train.set(later.subarray(0, PLEDGE_TRAIN_BYTES - SLOT_BYTES), SLOT_BYTES);
  suite.chacha20Xor(train, train, zeroNonce, 0, trainKey);
  suite.wipe(trainKey);
  return train;
}

/** By hop, what has come back of its pledge: whatever it is, if a hop on the way has changed it. Takes the keys. */
export function openPledges(suite: CryptoSuite, trainKeys: readonly Uint8Array[], train: Uint8Array): Uint8Array[] {
  let left: Uint8Array = train.slice();
  return trainKeys.map((trainKey) => {
    suite.chacha20Xor(left, left, zeroNonce, 0, trainKey);
    suite.wipe(trainKey);
    const slot = left.slice(0, SLOT_BYTES);
    left = left.slice(SLOT_BYTES);
    return slot;
  });
}
