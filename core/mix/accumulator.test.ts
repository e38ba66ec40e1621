import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import {
  DIGEST_BYTES,
  generatorOf,
  memberPrime,
  proveMembers,
  raise,
  verifyMembers,
  verifyWitness,
  witnessesOfAll,
} from './accumulator.ts';
import { isPrime } from './prime.ts';
import { RsaGroup } from './rsa-group.ts';
import { runTurns } from './vdf.ts';

const suite = createNobleSuite();
const p = 2n ** 89n - 1n;
const q = 2n ** 107n - 1n;
const group = new RsaGroup(p * q);
const order = (p - 1n) * (q - 1n);

function digest(seed: number): Uint8Array {
  const bytes = new Uint8Array(DIGEST_BYTES);
  new DataView(bytes.buffer).setUint32(0, seed);
  return suite.sha256(bytes);
}

const generator = generatorOf(suite, group);
const accumulate = (primes: readonly bigint[]) => runTurns(raise(group, generator, primes));

describe('an accumulator', () => {
  const members = Array.from({ length: 12 }, (_, i) => memberPrime(suite, group, digest(i)));
  const accumulator = accumulate(members);

  test('is the generator to the product of the primes, by another way of computing it', () => {
    let exponent = 1n;
    for (const prime of members) {
      assert.equal(prime.toString(2).length, 256);
      assert.ok(isPrime(prime));
      exponent = (exponent * prime) % order;
    }
    assert.equal(accumulator, group.pow(generator, exponent));
    assert.equal(accumulate([...members].reverse()), accumulator);
    assert.equal(accumulate([]), generator);
  });

  test('has a witness for each member, and none of them is one for another', () => {
    const witnesses = runTurns(witnessesOfAll(group, generator, members));
    const stranger = memberPrime(suite, group, digest(99));
    for (let i = 0; i < members.length; i++) {
      assert.equal(witnesses[i], accumulate(members.filter((_, k) => k !== i)));
      assert.ok(verifyWitness(group, accumulator, members[i]!, witnesses[i]!));
      assert.equal(verifyWitness(group, accumulator, members[(i + 1) % members.length]!, witnesses[i]!), false);
      assert.equal(verifyWitness(group, accumulator, stranger, witnesses[i]!), false);
    }
  });

  test('proves any of its subsets, and nothing else', () => {
    fc.assert(
      fc.property(
        fc.subarray([...members.keys()], { minLength: 1 }),
        fc.integer({ min: 100, max: 10_000 }),
        (at, seed) => {
          const some = at.map((i) => members[i]!);
          const others = members.filter((_, i) => !at.includes(i));
          const proof = runTurns(proveMembers(suite, group, accumulator, some, others));
          assert.ok(verifyMembers(suite, group, accumulator, some, proof));
          const stranger = memberPrime(suite, group, digest(seed));
          // Swapped, added, dropped, doubled.
          assert.equal(verifyMembers(suite, group, accumulator, [...some.slice(1), stranger], proof), false);
          assert.equal(verifyMembers(suite, group, accumulator, [...some, stranger], proof), false);
          assert.equal(verifyMembers(suite, group, accumulator, some.slice(1), proof), false);
          assert.equal(verifyMembers(suite, group, accumulator, [...some, some[0]!], proof), false);
          const { witness, quotient } = proof;
          const exchanged = verifyMembers(suite, group, accumulator, some, { witness: quotient, quotient: witness });
          assert.equal(exchanged, quotient === witness);
          assert.equal(
            verifyMembers(suite, group, accumulator, some, { witness, quotient: group.multiply(quotient, 2n) }),
            false,
          );
          assert.equal(verifyMembers(suite, group, group.multiply(accumulator, 4n), some, proof), false);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('a mix that left one out can not prove it in, whatever it raises', () => {
    const without = accumulate(members.slice(1));
    const all = [...members];
    // The proof it would have made, against what it has published.
    const proof = runTurns(proveMembers(suite, group, without, all, []));
    assert.equal(verifyMembers(suite, group, without, all, proof), false);
  });
});
