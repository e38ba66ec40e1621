import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Drop } from '../drop-reason.ts';
import { CELL_BYTES, COUNTER_MODULUS, PAYLOAD_BYTES } from '../wire/datagram.ts';
import { copyOf, type LinkCell, newCell, TestCircuit, trainOptions } from './test-circuit.ts';

test('1 to 7 hops: payloads of the same 1144 bytes arrive in both directions', () => {
  for (let hops = 1; hops <= 7; hops++) {
    const circuit = new TestCircuit(hops, `round trip ${hops}`);
    for (let i = 0; i < 70; i++) {
      const out = circuit.payload();
      assert.equal(out.length, PAYLOAD_BYTES);
      assert.deepEqual(circuit.deliverForward(circuit.sealForward(out, i & 3, i)), out);
      assert.equal(circuit.last.lastIndex, i);
      const back = circuit.payload();
      assert.deepEqual(circuit.deliverBackward(circuit.sealBackward(back, i & 3, i)), back);
      assert.equal(circuit.client.lastIndex, i);
    }
  }
});

test('counters differ from link to link, and indices do not', () => {
  const circuit = new TestCircuit(4, 'counters');
  let link = circuit.sealForward(circuit.payload());
  const seen = [link.counter];
  for (let hop = 0; hop < 3; hop++) {
    const next = circuit.relayForward(hop, link);
    assert.ok(typeof next === 'object');
    link = next;
    seen.push(link.counter);
  }
  assert.equal(new Set(seen).size, 4);
  for (const counter of seen) assert.ok(counter >= 0 && counter < COUNTER_MODULUS);
});

test('every single bit of a cell, flipped on any link forward, is noticed by the next hop', () => {
  const circuit = new TestCircuit(3, 'flips forward');
  let link = circuit.sealForward(circuit.payload());
  for (let hop = 0; hop < 3; hop++) {
    for (let bit = 0; bit < CELL_BYTES * 8; bit++) {
      link.cell.cell[bit >>> 3]! ^= 1 << (bit & 7);
      const result = hop < 2 ? circuit.relayForward(hop, link) : circuit.openLast(link);
      link.cell.cell[bit >>> 3]! ^= 1 << (bit & 7);
      if (result !== Drop.badTag) assert.fail(`bit ${bit} flipped before hop ${hop} passed`);
    }
    if (hop === 2) break;
    const next = circuit.relayForward(hop, link);
    assert.ok(typeof next === 'object', 'the unharmed cell still passes');
    link = next;
  }
  assert.equal(typeof circuit.openLast(link), 'object');
});

test('every single bit of a cell, flipped on any link backward, is noticed by the client', () => {
  // Relays answer each index once: every flip is a cell of its own.
  const circuit = new TestCircuit(3, 'flips backward');
  for (let from = 1; from >= -1; from--) {
    // The last 16 bytes of a cell that a relay receives fall off at that relay.
    const checkedBytes = from < 0 ? CELL_BYTES : CELL_BYTES - 16;
    for (let bit = 0; bit < checkedBytes * 8; bit++) {
      const link = backwardCellBefore(circuit, from);
      link.cell.cell[bit >>> 3]! ^= 1 << (bit & 7);
      const result = circuit.deliverBackward(link, from);
      if (result !== Drop.badTag) assert.fail(`bit ${bit} flipped before hop ${from} passed`);
    }
  }
});

test('the 16 bytes that fall off at a relay carry nothing past it: marked or not, the cell is the same', () => {
  const circuit = new TestCircuit(3, 'fallen off');
  const payload = circuit.payload();
  const link = circuit.sealBackward(payload);
  link.cell.cell.fill(0xaa, CELL_BYTES - 16);
  assert.deepEqual(circuit.deliverBackward(link), payload);
});

/** A fresh cell, on the link into relay `hop` (-1: to the client). */
function backwardCellBefore(circuit: TestCircuit, hop: number): LinkCell {
  let link = circuit.sealBackward(zeroPayload);
  for (let at = circuit.hops - 2; at > hop; at--) {
    const next = circuit.relayBackward(at, link);
    assert.ok(typeof next === 'object');
    link = next;
  }
  return link;
}

const zeroPayload = new Uint8Array(PAYLOAD_BYTES);

test('type, path id and counter of the header are bound to every layer', () => {
  const circuit = new TestCircuit(3, 'header');
  const forward = circuit.sealForward(circuit.payload(), 2, 5);
  for (const change of [{ type: 0 }, { type: 0x42 }, { pathId: 4 }, { counter: forward.counter + 1 }]) {
    assert.equal(circuit.relayForward(0, { ...forward, ...change }), Drop.badTag);
  }
  assert.equal(typeof circuit.deliverForward(forward), 'object');
  for (const change of [{ type: 1 }, { type: 0x40 }, { pathId: 4 }]) {
    for (const from of [1, 0, -1]) {
      const back = backwardCellBefore(circuit, from);
      assert.equal(circuit.deliverBackward({ ...back, ...change }, from), Drop.badTag);
    }
  }
  const renumbered = backwardCellBefore(circuit, 0);
  assert.equal(circuit.deliverBackward({ ...renumbered, counter: renumbered.counter + 9 }, 0), Drop.badTag);
});

test('relays around an honest one cannot take a mark back on the way to the client', () => {
  const circuit = new TestCircuit(3, 'collusion');
  // Relay 1 is honest. Someone on the last link marks; relay 0 knows the mark and takes it back.
  for (const at of [0, 100, 639, 1239]) {
    const marked = circuit.sealBackward(circuit.payload());
    marked.cell.cell[at]! ^= 0x55;
    const honest = circuit.relayBackward(1, marked);
    assert.ok(typeof honest === 'object');
    // Under the honest relay's stream cipher the mark is at the same place, one tag further on. Undo it there.
    const undone = copyOf(honest);
    undone.cell.ct[at]! ^= 0x55;
    assert.equal(circuit.deliverBackward(undone, 0), Drop.badTag);
  }
});

test('a cell passes each hop once, whichever way it goes', () => {
  const circuit = new TestCircuit(3, 'replay');
  let link = circuit.sealForward(circuit.payload());
  for (let hop = 0; hop < 2; hop++) {
    const next = circuit.relayForward(hop, link);
    assert.ok(typeof next === 'object');
    assert.equal(circuit.relayForward(hop, link), Drop.replayed);
    link = next;
  }
  assert.equal(typeof circuit.openLast(link), 'object');
  assert.equal(circuit.openLast(link), Drop.replayed);
  let back = circuit.sealBackward(circuit.payload());
  for (let hop = 1; hop >= 0; hop--) {
    const next = circuit.relayBackward(hop, back);
    assert.ok(typeof next === 'object');
    assert.equal(circuit.relayBackward(hop, back), Drop.replayed);
    back = next;
  }
  assert.equal(typeof circuit.openClient(back), 'object');
  assert.equal(circuit.openClient(back), Drop.replayed);
});

test('a forged cell does not use its index up', () => {
  const circuit = new TestCircuit(3, 'forged');
  const link = circuit.sealForward(circuit.payload());
  assert.equal(circuit.relayForward(0, { ...link, cell: newCell() }), Drop.badTag);
  assert.equal(typeof circuit.deliverForward(link), 'object');
});

test('cells in any order, some lost, some twice: each that arrives is right, and once', () => {
  const circuits = [1, 3, 7].map((hops) => new TestCircuit(hops, `reorder ${hops}`));
  fc.assert(
    fc.property(
      fc.constantFrom(...circuits),
      fc.boolean(),
      fc.array(fc.nat(19), { minLength: 1, maxLength: 30 }),
      (circuit, forward, order) => {
        const payloads = Array.from({ length: 20 }, () => circuit.payload());
        const cells = payloads.map((payload) =>
          forward ? circuit.sealForward(payload) : circuit.sealBackward(payload),
        );
        const seen = new Set<number>();
        for (const i of order) {
          const result = forward ? circuit.deliverForward(cells[i]!) : circuit.deliverBackward(cells[i]!);
          if (seen.has(i)) assert.equal(result, Drop.replayed);
          else assert.deepEqual(result, payloads[i]);
          seen.add(i);
        }
      },
    ),
    { numRuns: 25, seed: 20 },
  );
});

test('indices are used once and in order, or the seal refuses', () => {
  const circuit = new TestCircuit(3, 'indices');
  const { client, last } = circuit;
  circuit.sealForward(circuit.payload());
  const scratch = copyOf(circuit.sealBackward(circuit.payload())).cell;
  assert.throws(() => last.sealBackward(0, 0, scratch, 0), RangeError);
  assert.throws(() => last.sealBackward(0, 0, scratch, 1), RangeError);
  assert.throws(() => last.sealBackward(0, 0, scratch, Number.NaN), RangeError);
  const first = client.allocateIndex();
  circuit.sealForward(circuit.payload());
  assert.throws(() => client.sealForward(first, 0, 0, undefined as never), RangeError);
  assert.throws(() => client.sealForward(99, 0, 0, undefined as never), RangeError);
});

test('the limit on cells holds at every hop and at both ends', () => {
  const circuit = new TestCircuit(3, 'limit', { ...trainOptions, maxCellsLog2: 2 });
  const cells = Array.from({ length: 4 }, () => circuit.sealForward(circuit.payload()));
  assert.equal(circuit.client.allocateIndex(), -1);
  for (const cell of cells) assert.equal(typeof circuit.deliverForward(cell), 'object');
  assert.equal(
    circuit.relayForward(0, { ...cells[3]!, counter: (cells[3]!.counter + 1) % COUNTER_MODULUS }),
    Drop.limit,
  );
  for (let i = 0; i < 4; i++) assert.equal(typeof circuit.deliverBackward(circuit.sealBackward(zeroPayload)), 'object');
  assert.equal(circuit.last.allocateIndex(), -1);
});

test('cells look like noise on every link, whatever they carry', () => {
  for (const hops of [1, 3, 7]) {
    const circuit = new TestCircuit(hops, `noise ${hops}`);
    const perLink = Array.from({ length: 2 * hops }, () => new Float64Array(256));
    const innermost = new Float64Array(256);
    const cellsCounted = 120;
    for (let i = 0; i < cellsCounted; i++) {
      let link = circuit.sealForward(zeroPayload);
      for (let hop = 0; ; hop++) {
        count(perLink[hop]!, link.cell.cell);
        if (hop === hops - 1) break;
        const next = circuit.relayForward(hop, link);
        assert.ok(typeof next === 'object');
        link = next;
      }
      const { cell } = copyOf(link);
      assert.equal(circuit.last.openForward(link.counter, 0, 0, cell, 0), Drop.none);
      // What the last hop sees behind the payload must not show how long the path is.
      count(innermost, cell.ct.subarray(PAYLOAD_BYTES));
      let back = circuit.sealBackward(zeroPayload);
      for (let hop = hops - 1; ; hop--) {
        count(perLink[hops + hop]!, back.cell.cell);
        if (hop === 0) break;
        const next = circuit.relayBackward(hop - 1, back);
        assert.ok(typeof next === 'object');
        back = next;
      }
    }
    for (const [at, counts] of perLink.entries()) assertUniform(counts, `${hops} hops, link ${at}`);
    assertUniform(innermost, `${hops} hops, behind the payload`);
  }
});

function count(counts: Float64Array, bytes: Uint8Array): void {
  for (const byte of bytes) counts[byte]!++;
}

/** Chi-square with 255 degrees of freedom: mean 255, deviation 22.6; the seed is fixed, so 5 deviations are ample. */
function assertUniform(counts: Float64Array, what: string): void {
  const expected = counts.reduce((sum, n) => sum + n, 0) / 256;
  const chi = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  assert.ok(chi > 142 && chi < 368, `${what}: chi-square ${chi.toFixed(1)}`);
}

test('after wipe nothing opens', () => {
  const circuit = new TestCircuit(3, 'wipe');
  const cell = circuit.sealForward(circuit.payload());
  circuit.relays[0]!.wipe();
  assert.equal(circuit.relayForward(0, cell), Drop.badTag);
});
