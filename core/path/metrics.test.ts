import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { conditionalEntropyBits, entropyBits, pathEntropy } from './metrics.ts';
import { testId, testView } from './testing.ts';

const close = (actual: number, expected: number) => assert.ok(Math.abs(actual - expected) < 1e-12, `${actual}`);

describe('path entropy', () => {
  test('of known distributions', () => {
    close(entropyBits([1, 1, 1, 1]), 2);
    close(entropyBits([5]), 0);
    close(entropyBits([]), 0);
    close(entropyBits([0, 0]), 0);
    close(entropyBits([2, 1, 1]), 1.5);
  });

  test('by position: exits by policy, ordered guards none, middles all', () => {
    const web = ['accept *:80'];
    const view = testView([{ exitPolicy: web }, { exitPolicy: web }, ...new Array(6).fill({})]);
    const constraints = { hops: 3, needExit: { port: 80 } };
    assert.deepEqual(pathEntropy(view, constraints).positionBits, [3, 3, 1]);
    assert.deepEqual(pathEntropy(view, { ...constraints, guards: [testId(5), testId(6)] }).positionBits, [0, 3, 1]);
  });

  test('given the other hops, what conflicts with them no longer hides anything', () => {
    const view = testView([{ family: ['a'] }, { family: ['a'] }, {}, {}, {}, {}]);
    const bits = conditionalEntropyBits(view, { hops: 3 }, [testId(0), testId(2), testId(3)]);
    close(bits[0]!, Math.log2(4)); // 0, 1, 4, 5
    close(bits[1]!, Math.log2(3)); // 2, 4, 5: not 1, which is of the first hop's family
    close(bits[2]!, Math.log2(3));
    assert.throws(() => conditionalEntropyBits(view, { hops: 3 }, [testId(0)]), RangeError);
  });
});
