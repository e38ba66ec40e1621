import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathBits, poissonMixBits } from './anonymity.ts';
import { type AnonymityInputs, anonymityReport, measuredMix } from './anonymity-report.ts';

const nothing: AnonymityInputs = {
  relay: undefined,
  client: undefined,
  assumedCellsPerSecond: undefined,
  batchCells: 100,
};
const client: AnonymityInputs['client'] = { mixHops: 5, mixDelayMs: 20, exitBits: 3.5, constant: undefined };
const window = { seconds: 10, cells: 5000, waitedMs: 5000 * 20 };

const find = (inputs: AnonymityInputs, circuitClass: string, subject: RegExp) =>
  anonymityReport(inputs).find((figure) => figure.class === circuitClass && subject.test(figure.subject))!;

test('what is not known has no figure, and a reason', () => {
  for (const inputs of [nothing, { ...nothing, client: { ...client, exitBits: undefined } }]) {
    const figures = anonymityReport(inputs);
    assert.deepEqual([...new Set(figures.map((figure) => figure.class))], ['fast', 'mix', 'constant', 'cmix']);
    for (const { bits, basis, note, subject } of figures) {
      assert.equal(bits === undefined, basis === 'unknown', subject);
      assert.ok(note.length > 10, subject);
    }
    assert.deepEqual(
      figures.flatMap(({ bits }) => bits ?? []),
      [0, Math.log2(100)],
      'only that class fast hides nothing from who sees both ends, and how large a full batch is',
    );
  }
});

test('a relay measures its own queues, and each worker for itself', () => {
  const relay = { windows: [window], constantLinks: 0, grantsConstant: true, smallestBatch: undefined };
  const one = find({ ...nothing, relay }, 'mix', /this relay/);
  assert.equal(one.basis, 'measured');
  assert.ok(Math.abs(one.bits! - poissonMixBits(10)) < 1e-9);
  assert.match(one.note, /500\.0 cells\/s held for 20\.0 ms/);
  const halves = { seconds: 10, cells: 2500, waitedMs: 2500 * 20 };
  const two = find({ ...nothing, relay: { ...relay, windows: [halves, halves] } }, 'mix', /this relay/);
  assert.ok(Math.abs(two.bits! - poissonMixBits(5)) < 1e-9, 'cells of different workers do not mix');
  const few = { seconds: 10, cells: 29, waitedMs: 600 };
  assert.equal(measuredMix([few]), undefined);
  assert.match(find({ ...nothing, relay: { ...relay, windows: [few] } }, 'mix', /this relay/).note, /29 cells in 10 s/);
  assert.equal(measuredMix([]), undefined);
});

test('a client says what a rate would give only when it is told one', () => {
  const inputs = { ...nothing, client };
  assert.equal(find(inputs, 'mix', /honest/).bits, undefined);
  assert.equal(find(inputs, 'fast', /last hop/).bits, 3.5);
  const assumed = { ...inputs, assumedCellsPerSecond: 500 };
  assert.ok(Math.abs(find(assumed, 'mix', /honest/).bits! - poissonMixBits(10)) < 1e-9);
  assert.equal(find(assumed, 'mix', /honest/).basis, 'assumed');
  assert.equal(find(assumed, 'mix', /whole path/).bits, pathBits(500, 20, 5));
  const little = { ...inputs, assumedCellsPerSecond: 20 };
  assert.equal(find(little, 'mix', /whole path/).bits, undefined);
  assert.ok(find(little, 'mix', /honest/).bits! > 0);
});

test('constant links are counted where they are seen', () => {
  const relay = { windows: [], constantLinks: 32, grantsConstant: true, smallestBatch: 16 };
  assert.equal(find({ ...nothing, relay }, 'constant', /which client/).bits, 5);
  assert.match(
    find({ ...nothing, relay: { ...relay, constantLinks: 0 } }, 'constant', /which client/).note,
    /no client/,
  );
  const constant = { links: 2, bothWays: 1 };
  const own = find({ ...nothing, client: { ...client, constant } }, 'constant', /what the client does/);
  assert.equal(own.bits, undefined);
  assert.match(own.note, /1 of 2 links constant both ways/);
});

test('a batch is as good as the smallest', () => {
  const relay = { windows: [], constantLinks: 0, grantsConstant: true, smallestBatch: 16 };
  assert.equal(find({ ...nothing, batchCells: 128 }, 'cmix', /full batch/).bits, 7);
  assert.equal(find({ ...nothing, relay }, 'cmix', /this relay/).bits, 4);
  assert.equal(
    find({ ...nothing, relay: { ...relay, smallestBatch: undefined } }, 'cmix', /this relay/).bits,
    undefined,
  );
});
