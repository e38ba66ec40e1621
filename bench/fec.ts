/**
 * What forward error correction costs, and what it brings: µs of a core per source packet for making and for using repair
 * symbols, by code, block and losses; and how often RaptorQ gives a block back with h symbols more than its k, beside the
 * theory's 1 − 1/256^(h+1). One JSON object on stdout. `node fec.ts [trials]`.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { type BlockCodec, Symbols } from '@nyx/core/fec/block-codec.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { loadRaptorQ } from '@nyx/daemon/io/raptorq.ts';

const trials = Number(process.argv[2] ?? 4000);
const MIN_MS = 60;
const random = createSeededRandom('bench fec');
const codecs: Record<string, BlockCodec> = { 'reed-solomon': new ReedSolomon(), raptorq: new RaptorQ(loadRaptorQ) };

function randomBlock(k: number): Symbols {
  const sources = new Symbols(k);
  random.fill(sources.bytes);
  return sources;
}

/** Mean µs of a core for a call, after as much warming up. */
function time(call: () => boolean): number {
  const run = () => {
    const start = cpuUs();
    let calls = 0;
    while (cpuUs() - start < MIN_MS * 1000 || calls < 3) {
      for (let i = 0; i < 10; i++) if (!call()) throw new Error('a code refused a block that it must take');
      calls += 10;
    }
    return (cpuUs() - start) / calls;
  };
  run();
  return run();
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

const costs = [];
for (const [name, codec] of Object.entries(codecs)) {
  for (const k of [1, 4, 8, 16, 32, 64]) {
    const sources = randomBlock(k);
    for (const r of [1, Math.ceil(k / 10), Math.ceil(k / 3)].filter((value, i, all) => all.indexOf(value) === i)) {
      // RaptorQ may need one more.
      const made = r + 2;
      const repairs = new Symbols(made);
      const encodeUs = time(() => codec.encode(sources, k, r, repairs));
      codec.encode(sources, k, made, repairs);
      const missing = Array.from({ length: r }, (_, i) => i);
      const ids = Array.from({ length: made }, (_, i) => i);
      const decodeUs = time(() => codec.decode(sources, k, missing, repairs, ids));
      costs.push({
        codec: name,
        k,
        repairs: r,
        encodeUsPerSource: round(encodeUs / k),
        decodeUsPerSource: round(decodeUs / k),
        estimatedUsPerSource: round(codec.costUs(k, r) / k),
      });
    }
  }
}

/** Each trial: a block of k of which 40 % is lost, and the first of other repair symbols in its place. */
function recovery(codec: BlockCodec, k: number, extra: number): number {
  let recovered = 0;
  const choice = new Uint8Array(k);
  const sources = randomBlock(k);
  const repairs = new Symbols(48);
  codec.encode(sources, k, 48, repairs);
  for (let trial = 0; trial < trials; trial++) {
    random.fill(choice);
    const missing: number[] = [];
    for (let i = 0; i < k && missing.length < 40; i++) if (choice[i]! < 102) missing.push(i);
    const first = choice[0]! % (48 - missing.length - extra + 1);
    const ids = Array.from({ length: missing.length + extra }, (_, i) => first + i);
    const given = new Symbols(Math.max(1, ids.length));
    for (const [at, id] of ids.entries()) given.set(at, repairs.at(id));
    const left = new Symbols(k);
    left.words.set(sources.words);
    for (const i of missing) left.at(i).fill(0);
    if (codec.decode(left, k, missing, given, ids)) recovered++;
  }
  return recovered / trials;
}

const recoveryRate = [];
for (const [name, codec] of Object.entries(codecs)) {
  for (const k of [10, 32]) {
    for (const h of [0, 1, 2]) {
      const theory = name === 'raptorq' ? 1 - 256 ** -(h + 1) : 1;
      recoveryRate.push({
        codec: name,
        k,
        h,
        trials,
        measured: round(recovery(codec, k, h), 5),
        theory: round(theory, 7),
      });
    }
  }
}

process.stdout.write(`${JSON.stringify({ costs, recoveryRate })}\n`);

function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits));
}
