import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import { DATAGRAM_BYTES, readLinkId } from '../wire/datagram.ts';
import type { LinkHandshakeOptions } from './contract.ts';
import { HandshakeDatagram, handshakeKeys } from './handshake-datagram.ts';
import { answerInit, INIT_BYTES, makeInit, openInit, openResponse, RESPONSE_BYTES } from './handshake-messages.ts';
import { uniform, VirtualNode, VirtualWire, type WireOptions } from './virtual-wire.ts';

const suite = createNativeSuite();

interface Setting {
  readonly wire: VirtualWire;
  readonly a: VirtualNode;
  readonly b: VirtualNode;
  /** Everything on the wire so far. */
  readonly seen: { from: string; to: string; datagram: Uint8Array }[];
}

function setting(
  options: WireOptions,
  forA: Partial<LinkHandshakeOptions> = {},
  forB: Partial<LinkHandshakeOptions> = {},
  suiteOfB: CryptoSuite = suite,
): Setting {
  const wire = new VirtualWire(options);
  const a = new VirtualNode(wire, suite, 'a', forA, createSeededRandom(`a ${options.seed}`));
  const b = new VirtualNode(wire, suiteOfB, 'b', forB, createSeededRandom(`b ${options.seed}`));
  const seen: Setting['seen'] = [];
  wire.observe = ({ from, to, datagram }) => {
    seen.push({ from, to, datagram: datagram.slice() });
    return true;
  };
  return { wire, a, b, seen };
}

/** The native suite, counting public-key operations. */
function countingSuite(): CryptoSuite & { publicKeyWork: number } {
  const counting = { ...suite, publicKeyWork: 0 };
  counting.x25519 = (secret) => {
    const pair = suite.x25519(secret);
    counting.publicKeyWork += 1;
    return {
      publicKey: pair.publicKey,
      agree(peer) {
        counting.publicKeyWork += 1;
        return pair.agree(peer);
      },
      wipe: pair.wipe,
    };
  };
  counting.mlkem768 = (seed) => {
    const pair = suite.mlkem768(seed);
    counting.publicKeyWork += 1;
    return {
      publicKey: pair.publicKey,
      decapsulate(ciphertext) {
        counting.publicKeyWork += 1;
        return pair.decapsulate(ciphertext);
      },
      wipe: pair.wipe,
    };
  };
  counting.mlkem768Encapsulate = (key, coins) => {
    counting.publicKeyWork += 1;
    return suite.mlkem768Encapsulate(key, coins);
  };
  return counting;
}

function contains(haystack: Uint8Array, needle: Uint8Array): boolean {
  return Buffer.from(haystack).includes(Buffer.from(needle));
}

test('the exchange is two datagrams there, one back, all of 1280 bytes', () => {
  assert.equal(INIT_BYTES, 32 + 1088 + 1184 + 16 + 78);
  assert.equal(RESPONSE_BYTES, 32 + 1088 + 16 + 6);
  const { wire, a, b, seen } = setting({ seed: 1 });
  a.connect(b);
  assert.ok(wire.run(1000, () => a.up.length === 1));
  assert.deepEqual(
    seen.slice(0, 3).map(({ from, datagram }) => [from, datagram.length]),
    [
      ['a', DATAGRAM_BYTES],
      ['a', DATAGRAM_BYTES],
      ['b', DATAGRAM_BYTES],
    ],
  );
  assert.equal(readLinkId(seen[0]!.datagram), 0);
  assert.equal(readLinkId(seen[2]!.datagram), a.up[0]!.localIds[0]);
});

test('handshakes succeed at 30% loss with reordering, duplicates and damage', () => {
  for (let seed = 100; seed < 160; seed++) {
    const { wire, a, b } = setting({ seed, loss: 0.3, jitterMs: 40, duplicates: 0.1, corruption: 0.05 });
    a.connect(b);
    assert.ok(
      wire.run(20_000, () => a.up.length === 1 && b.up.length === 1),
      `seed ${seed}`,
    );
    assert.equal(b.links.size, 1, `seed ${seed}: one link, however often the init was repeated`);
  }
});

test('nobody but the responder learns who the initiator is', () => {
  const { wire, a, b, seen } = setting({ seed: 2 });
  a.connect(b);
  wire.run(1000, () => b.up.length === 1);
  assert.deepEqual(b.up[0]!.nodeId, a.contact.nodeId);
  const keys = handshakeKeys(suite, b.contact.linkX25519);
  for (const { datagram } of seen) {
    // Masked as sent, and unmasked as anyone can who knows the responder's public key.
    const opened = new HandshakeDatagram();
    opened.open(suite, keys, datagram);
    for (const secret of [a.contact.nodeId, a.contact.linkX25519, a.contact.linkKem.subarray(0, 64)]) {
      for (const piece of [secret, secret.subarray(0, 8)]) {
        assert.ok(!contains(datagram, piece) && !contains(opened.bytes, piece));
      }
    }
  }
});

test('an impostor that has other keys than the contact says never answers', () => {
  const { wire, a, b } = setting({ seed: 3 });
  const other = new VirtualNode(wire, suite, 'c');
  for (const keys of [
    { linkX25519: other.contact.linkX25519 },
    { linkKem: other.contact.linkKem },
    { linkX25519: other.contact.linkX25519, linkKem: other.contact.linkKem },
  ]) {
    const link = a.handshakes.connect({ ...b.contact, ...keys }, wire.nowMs);
    assert.ok(wire.run(6000, () => link.state === 'closed'));
  }
  assert.deepEqual(
    a.closed.map(({ reason }) => reason),
    ['unreachable', 'unreachable', 'unreachable'],
  );
  assert.equal(b.links.size, 0);
});

test('a name is believed only with the link key that the view has for it, and only its owner can use it', () => {
  const { wire, a, b } = setting({ seed: 4 }, {}, { resolve: () => undefined });
  a.connect(b);
  assert.ok(wire.run(1000, () => b.up.length === 1));
  assert.equal(b.up[0]!.nodeId, undefined, 'unknown to the view');

  // The impostor claims a's NodeID and public key, but has another secret: the response does not open for it.
  const second = setting({ seed: 5 });
  const victim = second.a.contact;
  const liar: CryptoSuite = {
    ...suite,
    x25519: (secret) => {
      const pair = suite.x25519(secret);
      return secret.every((byte) => byte === 7) ? { ...pair, publicKey: victim.linkX25519 } : pair;
    },
  };
  const impostor = new VirtualNode(second.wire, liar, 'impostor', {
    identity: { nodeId: victim.nodeId, linkX25519Secret: new Uint8Array(32).fill(7), linkKemSeed: new Uint8Array(64) },
  });
  impostor.connect(second.b);
  second.wire.run(6000);
  assert.ok(second.seen.filter(({ from, to }) => from === 'b' && to === 'impostor').length > 0, 'it was answered');
  assert.equal(second.b.up.length, 0);
  assert.equal(impostor.up.length, 0);
  // Nor does the attempt spoil the name for its owner.
  second.a.connect(second.b);
  assert.ok(second.wire.run(1000, () => second.b.up.length === 1));
});

test('the long-term keys of both sides do not open what was recorded: each response has fresh secrets in it', () => {
  const random = createSeededRandom(6);
  const bytes = (length: number) => {
    const into = new Uint8Array(length);
    random.fill(into);
    return into;
  };
  const [dh, kem, own] = [suite.x25519(bytes(32)), suite.mlkem768(bytes(64)), suite.x25519(bytes(32))];
  const keys = { x25519: dh.publicKey, kem: kem.publicKey };
  const identity = { nodeId: bytes(32), dh: own };
  const init = makeInit(suite, random, keys, 77, 1000, identity)!;
  // Who has the responder's keys reads the identity of a recorded init (a stated limit), and can answer it …
  const open = () => openInit(suite, dh, kem, init.message)!;
  assert.deepEqual(open().named!.nodeId, identity.nodeId);
  const real = answerInit(suite, random, init.message, open(), 5, 0)!;
  const forged = answerInit(suite, random, init.message, open(), 5, 0)!;
  // … but comes to other keys than those that the recorded response led to.
  assert.notDeepEqual(forged.keys.initiatorToResponder.control, real.keys.initiatorToResponder.control);
  assert.deepEqual(openResponse(suite, init, real.message)!.keys, real.keys);
  // The init with all the initiator's long-term secrets but other ephemeral ones does not open the response either.
  for (const replaced of [{ dh: suite.x25519(bytes(32)) }, { kem: suite.mlkem768(bytes(64)) }]) {
    assert.equal(openResponse(suite, { ...init, ...replaced }, real.message), undefined);
  }
});

test('a repeated init gets the same response and makes no second link; from elsewhere or later it gets nothing', () => {
  for (const named of [true, false]) {
    const { wire, a, b, seen } = setting({ seed: 8 }, { named });
    a.connect(b);
    wire.run(1000, () => a.up.length === 1 && b.up.length === 1);
    const inits = seen.filter(({ to, datagram }) => to === 'b' && readLinkId(datagram) === 0);
    const response = seen.find(({ from }) => from === 'b')!.datagram;
    const replay = (from: string) => {
      const before = seen.length;
      const drops = inits.map(({ datagram }) => b.handle(datagram, { address: from, port: 9 }, wire.nowMs));
      return { drops, answers: seen.slice(before).map(({ datagram }) => datagram) };
    };
    const same = replay('a');
    assert.deepEqual(same.answers, [response, response]);
    const elsewhere = replay('mallory');
    assert.deepEqual(elsewhere, { drops: [Drop.none, Drop.handshakeReplayed], answers: [] });
    wire.run(30_000);
    const later = replay('a');
    assert.deepEqual(later, { drops: [Drop.none, Drop.handshakeReplayed], answers: [] });
    wire.run(200_000);
    const muchLater = replay('a');
    if (named) assert.deepEqual(muchLater, { drops: [Drop.none, Drop.handshakeReplayed], answers: [] });
    // An anonymous one is forgotten by then; what it makes can't be used and goes away.
    wire.run(11_000);
    assert.equal(b.up.length, 1);
    assert.equal(new Set(b.links.values()).size, 1);
  }
});

test('a named init with an old timestamp is refused even after the memory of inits has expired', () => {
  let clockMs = 1_700_000_000_000;
  const { wire, a, b } = setting({ seed: 9 }, { unixMs: () => clockMs });
  a.connect(b);
  assert.ok(wire.run(1000, () => b.up.length === 1));
  clockMs -= 60_000;
  const link = a.connect(b);
  assert.ok(wire.run(6000, () => link.state === 'closed'));
  assert.ok((b.drops.get(Drop.handshakeReplayed) ?? 0) > 0);
  clockMs += 120_000;
  a.connect(b);
  assert.ok(wire.run(1000, () => b.up.length === 2));
});

test('under load: no public-key work before the cookie, and the cookie works only for the address it was made for', () => {
  const counting = countingSuite();
  const { wire, a, b, seen } = setting({ seed: 10 }, {}, { underLoad: () => true }, counting);
  const atRest = counting.publicKeyWork;
  wire.observe = ({ from, to, datagram }) => {
    seen.push({ from, to, datagram: datagram.slice() });
    if (from === 'b' && seen.filter((sighting) => sighting.from === 'b').length === 1) {
      assert.equal(counting.publicKeyWork, atRest);
    }
    return true;
  };
  a.connect(b);
  assert.ok(wire.run(1000, () => a.up.length === 1 && b.up.length === 1));
  assert.ok(counting.publicKeyWork > atRest);
  const fromB = seen.filter(({ from }) => from === 'b');
  assert.ok(fromB.length >= 2, 'a cookie reply, then the response');
  assert.equal(fromB[0]!.datagram.length, DATAGRAM_BYTES);

  // The same datagrams with their cookie from another address: a new cookie reply for fragment 0, nothing for the rest.
  const withCookie = seen.filter(({ to, datagram }) => to === 'b' && readLinkId(datagram) === 0).slice(2, 4);
  const work = counting.publicKeyWork;
  const before = seen.length;
  for (const { datagram } of withCookie) {
    assert.equal(b.handle(datagram, { address: 'elsewhere', port: 9 }, wire.nowMs), Drop.cookieRequired);
    assert.equal(b.handle(datagram, { address: 'a', port: 10 }, wire.nowMs), Drop.cookieRequired);
  }
  assert.equal(seen.length - before, 2);
  assert.equal(counting.publicKeyWork, work);
});

test('the cookie path works at 30% loss, and across a change of the cookie secret', () => {
  for (let seed = 200; seed < 220; seed++) {
    const { wire, a, b } = setting(
      { seed, loss: 0.3, jitterMs: 30 },
      {},
      { underLoad: () => true, limits: { cookieSecretMs: 1000 } },
    );
    const link = a.connect(b);
    const up = wire.run(20_000, () => a.up.length === 1 && b.up.length === 1);
    assert.ok(up, `seed ${seed}: ${link.state}`);
  }
});

test('a flood of spoofed inits stays bounded in memory and in public-key work', () => {
  const counting = countingSuite();
  const { wire, a, b } = setting({ seed: 11 }, {}, {}, counting);
  const keys = handshakeKeys(suite, b.contact.linkX25519);
  const random = createSeededRandom(11);
  wire.observe = () => false;
  const atRest = counting.publicKeyWork;
  const flood = (count: number, both: boolean) => {
    const datagram = new HandshakeDatagram();
    const id = new Uint8Array(8);
    for (let i = 0; i < count; i++) {
      random.fill(id);
      for (let index = 0; index < (both ? 2 : 1); index++) {
        random.fill(datagram.fragment);
        datagram.linkId.fill(0);
        datagram.writeHeader(1, index, 2, id);
        datagram.seal(suite, keys);
        b.handle(datagram.bytes, { address: `10.0.${i >> 8}.${i & 255}`, port: 9 }, wire.nowMs);
      }
    }
  };
  flood(3000, false);
  assert.ok(b.handshakes.memoryBytes < 512 * 1024, `${b.handshakes.memoryBytes} bytes`);
  assert.equal(counting.publicKeyWork, atRest, 'half an init costs no public-key work');
  wire.nowMs += 6000;
  b.flush(wire.nowMs);
  assert.ok(b.handshakes.memoryBytes < 1024, 'all forgotten');
  flood(3000, true);
  assert.ok(counting.publicKeyWork - atRest <= 2 * 201, `${counting.publicKeyWork - atRest} operations`);
  assert.ok(b.handshakes.memoryBytes < 1024 * 1024);
  assert.equal(b.links.size, 0);
  // In the midst of it an honest initiator gets in, by cookie.
  wire.observe = undefined;
  a.connect(b);
  assert.ok(wire.run(3000, () => b.up.length === 1));
});

test('no datagram is answered by more than one of its size, whatever is sent', () => {
  const { wire, a, b, seen } = setting({ seed: 12 }, {}, { underLoad: () => wire.nowMs % 2 > 1 });
  let answers = 0;
  wire.observe = ({ from, to, datagram }) => {
    if (from === 'b' && readLinkId(datagram) !== 0) answers += 1;
    seen.push({ from, to, datagram: datagram.slice() });
    return true;
  };
  a.connect(b);
  wire.run(1000, () => a.up.length === 1);
  for (const { datagram } of seen.slice()) {
    const before = answers;
    b.handle(datagram, { address: 'z', port: 1 }, wire.nowMs);
    assert.ok(answers - before <= 1);
  }
});

test('any changed byte of any handshake datagram: no link with wrong keys, and the honest repetition still works', () => {
  // Every byte of the frame and the fields, and a sample of the long random stretches, one bit each.
  const positions = Array.from({ length: DATAGRAM_BYTES }, (_, at) => at).filter(
    (at) => at < 92 || at % 29 === 0 || at > 1270,
  );
  const random = uniform(createSeededRandom(13));
  for (const which of [0, 1, 2]) {
    for (const at of positions) {
      const bit = 1 << Math.floor(random() * 8);
      const { wire, a, b } = setting({ seed: 13 });
      let count = 0;
      wire.observe = ({ datagram }) => {
        if (count++ === which) datagram[at] = datagram[at]! ^ bit;
        return true;
      };
      const link = a.connect(b);
      link.send(9, Uint8Array.of(42));
      const what = `datagram ${which}, byte ${at}, bit ${bit}`;
      assert.ok(
        wire.run(4000, () => b.received.length === 1),
        what,
      );
      assert.equal(a.up.length, 1, what);
      assert.equal(b.up.length, 1, what);
      assert.equal(new Set(b.links.values()).size, 1, what);
    }
  }
});

test('a responder without room says so', () => {
  const { wire, a, b } = setting({ seed: 14 }, {}, { mayAccept: () => false });
  a.connect(b);
  assert.ok(wire.run(1000, () => a.closed.length === 1));
  assert.equal(a.closed[0]!.reason, 'refused');
  assert.equal(b.links.size, 0);
});

test('all addresses of a contact are tried in turn; without an answer the link closes after five seconds', () => {
  const { wire, a, b, seen } = setting({ seed: 15 });
  const nowhere = { address: 'nowhere', port: 1 };
  const link = a.handshakes.connect({ ...b.contact, addresses: [nowhere, b.address] }, wire.nowMs);
  assert.ok(wire.run(2000, () => a.up.length === 1));
  assert.deepEqual(link.address, b.address);
  const lost = a.handshakes.connect({ ...b.contact, addresses: [nowhere] }, wire.nowMs);
  const startMs = wire.nowMs;
  assert.ok(wire.run(10_000, () => lost.state === 'closed'));
  assert.equal(wire.nowMs - startMs, 5000);
  assert.ok(seen.filter(({ to }) => to === 'nowhere').length <= 30);
  const none = a.handshakes.connect({ ...b.contact, addresses: [] }, wire.nowMs);
  assert.equal(none.state, 'closed');
  const badKey = a.handshakes.connect({ ...b.contact, linkKem: new Uint8Array(1184).fill(255) }, wire.nowMs);
  assert.equal(badKey.state, 'closed');
});

test('families alternate, and a link keeps to the address that answered, whichever was tried since', () => {
  const { wire, a, b, seen } = setting({ seed: 17, delayMs: 300 });
  const at = (address: string) => ({ address, port: 9 });
  b.move('192.0.2.2');
  const addresses = [at('192.0.2.1'), at('192.0.2.2'), at('2001:db8::1'), at('2001:db8::2')];
  const link = a.handshakes.connect({ ...b.contact, addresses }, wire.nowMs);
  assert.ok(wire.run(5000, () => a.up.length === 1));
  const tried = seen.filter(({ from, to }) => from === 'a' && to !== 'b').map(({ to }) => to);
  const inOrder = tried.filter((to, i) => to !== tried[i - 1]);
  assert.deepEqual(inOrder.slice(0, 4), ['192.0.2.1', '2001:db8::1', '192.0.2.2', '2001:db8::2']);
  assert.deepEqual(link.address, at('192.0.2.2'));
  assert.equal(Math.round(link.rttMs ?? 0), 600);
});

test('a node that accepts nobody answers nothing', () => {
  const { wire, a, b, seen } = setting({ seed: 16 }, {}, { accept: false });
  a.connect(b);
  wire.run(6000);
  assert.equal(seen.filter(({ from }) => from === 'b').length, 0);
  assert.equal(b.drops.get(Drop.notAllowed), b.drops.size === 1 ? [...b.drops.values()][0] : -1);
});

test('random and mutated datagrams never throw and never make a link', () => {
  const { wire, a, b, seen } = setting({ seed: 17 });
  const link = a.connect(b);
  wire.run(1000, () => b.up.length === 1);
  for (let i = 0; i < 5; i++) link.send(9, new Uint8Array(2000));
  wire.run(1000);
  const recorded = seen.slice();
  const ups = b.up.length;
  fc.assert(
    fc.property(
      fc.nat(recorded.length - 1),
      fc.array(fc.tuple(fc.nat(DATAGRAM_BYTES - 1), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 6 }),
      fc.constantFrom('as it is', 'to id 0', 'to a known id'),
      fc.boolean(),
      (which, changes, aim, toA) => {
        const node = toA ? a : b;
        const datagram = recorded[which]!.datagram.slice();
        for (const [at, change] of changes) datagram[at] = datagram[at]! ^ change;
        if (aim === 'to id 0') datagram.fill(0, 0, 4);
        if (aim === 'to a known id') {
          const id = [...node.links.keys()][0]!;
          new DataView(datagram.buffer).setInt32(0, id);
        }
        node.handle(datagram, { address: 'fuzz', port: 1 }, wire.nowMs);
        assert.equal(new Set(a.links.values()).size, 1);
      },
    ),
    { numRuns: 3000, seed: 17 },
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: DATAGRAM_BYTES, maxLength: DATAGRAM_BYTES }),
      fc.boolean(),
      (bytes, zero) => {
        if (zero) bytes.fill(0, 0, 4);
        assert.notEqual(b.handle(bytes, { address: 'fuzz', port: 1 }, wire.nowMs), Drop.none);
      },
    ),
    { numRuns: 300, seed: 18 },
  );
  assert.equal(
    b.handshakes.handleDatagram(new Uint8Array(7), a.address, 0, wire.nowMs, () => {}),
    Drop.badLength,
  );
  assert.equal(b.up.length, ups);
  assert.equal(link.state, 'up');
  link.send(9, Uint8Array.of(1));
  const had = b.received.length;
  assert.ok(
    wire.run(1000, () => b.received.length === had + 1),
    'the link still works',
  );
});
