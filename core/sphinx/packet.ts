/** Sphinx packets as a sender makes them (docs/protocol.md §9). */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { assertHeaderRoom, createHeader, type SphinxHop } from './header.ts';
import { CHECK_BYTES, Command, DELTA_AT, MESSAGE_BYTES, PACKET_BYTES } from './layout.ts';
import { Lioness } from './lioness.ts';

export type { SphinxHop } from './header.ts';
export { MAX_MESSAGE_DELAY_MS, MESSAGE_BYTES, PACKET_BYTES } from './layout.ts';

/**
 * Writes a packet over 1…7 hops to `out` (1240 bytes). `payload` has at most 784 bytes (MESSAGE_BYTES), for every number of
 * hops; the last hop gets 784, zeros behind a shorter one. The first hop's NodeID is hops[0].nodeId: where to send it.
 * Throws RangeError for sizes and delays that can't be, and Error when a hop's mix key is of low order.
 */
export function createPacket(
  suite: CryptoSuite,
  random: Random,
  hops: readonly SphinxHop[],
  payload: Uint8Array,
  out: Uint8Array,
): void {
  if (payload.length > MESSAGE_BYTES) {
    throw new RangeError(`a packet carries at most ${MESSAGE_BYTES} bytes, not ${payload.length}`);
  }
  assertHeaderRoom(out, PACKET_BYTES);
  const delta = out.subarray(DELTA_AT);
  delta.fill(0);
  delta.set(payload, CHECK_BYTES);
  const keys = createHeader(suite, random, hops, { command: Command.deliver }, out);
  wrap(suite, keys, delta);
}

/** Cover: a packet like any other that the last of the hops throws away. */
export function createDropPacket(
  suite: CryptoSuite,
  random: Random,
  hops: readonly SphinxHop[],
  out: Uint8Array,
): void {
  assertHeaderRoom(out, PACKET_BYTES);
  const delta = out.subarray(DELTA_AT);
  delta.fill(0);
  random.fill(delta.subarray(CHECK_BYTES));
  const keys = createHeader(suite, random, hops, { command: Command.drop }, out);
  wrap(suite, keys, delta);
}

/** Takes `keys` and wipes them. */
function wrap(suite: CryptoSuite, keys: readonly Uint8Array[], delta: Uint8Array): void {
  const lioness = new Lioness(suite);
  for (let i = keys.length - 1; i >= 0; i--) lioness.encrypt(keys[i]!, delta);
  suite.wipe(...keys);
}
