/** The header of a Sphinx packet, made by whoever chooses its path (Danezis and Goldberg 2009, §3.2 and §3.6). */
import { ZERO_NONCE } from '../crypto/key-schedule.ts';
import { type CryptoSuite, X25519_BYTES } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { MAX_HOPS } from '../wire/datagram.ts';
import { HopContext, type HopKeys } from './hop-keys.ts';
import {
  BETA_AT,
  BETA_BYTES,
  BLOCK_BYTES,
  BLOCK_GAMMA_AT,
  COMMAND_AT,
  Command,
  DELAY_AT,
  GAMMA_AT,
  GAMMA_BYTES,
  HEADER_BYTES,
  MAX_MESSAGE_DELAY_MS,
  REPLY_ID_BYTES,
} from './layout.ts';

/** One hop of a path that a sender has chosen. */
export interface SphinxHop {
  /** 32 bytes. */
  readonly nodeId: Uint8Array;
  /** The node's X25519 mix key of `epoch`, 32 bytes. */
  readonly mixX25519: Uint8Array;
  readonly epoch: number;
  /** How long the hop is to hold the packet, whole milliseconds of 0…600 000. The last hop holds it as well. */
  readonly delayMs: number;
}

/** What the last hop is to do. */
export interface LastCommand {
  readonly command: typeof Command.deliver | typeof Command.reply | typeof Command.drop;
  /** Of a reply, 16 bytes. */
  readonly replyId?: Uint8Array;
}

const BASE_POINT = new Uint8Array(X25519_BYTES);
BASE_POINT[0] = 9;

/**
 * Writes a header (440 bytes) to the beginning of `out` and returns each hop's payload key (32 bytes, secret). Throws
 * RangeError for a path that can't be, and Error when a hop's mix key is of low order.
 */
export function createHeader(
  suite: CryptoSuite,
  random: Random,
  hops: readonly SphinxHop[],
  last: LastCommand,
  out: Uint8Array,
): Uint8Array[] {
  checkHops(hops);
  const count = hops.length;
  const { alpha, keys } = exchange(suite, random, hops);
  const filler = fillerOf(suite, keys);
  // What follows the last block is random, not zeros: else the last hop would see how long the path was.
  const wide = new Uint8Array(BETA_BYTES + BLOCK_BYTES);
  const beta = wide.subarray(0, BETA_BYTES);
  const gamma = new Uint8Array(GAMMA_BYTES);
  for (let i = count - 1; i >= 0; i--) {
    if (i === count - 1) {
      random.fill(beta);
      beta.fill(0, 0, BLOCK_BYTES);
      if (last.replyId !== undefined) beta.set(last.replyId);
      beta[COMMAND_AT] = last.command;
      random.fill(beta.subarray(BLOCK_GAMMA_AT, BLOCK_BYTES));
    } else {
      beta.copyWithin(BLOCK_BYTES, 0, BETA_BYTES - BLOCK_BYTES);
      beta.set(hops[i + 1]!.nodeId);
      beta.fill(0, DELAY_AT, BLOCK_GAMMA_AT);
      beta[COMMAND_AT] = Command.forward;
      beta.set(gamma, BLOCK_GAMMA_AT);
    }
    new DataView(beta.buffer).setUint32(DELAY_AT, hops[i]!.delayMs);
    suite.chacha20Xor(beta, beta, ZERO_NONCE, 0, keys[i]!.stream);
    if (i === count - 1) beta.set(filler, BETA_BYTES - filler.length);
    suite.blake2b(gamma, keys[i]!.mac, beta);
  }
  out.set(alpha);
  out.set(beta, BETA_AT);
  out.set(gamma, GAMMA_AT);
  const payloadKeys = keys.map(({ payload }) => payload.slice());
  for (const { all } of keys) suite.wipe(all);
  suite.wipe(wide, filler);
  return payloadKeys;
}

function checkHops(hops: readonly SphinxHop[]): void {
  if (hops.length < 1 || hops.length > MAX_HOPS) {
    throw new RangeError(`a packet has 1 to ${MAX_HOPS} hops, not ${hops.length}`);
  }
  for (const { delayMs } of hops) {
    if (!Number.isInteger(delayMs) || delayMs < 0 || delayMs > MAX_MESSAGE_DELAY_MS) {
      throw new RangeError(`a hop holds a packet for 0 to ${MAX_MESSAGE_DELAY_MS} whole milliseconds, not ${delayMs}`);
    }
  }
}

export function assertReplyId(replyId: Uint8Array): void {
  if (replyId.length !== REPLY_ID_BYTES) {
    throw new RangeError(`a reply id has ${REPLY_ID_BYTES} bytes, not ${replyId.length}`);
  }
}

/** Throws RangeError unless a whole header fits. */
export function assertHeaderRoom(out: Uint8Array, sizeBytes: number): void {
  if (out.length !== sizeBytes || sizeBytes < HEADER_BYTES) {
    throw new RangeError(`a packet has ${sizeBytes} bytes, not ${out.length}`);
  }
}

/**
 * The first hop's α and every hop's keys. The i-th hop's secret is its mix key multiplied by the sender's secret and by
 * all blindings before it, one X25519 each: products of clamped scalars are none themselves (ADR 20).
 */
function exchange(
  suite: CryptoSuite,
  random: Random,
  hops: readonly SphinxHop[],
): { readonly alpha: Uint8Array; readonly keys: HopKeys[] } {
  const secret = new Uint8Array(X25519_BYTES);
  random.fill(secret);
  const first = new Uint8Array(X25519_BYTES);
  suite.x25519Multiply(first, secret, BASE_POINT);
  const alpha = first.slice();
  const keys: HopKeys[] = [];
  const shared = new Uint8Array(X25519_BYTES);
  for (const [i, hop] of hops.entries()) {
    const context = new HopContext(hop.nodeId, hop.epoch, hop.mixX25519);
    if (i > 0) suite.x25519Multiply(alpha, keys[i - 1]!.blinding, alpha);
    let valid = suite.x25519Multiply(shared, secret, hop.mixX25519);
    for (const { blinding } of keys) valid &&= suite.x25519Multiply(shared, blinding, shared);
    if (!valid) {
      suite.wipe(secret, shared);
      for (const { all } of keys) suite.wipe(all);
      throw new Error('a hop publishes a mix key that is not a valid one');
    }
    keys.push(context.derive(suite, shared, alpha));
  }
  suite.wipe(secret, shared);
  return { alpha: first, keys };
}

/** What the last hop's β ends in: the zeros that the hops before it append, under the keystreams that they pass. */
function fillerOf(suite: CryptoSuite, keys: readonly HopKeys[]): Uint8Array {
  const wide = new Uint8Array(BETA_BYTES + BLOCK_BYTES);
  const stream = new Uint8Array(BETA_BYTES + BLOCK_BYTES);
  let length = 0;
  for (let i = 0; i < keys.length - 1; i++) {
    stream.fill(0);
    suite.chacha20Xor(stream, stream, ZERO_NONCE, 0, keys[i]!.stream);
    length += BLOCK_BYTES;
    // It is the end of what the hop has before it: what was there moves up by a block, the block's zeros come behind.
    wide.copyWithin(wide.length - length, wide.length - length + BLOCK_BYTES);
    wide.fill(0, wide.length - BLOCK_BYTES);
    for (let at = wide.length - length; at < wide.length; at++) wide[at]! ^= stream[at]!;
  }
  suite.wipe(stream);
  return wide.slice(wide.length - length);
}
