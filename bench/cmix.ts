/**
 * What class cmix costs: squarings, the delay function and its proof, accumulators of a full batch and proofs for
 * neighbours, by bigints and by OpenSSL, in milliseconds. Prints JSON.
 */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { generatorOf, memberPrime, proveMembers, raise, verifyMembers } from '@nyx/core/mix/accumulator.ts';
import { RSA_2048, RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { evaluate, prove, runTurns, verify } from '@nyx/core/mix/vdf.ts';
import { createNativePowMod } from '@nyx/daemon/io/modular-power.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

const DELAY_MS = Number(process.argv[2] ?? 100);
const CELLS = 100;
const ROUNDS = 10;

const timed = <T>(work: () => T): { readonly ms: number; readonly value: T } => {
  const start = performance.now();
  const value = work();
  return { ms: performance.now() - start, value };
};

const report: Record<string, unknown> = {};
for (const [name, group, suite] of [
  ['bigints', new RsaGroup(), createNobleSuite()],
  ['openssl', new RsaGroup(RSA_2048, createNativePowMod()), createNativeSuite()],
] as const) {
  const x = group.hashToElement(suite, 'bench', Uint8Array.of(1));
  const probe = 20_480;
  runTurns(evaluate(group, x, 2048));
  const perMs = probe / timed(() => runTurns(evaluate(group, x, probe))).ms;
  const squarings = Math.round(perMs * DELAY_MS);
  const evaluated = timed(() => runTurns(evaluate(group, x, squarings)));
  const proved = timed(() => runTurns(prove(suite, group, evaluated.value)));
  const { output } = evaluated.value;
  const verified = timed(() => {
    let all = true;
    for (let i = 0; i < ROUNDS; i++) all &&= verify(suite, group, x, output, squarings, proved.value);
    return all;
  });
  if (!verified.value) throw new Error(`${name}: an honest proof was refused`);
  const digests = Array.from({ length: CELLS }, (_, i) => suite.sha256(Uint8Array.of(i)));
  const primes = timed(() => digests.map((digest) => memberPrime(suite, group, digest)));
  const accumulator = timed(() => runTurns(raise(group, generatorOf(suite, group), primes.value)));
  const some = primes.value.slice(0, CELLS / 4);
  const others = primes.value.slice(CELLS / 4);
  const membership = timed(() => runTurns(proveMembers(suite, group, accumulator.value, some, others)));
  const checked = timed(() => verifyMembers(suite, group, accumulator.value, some, membership.value));
  if (!checked.value) throw new Error(`${name}: an honest membership was refused`);
  report[name] = {
    squaringsPerMs: perMs,
    squarings,
    evaluateMs: evaluated.ms,
    proveMs: proved.ms,
    verifyMs: verified.ms / ROUNDS,
    verifyShare: verified.ms / ROUNDS / evaluated.ms,
    primesOf100Ms: primes.ms,
    accumulate100Ms: accumulator.ms,
    proveQuarterMs: membership.ms,
    verifyQuarterMs: checked.ms,
  };
}
process.stdout.write(`${JSON.stringify(report)}\n`);
