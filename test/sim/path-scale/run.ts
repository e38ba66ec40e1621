/** The whole simulation: hours of churn, views, deltas and clients; then load, entropy and latency on the last view. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import {
  decodeViewBundle,
  encodeViewBundle,
  type VerifiedView,
  type ViewBundle,
  type ViewEntry,
  verifyViewBundle,
} from '@nyx/core/directory/view.ts';
import { applyDelta, encodeDeltaSteps } from '@nyx/core/directory/view-delta.ts';
import { type Candidate, networkOf } from '@nyx/core/path/candidates.ts';
import type { PathStrategy } from '@nyx/core/path/constraints.ts';
import { GuardSet } from '@nyx/core/path/guards.ts';
import { LatencyBook } from '@nyx/core/path/latency.ts';
import { pathEntropy } from '@nyx/core/path/metrics.ts';
import { choosePath } from '@nyx/core/path/select.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { newTotals, SimClient } from './clients.ts';
import { HOUR, normal, Population, type PopulationOptions, type SimNode } from './population.ts';

export interface SimulationOptions extends Omit<PopulationOptions, 'seed' | 'authorities'> {
  readonly hours: number;
  readonly clients: number;
  readonly pathsPerHour: number;
  /** Paths drawn per strategy for the distribution of load. */
  readonly loadPaths: number;
  readonly seed: string;
}

export type SimulationReport = Awaited<ReturnType<typeof simulate>>;

const EPOCH = 500_000;
const AUTHORITIES = 5;
const maxDeltaAge = 3;

export async function simulate(options: SimulationOptions, onProgress: (line: string) => void) {
  const suite = createNativeSuite();
  const population = new Population({ ...options, authorities: AUTHORITIES }, suite, EPOCH);
  const authorities = { threshold: 3, keys: population.authorityKeys.map(({ publicKey }) => publicKey) };
  const random = createSeededRandom(`clients ${options.seed}`);
  const clients = Array.from(
    { length: options.clients },
    (_, i) => new SimClient(createSeededRandom(`client ${i} ${options.seed}`)),
  );
  // One in ten is away for the whole time but the first and the last hour.
  const away = clients.filter((_, i) => i % 10 === 9);
  const totals = newTotals();
  const bundles: ViewBundle[] = [];
  const deltaBytes: number[][] = Array.from({ length: maxDeltaAge }, () => []);
  const fullBytes: number[] = [];
  const verifyMs: number[] = [];
  const distinctGuards: { hour: number; mean: number }[] = [];
  let view: VerifiedView | undefined;
  for (let hour = 0; hour < options.hours; hour++) {
    const epoch = EPOCH + hour;
    const now = epoch * HOUR + 1;
    const bytes = encodeViewBundle(population.view(epoch));
    fullBytes.push(bytes.length);
    const bundle = decodeViewBundle(bytes);
    const startedMs = performance.now();
    const previous: VerifiedView | undefined = view;
    view = verifyViewBundle(bundle, { authorities, suite, now, ...(previous && { previous }) });
    verifyMs.push(performance.now() - startedMs);
    bundles.unshift(bundle);
    // The delta of every hour; those for who comes back after more in some of them.
    const oldest = hour % 6 === maxDeltaAge ? maxDeltaAge : 1;
    for (let age = 1; age <= oldest && age < bundles.length; age++) {
      const delta = deltaOf(bundles[age]!, bundle, suite);
      deltaBytes[age - 1]!.push(delta.length);
      if (age === 1 && hour % 6 === 1) {
        // What was sent must make the very view.
        const made = applyDelta(bundles[1]!, delta, suite);
        verifyViewBundle(made, { authorities, suite, now });
      }
    }
    bundles.length = Math.min(bundles.length, maxDeltaAge + 1);
    population.churn(epoch);
    for (const client of clients) {
      if (hour > 0 && away.includes(client)) continue;
      client.live(epoch, view, options.pathsPerHour, population, totals);
    }
    const staying = clients.filter((client) => !away.includes(client));
    distinctGuards.push({ hour: hour + 1, mean: mean(staying.map(({ used }) => used.size)) });
    if (hour < options.hours - 1) population.settle(epoch);
    onProgress(
      `hour ${hour + 1}/${options.hours}: ${view.nodes.length} nodes, view ${mb(bytes.length)}, delta ${mb(deltaBytes[0]!.at(-1) ?? 0)}, verified in ${verifyMs.at(-1)!.toFixed(0)} ms`,
    );
  }
  const last = view!;
  const end = (EPOCH + options.hours) * HOUR - 1;
  const back = newTotals();
  const returned = away.map((client) => {
    const kept = client.guards.usable(end).filter((id) => last.byId.has(id)).length;
    client.take(last, end);
    return { kept, attempts: client.build(end, population, back) };
  });
  const delta = mean(deltaBytes[0]!);
  return {
    options: { ...options, authorities: AUTHORITIES, epochSeconds: HOUR, hops: 3 },
    directory: {
      nodesListed: last.nodes.length,
      descriptorBytes: Math.round(population.descriptorBytes),
      fullViewBytes: Math.round(mean(fullBytes)),
      deltaBytes: deltaBytes.map((list, i) => ({ epochsBehind: i + 1, bytes: Math.round(mean(list)) })),
      /** A node that stays: one delta in, its descriptor out to every authority, and a share of the serving. */
      perNodeHour: {
        received: Math.round(delta),
        published: Math.round(population.descriptorBytes * AUTHORITIES),
        servedIfAllServe: Math.round(delta),
      },
      fullViewsInsteadOfDeltas: Math.round(mean(fullBytes)),
      verifyMs: { mean: mean(verifyMs), max: Math.max(...verifyMs) },
    },
    clients: {
      paths: totals.paths,
      atAttempt: totals.atAttempt.map((count) => count / totals.paths),
      failed: totals.failed / totals.paths,
      viewAgeSeconds: quantiles(totals.viewAges),
      distinctGuards,
      guardsDroppedWrongly: totals.guardsDropped.length,
      afterAway: {
        hoursAway: options.hours - 1,
        clients: away.length,
        sampledGuardsStillListed: mean(returned.map(({ kept }) => kept)),
        firstPathAttempts: mean(returned.map(({ attempts }) => attempts)),
        withoutPath: back.failed,
      },
    },
    load: loadByStrategy(last, population, options, random),
    latency: latencyByBias(last, population, random),
  };
}

function deltaOf(from: ViewBundle, to: ViewBundle, suite: ReturnType<typeof createNativeSuite>): Uint8Array {
  const ids = new Map<ViewEntry, Uint8Array>();
  const idOf = (entry: ViewEntry): Uint8Array => {
    let id = ids.get(entry);
    if (id === undefined) {
      id = suite.blake3(identityOf(entry.descriptor));
      ids.set(entry, id);
    }
    return id;
  };
  const steps = encodeDeltaSteps(from, to, idOf, suite);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** The identity key inside an encoded descriptor: the bytes behind the CBOR key "identity" and a 32-byte string's head. */
function identityOf(descriptor: Uint8Array): Uint8Array {
  const at = Buffer.from(descriptor.buffer, descriptor.byteOffset, descriptor.length).indexOf('identity');
  return descriptor.subarray(at + 10, at + 42);
}

/** Who carries how much, by strategy: load of a node in proportion to its bandwidth. */
function loadByStrategy(
  view: VerifiedView,
  population: Population,
  options: SimulationOptions,
  random: ReturnType<typeof createSeededRandom>,
) {
  const network = networkOf(view);
  const samples = Array.from({ length: Math.max(20, Math.round(options.loadPaths / 200)) }, () => {
    const guards = new GuardSet();
    guards.update(view, view.view.validAfter, random);
    return guards.primaries();
  });
  const latency = learnLatency(view, population, random, 500).book;
  const strategies: { name: string; strategy: PathStrategy; latencyBias?: number }[] = [
    { name: 'uniform', strategy: 'uniform' },
    { name: 'bandwidth', strategy: 'bandwidth' },
    { name: 'latency 0.5', strategy: 'latency', latencyBias: 0.5 },
    { name: 'latency 1', strategy: 'latency', latencyBias: 1 },
  ];
  const byBandwidth = [...network.candidates].sort(
    (a, b) => population.find(a.id)!.bandwidth - population.find(b.id)!.bandwidth,
  );
  return strategies.map(({ name, ...how }) => {
    const base = { hops: 3, needExit: { port: 443 }, latency, ...how };
    const hits = new Map<string, number>();
    const count = how.strategy === 'latency' ? Math.ceil(options.loadPaths / 4) : options.loadPaths;
    for (let i = 0; i < count; i++) {
      const { hops } = choosePath(view, { ...base, guards: samples[i % samples.length]! }, random);
      for (const { id } of hops) hits.set(id, (hits.get(id) ?? 0) + 1);
    }
    const share = (group: readonly Candidate[]) => ({
      nodes: group.length / byBandwidth.length,
      bandwidth: bandwidthOf(group, population) / bandwidthOf(byBandwidth, population),
      load: group.reduce((sum, { id }) => sum + (hits.get(id) ?? 0), 0) / (3 * count),
    });
    const old = byBandwidth.filter(({ id, weight }) => weight >= population.find(id)!.bandwidth);
    const whole = share(old);
    const deciles = Array.from({ length: 10 }, (_, d) => {
      const from = Math.floor((d * old.length) / 10);
      const { bandwidth, load } = share(old.slice(from, Math.floor(((d + 1) * old.length) / 10)));
      return {
        bandwidthShare: bandwidth / whole.bandwidth,
        loadShare: load / whole.load,
        loadPerBandwidth: load / whole.load / (bandwidth / whole.bandwidth),
      };
    });
    const { positionBits, pathBits, costBits, maxCostBits } = pathEntropy(view, { ...base, guards: samples[0]! });
    return {
      strategy: name,
      paths: count,
      /** Nodes old enough to have their full weight, by bandwidth; shares are of what these carry. */
      deciles,
      /** Nodes in their first week, which have less than their full weight. */
      newcomers: share(byBandwidth.filter(({ id, weight }) => weight < population.find(id)!.bandwidth)),
      entropy: { positionBits, pathBits, costBits, maxCostBits },
    };
  });
}

const bandwidthOf = (group: readonly Candidate[], population: Population): number =>
  group.reduce((sum, { id }) => sum + population.find(id)!.bandwidth, 0);

interface Place {
  readonly x: number;
  readonly y: number;
}

/** Round trip over a path: twice the way (the map is 100 ms wide) and every node's own part. */
function pathMs(client: Place, path: readonly SimNode[]): number {
  let ms = 0;
  let at: Place = client;
  for (const node of path) {
    ms += 100 * Math.hypot(node.x - at.x, node.y - at.y) + node.accessMs;
    at = node;
  }
  return ms;
}

/** A client that has measured this many paths of its own. */
function learnLatency(
  view: VerifiedView,
  population: Population,
  random: ReturnType<typeof createSeededRandom>,
  paths: number,
) {
  const client = { x: uniform(random), y: uniform(random) };
  const guards = new GuardSet();
  guards.update(view, view.view.validAfter, random);
  const book = new LatencyBook();
  const constraints = { hops: 3, needExit: { port: 443 }, guards: guards.primaries() };
  for (let i = 0; i < paths; i++) {
    const path = choosePath(view, constraints, random).hops.map(({ id }) => population.find(id)!);
    book.noteLink(path[0]!.id, pathMs(client, path.slice(0, 1)));
    const noise = 1 + 0.1 * Math.abs(normal(random));
    book.notePath(
      path.map(({ id }) => id),
      pathMs(client, path) * noise,
    );
  }
  return { book, client, constraints };
}

/** The knob: what the client gains in true round-trip time, and what it pays in bits. */
function latencyByBias(view: VerifiedView, population: Population, random: ReturnType<typeof createSeededRandom>) {
  const { book, client, constraints } = learnLatency(view, population, random, 2000);
  return [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1].map((latencyBias) => {
    const wishes = { ...constraints, strategy: 'latency', latency: book, latencyBias } as const;
    const times = Array.from({ length: 1000 }, () => {
      const path = choosePath(view, wishes, random).hops.map(({ id }) => population.find(id)!);
      return pathMs(client, path);
    });
    const { pathBits, costBits, maxCostBits } = pathEntropy(view, wishes);
    return { bias: latencyBias, rttMs: quantiles(times), pathBits, costBits, maxCostBits };
  });
}

const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

function quantiles(values: readonly number[]) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
  return { mean: mean(values), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
