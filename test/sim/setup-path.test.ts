/** What a circuit's set-up waits for: nothing but the wire. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CircuitEnd } from '@nyx/core/engine/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
/** A SETUP message of 10 136 bytes in segments of 1216. */
const TRAIN_DATAGRAMS = 9;

function makeNetwork() {
  const network = new VirtualNetwork(suite, 1);
  const client = network.add('client', { relay: false });
  const path = [network.add('first'), network.add('middle'), network.add('exit', { exit: true })];
  const build = () =>
    client.engine.buildCircuit(
      {
        hops: path.map((node) => node.contact),
        class: 'fast',
        delayMeanUs: 0,
        expiry: network.unixSeconds + 3600,
      },
      { onClose() {} },
      network.nowMs,
    );
  /** Datagrams by "from>to". */
  const sent = new Map<string, number>();
  network.tap = (_datagram, from: SimNode, to: SimNode) => {
    const name = `${from.name}>${to.name}`;
    sent.set(name, (sent.get(name) ?? 0) + 1);
    return true;
  };
  return { network, client, build, sent };
}

describe('the way of a set-up', () => {
  test('the train leaves while the circuit is being built, before any flush', () => {
    const { network, client, build, sent } = makeNetwork();
    build();
    assert.equal(sent.get('client>first'), undefined, 'the link is not up: nothing but the handshake can leave');
    network.run(network.nowMs + 500);
    assert.equal(client.circuitEvents.at(-1)?.kind, 'ready');
    sent.clear();
    build();
    assert.equal(sent.get('client>first'), TRAIN_DATAGRAMS);
  });

  test('over links that are up it takes one round trip of the path, to the millisecond', () => {
    const { network, client, build } = makeNetwork();
    build();
    network.run(network.nowMs + 500);
    for (let i = 0; i < 20; i++) {
      build();
      network.run(network.nowMs + 100);
      const event = client.circuitEvents.at(-1)!;
      assert.ok(event.kind === 'ready', event.kind);
      assert.equal(event.setupMs, 2 * 3 * network.wire.latencyMs);
    }
  });

  test('nobody is woken for an ack alone: it comes with the answer', () => {
    const { network, client, build } = makeNetwork();
    build();
    network.run(network.nowMs + 500);
    network.wire = { ...network.wire, latencyMs: 0.4 };
    const startMs = network.nowMs;
    const sentMs = new Set<number>();
    let datagrams = 0;
    client.circuitEvents.length = 0;
    network.tap = (_datagram, from, to) => {
      if (from.name === 'first' && to === client) {
        sentMs.add(network.nowMs - startMs);
        datagrams++;
      }
      return true;
    };
    build();
    assert.ok(network.run(network.nowMs + 100, () => client.circuitEvents.length > 0));
    assert.equal(sentMs.size, 1, `at ${[...sentMs].join(', ')} ms`);
    // The reply fills two cells.
    assert.equal(datagrams, 3);
  });

  test('a train that the link has no room for ends the circuit with LIMIT', () => {
    const { network, client, build } = makeNetwork();
    // The link's queue holds some 60 trains, and nothing is acknowledged yet.
    for (let i = 0; i < 100; i++) build();
    network.run(network.nowMs + 1);
    const ended = client.circuitEvents.filter((event) => event.kind === 'ended');
    assert.ok(ended.length > 20 && ended.every((event) => event.reason === CircuitEnd.limit));
    network.run(network.nowMs + 2000);
    assert.equal(client.circuitEvents.filter((event) => event.kind === 'ready').length, 100 - ended.length);
  });
});
