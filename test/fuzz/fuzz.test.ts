/**
 * Replays every kept input and every input that once broke something, then fuzzes each target for a fixed number of
 * executions from a fixed seed. `NYX_FUZZ_SEED` chooses another seed.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { corpusFolders, readCorpus } from './corpus.ts';
import { DEFAULT_EXECUTIONS, Dice, Mutator, seedFor } from './fuzzer.ts';
import { targets } from './targets/index.ts';

const seed = Number(process.env.NYX_FUZZ_SEED ?? 1);
let executions = 0;
let replayed = 0;

for (const target of targets) {
  const execute = (input: Uint8Array, origin: string): void => {
    executions++;
    try {
      target.run(input.slice());
    } catch (error) {
      const shown = Buffer.from(input).toString('base64');
      throw new Error(`${target.name}: ${origin}, input (base64) ${shown}`, { cause: error });
    }
  };

  test(`fuzz ${target.name}`, () => {
    const corpus = readCorpus('corpus', target.name);
    assert.ok(corpus.length > 0, `corpus/${target.name} is empty`);
    const regressions = readCorpus('regressions', target.name);
    const seeds = target.seeds();
    for (const [index, input] of seeds.entries()) execute(input, `seed input ${index}`);
    for (const { file, bytes } of [...corpus, ...regressions]) {
      execute(bytes, file);
      replayed++;
    }
    const pool = [...seeds, ...corpus.map((entry) => entry.bytes)];
    const mutator = new Mutator(target, new Dice(seedFor(target.name, seed)));
    const count = target.executions ?? DEFAULT_EXECUTIONS;
    for (let i = 0; i < count; i++) execute(mutator.mutate(pool), `seed ${seed}, execution ${i}`);
  });
}

test('corpus and regressions belong to targets', () => {
  const names = new Set(targets.map((target) => target.name));
  assert.equal(names.size, targets.length, 'names are unique');
  for (const kind of ['corpus', 'regressions'] as const) {
    for (const folder of corpusFolders(kind)) assert.ok(names.has(folder), `${kind}/${folder} has no target`);
  }
});

after(() => {
  console.log(`fuzz: ${targets.length} targets, ${executions} executions, ${replayed} inputs replayed, seed ${seed}`);
});
