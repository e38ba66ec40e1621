import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { decodeDescriptor } from '@nyx/core/directory/descriptor.ts';
import { decodeViewBundle, type ViewBundle, viewDigest } from '@nyx/core/directory/view.ts';
import { encodeDeltaSteps } from '@nyx/core/directory/view-delta.ts';
import { P2pProtocol } from './contract.ts';
import {
  EPOCH_SECONDS,
  makeDescriptor,
  makeKey,
  makeView,
  startPeer,
  suite,
  type TestPeer,
  type TestPeerOptions,
  unixSeconds,
  until,
} from './testing.ts';

function deltaOf(from: ViewBundle, to: ViewBundle): Uint8Array {
  const steps = encodeDeltaSteps(from, to, ({ descriptor }) => decodeDescriptor(descriptor, suite).nodeId, suite);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

describe('peers on loopback', () => {
  const peers: TestPeer[] = [];
  const folders: string[] = [];
  after(async () => {
    await Promise.all(peers.map((peer) => peer.stop()));
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  const begin = async (options: TestPeerOptions): Promise<TestPeer> => {
    const peer = await startPeer(options);
    peers.push(peer);
    return peer;
  };

  it('find each other from one address, bring descriptors to the authority, and spread the view', async () => {
    const authority = makeKey();
    const received = new Map<string, Uint8Array>();
    const first = await startPeer({ identity: makeKey(), authority, authorities: [authority] });
    peers.push(first);
    first.node.feed.subscribe((bytes) => void received.set(Buffer.from(bytes.subarray(0, 64)).toString('hex'), bytes));
    const bootstrap = [first.node.addresses[0]!.replace(/\/p2p\/.*/, '')];
    for (let i = 0; i < 5; i++) {
      const peer = await startPeer({ identity: makeKey(), authorities: [authority], bootstrap });
      peers.push(peer);
      const { nodeId, bytes } = makeDescriptor(peer.identity!);
      peer.node.publish(nodeId, bytes, 3_600_000);
    }
    const client = await startPeer({ authorities: [authority], bootstrap, options: { listen: [] } });
    peers.push(client);
    await until('the authority has all descriptors', () => received.size === 5);
    first.hold(makeView(authority, [...received.values()]));
    await until('all have the view', () => peers.every((peer) => peer.view()?.nodes.length === 5));
    await until('all nodes are connected to all', () =>
      peers
        .slice(0, 6)
        .every((peer) => peer.node.state().peers.filter(({ nodeId }) => nodeId !== undefined).length === 5),
    );
    for (const peer of peers) {
      const state = peer.node.state();
      assert.equal(state.serving, peer !== client);
      assert.deepEqual(
        Object.entries(state.counters.refusals).filter(([, count]) => count > 0),
        [],
      );
      for (const other of state.peers) {
        assert.ok(other.protocols.includes(P2pProtocol.view), JSON.stringify(other));
        const isClient = other.peerId === client.node.state().peerId;
        assert.equal(other.nodeId === undefined, isClient, 'every node has said who it is, a client never does');
      }
    }
    const wanted = peers[3]!;
    const found = await client.node.find('node', wanted.nodeId, AbortSignal.timeout(5000));
    assert.ok(found !== undefined, 'a descriptor is in the DHT');
  });

  it('give deltas to those that hold the view before, and bundles to others', async () => {
    const authority = makeKey();
    const descriptors = [makeDescriptor(makeKey()).bytes, makeDescriptor(makeKey()).bytes];
    const lastEpoch = Math.floor(unixSeconds() / EPOCH_SECONDS) * EPOCH_SECONDS - 1;
    const before = makeView(authority, descriptors.slice(0, 1), lastEpoch);
    const now = makeView(authority, descriptors);
    const [from, to] = [before, now].map(decodeViewBundle);
    const delta = deltaOf(from!, to!);
    const digest = viewDigest(from!.body, suite);
    const server = await begin({
      identity: makeKey(),
      authority,
      authorities: [authority],
      delta: (asked) => (suite.equal(asked, digest) ? delta : undefined),
    });
    server.hold(now);
    const bootstrap = [server.node.addresses[0]!];
    const behind = await begin({ authorities: [authority], bootstrap, options: { listen: [] } });
    behind.hold(before);
    const empty = await begin({ authorities: [authority], bootstrap, options: { listen: [] } });
    await until('both have the view', () => [behind, empty].every((peer) => peer.view()?.nodes.length === 2));
    assert.equal(server.counters.viewsServed, 2);
    assert.equal(server.counters.deltasServed, 1);
    assert.equal(behind.counters.viewBytesFetched, delta.length);
    assert.equal(empty.counters.viewBytesFetched, now.length);
  });

  it('count a broken delta against who gave it, and get the view from another', async () => {
    const authority = makeKey();
    const lastEpoch = Math.floor(unixSeconds() / EPOCH_SECONDS) * EPOCH_SECONDS - 1;
    const descriptors = [makeDescriptor(makeKey()).bytes, makeDescriptor(makeKey()).bytes];
    const before = makeView(authority, descriptors.slice(0, 1), lastEpoch);
    const now = makeView(authority, descriptors);
    const delta = deltaOf(decodeViewBundle(before), decodeViewBundle(now));
    const broken = new Uint8Array(delta);
    broken[broken.length - 100]! ^= 1;
    const begin1 = (given: Uint8Array) =>
      begin({ identity: makeKey(), authority, authorities: [authority], delta: () => given });
    const liar = await begin1(broken);
    liar.hold(now);
    const behind = await begin({
      authorities: [authority],
      bootstrap: [liar.node.addresses[0]!],
      options: { listen: [] },
    });
    behind.hold(before);
    await until('the broken delta was refused', () => behind.counters.refusals.badView > 0);
    assert.equal(behind.view()?.nodes.length, 1);
    assert.ok(liar.counters.deltasServed > 0);
    const honest = await begin({
      identity: makeKey(),
      authority,
      authorities: [authority],
      bootstrap: [liar.node.addresses[0]!],
      delta: () => delta,
    });
    honest.hold(now);
    await until('it came from the other', () => behind.view()?.nodes.length === 2);
    assert.equal(honest.counters.deltasServed, 1);
    assert.equal(behind.counters.viewsFetched, 1);
  });

  it('go on when their own descriptor has run out', async () => {
    const authority = makeKey();
    const peer = await startPeer({ identity: makeKey(), authorities: [authority] });
    peers.push(peer);
    const old = makeDescriptor(peer.identity!, { published: unixSeconds() - 9000, expires: unixSeconds() - 10 });
    peer.node.publish(old.nodeId, old.bytes, 1000);
    await peer.node.maintain(AbortSignal.timeout(5000));
    assert.equal(peer.node.state().records, 0);
  });

  it('speak IPv6 and WebSocket, come back to peers they had stored, and keep their id', async () => {
    const authority = makeKey();
    const folder = mkdtempSync(join(tmpdir(), 'nyx-p2p-'));
    folders.push(folder);
    const keySeed = randomBytes(32);
    const first = await startPeer({
      identity: makeKey(),
      authorities: [authority],
      options: { listen: ['/ip6/::1/tcp/0/ws'] },
    });
    peers.push(first);
    const start = (bootstrap: string[]) =>
      startPeer({
        identity: makeKey(),
        authorities: [authority],
        bootstrap,
        folder,
        // Its bootstrap address is gone when it comes back; the transport has to be there all the same.
        options: { listen: ['/ip6/::1/tcp/0/ws'], keySeed },
      });
    const second = await start([first.node.addresses[0]!]);
    await until('they are connected', () => second.node.state().peers.length === 1);
    assert.match(second.node.state().peers[0]!.address, /^\/ip6\/::1\/tcp\/\d+\/ws$/);
    const { peerId } = second.node.state();
    await second.stop();
    await until('it is gone', () => first.node.state().peers.length === 0);
    const again = await start([]);
    peers.push(again);
    await until('it finds the peer that it had stored', () => again.node.state().peers.length === 1);
    assert.equal(again.node.state().peerId, peerId);
  });
});
