import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { compareBytes, joinBytes } from '../directory/bytes.ts';
import { Drop } from '../drop-reason.ts';
import {
  addCounter,
  CellKeys,
  cellAd,
  cellNonce,
  Direction,
  GENERATION_CELLS,
  generationOf,
  ratchet,
  setCellContext,
} from '../onion/direction-keys.ts';
import type { HopSecrets } from '../onion/hop-secrets.ts';
import { RelayHop } from '../onion/relay-hop.ts';
import { CELL_BYTES, CellBuffer, CT_BYTES, DATAGRAM_BYTES, TAG_BYTES } from '../wire/datagram.ts';
import { CheatKind, encodeEvidence, MAX_EVIDENCE_BYTES, verifyEvidence } from './batch-evidence.ts';
import { beginDigest, cellDigest, certifyBatchKey, endDigest } from './batch-records.ts';
import {
  smallRecords,
  TEST_RULES,
  TEST_UNIX,
  type TestCircuit,
  type TestMix,
  testBytes,
  testCircuit,
  testDigest,
  testMix,
} from './batch-testing.ts';
import { encodeShown, type ShownCell } from './exchange-evidence.ts';
import { headsOfOutput } from './same-output.ts';

const suite = createNobleSuite();
const records = smallRecords(suite);
const mix = testMix(suite, 'exchanging');
const other = testMix(suite, 'another');

const circuitAt = (by: TestMix, name: string, isLast = false) => testCircuit(suite, by, name, isLast);

function layerKeys({ secrets }: TestCircuit, travel: Direction, generation: number): CellKeys {
  let chain: Uint8Array = (travel === Direction.forward ? secrets.forwardChain : secrets.backwardChain).slice();
  for (let i = 0; i < generation; i++) chain = ratchet(suite, chain);
  return new CellKeys(suite, chain, generation, -1);
}

const shownKeys = (circuit: TestCircuit, travel: Direction, index: number) => {
  const { aeadKey } = layerKeys(circuit, travel, generationOf(index));
  return { aeadKey, layerKeys: circuit.pledged.layerKeys };
};

const startOf = ({ route }: TestCircuit, travel: Direction) =>
  travel === Direction.forward ? route.forwardStart : route.backwardStart;

/** A cell of the client's (forward) or of the next hop's, as it comes to the mix. */
function cellOf(circuit: TestCircuit, travel: Direction, index: number, type = 0, pathId = 0): ShownCell {
  const cell = testBytes(`cell ${travel} ${index} ${Buffer.from(circuit.pledged.inward).toString('hex')}`, CELL_BYTES);
  if (travel === Direction.forward) {
    const ct = cell.subarray(TAG_BYTES);
    setCellContext(index, type, pathId);
    const { aeadKey } = layerKeys(circuit, travel, generationOf(index));
    suite.aeadSeal(ct, cell.subarray(0, TAG_BYTES), ct, cellAd, cellNonce, aeadKey);
  }
  return { travel, counter: addCounter(startOf(circuit, travel), index), type, pathId, cell };
}

/** What an honest mix has put into a batch. */
class HonestBatch {
  readonly inputs: Uint8Array[] = [];
  readonly outputs: Uint8Array[] = [];
  readonly #hops = new Map<TestCircuit, RelayHop>();
  #nowMs = 0;

  /** As a relay does; false: it drops the cell. */
  take(circuit: TestCircuit, { travel, counter, type, pathId, cell }: ShownCell): boolean {
    const { inward, outward } = circuit.pledged;
    let hop = this.#hops.get(circuit);
    // It erases the secrets that it gets.
    const secrets = Object.fromEntries(Object.entries(circuit.secrets).map(([name, bytes]) => [name, bytes.slice()]));
    hop ??= new RelayHop(suite, secrets as unknown as HopSecrets, circuit.route);
    this.#hops.set(circuit, hop);
    const [from, to] = [0, 1].map(() => new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0)) as [CellBuffer, CellBuffer];
    from.cell.set(cell);
    this.#nowMs += 2000;
    const isForward = travel === Direction.forward;
    const drop = isForward
      ? hop.openForward(counter, type, pathId, from, to, this.#nowMs)
      : hop.sealBackward(counter, type, pathId, from, to, this.#nowMs);
    if (drop !== Drop.none) return false;
    const counterOut = isForward ? hop.forwardCounterOut(counter) : hop.backwardCounterOut(counter);
    const [near, far] = isForward ? [inward, outward!] : [outward!, inward];
    this.inputs.push(cellDigest(suite, near, travel, counter, type, pathId, cell));
    this.outputs.push(cellDigest(suite, far, travel, counterOut, type, pathId, to.cell));
    return true;
  }

  signed(by = mix, number = 3, inputs = this.inputs, outputs = this.outputs): readonly [Uint8Array, Uint8Array] {
    const { certificate, key } = by.signer;
    const opening = records.encodeOpening(key.publicKey, number, testBytes('salt', 16), inputs, outputs);
    const fields = {
      number,
      closedAt: TEST_UNIX,
      cells: inputs.length,
      rules: TEST_RULES,
      squarings: 1,
      inputs: 4n,
      outputs: 9n,
      opening: records.openingHash(opening),
    };
    return [records.encodeStatement(certificate, key, fields, 16n, 25n), opening];
  }
}

const evidenceOf = (signed: readonly Uint8Array[], circuit: TestCircuit, cell: ShownCell, index: number) =>
  encodeEvidence(
    CheatKind.exchange,
    ...signed,
    circuit.pledge,
    encodeShown(cell, circuit.pledged.outward && shownKeys(circuit, cell.travel, index)),
  );
const accused = (evidence: Uint8Array) => verifyEvidence(records, evidence)?.nodeId;

const circuits = ['a', 'b', 'c'].map((name) => circuitAt(mix, name));
/** Around the changes of keys; the last one is of a generation that is not pledged. */
const INDICES = [0, 1, 2, 3, GENERATION_CELLS - 1, GENERATION_CELLS, 4 * GENERATION_CELLS - 1, 8 * GENERATION_CELLS];

const anyTravel = fc.constantFrom(Direction.forward, Direction.backward);
const anyAction = fc.record({
  circuit: fc.nat(circuits.length - 1),
  /** Over whose CID it comes. */
  over: fc.nat(circuits.length - 1),
  travel: anyTravel,
  comesAs: anyTravel,
  index: fc.constantFrom(...INDICES),
  counterOff: fc.constantFrom(0, 0, 0, 1, GENERATION_CELLS),
  type: fc.constantFrom(0, 0, 0x40),
  pathId: fc.nat(1),
});

describe('an honest mix', () => {
  test('cannot be accused: whatever came over whichever circuit, whatever is shown of it', () => {
    let taken = 0;
    fc.assert(
      fc.property(fc.array(anyAction, { minLength: 2, maxLength: 8 }), fc.nat(2), (actions, by) => {
        const batch = new HonestBatch();
        const cells: [TestCircuit, ShownCell, number][] = [];
        for (const { circuit, over, travel, comesAs, index, counterOff, type, pathId } of actions) {
          const cell = cellOf(circuits[circuit]!, travel, index, type, pathId);
          const start = startOf(circuits[over]!, comesAs);
          const came = { ...cell, travel: comesAs, counter: addCounter(start, index + counterOff) };
          if (batch.take(circuits[over]!, came)) taken++;
          cells.push([circuits[circuit]!, cell, index], [circuits[over]!, came, index + counterOff]);
        }
        if (batch.inputs.length === 0) return;
        const signed = batch.signed();
        for (const [circuit, cell, index] of cells) {
          const as = [circuit, circuits[by]!];
          for (const claimed of as) {
            assert.equal(accused(evidenceOf(signed, claimed, cell, index)), undefined);
          }
        }
      }),
      { numRuns: 10 },
    );
    assert.ok(taken > 2, `${taken}`);
  });

  test('cannot be accused with a cell that was made to open under the keys of two circuits', () => {
    const [one, two] = circuits as [TestCircuit, TestCircuit];
    const both = openingUnderBoth(one, two);
    for (const circuit of [one, two]) {
      const { aeadKey } = layerKeys(circuit, Direction.forward, 0);
      setCellContext(0, 0, 0);
      const ct = both.subarray(TAG_BYTES);
      assert.ok(suite.aeadOpen(new Uint8Array(CT_BYTES), both.subarray(0, TAG_BYTES), ct, cellAd, cellNonce, aeadKey));
    }
    const batch = new HonestBatch();
    const cell = {
      travel: Direction.forward,
      counter: one.route.forwardStart,
      type: 0,
      pathId: 0,
      cell: both,
    } as const;
    assert.ok(batch.take(one, cell));
    for (const circuit of [one, two]) assert.equal(accused(evidenceOf(batch.signed(), circuit, cell, 0)), undefined);
  });

  test('cannot be accused with two backward cells that become one: it took the other', () => {
    const [circuit] = circuits as [TestCircuit];
    const travel = Direction.backward;
    for (let index = 0; ; index++) {
      const shown = cellOf(circuit, travel, index);
      const out = new Uint8Array(CELL_BYTES);
      const head = shown.cell.subarray(0, CT_BYTES);
      const { aeadKey } = layerKeys(circuit, travel, 0);
      setCellContext(index, 0, 0);
      suite.aeadSeal(out.subarray(TAG_BYTES), out.subarray(0, TAG_BYTES), head, cellAd, cellNonce, aeadKey);
      const heads = headsOfOutput(suite, head, out, cellAd.slice(), cellNonce.slice(), aeadKey)!;
      const another = heads.find((one) => compareBytes(one, head) !== 0);
      if (another === undefined) continue;
      const batch = new HonestBatch();
      assert.ok(batch.take(circuit, shown));
      const made = { ...shown, cell: joinBytes(another, new Uint8Array(TAG_BYTES)) };
      assert.equal(accused(evidenceOf(batch.signed(), circuit, made, index)), undefined);
      // If it took neither, both show what it has done.
      batch.inputs[0] = testDigest(suite, 'something else');
      for (const cell of [shown, made]) {
        assert.deepEqual(accused(evidenceOf(batch.signed(), circuit, cell, index)), mix.nodeId);
      }
      return;
    }
  });

  test('at the end of a circuit: what it took ends there, what it gave began there', () => {
    const circuit = circuitAt(mix, 'last', true);
    const batch = new HonestBatch();
    for (const travel of [Direction.forward, Direction.backward] as const) {
      const shown = cellOf(circuit, travel, 4);
      const near = cellDigest(suite, circuit.pledged.inward, travel, shown.counter, 0, 0, shown.cell);
      const isForward = travel === Direction.forward;
      batch.inputs.push(isForward ? near : beginDigest(suite, near));
      batch.outputs.push(isForward ? endDigest(suite, near) : near);
      for (const index of [4, 5]) {
        const cell = cellOf(circuit, travel, index);
        assert.equal(accused(evidenceOf(batch.signed(), circuit, cell, index)), undefined);
      }
    }
  });
});

describe('a mix that exchanges a cell', () => {
  const isLast = (circuit: TestCircuit) => circuit.pledged.outward === undefined;

  /** Three cells, of which one came out as something else. */
  function exchange(circuit: TestCircuit, travel: Direction, index: number, by = mix) {
    const batch = new HonestBatch();
    const cell = cellOf(circuit, travel, index);
    if (isLast(circuit)) {
      batch.inputs.push(cellDigest(suite, circuit.pledged.inward, travel, cell.counter, 0, 0, cell.cell));
      batch.outputs.push(testDigest(suite, 'end'));
    } else {
      assert.ok(batch.take(circuit, cell));
    }
    batch.outputs[0] = testDigest(suite, 'something else');
    for (const i of [1, 2]) {
      batch.inputs.push(testDigest(suite, `in ${i}`));
      batch.outputs.push(testDigest(suite, `out ${i}`));
    }
    return { batch, cell, index, circuit, signed: batch.signed(by) };
  }

  const cases = [
    exchange(circuits[0]!, Direction.forward, 3),
    exchange(circuits[1]!, Direction.forward, GENERATION_CELLS),
    exchange(circuits[0]!, Direction.backward, 4 * GENERATION_CELLS - 1),
    exchange(circuitAt(mix, 'last', true), Direction.forward, 9),
  ];

  test('is shown to have, forward and back, whatever the generation of its keys, and where the circuit ends', () => {
    for (const { signed, circuit, cell, index } of cases) {
      const evidence = evidenceOf(signed, circuit, cell, index);
      assert.ok(evidence.length <= MAX_EVIDENCE_BYTES);
      const cheat = verifyEvidence(smallRecords(), evidence);
      assert.equal(cheat?.kind, CheatKind.exchange);
      assert.deepEqual([cheat.nodeId, cheat.number], [mix.nodeId, 3]);
    }
  });

  test('likewise when it gave what it says not to have taken', () => {
    for (const travel of [Direction.forward, Direction.backward] as const) {
      const batch = new HonestBatch();
      const cell = cellOf(circuits[0]!, travel, 1);
      assert.ok(batch.take(circuits[0]!, cell));
      batch.inputs[0] = testDigest(suite, 'something else');
      assert.deepEqual(accused(evidenceOf(batch.signed(), circuits[0]!, cell, 1)), mix.nodeId);
    }
  });

  test('is not by anything else: evidence with any byte changed, or cut, shows nothing', () => {
    for (const { signed, circuit, cell, index } of cases) {
      const evidence = evidenceOf(signed, circuit, cell, index);
      // More of what is new than of the others, and each field of it.
      const known = evidence.length - joinBytes(circuit.pledge, encodeShown(cell, undefined)).length - 600;
      for (let at = 0; at < evidence.length; at += at < known ? 311 : 53) {
        const changed = evidence.slice();
        changed[at]! ^= 1 << (at % 8);
        assert.equal(accused(changed), undefined, `byte ${at}`);
      }
      for (const length of [0, 9, 100, evidence.length - 1])
        assert.equal(accused(evidence.slice(0, length)), undefined);
      assert.equal(accused(joinBytes(evidence, Uint8Array.of(0, 0))), undefined);
    }
  });

  test('is not by the batch, circuit, keys, place or pledge of another', () => {
    const { batch, circuit, cell, index, signed } = cases[0]!;
    const theirs = circuitAt(other, 'a');
    assert.equal(compareBytes(theirs.pledged.inward, circuit.pledged.inward), 0);
    const refuse = (what: string, ...args: Parameters<typeof evidenceOf>) =>
      assert.equal(accused(evidenceOf(...args)), undefined, what);
    refuse('a batch without the cell', cases[1]!.signed, circuit, cell, index);
    refuse('the statement of another batch', [batch.signed(mix, 4)[0], signed[1]], circuit, cell, index);
    refuse('the opening of another batch', [signed[0], batch.signed(mix, 4)[1]], circuit, cell, index);
    refuse('a circuit with other keys', signed, circuits[1]!, cell, index);
    refuse("another mix's pledge", signed, theirs, cell, index);
    // Of the same node, by the key of another of its workers: there the tag may be another circuit.
    const identity = suite.ed25519(testDigest(suite, 'identity exchanging'));
    const key = suite.ed25519(testBytes('another worker', 32));
    const certificate = certifyBatchKey(identity, key.publicKey, TEST_UNIX - 10, TEST_UNIX + 10);
    refuse("another worker's pledge", signed, circuitAt({ ...mix, signer: { certificate, key } }, 'a'), cell, index);
    refuse("another mix's batch", batch.signed(other), circuit, cell, index);
    refuse('keys of another generation', signed, circuit, cell, index + GENERATION_CELLS);
    refuse('another place', signed, circuit, { ...cell, counter: cell.counter - 1 }, index);
    refuse('the other way', signed, circuit, { ...cell, travel: Direction.backward }, index);
    refuse('another type', signed, circuit, { ...cell, type: 0x40 }, index);
    // Keys that open it, but were not pledged.
    const { pledge } = circuitAt(mix, 'b');
    refuse('keys not pledged', signed, { ...circuit, pledge }, cell, index);
  });
});

/** ChaCha20-Poly1305 does not commit to its key: a cell whose tag holds under the forward keys of two circuits, index 0. */
function openingUnderBoth(one: TestCircuit, two: TestCircuit): Uint8Array {
  const P = 2n ** 130n - 5n;
  const HIGH = 2n ** 128n;
  const little = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
  const power = (base: bigint, exponent: number): bigint => {
    let result = 1n;
    for (let i = 0; i < exponent; i++) result = (result * base) % P;
    return result;
  };
  const inverse = (value: bigint): bigint => {
    let [a, b, x, y] = [value % P, P, 1n, 0n];
    while (a > 1n) [a, b, x, y] = [b % a, a, y - (b / a) * x, x];
    return ((x % P) + P) % P;
  };
  setCellContext(0, 0, 0);
  const keys = [one, two].map((circuit) => {
    const block = new Uint8Array(64);
    suite.chacha20Xor(block, block, cellNonce, 0, layerKeys(circuit, Direction.forward, 0).aeadKey);
    return {
      r: little(block.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn,
      s: little(block.subarray(16, 32)),
    };
  });
  // AD (2 bytes) and ciphertext are filled up to 16; the first block of the ciphertext is what is looked for.
  const free = 1;
  for (let i = 0; ; i++) {
    const ct = testBytes(`both ${i}`, CT_BYTES);
    ct.fill(0, 0, 16);
    const lengths = new Uint8Array(16);
    new DataView(lengths.buffer).setBigUint64(0, 2n, true);
    new DataView(lengths.buffer).setBigUint64(8, BigInt(CT_BYTES), true);
    const padded = joinBytes(cellAd, new Uint8Array(14), ct, new Uint8Array(8), lengths);
    const blocks = Array.from(
      { length: padded.length / 16 },
      (_, k) => little(padded.subarray(16 * k, 16 * k + 16)) + HIGH,
    );
    const sums = keys.map(({ r, s }) => {
      const sum = blocks.reduce((acc, block) => ((acc + block) * r) % P, 0n);
      return { s, sum, factor: power(r, blocks.length - free) };
    });
    const [a, b] = sums as [(typeof sums)[0], (typeof sums)[0]];
    const difference = (((b.sum + b.s - a.sum - a.s) % P) + P) % P;
    const x = (difference * inverse((((a.factor - b.factor) % P) + P) % P)) % P;
    if (x >= HIGH) continue;
    const tags = sums.map(({ s, sum, factor }) => (((sum + x * factor) % P) + s) % HIGH);
    if (tags[0] !== tags[1]) continue;
    const bytes = (value: bigint) => Buffer.from(value.toString(16).padStart(32, '0'), 'hex').reverse();
    ct.set(bytes(x), 0);
    return joinBytes(bytes(tags[0]!), ct);
  }
}
