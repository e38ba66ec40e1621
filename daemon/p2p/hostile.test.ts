/** A peer that does not keep to the rules, against a real one: what it sends is refused, counted, and ends with its denial. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Connection, Libp2p } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { AnnounceStatus, announceTo, askParams } from './announce.ts';
import { P2pProtocol, Refusal } from './contract.ts';
import { recordKey } from './record-rules.ts';
import { encodeStatements } from './statements.ts';
import { exchange, writeMessage } from './stream-io.ts';
import {
  type HostileServices,
  makeDescriptor,
  makeKey,
  makeView,
  startHostile,
  startPeer,
  type TestPeer,
  unixSeconds,
  until,
} from './testing.ts';
import { encodeViewRequest, ViewStatus } from './view-frames.ts';

const NOBODY = new AbortController().signal;
const authority = makeKey();

describe('a hostile peer', () => {
  let peer: TestPeer;
  let hostile: Libp2p<HostileServices>;
  let connection: Connection;

  beforeEach(async () => {
    const ports = { params: () => Uint8Array.of(0xa0) };
    peer = await startPeer({ identity: makeKey(), authority, authorities: [authority], ports });
    hostile = await startHostile();
    connection = await hostile.dial(multiaddr(peer.node.addresses[0]!));
    await until('the hostile peer is in the routing table', () => peer.node.state().routingPeers === 1);
    await until('it knows the DHT', () => hostile.services.dht.routingTable.size === 1);
  });
  afterEach(async () => {
    await hostile.stop();
    await peer.stop();
  });

  const count = (reason: Refusal) => peer.counters.refusals[reason];
  const put = async (key: Uint8Array | string, value: Uint8Array) => {
    const bytes = typeof key === 'string' ? Buffer.from(key) : key;
    for await (const _ of hostile.services.dht.put(bytes, value, { signal: AbortSignal.timeout(5000) }));
  };

  it('that puts records which must not be: each is counted by its reason, then it is dropped and denied', async () => {
    const { nodeId, bytes } = makeDescriptor(makeKey());
    const key = recordKey('node', nodeId);
    const identity = makeKey();
    const newer = makeDescriptor(identity, { published: unixSeconds() });
    const older = makeDescriptor(identity, { published: unixSeconds() - 100 });
    await put(key, bytes);
    await put(recordKey('node', newer.nodeId), newer.bytes);
    // One is its own, of the authority.
    assert.equal(peer.node.state().records, 3, 'good ones are taken from anybody');

    await put(recordKey('node', older.nodeId), older.bytes);
    assert.equal(count(Refusal.replayed), 1);
    const expired = makeDescriptor(identity, { published: unixSeconds() - 7200, expires: unixSeconds() - 1 });
    await put(recordKey('node', expired.nodeId), expired.bytes);
    assert.equal(count(Refusal.expired), 1);
    const forged = bytes.slice();
    forged[3]! ^= 1;
    await put(key, forged);
    assert.equal(count(Refusal.badSignature), 1);
    await put(recordKey('node', older.nodeId), bytes);
    assert.equal(count(Refusal.misplaced), 1);
    assert.equal(peer.counters.peersDenied, 0);
    await put('/foo/bar', Uint8Array.of(1));
    await until('the foreign namespace is counted', () => count(Refusal.unknownKey) === 1);
    await put('/pk/whatever', Uint8Array.of(1));
    await until('the peer is denied', () => peer.counters.peersDenied === 1);
    await until('its connection is gone', () => peer.node.state().peers.length === 0);
    assert.equal(peer.node.state().records, 3);
    assert.equal(peer.node.state().deniedPeers, 1);
    await until('it has noticed', () => hostile.getConnections().length === 0);
    await assert.rejects(async () => {
      const again = await hostile.dial(multiaddr(peer.node.addresses[0]!), { signal: AbortSignal.timeout(3000) });
      await hostile.services.ping.ping(again.remotePeer, { signal: AbortSignal.timeout(3000) });
    });
    await until('nothing of it stays', () => peer.node.state().peers.length === 0);
    assert.ok(peer.counters.connectionsRefused > 0);
    const friend = await startPeer({
      identity: makeKey(),
      authorities: [authority],
      bootstrap: [peer.node.addresses[0]!],
    });
    await until('others still get in', () => peer.node.state().peers.length === 1);
    await friend.stop();
  });

  it('that answers with what it should not: the answer is not taken, and it is noted', async () => {
    const { nodeId, bytes } = makeDescriptor(makeKey());
    const other = makeDescriptor(makeKey());
    for (const wrong of [other.bytes, Uint8Array.of(1, 2, 3)]) {
      // Only into its own store: the peer refuses it.
      await put(recordKey('node', nodeId), wrong);
      assert.equal(await peer.node.find('node', nodeId, NOBODY), undefined);
    }
    assert.ok(count(Refusal.badAnswer) >= 1, JSON.stringify(peer.counters.refusals));
    await put(recordKey('node', nodeId), bytes);
    assert.deepEqual(await peer.node.find('node', nodeId, NOBODY), bytes);
  });

  it('that sends noise to the DHT', async () => {
    const send = async (bytes: Uint8Array) => (await connection.newStream(P2pProtocol.kad)).send(bytes);
    // No protobuf, no known type, no key; then a message that does not end.
    for (const [i, bytes] of [
      [5, 255, 255, 255, 255, 255],
      [3, 8, 99, 1],
      [2, 8, 1],
    ].entries()) {
      await send(Uint8Array.from(bytes));
      await until('it is counted', () => count(Refusal.malformed) === i + 1);
    }
    await send(Buffer.concat([Uint8Array.of(0xff, 0xff, 0xff, 0x0f), new Uint8Array(30_000)]));
    await until('it is counted', () => count(Refusal.oversized) === 1);
    assert.ok(peer.node.state().peers.length > 0, 'a few do not deny it yet');
  });

  it('that serves a view nobody signed', async () => {
    const fake = makeView(makeKey(), []);
    let asked = 0;
    await hostile.handle(P2pProtocol.view, async (stream) => {
      asked++;
      await writeMessage(stream, [Uint8Array.of(ViewStatus.newer), fake], AbortSignal.timeout(5000));
    });
    await until('the peer is denied', () => peer.counters.peersDenied === 1, 20_000);
    assert.equal(count(Refusal.badView), 3);
    assert.equal(peer.view(), undefined);
    assert.ok(asked >= 3);
  });

  it('that ends a stream without an answer is not blamed, for it may only be closing a connection', async () => {
    let asked = 0;
    await hostile.handle(P2pProtocol.view, async (stream) => {
      asked++;
      await writeMessage(stream, [], AbortSignal.timeout(5000));
    });
    await until('it was asked some times', () => asked >= 3);
    assert.equal(count(Refusal.malformed), 0);
    assert.equal(peer.counters.peersDenied, 0);
    assert.equal(peer.view(), undefined);
  });

  it('that asks for the view too often', async () => {
    peer.hold(makeView(authority, []));
    const statuses: number[] = [];
    for (let i = 0; i < 14; i++) {
      const request = [encodeViewRequest(undefined)];
      statuses.push((await exchange(connection, P2pProtocol.view, request, 100_000, AbortSignal.timeout(5000)))[0]!);
    }
    assert.deepEqual(statuses.slice(0, 10), Array(10).fill(ViewStatus.newer));
    assert.ok(statuses.slice(10).includes(ViewStatus.busy));
    assert.ok(count(Refusal.tooOften) > 0);
  });

  it('that announces what it should not; a good descriptor is taken from it all the same', async () => {
    const taken: Uint8Array[] = [];
    const unwanted = makeDescriptor(makeKey());
    peer.node.feed.subscribe(async (bytes) => {
      if (Buffer.compare(bytes, unwanted.bytes) === 0) throw new Error('no solution of the puzzle');
      taken.push(bytes);
    });
    const announce = async (bytes: Uint8Array) =>
      (await announceTo(connection, bytes, true, AbortSignal.timeout(5000))).status;
    const identity = makeKey();
    const newer = makeDescriptor(identity, { published: unixSeconds() });
    const older = makeDescriptor(identity, { published: unixSeconds() - 50 });
    assert.equal(await announce(unwanted.bytes), AnnounceStatus.refused);
    assert.deepEqual(await askParams(connection, AbortSignal.timeout(5000)), Uint8Array.of(0xa0));
    assert.equal(await announce(newer.bytes), AnnounceStatus.taken);
    assert.equal(await announce(newer.bytes), AnnounceStatus.taken);
    assert.equal(await announce(older.bytes), AnnounceStatus.refused);
    const forged = newer.bytes.slice();
    forged[9]! ^= 1;
    assert.equal(await announce(forged), AnnounceStatus.refused);
    assert.equal(await announce(Uint8Array.of(1)), AnnounceStatus.refused);
    await assert.rejects(announce(new Uint8Array(20_000)));
    await until('all are counted', () => count(Refusal.oversized) === 1);
    assert.deepEqual([Refusal.replayed, Refusal.badSignature, Refusal.malformed].map(count), [1, 1, 1]);
    assert.deepEqual(taken, [newer.bytes], 'each once');
    // One node can not keep the authority busy.
    let busy = 0;
    for (let i = 1; i <= 12; i++) {
      const next = makeDescriptor(identity, { published: unixSeconds() + i });
      if ((await announce(next.bytes)) === AnnounceStatus.busy) busy++;
    }
    assert.ok(busy >= 3, `${busy}`);
  });

  it('that repeats what another peer said of itself is no node for it', async () => {
    const victim = makeKey();
    const id = peer.node.state().peerId;
    const said = encodeStatements({ identity: victim, authority: undefined }, id, [], unixSeconds());
    const stream = await connection.newStream(P2pProtocol.bind);
    await writeMessage(stream, [said], AbortSignal.timeout(5000));
    await until('it is counted', () => count(Refusal.misplaced) === 1);
    assert.ok(peer.node.state().peers.every(({ nodeId }) => nodeId === undefined));
    const own = encodeStatements(
      { identity: victim, authority: undefined },
      hostile.peerId.toString(),
      [],
      unixSeconds(),
    );
    await writeMessage(await connection.newStream(P2pProtocol.bind), [own], AbortSignal.timeout(5000));
    await until('its own statement counts', () => peer.node.state().peers.some(({ nodeId }) => nodeId !== undefined));
  });
});

describe('too many', () => {
  it('stored peers, connections of a subnet, and records stay within the limits', async () => {
    const limits = { maxConnections: 64, maxPerSubnet: 2, inboundPerSecond: 100, maxStoredPeers: 16, maxRecords: 5 };
    const peer = await startPeer({ identity: makeKey(), authorities: [authority], options: { limits } });
    const others = [await startHostile(), await startHostile(), await startHostile()];
    try {
      const results = await Promise.allSettled(
        others.map(async (other) => {
          await other.dial(multiaddr(peer.node.addresses[0]!), { signal: AbortSignal.timeout(3000) });
          await until('the routing table', () => other.services.dht.routingTable.size >= 1, 3000);
        }),
      );
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 2);
      assert.ok(peer.counters.connectionsRefused >= 1);
      const in1 = others[results.findIndex(({ status }) => status === 'fulfilled')]!;
      for (let i = 0; i < 12; i++) {
        const { nodeId, bytes } = makeDescriptor(makeKey());
        for await (const _ of in1.services.dht.put(recordKey('node', nodeId), bytes));
      }
      assert.equal(peer.node.state().records, 5);
      assert.equal(peer.counters.peersDenied, 0);
    } finally {
      await Promise.all(others.map((other) => other.stop()));
      await peer.stop();
    }
  });
});
