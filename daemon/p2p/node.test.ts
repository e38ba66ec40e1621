import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { P2pProtocol } from './contract.ts';
import { makeDescriptor, makeKey, makeView, startPeer, type TestPeer, until } from './testing.ts';

describe('peers on loopback', () => {
  const peers: TestPeer[] = [];
  after(() => Promise.all(peers.map((peer) => peer.stop())));

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
});
