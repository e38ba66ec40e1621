/**
 * The set-up train: one onion message that sets up a whole circuit, as long for one hop as for seven
 * (docs/protocol.md §4).
 *
 *   M = X25519 epk (32) ‖ ML-KEM-768 ciphertext (1088) ‖ tag (16) ‖ body (8928)
 *   body = AEAD(route (128) ‖ rest (8800)),  next M = rest ‖ filler (1264)
 */
import {
  AEAD_NONCE_BYTES,
  AEAD_TAG_BYTES,
  type CryptoSuite,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  MLKEM768_SEED_BYTES,
  X25519_BYTES,
} from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { CircuitClass, NodeContact } from '../engine/contract.ts';
import type { Random, UnixSeconds } from '../ports.ts';
import { COUNTER_MODULUS, MAX_HOPS, readCounter } from '../wire/datagram.ts';
import { addCounter } from './direction-keys.ts';
import { CLIENT_FRESH_BYTES, type ClientFresh, createFreshKeys, type FreshKeys } from './fresh-exchange.ts';
import { decodeRoute, encodeRoute, type HopRoute, PUZZLE_SOLUTION_BYTES, ROUTE_BYTES } from './hop-route.ts';
import { deriveHopSecrets, type HopSecrets, wipeHopSecrets } from './hop-secrets.ts';
import type { KeySpares } from './key-spares.ts';
import type { MixKeyRing, MixKeys } from './mix-key-ring.ts';
import { type Puzzle, solvePuzzle } from './puzzle.ts';

export { freshChain } from './direction-keys.ts';
export { type ClientFresh, createFreshKeys, type FreshKeys, finishReply, lastHopReply } from './fresh-exchange.ts';
export type { HopRoute } from './hop-route.ts';
export { MixKeyRing } from './mix-key-ring.ts';

const TAG_AT = X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES;
const BODY_AT = TAG_AT + AEAD_TAG_BYTES;
/** What a hop takes off the front, and therefore appends as filler. */
const FILLER_BYTES = BODY_AT + ROUTE_BYTES;
export const TRAIN_BYTES = MAX_HOPS * FILLER_BYTES + CLIENT_FRESH_BYTES;
const BODY_BYTES = TRAIN_BYTES - BODY_AT;
const REST_BYTES = BODY_BYTES - ROUTE_BYTES;

const TRAIN_DOMAIN = new TextEncoder().encode('nyx1 cmix circuit');

const EMPTY = new Uint8Array(0);
const zeroNonce = new Uint8Array(AEAD_NONCE_BYTES);
const zeroFiller = new Uint8Array(FILLER_BYTES);
const noSolution = new Uint8Array(PUZZLE_SOLUTION_BYTES);

export interface TrainOptions {
  readonly class: CircuitClass;
  readonly delayMeanUs: number;
  readonly expiry: UnixSeconds;
  /** Cells allowed in each direction, 2^k. Default: no limit. */
  readonly maxCellsLog2?: number;
  /** By hop: what the hop asked for before; solved here, which takes about 2^difficulty hashes. */
  readonly puzzles?: readonly (Puzzle | undefined)[];
}

/**
 * By this name both ends of a link and the client know a circuit of class cmix there: 32 bytes. A node takes a train once, and
 * its own filler is in the one that it sends, so neither has another circuit of that name, whoever the client is.
 */
export function circuitTag(suite: CryptoSuite, train: Uint8Array): Uint8Array {
  return suite.sha256(TRAIN_DOMAIN, train);
}

export interface Train {
  /** 10064 bytes. */
  readonly train: Uint8Array;
  /** By hop, first to last. */
  readonly secrets: HopSecrets[];
  readonly routes: HopRoute[];
  /** Class cmix: tags of the circuit on the links to the hops, first to last. Else none. */
  readonly tags: Uint8Array[];
  /** The client's keys for the last hop's reply. */
  readonly fresh: FreshKeys;
  /** For the first hop, which gets it beside the train; zeros when it asked for none. */
  readonly firstPuzzleSolution: Uint8Array;
}

/**
 * Builds the train for 1…7 hops, under each node's newest mix keys, with key pairs from `spares` if given. Throws RangeError for a bad number of hops or
 * option, and Error when a hop's published keys are not valid ones.
 */
export function buildTrain(
  suite: CryptoSuite,
  random: Random,
  hops: readonly NodeContact[],
  options: TrainOptions,
  spares?: KeySpares,
): Train {
  const count = hops.length;
  if (count < 1 || count > MAX_HOPS) throw new RangeError(`a train has 1 to ${MAX_HOPS} hops, not ${count}`);
  const exchanges = hops.map((hop) => exchangeWith(suite, random, hop, spares));
  const solutions = exchanges.map(({ epk }, i) => {
    const puzzle = options.puzzles?.[i];
    return puzzle === undefined ? noSolution.slice() : solvePuzzle(suite, puzzle, epk);
  });
  const secrets = exchanges.map((exchange) => exchange.secrets);
  const routes = makeRoutes(random, hops, options, solutions);
  const fresh = spares?.takeFresh() ?? createFreshKeys(suite, random);

  // The last hop's plaintext: route ‖ our fresh keys ‖ random, ending in the image of the fillers.
  const body = new Uint8Array(BODY_BYTES);
  random.fill(body.subarray(ROUTE_BYTES + CLIENT_FRESH_BYTES));
  body.set(fresh.dh.publicKey, ROUTE_BYTES);
  body.set(fresh.kem.publicKey, ROUTE_BYTES + X25519_BYTES);
  const filler = fillerImage(suite, secrets);
  body.set(filler, BODY_BYTES - filler.length);
  suite.wipe(filler);

  const tags: Uint8Array[] = [];
  let message = new Uint8Array(TRAIN_BYTES);
  for (let i = count - 1; i >= 0; i--) {
    if (i < count - 1) body.set(message.subarray(0, REST_BYTES), ROUTE_BYTES);
    encodeRoute(routes[i]!, body);
    message = new Uint8Array(TRAIN_BYTES);
    const { epk, ciphertext } = exchanges[i]!;
    message.set(epk);
    message.set(ciphertext, X25519_BYTES);
    const tag = message.subarray(TAG_AT, BODY_AT);
    suite.aeadSeal(message.subarray(BODY_AT), tag, body, EMPTY, zeroNonce, secrets[i]!.setupKey);
    if (options.class === 'cmix') tags[i] = circuitTag(suite, message);
  }
  suite.wipe(body);
  return { train: message, secrets, routes, tags, fresh, firstPuzzleSolution: solutions[0]! };
}

export type TrainResult =
  | { readonly drop: Exclude<Drop, typeof Drop.none> }
  | {
      readonly drop: typeof Drop.none;
      readonly route: HopRoute;
      readonly secrets: HopSecrets;
      /** Train for the next hop, 10064 bytes; empty at the last hop. */
      readonly next: Uint8Array;
      /** At the last hop only. */
      readonly clientFresh?: ClientFresh;
    };

/**
 * Opens a train under the node's keys, newest first, and remembers it. Borrows `train`.
 * `staleEpoch`: no key that is held opens it (made for another epoch, or altered); `setupReplayed`; `limit`: the
 * epoch's memory is full; `badSetup`: malformed.
 */
export function processTrain(suite: CryptoSuite, ring: MixKeyRing, train: Uint8Array): TrainResult {
  if (train.length !== TRAIN_BYTES) return { drop: Drop.badSetup };
  const body = train.subarray(BODY_AT);
  const plaintext = new Uint8Array(BODY_BYTES);
  for (const keys of ring.keys) {
    const secrets = secretsAtNode(suite, ring.nodeId, keys, train);
    if (secrets === undefined) return { drop: Drop.badSetup };
    if (suite.aeadOpen(plaintext, train.subarray(TAG_AT, BODY_AT), body, EMPTY, zeroNonce, secrets.setupKey)) {
      const result = acceptTrain(suite, keys, secrets, plaintext);
      suite.wipe(plaintext);
      return result;
    }
    wipeHopSecrets(suite, secrets);
  }
  return { drop: Drop.staleEpoch };
}

function acceptTrain(suite: CryptoSuite, keys: MixKeys, secrets: HopSecrets, plaintext: Uint8Array): TrainResult {
  const refuse = (drop: Exclude<Drop, typeof Drop.none>): TrainResult => {
    wipeHopSecrets(suite, secrets);
    return { drop };
  };
  const route = decodeRoute(plaintext);
  if (route === undefined) return refuse(Drop.badSetup);
  const noted = keys.seen.note(secrets.setupTag);
  if (noted !== Drop.none) return refuse(noted);
  const rest = plaintext.subarray(ROUTE_BYTES);
  if (route.nextNodeId === undefined) {
    const clientFresh = { x25519: rest.slice(0, X25519_BYTES), kem: rest.slice(X25519_BYTES, CLIENT_FRESH_BYTES) };
    return { drop: Drop.none, route, secrets, next: EMPTY, clientFresh };
  }
  const next = new Uint8Array(TRAIN_BYTES);
  next.set(rest);
  suite.chacha20Xor(next.subarray(REST_BYTES), zeroFiller, zeroNonce, 0, secrets.fillerKey);
  return { drop: Drop.none, route, secrets, next };
}

/** Undefined for an ephemeral key of low order. */
function secretsAtNode(
  suite: CryptoSuite,
  nodeId: Uint8Array,
  keys: MixKeys,
  train: Uint8Array,
): HopSecrets | undefined {
  const epk = train.subarray(0, X25519_BYTES);
  const ciphertext = train.subarray(X25519_BYTES, TAG_AT);
  const dh = keys.dh.agree(epk);
  if (dh === undefined) return undefined;
  const kem = keys.kem.decapsulate(ciphertext);
  const secrets = deriveHopSecrets(suite, dh, kem, {
    nodeId,
    epoch: keys.epoch,
    mixX25519: keys.dh.publicKey,
    mixKemHash: keys.kemHash,
    epk,
    ciphertext,
  });
  suite.wipe(dh, kem);
  return secrets;
}

interface Exchange {
  readonly epk: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly secrets: HopSecrets;
}

function exchangeWith(suite: CryptoSuite, random: Random, hop: NodeContact, spares: KeySpares | undefined): Exchange {
  const mix = hop.mixKeys.at(-1);
  if (mix === undefined) throw new Error('a hop without mix keys can be in no circuit');
  const secret = new Uint8Array(X25519_BYTES + MLKEM768_SEED_BYTES / 2);
  random.fill(secret);
  const ephemeral = spares?.takePair() ?? suite.x25519(secret.subarray(0, X25519_BYTES));
  const dh = ephemeral.agree(mix.x25519);
  const kem =
    mix.kem.length === MLKEM768_PUBLIC_KEY_BYTES
      ? suite.mlkem768Encapsulate(mix.kem, secret.subarray(X25519_BYTES), true)
      : undefined;
  const epk = ephemeral.publicKey.slice();
  ephemeral.wipe();
  suite.wipe(secret);
  if (dh === undefined || kem === undefined) throw new Error('a hop publishes mix keys that are not valid ones');
  const secrets = deriveHopSecrets(suite, dh, kem.sharedSecret, {
    nodeId: hop.nodeId,
    epoch: mix.epoch,
    mixX25519: mix.x25519,
    mixKemHash: suite.sha256(mix.kem),
    epk,
    ciphertext: kem.ciphertext,
  });
  suite.wipe(dh, kem.sharedSecret);
  return { epk, ciphertext: kem.ciphertext, secrets };
}

function makeRoutes(
  random: Random,
  hops: readonly NodeContact[],
  options: TrainOptions,
  solutions: readonly Uint8Array[],
): HopRoute[] {
  const counter = new Uint8Array(6);
  const randomCounter = () => {
    random.fill(counter);
    return readCounter(counter, 0);
  };
  const routes: HopRoute[] = [];
  let forwardStart = randomCounter();
  // Backward counters are counted where they arrive; the last hop's leave it as they are.
  let backwardOut = randomCounter();
  for (let i = 0; i < hops.length; i++) {
    const last = i === hops.length - 1;
    const forwardOffset = last ? 0 : randomCounter();
    const backwardOffset = last ? 0 : randomCounter();
    const backwardStart = addCounter(backwardOut, last ? 0 : COUNTER_MODULUS - backwardOffset);
    routes.push({
      nextNodeId: last ? undefined : hops[i + 1]!.nodeId,
      action: last ? 'exit' : 'relay',
      class: options.class,
      delayMeanUs: options.delayMeanUs,
      forwardStart,
      forwardOffset,
      backwardStart,
      backwardOffset,
      maxCellsLog2: options.maxCellsLog2 ?? 0,
      expiry: options.expiry,
      nextPuzzleSolution: last ? noSolution.slice() : solutions[i + 1]!,
    });
    forwardStart = addCounter(forwardStart, forwardOffset);
    backwardOut = backwardStart;
  }
  return routes;
}

/**
 * What the last hop's plaintext has to end in, so that every hop's tag covers the fillers of the hops before it: each
 * filler under the body keystreams of all later hops (Sphinx, §3.2 of the paper, with an AEAD in the MAC's place).
 */
function fillerImage(suite: CryptoSuite, secrets: readonly HopSecrets[]): Uint8Array {
  let image = new Uint8Array(0);
  for (let i = 0; i < secrets.length; i++) {
    applyBodyKeystream(suite, image, secrets[i]!.setupKey);
    if (i === secrets.length - 1) return image;
    const longer = new Uint8Array(image.length + FILLER_BYTES);
    longer.set(image);
    suite.chacha20Xor(longer.subarray(image.length), zeroFiller, zeroNonce, 0, secrets[i]!.fillerKey);
    suite.wipe(image);
    image = longer;
  }
  return image;
}

/** XORs `tail`, the end of a body, with that end of the body's AEAD keystream, which begins at block 1 (RFC 8439 §2.8). */
function applyBodyKeystream(suite: CryptoSuite, tail: Uint8Array, key: Uint8Array): void {
  if (tail.length === 0) return;
  const from = BODY_BYTES - tail.length;
  const skipped = from % 64;
  const aligned = new Uint8Array(skipped + tail.length);
  aligned.set(tail, skipped);
  suite.chacha20Xor(aligned, aligned, zeroNonce, 1 + Math.floor(from / 64), key);
  tail.set(aligned.subarray(skipped));
  suite.wipe(aligned);
}
