import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { hashToPrime, isPrime } from './prime.ts';
import { bytesToBigint, RSA_2048, RsaGroup } from './rsa-group.ts';
import { evaluate, prove, runTurns, verify } from './vdf.ts';

const suite = createNobleSuite();
// Primes of 72 and 71 bits; only the tests know the order of this group.
const P = 3_777_893_186_295_716_171_009n;
const Q = 1_888_946_593_147_858_085_567n;

function primeFrom(seed: bigint): bigint {
  for (let n = seed | 1n; ; n += 2n) if (isPrime(n)) return n;
}

const p = primeFrom(P);
const q = primeFrom(Q);
const group = new RsaGroup(p * q);
const order = (p - 1n) * (q - 1n);

function powMod(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  let square = base % modulus;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

describe('the modulus', () => {
  test('is the RSA-2048 challenge number, by all that is known of it', () => {
    const decimal = RSA_2048.toString();
    assert.equal(decimal.length, 617);
    assert.equal(RSA_2048.toString(2).length, 2048);
    assert.ok(decimal.startsWith('25195908475657893494027183240048398571429282126204'));
    assert.ok(decimal.endsWith('64391212010397122822120720357'));
    // As it is listed with the challenge numbers.
    assert.equal(
      [...decimal].reduce((sum, digit) => sum + Number(digit), 0),
      2738,
    );
    // Another publication, in hexadecimal.
    const hex = RSA_2048.toString(16);
    assert.ok(hex.startsWith('c7970ceedcc3b0754490201a7aa613cd73911081c790f5f1a8726f463550bb5b7ff0db8e1ea1189e'));
    assert.ok(hex.endsWith('5615172866bccc30f95054c824e733a5eb6817f7bc16399d48c6361cc7e5'));
    assert.ok(!isPrime(RSA_2048));
    for (let n = 2n; n < 20_000n; n++) assert.notEqual(RSA_2048 % n, 0n);
  });

  test('elements have one encoding', () => {
    const big = new RsaGroup();
    const x = big.hashToElement(suite, 'test', Uint8Array.of(1));
    assert.equal(big.decode(big.encode(x)), x);
    assert.equal(big.canonical(RSA_2048 - x), x);
    const other = new Uint8Array(256);
    other.set([...(RSA_2048 - x).toString(16).padStart(512, '0').matchAll(/../g)].map(([b]) => Number.parseInt(b, 16)));
    assert.equal(big.decode(other), undefined);
    assert.equal(big.decode(new Uint8Array(256)), undefined);
    assert.equal(big.decode(new Uint8Array(255).fill(1)), undefined);
  });
});

describe('primes', () => {
  test('agree with a sieve up to 200 000', () => {
    const composite = new Uint8Array(200_000);
    for (let n = 2; n < 200_000; n++) {
      assert.equal(isPrime(BigInt(n)), composite[n] === 0, `${n}`);
      for (let m = 2 * n; composite[n] === 0 && m < 200_000; m += n) composite[m] = 1;
    }
  });

  test('pseudoprimes of either half of the test are found out', () => {
    // Products of two primes above the trial divisions: strong pseudoprimes to base 2 among n(2n − 1), and squares.
    let strong = 0;
    for (let i = 5000n; i < 400_000n; i++) {
      const a = 2n * i + 1n;
      const b = 2n * a - 1n;
      if (powMod(2n, a * b - 1n, a * b) !== 1n) continue;
      if (!isPrime(a) || !isPrime(b)) continue;
      strong++;
      assert.equal(isPrime(a * b), false, `${a * b}`);
      if (strong === 20) break;
    }
    assert.equal(strong, 20);
    assert.equal(isPrime(1093n ** 2n), false);
    assert.equal(isPrime(3511n ** 2n), false);
    const large = 2n ** 127n - 1n;
    assert.ok(isPrime(large));
    assert.equal(isPrime(large * large), false);
    assert.equal(isPrime(2n ** 128n + 1n), false);
    assert.ok(isPrime(2n ** 521n - 1n));
  });

  test('out of hashes: of the size asked for, the same for the same input, others for others', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(64, 128, 256), (input, bits) => {
        const prime = hashToPrime(suite, bits, 'test', input);
        assert.equal(prime.toString(2).length, bits);
        // Fermat to another base than the test uses.
        assert.equal(powMod(3n, prime - 1n, prime), 1n);
        assert.equal(hashToPrime(suite, bits, 'test', input), prime);
        assert.notEqual(hashToPrime(suite, bits, 'other', input), prime);
      }),
      { numRuns: 30 },
    );
    const framed = hashToPrime(suite, 128, 'test', Uint8Array.of(1, 2), Uint8Array.of(3));
    assert.notEqual(hashToPrime(suite, 128, 'test', Uint8Array.of(1), Uint8Array.of(2, 3)), framed);
  });
});

describe('the delay function', () => {
  // Without 1: it is its own square, so every claim about it is true. Inputs of batches are hashes.
  const element = fc
    .bigInt({ min: 2n, max: group.modulus - 2n })
    .map((x) => group.canonical(x))
    .filter((x) => x !== 1n);
  const squarings = fc.oneof(fc.integer({ min: 1, max: 1200 }), fc.constantFrom(127, 128, 129, 8192, 20_000));

  test('gives what the order of the group says, and a proof that holds', () => {
    fc.assert(
      fc.property(element, squarings, (x, t) => {
        const evaluation = runTurns(evaluate(group, x, t));
        const expected = group.canonical(powMod(x, powMod(2n, BigInt(t), order), group.modulus));
        assert.equal(evaluation.output, expected);
        const proof = runTurns(prove(suite, group, evaluation));
        assert.ok(verify(suite, group, x, evaluation.output, t, proof));
      }),
      { numRuns: 40 },
    );
  });

  test('refuses every other output, proof, time and input', () => {
    fc.assert(
      fc.property(element, fc.integer({ min: 200, max: 2000 }), element, (x, t, wrong) => {
        const evaluation = runTurns(evaluate(group, x, t));
        const { output } = evaluation;
        const proof = runTurns(prove(suite, group, evaluation));
        fc.pre(wrong !== output && wrong !== proof && wrong !== x);
        assert.equal(verify(suite, group, x, wrong, t, proof), false);
        assert.equal(verify(suite, group, x, output, t, wrong), false);
        assert.equal(verify(suite, group, x, output, t + 1, proof), false);
        assert.equal(verify(suite, group, wrong, output, t, proof), false);
        // A proof of less work under the claim of more.
        const less = runTurns(evaluate(group, x, t - 1));
        const lessProof = runTurns(prove(suite, group, less));
        assert.equal(verify(suite, group, x, less.output, t, lessProof), false);
      }),
      { numRuns: 25 },
    );
  });

  test('the sign of output and proof makes no second answer', () => {
    const x = group.canonical(12_345n);
    const evaluation = runTurns(evaluate(group, x, 500));
    const proof = runTurns(prove(suite, group, evaluation));
    assert.equal(group.canonical(group.modulus - evaluation.output), evaluation.output);
    assert.ok(verify(suite, group, x, group.modulus - evaluation.output, 500, proof));
    assert.equal(group.decode(group.encode(proof)), proof);
  });

  test('holds in the real group, in turns', () => {
    const real = new RsaGroup();
    const x = real.hashToElement(suite, 'test', Uint8Array.of(7));
    const turns = evaluate(real, x, 9000);
    let count = 0;
    let step = turns.next();
    for (; step.done !== true; step = turns.next()) count++;
    assert.ok(count >= 1);
    let y = x;
    for (let i = 0; i < 9000; i++) y = (y * y) % RSA_2048;
    assert.equal(step.value.output, real.canonical(y));
    const proof = runTurns(prove(suite, real, step.value));
    assert.ok(verify(suite, real, x, step.value.output, 9000, proof));
    assert.equal(verify(suite, real, x, step.value.output, 8999, proof), false);
    assert.ok(bytesToBigint(real.encode(proof)) === proof);
  });
});
