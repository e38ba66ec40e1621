/** Circuits of class mix in networks of real engines: what every relay does to the time and order of cells. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { CircuitEnd, type SessionOwner } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov } from '@nyx/core/mix/testing.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { CELL_OFFSET } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type NodeOptions, type SimNode, VirtualNetwork, type WireOptions } from './virtual-network.ts';

const suite = createNativeSuite();
const MEAN_MS = 20;

/** A suite that says which opened cell became which. Only forward cells at relays are opened into another buffer. */
function watchedSuite(onOpened: (out: Uint8Array) => void): CryptoSuite {
  return Object.assign(Object.create(suite) as CryptoSuite, {
    aeadOpenPadded(...args: Parameters<CryptoSuite['aeadOpenPadded']>): boolean {
      const opened = suite.aeadOpenPadded(...args);
      if (opened) onOpened(args[0]);
      return opened;
    },
  });
}

function tagText(bytes: Uint8Array, offset: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + offset, 16).toString('latin1');
}

function sink(onBytes: (count: number) => void): SessionOwner {
  const into = new Uint8Array(65536);
  return {
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1);
      const read = () => {
        for (let n = stream.read(into); n > 0; n = stream.read(into)) onBytes(n);
      };
      stream.onReadable = read;
      read();
    },
    onClose() {},
  };
}

function dial(network: VirtualNetwork, client: SimNode, path: readonly SimNode[], delayMs = MEAN_MS) {
  const options = {
    hops: path.map((node) => node.contact),
    class: 'mix',
    delayMeanUs: delayMs * 1000,
    expiry: network.unixSeconds + 3600,
  } as const;
  return client.engine.buildCircuit(options, { onClose() {} }, network.nowMs);
}

/** Writes `total` bytes as fast as the session takes them. */
function write(session: SessionApi, total: number): void {
  const stream = session.openStream({ kind: 'tcp', host: 'sink.test', port: 1 })!;
  const chunk = new Uint8Array(65536);
  let left = total;
  const more = () => {
    while (left > 0) {
      const accepted = stream.write(chunk.subarray(0, Math.min(left, chunk.length)));
      if (accepted === 0) return;
      left -= accepted;
    }
    stream.end();
  };
  stream.onWritable = more;
  more();
}

function build(seed: number, hops: number, exit: Partial<NodeOptions>, wire?: WireOptions) {
  const network = new VirtualNetwork(suite, seed, wire);
  const client = network.add('client', { relay: false });
  const path = Array.from({ length: hops - 1 }, (_, i) => network.add(`mix ${i}`));
  path.push(network.add('exit', { exit: true, ...exit }));
  return { network, client, path };
}

describe('a relay of a mix circuit', () => {
  test('holds each of 100 000 cells for an exponential time of its own', () => {
    const network = new VirtualNetwork(suite, 71);
    const client = network.add('client', { relay: false });
    let received = 0;
    const total = 57_000_000;
    /** When a relay opened the cell that goes on under this tag. */
    const openedMs = new Map<string, number>();
    const watched = watchedSuite((out) => openedMs.set(tagText(out, 0), network.nowMs));
    const engine: NodeOptions['engine'] = (options, deps) => new Engine(options, { ...deps, suite: watched });
    const path = [
      network.add('guard', { engine }),
      network.add('middle', { engine }),
      network.add('exit', {
        exit: true,
        serve: () =>
          sink((count) => {
            received += count;
          }),
      }),
    ];
    const delays: number[] = [];
    let overtaken = 0;
    let latestMs = 0;
    network.tap = (datagram, from) => {
      const tag = tagText(datagram, CELL_OFFSET);
      const arrivedMs = openedMs.get(tag);
      if (arrivedMs !== undefined) {
        openedMs.delete(tag);
        delays.push(network.nowMs - arrivedMs);
        if (from === path[1]) {
          if (arrivedMs < latestMs) overtaken++;
          latestMs = Math.max(latestMs, arrivedMs);
        }
      }
      return true;
    };
    write(dial(network, client, path).session, total);
    assert.ok(
      network.run(600_000, () => received >= total),
      'the transfer did not end',
    );
    assert.ok(delays.length >= 100_000, `${delays.length} cells`);
    const ks = kolmogorovSmirnov(delays, erlangCdf(1, MEAN_MS));
    assert.ok(ks < KS_ONE_PERCENT, `seed ${network.seed}: ${ks}`);
    // Neighbours in the stream of delays have nothing to do with each other.
    let covariance = 0;
    for (let i = 1; i < delays.length; i++) covariance += (delays[i]! - MEAN_MS) * (delays[i - 1]! - MEAN_MS);
    const correlation = covariance / delays.length / MEAN_MS ** 2;
    assert.ok(Math.abs(correlation) < 0.25, `cells that leave together came apart: ${correlation}`);
    assert.ok(overtaken > 0.8 * (delays.length / 2), `${overtaken} cells were overtaken`);
    const { mix } = path[1]!.engine;
    const measuredMs = mix.waitedMs / (mix.released + mix.waiting);
    assert.ok(Math.abs(measuredMs - MEAN_MS) < 1, `measured ${measuredMs}`);
  });

  test('brings a mean out of its range into it', () => {
    const { network, client, path } = build(72, 3, { serve: () => sink(() => {}) });
    const { session } = dial(network, client, path, 0);
    write(session, 100_000);
    network.run(20_000);
    const { mix } = path[0]!.engine;
    assert.ok(mix.released > 90);
    assert.ok(Math.abs(mix.waitedMs / mix.released - 1) < 0.4, `${mix.waitedMs / mix.released}`);
  });
});

describe('five hops', () => {
  for (const direction of ['forward', 'backward'] as const) {
    test(`add the sum of five exponential times, ${direction}`, () => {
      const sentMs: number[] = [];
      const delays: number[] = [];
      const onDatagram = (_flow: number, data: Uint8Array) => {
        delays.push(network.nowMs - sentMs[new DataView(data.buffer, data.byteOffset).getUint32(0)]!);
      };
      let exitSession: SessionApi | undefined;
      const { network, client, path } = build(73, 5, {
        serve: (session) => {
          exitSession = session;
          return { onClose() {}, onDatagram };
        },
      });
      const { session } = client.engine.buildCircuit(
        {
          hops: path.map((node) => node.contact),
          class: 'mix',
          delayMeanUs: MEAN_MS * 1000,
          expiry: network.unixSeconds + 3600,
        },
        { onClose() {}, onDatagram },
        network.nowMs,
      );
      // The first round trips size the window; what they say is not measured.
      write(session, 2_000_000);
      network.run(network.nowMs + 20_000);
      const sender = direction === 'forward' ? session : exitSession!;
      const data = new Uint8Array(1000);
      for (let i = 0; i < 4000; i++) {
        new DataView(data.buffer).setUint32(0, i);
        sentMs.push(network.nowMs);
        assert.ok(sender.sendDatagram(1, data));
        network.run(network.nowMs + 10);
      }
      network.run(network.nowMs + 3000);
      assert.equal(delays.length, 4000);
      const latencyMs = 5 * network.wire.latencyMs;
      const ks = kolmogorovSmirnov(
        delays.map((ms) => ms - latencyMs),
        erlangCdf(5, MEAN_MS),
      );
      assert.ok(ks < KS_ONE_PERCENT, `seed ${network.seed}: ${ks}`);
    });
  }
});

describe('a mix circuit', () => {
  test('carries bytes through loss and reordering, and the session does not take delays for loss', () => {
    let received = 0;
    const total = 4_000_000;
    const { network, client, path } = build(
      74,
      5,
      {
        serve: () =>
          sink((count) => {
            received += count;
          }),
      },
      { latencyMs: 5, jitterMs: 2, lossRatio: 0.001, duplicateRatio: 0.01 },
    );
    const { session } = dial(network, client, path);
    write(session, total);
    assert.ok(
      network.run(120_000, () => received >= total),
      `seed ${network.seed}: ${received} of ${total}`,
    );
    const { packetsSent, spuriousRetransmissions } = session.stats;
    assert.ok(spuriousRetransmissions <= packetsSent / 200, `${spuriousRetransmissions} of ${packetsSent}`);
  });

  test('ends with cells waiting: they are dropped and counted, and the next circuit does not notice', () => {
    const { network, client, path } = build(75, 3, { serve: () => sink(() => {}) });
    const { circuit, session } = dial(network, client, path, 500);
    write(session, 200_000);
    const guard = path[0]!.engine;
    assert.ok(network.run(20_000, () => guard.mix.waiting > 20));
    client.engine.closeCircuit(circuit, CircuitEnd.requested, network.nowMs);
    network.run(network.nowMs + 30_000);
    assert.equal(guard.mix.waiting, 0);
    assert.ok(guard.counters.drops[Drop.closed]! > 20);
    let received = 0;
    const exit = path[2]!;
    assert.equal(exit.engine.mix.waiting, 0);
    const again = dial(network, client, path, 5);
    again.session.openStream({ kind: 'tcp', host: 'x', port: 1 })!.onConnected = () => received++;
    network.run(network.nowMs + 5000);
    assert.equal(received, 1);
  });

  test('loses its link with cells waiting: nothing is sent on it, everything is counted', () => {
    const { network, client, path } = build(76, 3, { serve: () => sink(() => {}) });
    const { session } = dial(network, client, path, 2000);
    write(session, 200_000);
    const guard = path[0]!.engine;
    assert.ok(network.run(30_000, () => guard.mix.waiting > 30));
    path[1]!.down = true;
    network.run(network.nowMs + 60_000);
    assert.equal(guard.mix.waiting, 0);
    assert.equal(guard.relayCircuits, 0);
    assert.ok(guard.counters.drops[Drop.closed]! > 0);
  });

  test('a flood fills its share of a small mix and is dropped beyond it, by name', () => {
    let received = 0;
    const { network, client, path } = build(77, 3, {
      memoryBytes: 4 * 2 ** 20,
      serve: () => sink((n) => (received += n)),
    });
    const { session } = dial(network, client, path, 300);
    write(session, 4_000_000);
    network.run(40_000);
    const exit = path[2]!.engine;
    assert.ok(exit.counters.drops[Drop.mixQueueFull]! > 0, 'nothing was dropped');
    assert.ok(exit.mix.waiting <= 1536 / 5);
    assert.ok(received > 0);
  });

  test('a cell that comes twice goes on once, however long the first one waits', () => {
    let received = 0;
    const { network, client, path } = build(
      78,
      3,
      { serve: () => sink((n) => (received += n)) },
      {
        latencyMs: 1,
        jitterMs: 3,
        lossRatio: 0,
        duplicateRatio: 1,
      },
    );
    write(dial(network, client, path, 50).session, 100_000);
    assert.ok(network.run(30_000, () => received >= 100_000));
    const { counters } = path[0]!.engine;
    assert.ok(counters.drops[Drop.replayed]! > 80);
  });
});

test('a random source of fixed seed makes a run that can be repeated', () => {
  const run = () => {
    const { network, client, path } = build(79, 3, { serve: () => sink(() => {}) });
    const times: number[] = [];
    network.tap = () => times.push(network.nowMs) > 0;
    write(dial(network, client, path).session, 50_000);
    network.run(3000);
    return times;
  };
  assert.deepEqual(run(), run());
});
