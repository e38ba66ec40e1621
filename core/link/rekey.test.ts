import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import { type LinkHandshakeOptions, LinkMessage } from './contract.ts';
import { VirtualNode, VirtualWire, type WireOptions } from './virtual-wire.ts';

const suite = createNativeSuite();

function connected(options: WireOptions, nodeOptions: Partial<LinkHandshakeOptions>) {
  const wire = new VirtualWire(options);
  const a = new VirtualNode(wire, suite, 'a', nodeOptions, createSeededRandom(`a ${options.seed}`));
  const b = new VirtualNode(wire, suite, 'b', nodeOptions, createSeededRandom(`b ${options.seed}`));
  const link = a.connect(b);
  assert.ok(
    wire.run(5000, () => a.up.length + b.up.length === 2),
    `seed ${options.seed}`,
  );
  return { wire, a, b, link, far: b.up[0]! };
}

test('keys and link ids are renewed by volume, counting both directions', () => {
  const rekeyBytes = 100 * DATAGRAM_BYTES;
  const { wire, a, b, link, far } = connected({ seed: 1 }, { link: { rekeyBytes } });
  wire.run(100);
  const before = [...link.localIds, ...far.localIds];
  for (let i = 0; i < 40; i++) {
    a.sendData(link, 0xaa);
    b.sendData(far, 0xbb);
  }
  wire.run(200);
  assert.equal(a.rekeys, 0, 'some 85 datagrams are below the threshold');
  for (let i = 0; i < 20; i++) b.sendData(far, 0xbb);
  wire.run(200);
  assert.equal(a.rekeys, 1);
  assert.equal(b.rekeys, 1);
  for (const id of before) {
    assert.ok(a.links.has(id) || b.links.has(id), 'old ids live on for a while');
  }
  assert.equal(link.localIds.length + far.localIds.length, 4);
  wire.run(11_000);
  for (const id of before) assert.ok(!a.links.has(id) && !b.links.has(id), 'and are then forgotten');
  assert.equal(link.localIds.length + far.localIds.length, 2);
});

test('keys are renewed by time, and ids on the wire change with them', () => {
  const { wire, a, b, link, far } = connected({ seed: 2 }, { link: { rekeyMs: 30_000 } });
  const idsSeen = new Set<string>();
  wire.observe = ({ datagram }) => {
    idsSeen.add(datagram.slice(0, 4).join());
    return true;
  };
  wire.run(29_000);
  assert.equal(a.rekeys, 0);
  wire.run(271_000);
  assert.equal(a.rekeys, 9);
  assert.equal(b.rekeys, 9);
  assert.equal(idsSeen.size, 20);
  assert.equal(link.state, 'up');
  assert.equal(far.state, 'up');
});

test('data in flight in both directions survives rekeys on a lossless reordering wire: every header unmasks', () => {
  const { wire, a, b, link, far } = connected(
    { seed: 3, delayMs: 30, jitterMs: 25, duplicates: 0.05 },
    { link: { rekeyBytes: 300 * DATAGRAM_BYTES } },
  );
  const each = 3000;
  for (let i = 0; i < each; i++) {
    a.sendData(link, 0xaa);
    b.sendData(far, 0xbb);
    if (i % 10 === 0) wire.run(60);
  }
  wire.run(1000);
  assert.ok(a.rekeys >= 3, `${a.rekeys} rekeys`);
  assert.equal(a.rekeys, b.rekeys);
  assert.ok(b.dataCells.length >= each && a.dataCells.length >= each);
  for (const cell of b.dataCells) assert.ok(cell.slice(4, 22).every((byte) => byte === 0xaa));
  for (const cell of a.dataCells) assert.ok(cell.slice(4, 22).every((byte) => byte === 0xbb));
});

test('messages arrive once and in order across rekeys at 30% loss', () => {
  for (const seed of [41, 42, 43, 44]) {
    const { wire, a, b, link, far } = connected(
      { seed, loss: 0.3, jitterMs: 20, duplicates: 0.1 },
      { link: { rekeyBytes: 400 * DATAGRAM_BYTES, rekeyMs: 12_000 } },
    );
    const count = 6000;
    let there = 0;
    let back = 0;
    const number = (i: number) => {
      const bytes = new Uint8Array(600);
      new DataView(bytes.buffer).setUint32(0, i);
      return bytes;
    };
    const done = wire.run(300_000, () => {
      while (there < count && link.send(9, number(there))) there += 1;
      while (back < count && far.send(9, number(back))) back += 1;
      return a.received.length >= count && b.received.length >= count;
    });
    assert.ok(done, `seed ${seed}: ${a.received.length} and ${b.received.length} arrived, ${link.state}`);
    assert.ok(a.rekeys >= 2, `seed ${seed}: ${a.rekeys} rekeys`);
    for (const node of [a, b]) {
      node.received.forEach(({ body }, i) => {
        assert.equal(new DataView(body.buffer).getUint32(0), i, `seed ${seed}`);
      });
    }
  }
});

test('rekey messages out of turn or malformed end the link', () => {
  for (const [type, length] of [
    [LinkMessage.rekeyInit, 1220],
    [LinkMessage.rekeyInit, 7],
    [LinkMessage.rekeyResponse, 1124],
  ] as const) {
    const { wire, b, far, link } = connected({ seed: 5 }, {});
    const forged = new Uint8Array(length);
    // To the responder an init may come, but this one has a zero link id or a wrong length.
    link.send(type, forged);
    assert.ok(
      wire.run(2000, () => b.closed.length === 1),
      `type ${type}, ${length} bytes`,
    );
    assert.equal(b.closed[0]!.reason, 'protocol');
    assert.equal(far.state, 'closed');
  }
  // And the responder may not begin one.
  const { wire, a, far } = connected({ seed: 6 }, {});
  const init = new Uint8Array(1220);
  init[3] = 1;
  far.send(LinkMessage.rekeyInit, init);
  assert.ok(wire.run(2000, () => a.closed.length === 1));
  assert.equal(a.closed[0]!.reason, 'protocol');
});

test('a peer that renews its keys without end is cut off', () => {
  const { wire, a, b, link } = connected({ seed: 7 }, {});
  wire.run(100);
  // Each init is new to the responder only after cells under the keys before: here none ever come.
  const init = new Uint8Array(1220);
  init[3] = 1;
  const random = createSeededRandom(7);
  const secret = new Uint8Array(32);
  const seed = new Uint8Array(64);
  random.fill(secret);
  random.fill(seed);
  init.set(suite.x25519(secret).publicKey, 4);
  init.set(suite.mlkem768(seed).publicKey, 36);
  link.send(LinkMessage.rekeyInit, init);
  link.send(LinkMessage.rekeyInit, init);
  assert.ok(wire.run(2000, () => b.closed.length === 1 || a.closed.length === 1));
});
