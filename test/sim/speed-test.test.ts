/** Authorities measure nodes by real circuits: engines on virtual time, with a node between that carries only so much. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { SpeedTest, type SpeedTestOptions } from '@nyx/core/directory/speed-test.ts';
import { CircuitEnd } from '@nyx/core/engine/contract.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNobleSuite();
const limits: SpeedTestOptions = { maxBytes: 1 << 20, durationMs: 3000, setupMs: 2000 };

interface Measured {
  readonly network: VirtualNetwork;
  readonly node: SimNode;
  readonly meter: SimNode;
  /** Cells that came to the node's queue, and those that found it full. */
  readonly queue: { cells: number; lost: number };
  run(options?: SpeedTestOptions): SpeedTest;
}

/** The node passes on `cellsPerMs`, and 64 KB at once; more is lost there without a delay that tells. */
function measuring(seed: number, cellsPerMs: number): Measured {
  const network = new VirtualNetwork(suite, seed, { latencyMs: 5, jitterMs: 0, lossRatio: 0, duplicateRatio: 0 });
  const node = network.add('measured');
  const relay = network.add('own relay', { exit: true });
  const meter = network.add('meter', { relay: false, engineOptions: { minHops: 2 } });
  const queue = { cells: 0, lost: 0 };
  const burst = Math.max(50, 20 * cellsPerMs);
  let tokens = burst;
  let filledMs = network.nowMs;
  network.tap = (_datagram, from) => {
    if (from !== node) return true;
    queue.cells++;
    tokens = Math.min(burst, tokens + (network.nowMs - filledMs) * cellsPerMs);
    filledMs = network.nowMs;
    if (tokens < 1) {
      queue.lost++;
      return false;
    }
    tokens--;
    return true;
  };
  return {
    network,
    node,
    queue,
    meter,
    run(options = limits) {
      const speedTest = new SpeedTest(options, network.nowMs);
      const hops = [node.contact, relay.contact];
      const circuit = { hops, class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 60 } as const;
      const built = meter.engine.buildCircuit(circuit, speedTest, network.nowMs);
      speedTest.attach(built.session);
      network.run(network.nowMs + 10_000, () => {
        speedTest.poll(network.nowMs);
        network.wake(meter);
        return speedTest.finished;
      });
      meter.engine.closeCircuit(built.circuit, CircuitEnd.requested, network.nowMs);
      return speedTest;
    },
  };
}

for (const cellsPerMs of [0.5, 2]) {
  test(`a node that carries ${cellsPerMs} cells a millisecond is found to do so, whatever it says`, () => {
    const { queue, run } = measuring(1, cellsPerMs);
    const { result } = run();
    const real = cellsPerMs * 1000 * DATAGRAM_BYTES;
    assert.ok(result?.bytesPerSecond !== undefined);
    assert.ok(Math.abs(result.bytesPerSecond / real - 1) < 0.25, `${result.bytesPerSecond} of ${real}`);
    assert.ok(result.sentBytes < 2 * limits.maxBytes, `${result.sentBytes} bytes were spent`);
    // Filled without a ramp it is a half, and others that send over the node at the time lose as much.
    const first = queue.lost / queue.cells;
    assert.ok(first < 0.25, `${queue.lost} of ${queue.cells} cells found the queue full`);
    const before = { ...queue };
    const again = run({ ...limits, lastBytesPerSecond: result.bytesPerSecond }).result!;
    assert.ok(Math.abs(again.bytesPerSecond! / real - 1) < 0.25, `${again.bytesPerSecond} of ${real}`);
    const second = (queue.lost - before.lost) / (queue.cells - before.cells);
    assert.ok(second < 0.25, `knowing what to expect: ${second} of all cells`);
  });
}

test('cells that a node takes and does not pass on do not count', () => {
  const { network, node, run } = measuring(5, 2);
  const limited = network.tap!;
  const relay = network.nodes.find(({ name }) => name === 'own relay')!;
  const passedMs: number[] = [];
  let cells = 0;
  network.tap = (datagram, from, to) => {
    if (from === node && to === relay) {
      // The circuit comes up; then of three cells one goes through.
      if (cells++ > 40 && cells % 3 !== 0) return false;
      if (!limited(datagram, from, to)) return false;
      passedMs.push(network.nowMs);
      return true;
    }
    return limited(datagram, from, to);
  };
  const { result } = run();
  // Less the last few, for which the session waits long.
  const half = passedMs.slice(passedMs.length >> 1, Math.floor(0.95 * passedMs.length));
  const passed = (half.length * DATAGRAM_BYTES * 1000) / (half.at(-1)! - half[0]!);
  assert.ok(result !== undefined && passedMs.length > 100);
  assert.ok((result.bytesPerSecond ?? 0) < 1.2 * passed, `${result.bytesPerSecond} of ${passed}`);
});

test('a node that takes no circuits, or passes nothing on, has no speed', () => {
  const refusing = measuring(2, 2);
  refusing.node.down = true;
  const silent = refusing.run();
  assert.equal(silent.finished, true);
  assert.deepEqual(silent.result, { bytesPerSecond: undefined, sentBytes: 0 });
  const sink = measuring(3, 0);
  assert.equal(sink.run().result?.bytesPerSecond, undefined);
});

test('circuits of two hops are for meters only', () => {
  const network = new VirtualNetwork(suite, 4);
  const [a, b] = [network.add('a'), network.add('b', { exit: true })];
  const client = network.add('client', { relay: false });
  const circuit = {
    hops: [a.contact, b.contact],
    class: 'fast',
    delayMeanUs: 0,
    expiry: network.unixSeconds + 60,
  } as const;
  assert.throws(() => client.engine.buildCircuit(circuit, { onClose() {} }, network.nowMs), RangeError);
});
