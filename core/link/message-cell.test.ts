/** Cells of the message lane on a link: sealed, opened once, under the keys of the moment. */
import assert from 'node:assert/strict';
import { createHash, hkdfSync } from 'node:crypto';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Drop } from '../drop-reason.ts';
import { CellBuffer, CellType, CT_BYTES, DATAGRAM_BYTES, readLinkId, TYPE_OFFSET } from '../wire/datagram.ts';
import type { LinkHandshakeOptions } from './contract.ts';
import type { Link } from './link.ts';
import { rekeyedLinkKeys } from './link-keys.ts';
import { VirtualNode, VirtualWire } from './virtual-wire.ts';

const suite = createNativeSuite();
const random = createSeededRandom('message cells');
const newCell = () => new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);

function connected(nodeOptions: Partial<LinkHandshakeOptions> = {}) {
  const wire = new VirtualWire({ seed: 1 });
  const a = new VirtualNode(wire, suite, 'a', nodeOptions, createSeededRandom('a'));
  const b = new VirtualNode(wire, suite, 'b', nodeOptions, createSeededRandom('b'));
  const link = a.connect(b);
  assert.ok(wire.run(5000, () => a.up.length + b.up.length === 2));
  return { wire, a, b, link, far: b.up[0]! };
}

/** The datagram in which `packet` leaves. */
function sealed(link: Link, packet: Uint8Array): Uint8Array {
  const cell = newCell();
  cell.ct.set(packet);
  cell.bytes[TYPE_OFFSET] = CellType.message;
  link.finish(cell);
  return cell.bytes.slice();
}

const scratch = newCell();
function open(link: Link, datagram: Uint8Array, nowMs: number): Drop {
  scratch.bytes.set(datagram);
  const id = readLinkId(datagram);
  link.unmask(id, scratch);
  return link.openMessage(id, scratch, nowMs);
}

function somePacket(): Uint8Array {
  const packet = new Uint8Array(CT_BYTES);
  random.fill(packet);
  return packet;
}

test('both directions; every cell opens once, in any order', () => {
  const { wire, link, far } = connected();
  for (const [from, to] of [
    [link, far],
    [far, link],
  ] as const) {
    const packets = Array.from({ length: 20 }, somePacket);
    const datagrams = packets.map((packet) => sealed(from, packet));
    for (const i of [3, 0, 19, 7]) {
      assert.equal(open(to, datagrams[i]!, wire.nowMs), Drop.none);
      assert.deepEqual(scratch.ct, packets[i]);
      assert.equal(open(to, datagrams[i]!, wire.nowMs), Drop.replayed);
    }
    // Its own cells do not open: each direction has its keys.
    assert.notEqual(open(from, datagrams[1]!, wire.nowMs), Drop.none);
  }
});

test('every bit of the datagram behind the link id, flipped: it does not open, and the right one still does', () => {
  const { wire, link, far } = connected();
  const packet = somePacket();
  const datagram = sealed(link, packet);
  for (let bit = 32; bit < DATAGRAM_BYTES * 8; bit++) {
    datagram[bit >> 3]! ^= 1 << (bit & 7);
    assert.notEqual(open(far, datagram, wire.nowMs), Drop.none, `bit ${bit}`);
    datagram[bit >> 3]! ^= 1 << (bit & 7);
  }
  assert.equal(open(far, datagram, wire.nowMs), Drop.none);
  assert.deepEqual(scratch.ct, packet);
});

test('the same packet twice is two datagrams that have nothing in common', () => {
  const { link } = connected();
  const packet = somePacket();
  const [one, two] = [sealed(link, packet), sealed(link, packet)];
  let same = 0;
  for (let i = 4; i < DATAGRAM_BYTES; i++) if (one[i] === two[i]) same++;
  // 1276 bytes that are alike by chance once in 256: beyond 20 about once in 10^6.
  assert.ok(same < 20, `${same} bytes are the same`);
});

test('what left before new keys opens behind them, until the old ones are erased', () => {
  const { wire, a, link, far } = connected({ link: { rekeyMs: 30_000 } });
  wire.run(29_000);
  const [early, late, tooLate] = [0, 1, 2].map(() => sealed(link, somePacket()));
  assert.ok(wire.run(2000, () => a.rekeys === 1));
  wire.run(100);
  assert.equal(open(far, early!, wire.nowMs), Drop.none);
  assert.equal(open(far, sealed(link, somePacket()), wire.nowMs), Drop.none, 'under the new keys counters begin again');
  assert.equal(open(far, late!, wire.nowMs), Drop.none);
  assert.equal(open(far, early!, wire.nowMs), Drop.replayed);
  wire.run(11_000);
  assert.notEqual(open(far, tooLate!, wire.nowMs), Drop.none);
});

test('a first cell of the message lane proves an initiator as a control cell does', () => {
  const wire = new VirtualWire({ seed: 2 });
  const a = new VirtualNode(wire, suite, 'a', {}, createSeededRandom('a'));
  const b = new VirtualNode(wire, suite, 'b', {}, createSeededRandom('b'));
  const link = a.connect(b);
  // Nothing that the initiator says once it is up arrives.
  wire.observe = ({ from }) => !(from === 'a' && a.up.length > 0);
  wire.run(500);
  assert.equal(a.up.length, 1);
  assert.equal(b.up.length, 0);
  const accepted = [...b.links.values()][0]!;
  assert.equal(open(accepted, sealed(link, somePacket()), wire.nowMs), Drop.none);
  assert.deepEqual(b.up, [accepted]);
});

test('keys and CIDs of the lane are where docs/protocol.md §2.2 has them, and nothing before them has moved', () => {
  const bytes = (length: number) => {
    const made = new Uint8Array(length);
    random.fill(made);
    return made;
  };
  const direction = () => ({
    hp: bytes(32),
    control: bytes(32),
    cid: bytes(12),
    message: bytes(32),
    messageCid: bytes(12),
  });
  const before = {
    initiatorToResponder: direction(),
    responderToInitiator: direction(),
    rekeySecret: bytes(32),
    transcript: bytes(32),
  };
  const [secret, init, response] = [bytes(64), bytes(100), bytes(90)];
  const chainingKey = hkdfSync('sha256', secret, before.rekeySecret, 'nyx1 link rekey', 32);
  const transcript = createHash('sha256').update(before.transcript).update(init).update(response).digest();
  const okm = new Uint8Array(hkdfSync('sha256', new Uint8Array(chainingKey), transcript, 'nyx1 link keys', 272));
  const keys = rekeyedLinkKeys(suite, before, secret, init, response);
  const fields = (part: typeof keys.initiatorToResponder) => [part.hp, part.control, part.cid];
  const lane = (part: typeof keys.initiatorToResponder) => [part.message, part.messageCid];
  const expected = [
    ...fields(keys.initiatorToResponder),
    ...fields(keys.responderToInitiator),
    keys.rekeySecret,
    ...lane(keys.initiatorToResponder),
    ...lane(keys.responderToInitiator),
  ];
  assert.deepEqual(new Uint8Array(Buffer.concat(expected)), okm);
});
