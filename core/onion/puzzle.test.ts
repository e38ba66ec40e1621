import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { PuzzleIssuer, solvePuzzle, verifyPuzzle } from './puzzle.ts';
import { buildTrain, processTrain } from './setup-train.ts';
import { TagMemory } from './tag-memory.ts';
import { createNode, randomBytes, suite, trainOptions } from './test-circuit.ts';

const random = createSeededRandom('puzzle');

test('a solution is for one challenge and one ephemeral key', () => {
  const epk = randomBytes(random, 32);
  const puzzle = { challenge: randomBytes(random, 16), difficulty: 12 };
  const solution = solvePuzzle(suite, puzzle, epk);
  assert.equal(solution.length, 8);
  const label = new TextEncoder().encode('nyx1 puzzle');
  const hash = suite.sha256(label, puzzle.challenge, epk, solution);
  assert.equal(hash[0], 0);
  assert.ok(hash[1]! < 16);
  assert.ok(verifyPuzzle(suite, puzzle, epk, solution));
  assert.ok(!verifyPuzzle(suite, puzzle, randomBytes(random, 32), solution));
  assert.ok(!verifyPuzzle(suite, { ...puzzle, challenge: randomBytes(random, 16) }, epk, solution));
  assert.throws(() => solvePuzzle(suite, { ...puzzle, difficulty: 25 }, epk), RangeError);
});

test('the cost rises with the queue and is bounded; without a queue there is none', () => {
  const issuer = new PuzzleIssuer(suite, random);
  assert.equal(issuer.current(0, 0).difficulty, 0);
  let before = 0;
  for (let queue = 1; queue < 1e9; queue *= 2) {
    const { difficulty } = issuer.current(queue, 0);
    assert.ok(difficulty >= before && difficulty <= 24);
    before = difficulty;
  }
  assert.equal(before, 24);
});

test('the previous challenge is good, an older one is not, and no solution counts twice', () => {
  const issuer = new PuzzleIssuer(suite, random);
  const epk = randomBytes(random, 32);
  const puzzle = issuer.current(1, 0);
  const one = solvePuzzle(suite, puzzle, epk);
  assert.ok(issuer.verify(epk, one, puzzle.difficulty, 10));
  assert.ok(!issuer.verify(epk, one, puzzle.difficulty, 20));
  const other = randomBytes(random, 32);
  const late = solvePuzzle(suite, puzzle, other);
  assert.notDeepEqual(issuer.current(1, 60_000).challenge, puzzle.challenge);
  assert.ok(!issuer.verify(epk, one, puzzle.difficulty, 60_001), 'also not after the challenge has changed');
  assert.ok(issuer.verify(other, late, puzzle.difficulty, 60_001));
  assert.ok(!issuer.verify(randomBytes(random, 32), new Uint8Array(8), 24, 60_001));
  const third = randomBytes(random, 32);
  const tooLate = solvePuzzle(suite, puzzle, third);
  assert.ok(!issuer.verify(third, tooLate, 24, 120_000));
});

test('trains carry each hop its solution', () => {
  const nodes = [1, 2, 3].map(() => createNode(random));
  const puzzles = nodes.map(() => ({ challenge: randomBytes(random, 16), difficulty: 9 }));
  const built = buildTrain(
    suite,
    random,
    nodes.map((node) => node.contact),
    { ...trainOptions, puzzles },
  );
  let { train } = built;
  let solution = built.firstPuzzleSolution;
  for (const [i, node] of nodes.entries()) {
    assert.ok(verifyPuzzle(suite, puzzles[i]!, train.slice(0, 32), solution));
    const result = processTrain(suite, node.ring, train);
    assert.ok(result.drop === 0);
    train = result.next;
    solution = result.route.nextPuzzleSolution;
  }
});

test('a tag memory knows what was added, takes nothing twice and stops at its bound', () => {
  const memory = new TagMemory(5000);
  const tags = Array.from({ length: 5000 }, () => randomBytes(random, 16));
  tags[0]!.fill(0);
  for (const tag of tags) {
    assert.ok(!memory.has(tag));
    assert.ok(memory.add(tag));
    assert.ok(memory.has(tag));
  }
  for (const tag of tags) assert.ok(memory.has(tag) && !memory.add(tag));
  assert.equal(memory.size, 5000);
  assert.ok(!memory.add(randomBytes(random, 16)));
  assert.ok(memory.memoryBytes <= 5000 * 22);
  memory.clear();
  assert.equal(memory.memoryBytes, 0);
  assert.ok(!memory.has(tags[1]!));
});
