import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SessionOwner } from '@nyx/core/engine/contract.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { VirtualNetwork, type WireOptions } from './virtual-network.ts';

const suite = createNativeSuite();
const buffer = new Uint8Array(65536);

/** Reads what comes and, when asked to by the port, sends without end. */
function serve(): SessionOwner {
  return {
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1);
      const read = () => {
        while (stream.read(buffer) > 0);
      };
      stream.onReadable = read;
      read();
      if (stream.target.port !== 2) return;
      const write = () => {
        while (stream.write(buffer) > 0);
      };
      stream.onWritable = write;
      write();
    },
    onClose() {},
  };
}

function build(seed: number, wire?: WireOptions) {
  const network = new VirtualNetwork(suite, seed, wire);
  const client = network.add('client', { relay: false });
  const path = [network.add('guard'), network.add('middle'), network.add('exit', { exit: true, serve })];
  const { session } = client.engine.buildCircuit(
    { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
    { onClose() {} },
    network.nowMs,
  );
  assert.ok(network.run(20_000, () => client.circuitEvents.length > 0));
  assert.equal(client.circuitEvents[0]!.kind, 'ready', `seed ${seed}`);
  return { network, client, path, session };
}

function transfer(session: SessionApi, direction: 'up' | 'down'): void {
  const stream = session.openStream({ kind: 'tcp', host: 'x.test', port: direction === 'up' ? 1 : 2 })!;
  const read = () => {
    while (stream.read(buffer) > 0);
  };
  stream.onReadable = read;
  if (direction === 'down') return;
  const write = () => {
    while (stream.write(buffer) > 0);
  };
  stream.onWritable = write;
  write();
}

describe('a node that dies', () => {
  for (const [hop, name] of ['guard', 'middle', 'exit'].entries()) {
    for (const direction of ['up', 'down'] as const) {
      test(`(${name}, under ${direction}load) is known to the client in four seconds, and nothing is left`, () => {
        const wire = { latencyMs: 10, jitterMs: 0, lossRatio: 0, duplicateRatio: 0 };
        const { network, client, path, session } = build(1 + hop, wire);
        transfer(session, direction);
        network.run(network.nowMs + 300);
        path[hop]!.down = true;
        const diedMs = network.nowMs;
        assert.ok(
          network.run(diedMs + 4000, () => client.circuitEvents.length > 1),
          'nobody noticed',
        );
        assert.equal(client.circuitEvents[1]!.kind, 'ended');
        network.run(network.nowMs + 4000);
        for (const node of path) {
          if (!node.down) assert.equal(node.engine.relayCircuits, 0, node.name);
        }
      });
    }
  }
});

test('an idle link costs little: some datagrams in a minute', () => {
  const { network, client, path } = build(4);
  network.run(network.nowMs + 5000);
  const before = client.engine.counters.datagramsOut;
  network.run(network.nowMs + 60_000);
  const sent = client.engine.counters.datagramsOut - before;
  // Keep-alives of session and link, four times a minute each, with what answers them.
  assert.ok(sent <= 40, `${sent} datagrams in an idle minute`);
  assert.equal(path[0]!.engine.relayCircuits, 1);
});

test('a round trip of 400 ms at 30% loss is no death', () => {
  for (let seed = 10; seed < 20; seed++) {
    const { network, client, path, session } = build(seed, {
      latencyMs: 60,
      jitterMs: 13,
      lossRatio: 0,
      duplicateRatio: 0,
    });
    // One link loses 30% each way.
    let lost = 0;
    network.tap = (_datagram, from, to) => {
      if (from !== path[0] && to !== path[0]) return true;
      if (from !== path[1] && to !== path[1]) return true;
      const four = new Uint8Array(1);
      network.random.fill(four);
      if (four[0]! >= 77) return true;
      lost++;
      return false;
    };
    // Something small now and then: the traffic at which a few losses look most like silence.
    for (let i = 0; i < 30; i++) {
      session.ping(() => {});
      network.run(network.nowMs + 2000);
    }
    assert.ok(lost >= 10, `seed ${seed}: ${lost} lost`);
    assert.deepEqual(client.circuitEvents.slice(1), [], `seed ${seed}`);
    const closed = path.flatMap((node) => node.linkEvents.filter((event) => event.kind === 'closed'));
    assert.deepEqual(closed, [], `seed ${seed}`);
  }
});
