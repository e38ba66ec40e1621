import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { CircuitEnd, type SessionOwner } from '@nyx/core/engine/contract.ts';
import type { SessionApi, SessionStream } from '@nyx/core/stream/contract.ts';
import { CELL_OFFSET, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork, type WireOptions } from './virtual-network.ts';

const suite = createNativeSuite();

/** Serves every stream by sending back what comes in, then closing when the client does. */
function echoServer(): SessionOwner {
  return {
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1234);
      const buffer = new Uint8Array(65536);
      let pending: Uint8Array = new Uint8Array(0);
      const pump = () => {
        for (;;) {
          if (pending.length === 0) {
            const length = stream.read(buffer);
            if (length === 0) break;
            pending = buffer.slice(0, length);
          }
          pending = pending.subarray(stream.write(pending));
          if (pending.length > 0) return;
        }
        if (stream.readEnded) stream.end();
      };
      stream.onReadable = pump;
      stream.onWritable = pump;
      pump();
    },
    onClose() {},
  };
}

interface Transfer {
  received: Uint8Array;
  closed: { code: number; remote: boolean } | undefined;
  connectedAtMs: number | undefined;
}

/** Writes `data` and collects what comes back until the stream ends. */
function transfer(network: VirtualNetwork, session: SessionApi, data: Uint8Array): Transfer {
  const stream = session.openStream({ kind: 'tcp', host: 'example.test', port: 80 }) as SessionStream;
  assert.ok(stream);
  const chunks: Uint8Array[] = [];
  const result: Transfer = { received: new Uint8Array(0), closed: undefined, connectedAtMs: undefined };
  let rest = data;
  const write = () => {
    while (rest.length > 0) {
      const accepted = stream.write(rest);
      if (accepted === 0) return;
      rest = rest.subarray(accepted);
    }
    stream.end();
  };
  const buffer = new Uint8Array(65536);
  stream.onWritable = write;
  stream.onConnected = () => {
    result.connectedAtMs = network.nowMs;
  };
  stream.onReadable = () => {
    for (let length = stream.read(buffer); length > 0; length = stream.read(buffer)) {
      chunks.push(buffer.slice(0, length));
    }
  };
  stream.onClose = (code, remote) => {
    result.received = Buffer.concat(chunks);
    result.closed = { code, remote };
  };
  write();
  return result;
}

function build(seed: number, hops: number, wire?: WireOptions) {
  const network = new VirtualNetwork(suite, seed, wire);
  const client = network.add('client', { relay: false });
  const relays = Array.from({ length: hops - 1 }, (_, i) => network.add(`mix ${i}`));
  const exit = network.add('exit', { exit: true, serve: echoServer });
  const bystander = network.add('bystander');
  return { network, client, path: [...relays, exit], exit, bystander };
}

function dial(network: VirtualNetwork, client: SimNode, path: readonly SimNode[]) {
  const closed: { code: number; reason: string }[] = [];
  const built = client.engine.buildCircuit(
    {
      hops: path.map((node) => node.contact),
      class: 'fast',
      delayMeanUs: 0,
      expiry: network.unixSeconds + 3600,
    },
    { onClose: (code, reason) => closed.push({ code, reason }) },
    network.nowMs,
  );
  return { ...built, closed };
}

function randomBytes(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  createSeededRandom(`data ${seed}`).fill(bytes);
  return bytes;
}

function drops(node: SimNode): number {
  return node.engine.counters.drops.reduce((sum, count) => sum + count, 0);
}

describe('a circuit', () => {
  for (const hops of [3, 5, 7]) {
    test(`of ${hops} hops carries bytes both ways, over the chosen nodes and no other`, () => {
      const { network, client, path, bystander } = build(hops, hops);
      const { session, circuit } = dial(network, client, path);
      const data = randomBytes(hops, 300_000);
      const echo = transfer(network, session, data);
      assert.ok(
        network.run(60_000, () => echo.closed !== undefined),
        'the stream never ended',
      );
      assert.deepEqual(echo.closed, { code: 0, remote: false });
      assert.deepEqual(echo.received, Buffer.from(data));
      assert.equal(client.circuitEvents.find((event) => event.kind === 'ready')?.circuit, circuit);

      // What is still under way (the last acknowledgements) arrives.
      network.run(network.nowMs + 100);
      const cells = Math.ceil(data.length / 1144);
      for (const relay of path.slice(0, -1)) {
        assert.ok(relay.engine.counters.cellsForward >= cells, `${relay.name} forward`);
        assert.ok(relay.engine.counters.cellsBackward >= cells, `${relay.name} backward`);
        assert.equal(relay.engine.counters.cellsDelivered, 0);
      }
      const first = path[0]!.engine.counters;
      assert.equal(first.cellsForward, client.engine.counters.cellsOriginated);
      assert.equal(path.at(-1)!.engine.counters.cellsDelivered, client.engine.counters.cellsOriginated);
      assert.equal(bystander.engine.counters.datagramsIn, 0);
      assert.equal(
        path.reduce((sum, node) => sum + drops(node), 0),
        0,
      );
    });
  }

  test('is set up in one round trip once its links are there, and data rides along', () => {
    const { network, client, path } = build(1, 3, { latencyMs: 50, jitterMs: 0, lossRatio: 0, duplicateRatio: 0 });
    const warm = dial(network, client, path);
    assert.ok(network.run(60_000, () => client.circuitEvents.length > 0));
    warm.session.close(0, '');
    const startedMs = network.nowMs;
    const { session, circuit } = dial(network, client, path);
    const echo = transfer(network, session, new Uint8Array(100));
    network.run(120_000, () => echo.closed !== undefined);
    const ready = client.circuitEvents.find((event) => event.circuit === circuit);
    assert.ok(ready?.kind === 'ready', JSON.stringify(client.circuitEvents));
    // Three links of 50 ms each way; what is above is not a round trip but the link's pacing of nine cells.
    assert.ok(ready.setupMs >= 300 && ready.setupMs < 310, `set-up took ${ready.setupMs} ms`);
    const connectMs = echo.connectedAtMs! - startedMs;
    assert.ok(connectMs >= 300 && connectMs < 310, `the stream took ${connectMs} ms`);
  });

  test('survives loss, reordering and duplication on every link', () => {
    for (const seed of [11, 12, 13]) {
      const wire = { latencyMs: 5, jitterMs: 20, lossRatio: 0.05, duplicateRatio: 0.05 };
      const { network, client, path } = build(seed, 3, wire);
      const { session } = dial(network, client, path);
      const data = randomBytes(seed, 200_000);
      const echo = transfer(network, session, data);
      assert.ok(
        network.run(300_000, () => echo.closed !== undefined),
        `seed ${seed}: the stream never ended`,
      );
      assert.deepEqual(echo.received, Buffer.from(data), `seed ${seed}`);
    }
  });

  test('leaves nothing behind at any hop when it is closed', () => {
    const { network, client, path } = build(2, 5);
    const { circuit, closed } = dial(network, client, path);
    network.run(5000, () => client.circuitEvents.length > 0);
    for (const relay of path.slice(0, -1)) assert.equal(relay.engine.relayCircuits, 1);
    client.engine.closeCircuit(circuit, CircuitEnd.requested, network.nowMs);
    network.run(network.nowMs + 2000);
    for (const relay of path.slice(0, -1)) assert.equal(relay.engine.relayCircuits, 0, relay.name);
    assert.equal(closed.length, 1);
    assert.deepEqual(client.circuitEvents.at(-1), {
      kind: 'ended',
      circuit,
      reason: CircuitEnd.requested,
      hop: undefined,
    });
  });

  test('says which hop could not be reached', () => {
    const { network, client, path } = build(3, 5);
    path[2]!.down = true;
    const { circuit } = dial(network, client, path);
    network.run(20_000, () => client.circuitEvents.length > 0);
    const end = client.circuitEvents[0]!;
    assert.ok(end.kind === 'ended' && end.circuit === circuit);
    assert.equal(end.reason, CircuitEnd.unreachable);
    // The refusal names the node that gave up, the one in front of the dead one.
    assert.equal(end.hop, 1);
  });

  test('to a node that is no exit is refused by that node', () => {
    const { network, client, path, bystander } = build(4, 3);
    dial(network, client, [path[0]!, path[1]!, bystander]);
    network.run(20_000, () => client.circuitEvents.length > 0);
    const end = client.circuitEvents[0]!;
    assert.ok(end.kind === 'ended');
    assert.equal(end.reason, CircuitEnd.refused);
    assert.equal(end.hop, 2);
    assert.equal(bystander.engine.counters.drops[Drop.notAllowed], 1);
  });

  test('ends with a clear reason when a relay dies, and a new one over others works', () => {
    const { network, client, path, exit, bystander } = build(5, 3);
    const { session, closed } = dial(network, client, path);
    const echo = transfer(network, session, randomBytes(5, 5_000_000));
    network.run(1040);
    path[1]!.down = true;
    assert.ok(
      network.run(60_000, () => closed.length > 0),
      'nobody noticed',
    );
    assert.notEqual(echo.closed, undefined);
    assert.notEqual(echo.closed!.code, 0);
    const again = dial(network, client, [path[0]!, bystander, exit]);
    const data = randomBytes(6, 10_000);
    const second = transfer(network, again.session, data);
    assert.ok(network.run(network.nowMs + 20_000, () => second.closed !== undefined));
    assert.deepEqual(second.received, Buffer.from(data));
  });
});

describe('on the wire', () => {
  test('every datagram has the same size, nothing of the payload shows, header and body look random', () => {
    const { network, client, path } = build(7, 3);
    const marker = Buffer.from('a marker that must never be seen on a wire');
    const data = Buffer.concat(Array.from({ length: 3000 }, () => marker));
    const counts = new Float64Array(256);
    let headers = 0;
    let seen = 0;
    network.tap = (datagram) => {
      seen++;
      assert.equal(datagram.length, DATAGRAM_BYTES);
      assert.equal(Buffer.from(datagram).includes(marker.subarray(0, 12)), false);
      // Handshake datagrams carry link id 0 and are masked in their own way.
      if (datagram[0] === 0 && datagram[1] === 0 && datagram[2] === 0 && datagram[3] === 0) return true;
      headers++;
      for (let i = 4; i < CELL_OFFSET; i++) counts[datagram[i]!]!++;
      return true;
    };
    const { session } = dial(network, client, path);
    const echo = transfer(network, session, data);
    assert.ok(network.run(60_000, () => echo.closed !== undefined));
    assert.equal(echo.received.length, data.length);
    assert.ok(seen > 500 && headers > 500);
    const expected = (headers * 20) / 256;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 255 degrees of freedom: beyond 350 once in 30 000 runs of a uniform source; the seed is fixed.
    assert.ok(chiSquare < 350, `chi-square ${chiSquare}`);
  });

  test('a cell marked on any link is dropped by the next honest node, forward and backward', () => {
    for (let position = CELL_OFFSET; position < DATAGRAM_BYTES; position += 97) {
      for (const link of [0, 1, 2]) {
        for (const forward of [true, false]) {
          const { network, client, path } = build(position, 3);
          const { session } = dial(network, client, path);
          network.run(5000, () => client.circuitEvents.length > 0);
          // Links that were sent something without an answer ask after a second whether the peer is there.
          network.run(network.nowMs + 2000);
          const chain = [client, ...path];
          const [from, to] = forward ? [chain[link]!, chain[link + 1]!] : [chain[link + 1]!, chain[link]!];
          const before = chain.map(drops);
          let marked = 0;
          network.tap = (datagram, source, target) => {
            if (marked === 0 && source === from && target === to) {
              datagram[position]! ^= 1 << (position % 8);
              marked++;
            }
            return true;
          };
          const echo = transfer(network, session, new Uint8Array(50));
          assert.ok(
            network.run(network.nowMs + 30_000, () => echo.closed !== undefined),
            'lost for good',
          );
          assert.equal(marked, 1);
          assert.equal(echo.received.length, 50);
          // Forward the next node checks the tag. Backward only the client can, unless the mark hit the sample that
          // masks the header (then the next node finds no circuit), or the 16 bytes that fall off there anyway.
          const inHeaderSample = position < CELL_OFFSET + 16;
          const fallsOff = !forward && link > 0 && position >= DATAGRAM_BYTES - 16;
          const catcher = forward || inHeaderSample ? to : client;
          chain.forEach((node, i) => {
            const where = `byte ${position} on link ${link} ${forward ? 'forward' : 'backward'}`;
            if (node === catcher && !fallsOff) assert.ok(drops(node) > before[i]!, `${where}: not dropped`);
            else assert.equal(drops(node), before[i], `${where}: ${node.name} dropped something`);
          });
        }
      }
    }
  });

  test('floods of junk, truncations and replays leave no trace and honest traffic goes on', () => {
    const { network, client, path } = build(8, 3);
    const { session } = dial(network, client, path);
    const random = createSeededRandom('junk');
    const captured: { datagram: Uint8Array; to: SimNode }[] = [];
    network.tap = (datagram, _from, to) => {
      if (captured.length < 300) captured.push({ datagram: datagram.slice(), to });
      return true;
    };
    const data = randomBytes(8, 2_000_000);
    const echo = transfer(network, session, data);
    network.run(1030);
    for (let i = 0; i < 2000; i++) {
      const junk = new Uint8Array(i % 7 === 0 ? i % 1400 : DATAGRAM_BYTES);
      random.fill(junk);
      if (i % 3 === 0 && junk.length >= 4) junk.fill(0, 0, 4);
      network.inject(path[i % 3]!, junk);
    }
    for (const { datagram, to } of captured) network.inject(to, datagram.slice());
    assert.ok(network.run(60_000, () => echo.closed !== undefined));
    assert.deepEqual(echo.received, Buffer.from(data));
    for (const node of path) {
      assert.ok(
        drops(node) > 500,
        `${node.name} counted its junk: ${[...node.engine.counters.drops]} of ${node.engine.counters.datagramsIn}`,
      );
      assert.ok(node.engine.links().length <= 3);
      assert.ok(node.engine.bufferedBytes < 4_000_000, `${node.engine.bufferedBytes} bytes held`);
    }
  });
});

describe('under load', () => {
  test('a node asks for a puzzle and serves who solved it', () => {
    const network = new VirtualNetwork(suite, 9);
    const client = network.add('client', { relay: false });
    const path = [network.add('a', { setupsPerSecond: 20 }), network.add('b'), network.add('c', { exit: true })];
    for (let i = 0; i < 30; i++) {
      dial(network, client, path);
      network.run(network.nowMs + 4);
    }
    network.run(network.nowMs + 1000);
    const refused = client.circuitEvents.filter((e) => e.kind === 'ended' && e.reason === CircuitEnd.puzzle);
    assert.ok(
      refused.length > 0,
      `nobody was asked for a puzzle: ${JSON.stringify(client.circuitEvents.slice(-5))} ${path[0]!.engine.counters.setups}`,
    );
    const events = client.circuitEvents.length;
    const { circuit } = dial(network, client, path);
    network.run(network.nowMs + 5000, () => client.circuitEvents.length > events);
    assert.deepEqual(client.circuitEvents.find((e) => e.circuit === circuit)?.kind, 'ready');
  });

  test('circuits beyond the limit are refused', () => {
    const network = new VirtualNetwork(suite, 10);
    const client = network.add('client', { relay: false });
    const path = [network.add('a', { maxCircuits: 2 }), network.add('b'), network.add('c', { exit: true })];
    for (let i = 0; i < 3; i++) dial(network, client, path);
    network.run(5000, () => client.circuitEvents.length === 3);
    const ended = client.circuitEvents.filter((event) => event.kind === 'ended');
    assert.equal(ended.length, 1);
    assert.ok(ended[0]!.kind === 'ended' && ended[0]!.reason === CircuitEnd.limit && ended[0]!.hop === 0);
  });
});
