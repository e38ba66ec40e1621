/**
 * Choosing paths from a view of 10 000 nodes: what the view costs once, and what each path costs by strategy, in
 * microseconds over many paths. Prints JSON.
 */
import { distribution } from '@nyx/cli/measure/quantiles.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { type AddressOrigin, networkOf } from '@nyx/core/path/candidates.ts';
import type { SelectConstraints } from '@nyx/core/path/constraints.ts';
import { PathFeedback } from '@nyx/core/path/feedback.ts';
import { GuardSet } from '@nyx/core/path/guards.ts';
import { LatencyBook } from '@nyx/core/path/latency.ts';
import { pathEntropy } from '@nyx/core/path/metrics.ts';
import { chooseDisjointPaths, choosePath } from '@nyx/core/path/select.ts';
import { testView } from '@nyx/core/path/testing.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';

const NODES = 10_000;
const count = Number(process.argv[2] ?? 5000);
const random = createSeededRandom('paths bench');
const policies = [
  ['accept *:80', 'accept *:443'],
  ['reject *:25', 'accept *:*'],
  ['accept 93.184.0.0/16:443', 'accept *:22'],
];
const countries = ['DE', 'FR', 'NL', 'SE', 'US', 'FI'];
const origins = new Map<string, AddressOrigin>();
const nodes = Array.from({ length: NODES }, (_, i) => {
  const address = `${20 + (i >> 8)}.${i & 255}.0.1`;
  origins.set(address, { country: countries[i % countries.length], asn: i % 600 });
  return {
    address,
    bandwidth: Math.round(1e5 * Math.exp(6 * uniform(random))),
    family: i % 7 === 0 ? [`family-${i % 50}`] : [],
    ...(i % 5 === 0 ? { exitPolicy: policies[i % 3]! } : {}),
  };
});
const makeView = () => {
  const view = testView(nodes);
  const flags = NodeFlag.measured | NodeFlag.guard;
  return { ...view, statuses: nodes.map(({ bandwidth }) => ({ weight: bandwidth, flags })) };
};

const timed = <T>(work: () => T): { readonly ms: number; readonly value: T } => {
  const start = performance.now();
  const value = work();
  return { ms: performance.now() - start, value };
};

// The JIT's first pass over the code is not what a view costs: the second view is measured.
networkOf(makeView(), origins);
const view = makeView();
const prepare = timed(() => networkOf(view, origins));
const guards = new GuardSet();
guards.update(view, view.view.validAfter, systemRandom);
const guardUpdate = timed(() => guards.update(view, view.view.validAfter + 1, systemRandom));
const feedback = new PathFeedback();
const latency = new LatencyBook();
const base: SelectConstraints = {
  hops: 3,
  needExit: { host: 'example.com', port: 443 },
  guards: guards.primaries(),
  asDiversity: 'prefer',
  countryDiversity: 'prefer',
  origins,
  feedback,
  latency,
};
for (let i = 0; i < 1000; i++) {
  const path = choosePath(view, base, systemRandom).hops.map(({ id }) => id);
  latency.noteLink(path[0]!, 10 + (i % 20));
  latency.notePath(path, 50 + (i % 200));
  if (i % 10 === 0) feedback.noteFailure(path, i);
  else feedback.noteSuccess(path, i);
}
const firstPath = timed(() => choosePath(view, { ...base, needExit: { host: 'example.com', port: 22 } }, systemRandom));

const measure = (constraints: SelectConstraints) => {
  const sample: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    choosePath(view, constraints, systemRandom);
    sample.push((performance.now() - start) * 1000);
  }
  return distribution(sample);
};

const byStrategy = {
  bandwidth: measure(base),
  'bandwidth, 7 hops': measure({ ...base, hops: 7 }),
  'bandwidth, literal target': measure({ ...base, needExit: { host: '93.184.216.34', port: 443 } }),
  'bandwidth, two countries only': measure({ ...base, includeCountries: ['SE', 'NL'], guards: undefined }),
  uniform: measure({ ...base, strategy: 'uniform' }),
  'latency, bias 0.5': measure({ ...base, strategy: 'latency', latencyBias: 0.5 }),
  'latency, bias 1': measure({ ...base, strategy: 'latency', latencyBias: 1 }),
};
const disjoint = timed(() => chooseDisjointPaths(view, { ...base, guards: guards.usable(0) }, 4, systemRandom));
const entropy = timed(() => pathEntropy(view, { ...base, strategy: 'latency', latencyBias: 0.5 }));

process.stdout.write(
  `${JSON.stringify({
    nodes: NODES,
    prepareViewMs: prepare.ms,
    guardUpdateMs: guardUpdate.ms,
    firstPathToNewPortMs: firstPath.ms,
    fourDisjointPathsMs: disjoint.ms,
    entropyMs: entropy.ms,
    pathMicroseconds: byStrategy,
    slowestP90Ms: Math.max(...Object.values(byStrategy).map(({ p90 }) => p90)) / 1000,
    slowestP99Ms: Math.max(...Object.values(byStrategy).map(({ p99 }) => p99)) / 1000,
  })}\n`,
);
