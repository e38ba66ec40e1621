/**
 * CPU of a relay per packet, the whole way through the engine (find link, unmask, find circuit, open or seal, mask,
 * batch), against one ChaCha20-Poly1305 open of 1240 bytes by the same library, in one run and one process.
 *
 * The cells are real ones: a network of engines on virtual time moves a transfer over three hops while the datagrams that
 * reach the middle relay are recorded; the same network, from the same seed up to the same moment, then gets them in
 * batches of 51 with a clock beside it. Prints JSON.
 */
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { CT_BYTES } from '@nyx/core/wire/datagram.ts';
import { deterministicSuite, type Recorded, Replay, record } from './lib/relay-replay.ts';

const ROUNDS = 3;
const TRANSFER_BYTES = 24 * 1024 * 1024;

function openMicroseconds(suite: CryptoSuite): number {
  const body = new Uint8Array(CT_BYTES);
  const sealed = new Uint8Array(CT_BYTES);
  const tag = new Uint8Array(16);
  const ad = new Uint8Array(2);
  const nonce = new Uint8Array(12);
  const key = new Uint8Array(32).fill(7);
  suite.aeadSeal(sealed, tag, body, ad, nonce, key);
  const count = 50_000;
  const started = process.hrtime.bigint();
  for (let i = 0; i < count; i++) suite.aeadOpen(body, tag, sealed, ad, nonce, key);
  return Number(process.hrtime.bigint() - started) / 1000 / count;
}

function relayMicroseconds(suite: CryptoSuite, recorded: readonly Recorded[]) {
  const replay = new Replay(suite, recorded, 'fast');
  const before = replay.passed;
  let microseconds = 0;
  while (!replay.done) microseconds += replay.step();
  return { microseconds, cells: replay.passed - before };
}

const suite = deterministicSuite();
const recorded = record(suite, 'fast', TRANSFER_BYTES);
relayMicroseconds(suite, recorded);
openMicroseconds(suite);
const rounds = Array.from({ length: ROUNDS }, () => {
  const open = openMicroseconds(suite);
  const { microseconds, cells } = relayMicroseconds(suite, recorded);
  return { openUs: open, relayUs: microseconds / cells, cells };
});
const best = rounds.reduce((a, b) => (a.relayUs / a.openUs <= b.relayUs / b.openUs ? a : b));
const ratio = best.relayUs / best.openUs;
console.log(
  JSON.stringify({
    bench: 'relay',
    cells: best.cells,
    relayUsPerPacket: Number(best.relayUs.toFixed(2)),
    openUs: Number(best.openUs.toFixed(2)),
    ratio: Number(ratio.toFixed(2)),
    target: 3,
    ok: ratio <= 3,
  }),
);
