/**
 * A client all of whose peers, and all peers these name, belong to one attacker. It can be kept from the fresh view for as
 * long as that lasts; it can't be made to take another one.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import type { Libp2p } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { decodeViewBundle, encodeViewBundle } from '@nyx/core/directory/view.ts';
import { P2pProtocol } from './contract.ts';
import { recordKey } from './record-rules.ts';
import { signAuthorityRecord } from './statements.ts';
import { writeMessage } from './stream-io.ts';
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
import { ViewStatus } from './view-frames.ts';

const DAY_SECONDS = 86_400;
const authority = makeKey();
const nodes = [makeDescriptor(makeKey()), makeDescriptor(makeKey())];
const fresh = makeView(
  authority,
  nodes.map(({ bytes }) => bytes),
);
const theirs = makeKey();

/** What the attacker's peers hand out when they are asked for the view. */
const lies: Record<string, readonly Uint8Array[]> = {
  'nothing newer': [Uint8Array.of(ViewStatus.nothingNewer)],
  'a view of a day ago, really signed': [
    Uint8Array.of(ViewStatus.newer),
    makeView(authority, [makeDescriptor(makeKey(), dayAgo()).bytes], unixSeconds() - DAY_SECONDS),
  ],
  'a view of their own nodes': [Uint8Array.of(ViewStatus.newer), makeView(theirs, [makeDescriptor(theirs).bytes])],
  'the real view less one node': [Uint8Array.of(ViewStatus.newer), withoutOneNode(fresh)],
};

function dayAgo() {
  const published = unixSeconds() - DAY_SECONDS;
  return { published, expires: published + 7200 };
}

/** The digest and its signatures are those of the whole set. */
function withoutOneNode(bytes: Uint8Array): Uint8Array {
  const bundle = decodeViewBundle(bytes);
  return encodeViewBundle({ ...bundle, entries: bundle.entries.slice(1) });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('an eclipsed client', () => {
  const attackers: Libp2p<HostileServices>[] = [];
  const peers: TestPeer[] = [];
  afterEach(async () => {
    await Promise.all([
      ...peers.splice(0).map((peer) => peer.stop()),
      ...attackers.splice(0).map((node) => node.stop()),
    ]);
  });

  /** They know each other and nobody else, so that every walk ends among them. */
  const startAttackers = async (asked: Map<string, number>) => {
    for (const [name, lie] of Object.entries(lies)) {
      const node = await startHostile();
      attackers.push(node);
      await node.handle(P2pProtocol.view, async (stream) => {
        asked.set(name, (asked.get(name) ?? 0) + 1);
        await writeMessage(stream, lie, AbortSignal.timeout(5000));
      });
    }
    for (const a of attackers) {
      for (const b of attackers) if (a !== b) await a.dial(multiaddr(b.getMultiaddrs()[0]!.toString()));
    }
    // In their DHT the authority is one of them.
    const forged = signAuthorityRecord(theirs, attackers[0]!.peerId.toString(), [], unixSeconds());
    const key = recordKey('authority', Buffer.from(authority.publicKey).toString('hex'));
    for await (const _ of attackers[0]!.services.dht.put(key, forged, { signal: AbortSignal.timeout(5000) }));
  };

  it('takes nothing that they give, and the fresh view as soon as one honest peer is reached', async () => {
    const asked = new Map<string, number>();
    await startAttackers(asked);
    const honestPort = await freePort();
    const honestAddress = `/ip4/127.0.0.1/tcp/${honestPort}`;
    const client = await startPeer({
      authorities: [authority],
      bootstrap: [
        ...attackers.map((node) =>
          node
            .getMultiaddrs()[0]!
            .toString()
            .replace(/\/p2p\/.*/, ''),
        ),
        honestAddress,
      ],
      options: { listen: [] },
    });
    peers.push(client);
    await until('every lie was told', () => asked.size === Object.keys(lies).length, 30_000);
    await until('who forges is refused', () => client.counters.refusals.badView >= 2, 30_000);
    assert.equal(client.view(), undefined);
    assert.equal(client.counters.viewsFetched, 0);
    const record = await client.node.find(
      'authority',
      Buffer.from(authority.publicKey).toString('hex'),
      AbortSignal.timeout(20_000),
    );
    assert.equal(record, undefined, 'a record of another key is no answer');
    assert.ok(client.counters.refusals.badAnswer + client.counters.refusals.misplaced > 0);

    const honest = await startPeer({
      identity: makeKey(),
      authority,
      authorities: [authority],
      options: { listen: [honestAddress] },
    });
    peers.push(honest);
    honest.hold(fresh);
    await until('the client has the fresh view', () => client.view() !== undefined, 30_000);
    assert.deepEqual([...client.view()!.byId.keys()].sort(), nodes.map(({ nodeId }) => nodeId).sort());
  });

  it('keeps the view that it has', async () => {
    const asked = new Map<string, number>();
    await startAttackers(asked);
    const client = await startPeer({
      authorities: [authority],
      bootstrap: attackers.map((node) =>
        node
          .getMultiaddrs()[0]!
          .toString()
          .replace(/\/p2p\/.*/, ''),
      ),
      options: { listen: [] },
      epochAhead: 24,
    });
    peers.push(client);
    client.hold(fresh);
    await until('every lie was told', () => asked.size === Object.keys(lies).length, 30_000);
    assert.deepEqual([...client.view()!.byId.keys()].sort(), nodes.map(({ nodeId }) => nodeId).sort());
    assert.equal(client.counters.viewsFetched, 0);
  });
});
