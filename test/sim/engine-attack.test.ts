import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Drop } from '@nyx/core/drop-reason.ts';
import { CircuitEnd, type ClientCircuitEvent, type SessionOwner } from '@nyx/core/engine/contract.ts';
import { CryptoMessage, encodeRekey, sendKeyMessage } from '@nyx/core/engine/crypto-messages.ts';
import { LinkMessage } from '@nyx/core/engine/messages.ts';
import { createFreshKeys } from '@nyx/core/onion/fresh-exchange.ts';
import { TRAIN_BYTES } from '@nyx/core/onion/setup-train.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';
import type { Session } from '@nyx/core/stream/session.ts';
import type { SessionPath } from '@nyx/core/stream/session-path.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { RawPeer } from './raw-peer.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const quiet: SessionOwner = { onClose() {} };

/** Accepts streams and never reads from them. */
const stalled = (): SessionOwner => ({
  onStream: (stream) => stream.connected(4, '192.0.2.1', 1),
  onClose() {},
});

function dial(network: VirtualNetwork, client: SimNode, path: readonly SimNode[], owner: SessionOwner = quiet) {
  return client.engine.buildCircuit(
    { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
    owner,
    network.nowMs,
  );
}

function ready(network: VirtualNetwork, client: SimNode): void {
  assert.ok(network.run(network.nowMs + 5000, () => client.circuitEvents.some((event) => event.kind === 'ready')));
}

function rawNode(network: VirtualNetwork, name: string) {
  let peer: RawPeer | undefined;
  const node = network.add(name, {
    engine: (options, deps) => {
      peer = new RawPeer(options, deps);
      return peer.asEngine();
    },
  });
  return { node, peer: peer! };
}

describe('a malicious client', () => {
  test('that asks for key after key is cut off, and no exchange is made for it', () => {
    const network = new VirtualNetwork(suite, 1);
    const client = network.add('client', { relay: false });
    const closed: number[] = [];
    const serve = (): SessionOwner => ({ onClose: (code) => void closed.push(code) });
    const path = [network.add('a'), network.add('b'), network.add('exit', { exit: true, serve })];
    const { session } = dial(network, client, path);
    ready(network, client);
    for (let i = 0; i < 40; i++) {
      const fresh = createFreshKeys(suite, network.random);
      (session as Session).firstPath.sendCryptoMessage(
        CryptoMessage.rekey,
        encodeRekey(fresh.dh.publicKey, fresh.kem.publicKey),
      );
    }
    network.run(network.nowMs + 2000);
    // The client's own engine closes too: it did not ask for these keys. What counts is that the exit ended it first.
    assert.equal(closed.length, 1);
    assert.ok([SessionError.protocolViolation, SessionError.cryptoFail].includes(closed[0] as 1), String(closed));
  });

  test('that never acknowledges key messages closes its session and throws nothing', () => {
    const closed: number[] = [];
    const path = {
      sendCryptoMessage() {
        throw new RangeError('no room');
      },
      session: { close: (code: number) => void closed.push(code) },
    } as unknown as SessionPath;
    assert.equal(sendKeyMessage(path, CryptoMessage.rekeyKeys, new Uint8Array(1120)), false);
    assert.deepEqual(closed, [SessionError.protocolViolation]);
  });

  test('cannot hold more memory than the node has for it', () => {
    const network = new VirtualNetwork(suite, 2);
    const memoryBytes = 2 * 1024 * 1024;
    const exit = network.add('exit', { exit: true, serve: stalled, memoryBytes });
    const path = [network.add('a'), network.add('b'), exit];
    const client = network.add('client', { relay: false });
    const chunk = new Uint8Array(256 * 1024);
    for (let i = 0; i < 12; i++) {
      const { session } = dial(network, client, path);
      for (let k = 0; k < 8; k++) {
        const stream = session.openStream({ kind: 'tcp', host: 'stall.test', port: 1 })!;
        const write = () => {
          while (stream.write(chunk) > 0);
        };
        stream.onWritable = write;
        write();
      }
    }
    let highest = 0;
    network.run(network.nowMs + 5000, () => {
      highest = Math.max(highest, exit.engine.bufferedBytes);
      return false;
    });
    // One turn's cells and what comes between two counts may go over.
    assert.ok(highest > memoryBytes / 2, `the attack did nothing: ${highest} bytes held`);
    assert.ok(highest < memoryBytes * 1.5, `${highest} bytes held`);
    assert.ok(exit.engine.counters.shed > 0);
    const ends = client.circuitEvents.flatMap((event) => (event.kind === 'ended' ? [event.reason] : []));
    assert.ok(ends.length > 0 && ends.every((reason) => reason === CircuitEnd.memory), String(ends));

    // Above the soft limit newcomers are told so.
    const before = exit.engine.counters.drops[Drop.memory]!;
    for (let i = 0; i < 4 && exit.engine.counters.drops[Drop.memory] === before; i++) {
      dial(network, client, path);
      network.run(network.nowMs + 200);
    }
    assert.ok(exit.engine.counters.drops[Drop.memory]! > before || exit.engine.bufferedBytes < 0.75 * memoryBytes);
  });

  test('cannot fill the table of links: one that nothing uses makes room', () => {
    const network = new VirtualNetwork(suite, 3);
    const guard = network.add('guard', { maxLinks: 3 });
    for (let i = 0; i < 3; i++) {
      const { peer } = rawNode(network, `idler ${i}`);
      peer.connect(guard.contact, network.nowMs);
    }
    network.run(network.nowMs + 11_000);
    assert.equal(guard.engine.links().length, 3);
    const client = network.add('client', { relay: false });
    dial(network, client, [guard, network.add('b'), network.add('exit', { exit: true, serve: () => quiet })]);
    ready(network, client);
  });
});

describe('a malicious neighbour', () => {
  /** client → guard (raw) as first hop; the guard sees the client's SETUP with its two CIDs. */
  function withRawGuard(seed: number) {
    const network = new VirtualNetwork(suite, seed);
    const client = network.add('client', { relay: false });
    const { node, peer } = rawNode(network, 'guard');
    dial(network, client, [node, network.add('b'), network.add('exit', { exit: true })]);
    assert.ok(network.run(network.nowMs + 2000, () => peer.messages.length > 0));
    const setup = peer.messages[0]!;
    assert.equal(setup.type, LinkMessage.setup);
    return {
      network,
      client,
      peer,
      link: setup.link,
      forward: setup.body.slice(0, 12),
      backward: setup.body.slice(12, 24),
    };
  }

  test('may end a circuit only in its own direction', () => {
    const { network, client, peer, link, forward, backward } = withRawGuard(4);
    // Travelling forward, towards a client: nonsense. Then with the other direction's CID.
    peer.send(link, LinkMessage.destroy, backward, Uint8Array.of(0, CircuitEnd.requested));
    peer.send(link, LinkMessage.destroy, forward, Uint8Array.of(1, CircuitEnd.requested));
    network.run(network.nowMs + 100);
    assert.equal(client.circuitEvents.length, 0);
    assert.equal(client.engine.counters.drops[Drop.notAllowed], 1);
    assert.equal(client.engine.counters.drops[Drop.unknownCircuit], 1);
    peer.send(link, LinkMessage.destroy, backward, Uint8Array.of(1, CircuitEnd.linkLost));
    network.run(network.nowMs + 100);
    assert.equal(client.circuitEvents[0]?.kind, 'ended');
  });

  test('may open no circuit over a link that we opened', () => {
    const { network, client, peer, link } = withRawGuard(5);
    peer.send(link, LinkMessage.setup, new Uint8Array(24).fill(9), new Uint8Array(8 + TRAIN_BYTES));
    network.run(network.nowMs + 100);
    assert.equal(client.engine.counters.drops[Drop.notAllowed], 1);
    assert.equal(peer.messages.at(-1)!.type, LinkMessage.setupRefused);

    const relay = network.add('relay', {});
    const { node: other, peer: otherPeer } = rawNode(network, 'other');
    const named = network.add('dialler', {});
    dial(network, named, [relay, other, network.add('last', { exit: true })]);
    assert.ok(network.run(network.nowMs + 2000, () => otherPeer.messages.length > 0));
    const setups = relay.engine.counters.setups;
    otherPeer.send(
      otherPeer.messages[0]!.link,
      LinkMessage.setup,
      new Uint8Array(24).fill(9),
      new Uint8Array(8 + TRAIN_BYTES),
    );
    network.run(network.nowMs + 100);
    assert.equal(relay.engine.counters.setups, setups);
    assert.equal(relay.engine.counters.drops[Drop.notAllowed], 1);
  });

  test('on the client side cannot refuse a circuit, nor end it from another link', () => {
    const network = new VirtualNetwork(suite, 6);
    const relay = network.add('relay');
    const exit = network.add('exit', { exit: true, serve: () => quiet });
    const client = network.add('client', { relay: false });
    // The first hop is raw and passes the client's train on by hand, so the test knows the CIDs at the relay.
    const { node, peer } = rawNode(network, 'guard');
    dial(network, client, [relay, network.add('mid'), exit]);
    ready(network, client);
    const outsider = peer.connect(relay.contact, network.nowMs);
    network.run(network.nowMs + 100);
    assert.equal(node.name, 'guard');
    for (const direction of [0, 1]) {
      for (let i = 0; i < 20; i++) {
        const cid = new Uint8Array(12);
        network.random.fill(cid);
        peer.send(outsider, LinkMessage.destroy, cid, Uint8Array.of(direction, 0));
        peer.send(outsider, LinkMessage.setupRefused, cid, new Uint8Array(50));
      }
    }
    network.run(network.nowMs + 100);
    assert.equal(relay.engine.counters.drops[Drop.unknownCircuit], 80);
    assert.equal(relay.engine.relayCircuits, 1);
  });

  test('that names a node outside the circuit gets nobody to solve its puzzle', () => {
    const { network, client, peer, link, backward } = withRawGuard(7);
    const victim = network.add('victim');
    const refused = new Uint8Array(12 + 1 + 32 + 1 + 16);
    refused.set(backward);
    refused[12] = CircuitEnd.puzzle;
    refused.set(victim.contact.nodeId, 13);
    refused[45] = 16;
    peer.send(link, LinkMessage.setupRefused, refused);
    network.run(network.nowMs + 100);
    assert.equal(client.circuitEvents[0]?.kind, 'ended');
    const started = process.cpuUsage().user;
    dial(network, client, [victim, network.add('m'), network.add('n', { exit: true })]);
    // 2^16 hashes take some 100 ms; a set-up without any takes one.
    assert.ok(process.cpuUsage().user - started < 60_000, 'a puzzle was solved');
  });
});

describe('the host', () => {
  test('may build, close and flush within callbacks', () => {
    const network = new VirtualNetwork(suite, 8);
    const path = [network.add('a'), network.add('b'), network.add('exit', { exit: true, serve: () => quiet })];
    const events: ClientCircuitEvent[] = [];
    let rebuilt = 0;
    const client: SimNode = network.add('client', {
      relay: false,
      host: {
        onLink: () => client?.engine?.flush(network.nowMs),
        onCircuit: (event) => {
          events.push(event);
          if (event.kind === 'ready') client.engine.closeCircuit(event.circuit, CircuitEnd.requested, network.nowMs);
          else if (rebuilt++ < 5) dial(network, client, path);
          client.engine.flush(network.nowMs);
        },
      },
    });
    dial(network, client, path, {
      onReady: () => client.engine.flush(network.nowMs),
      onClose: () => client.engine.flush(network.nowMs),
    });
    network.run(network.nowMs + 5000);
    assert.equal(events.filter((event) => event.kind === 'ready').length, 6);
    assert.equal(events.filter((event) => event.kind === 'ended').length, 6);
    for (const node of path) assert.equal(node.engine.relayCircuits, 0);
  });

  test('that throws gets its error back once the engine is done, and the engine goes on', () => {
    const network = new VirtualNetwork(suite, 9);
    const path = [network.add('a'), network.add('b'), network.add('exit', { exit: true, serve: () => quiet })];
    const client = network.add('client', { relay: false });
    const first = dial(network, client, path, {
      onReady() {
        throw new Error('a bug of the owner');
      },
      onClose() {},
    });
    const second = dial(network, client, path);
    let thrown: unknown;
    for (let i = 0; i < 3 && !client.circuitEvents.some((event) => event.circuit === second.circuit); i++) {
      try {
        network.run(network.nowMs + 1000, () => client.circuitEvents.some((event) => event.circuit === second.circuit));
      } catch (error) {
        thrown = error;
      }
    }
    assert.ok(thrown instanceof Error && thrown.message === 'a bug of the owner');
    const ends = client.circuitEvents.filter((event) => event.kind === 'ended');
    assert.deepEqual(
      ends.map(({ circuit, reason }) => ({ circuit, reason })),
      [{ circuit: first.circuit, reason: CircuitEnd.protocol }],
    );
    assert.equal(client.circuitEvents.at(-1)!.kind, 'ready');
    assert.equal(client.circuitEvents.at(-1)!.circuit, second.circuit);
    network.run(network.nowMs + 1000);
    assert.equal(path[0]!.engine.relayCircuits, 1);
  });

  test('learns of a circuit that could not be opened only after it has its number', () => {
    const network = new VirtualNetwork(suite, 10);
    const path = [network.add('a'), network.add('b'), network.add('exit', { exit: true, serve: () => quiet })];
    const client = network.add('client', { relay: false });
    const broken = { ...path[0]!.contact, addresses: [] };
    const hops = [broken, path[1]!.contact, path[2]!.contact];
    const options = { class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 } as const;
    const { circuit } = client.engine.buildCircuit({ hops, ...options }, quiet, network.nowMs);
    assert.equal(client.circuitEvents.length, 0);
    network.run(network.nowMs + 100);
    assert.deepEqual(client.circuitEvents, [
      { kind: 'ended', circuit, reason: CircuitEnd.unreachable, hop: undefined },
    ]);
    assert.equal(client.engine.links().length, 0);
    // A later, valid descriptor of the same node works.
    dial(network, client, path);
    ready(network, client);
  });

  test('may get datagrams after its shutdown', () => {
    const network = new VirtualNetwork(suite, 11);
    const guard = network.add('guard');
    const path = [guard, network.add('b'), network.add('exit', { exit: true, serve: () => quiet })];
    const client = network.add('client', { relay: false });
    dial(network, client, path);
    ready(network, client);
    guard.engine.shutdown(network.nowMs);
    const late = network.add('late', { relay: false });
    dial(network, late, path);
    network.run(network.nowMs + 10_000);
    assert.ok(guard.engine.counters.drops[Drop.closed]! > 0);
    assert.equal(guard.engine.links().length, 0);
    assert.equal(guard.engine.relayCircuits, 0);
  });
});
