/**
 * The DHT and the spreading of the view under churn: nodes of path-scale/population.ts with real keys, descriptors, votes'
 * count, views and deltas; the real rules of records; models of kad lookups and of the polling for views.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { decodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { encodeViewBundle, type ViewBundle } from '@nyx/core/directory/view.ts';
import { encodeDeltaSteps } from '@nyx/core/directory/view-delta.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { RecordRules } from '@nyx/daemon/p2p/record-rules.ts';
import { HOUR, Population, type SimNode } from '../path-scale/population.ts';
import { KadModel, type KadPlace } from './kad-model.ts';
import { spreadView } from './view-spread.ts';

export interface DhtOptions {
  readonly nodes: number;
  readonly churnPerHour: number;
  readonly hours: number;
  /** Lookups measured in each hour. */
  readonly lookups: number;
  readonly seed: string;
  /** Between two refreshes of a node's routing table. */
  readonly refreshMinutes: number;
}

export type DhtReport = Awaited<ReturnType<typeof simulateDht>>;

const EPOCH = 500_000;
const AUTHORITIES = 5;
const JOIN_SPREAD_MS = 600_000;
const REPUBLISH_MS = 600_000;
const CONNECTIONS = 8;
const ANNOUNCE_BYTES = 200;

interface Work {
  readonly atMs: number;
  readonly node: SimNode;
  readonly kind: 'join' | 'refresh' | 'publish' | 'find' | 'leave';
}

export async function simulateDht(options: DhtOptions, onProgress: (line: string) => void) {
  const suite = createNativeSuite();
  const random = createSeededRandom(`dht ${options.seed}`);
  const population = new Population({ ...options, churnShape: 'even', authorities: AUTHORITIES }, suite, EPOCH);
  let nowMs = EPOCH * HOUR * 1000;
  const rules = new RecordRules(suite, () => nowMs);
  const byIndex: SimNode[] = [];
  const indexOf = new Map<string, number>();
  /** When a node's control plane is up: its links are at once, this takes until it has joined. */
  const joinedMs: number[] = [];
  const kad = new KadModel(
    {
      isUp: (peer, atMs) => {
        const node = byIndex[peer];
        return (
          node === undefined || (joinedMs[peer]! <= atMs && node.upSince * 1000 <= atMs && atMs < node.downAt * 1000)
        );
      },
      rttMs: (a, b) => {
        const [x, y] = [byIndex[a], byIndex[b]];
        if (x === undefined || y === undefined) return 60;
        return x.accessMs + y.accessMs + 100 * Math.hypot(x.x - y.x, x.y - y.y);
      },
    },
    rules,
  );
  const placeOf = (text: string): KadPlace => {
    const hash = suite.sha256(Buffer.from(text));
    const view = new DataView(hash.buffer, hash.byteOffset);
    return { hi: view.getUint32(0), lo: view.getUint32(4) };
  };
  const peerOf = (node: SimNode): number => {
    let index = indexOf.get(node.id);
    if (index === undefined) {
      index = kad.add(placeOf(`peer ${node.id}`));
      byIndex[index] = node;
      joinedMs[index] = Number.POSITIVE_INFINITY;
      indexOf.set(node.id, index);
    }
    return index;
  };
  const keyOf = (id: string) => `/nyx/node/${id}`;
  /** To the own place and, as kad-dht does, to one of every length of common prefix that there are peers of. */
  const refresh = (peer: number, atMs: number): void => {
    const { hi, lo } = kad.peers[peer]!;
    kad.lookup(peer, { hi, lo }, atMs);
    for (let length = 0; length <= kad.longestPrefix(peer); length++) {
      const below = 2 ** (31 - length);
      const other = ((hi ^ below) & -below) >>> 0;
      const place = { hi: other + Math.floor(uniform(random) * below), lo: Math.floor(uniform(random) * 2 ** 32) };
      kad.lookup(peer, place, atMs);
    }
  };
  const refreshMs = options.refreshMinutes * 60_000;
  const upAt = (atMs: number): SimNode | undefined => {
    for (let tries = 0; tries < 1000; tries++) {
      const node = population.present[Math.floor(uniform(random) * population.present.length)]!;
      if (kad.peers[indexOf.get(node.id) ?? -1] !== undefined && isUp(node, atMs)) return node;
    }
    return undefined;
  };
  const isUp = (node: SimNode, atMs: number) =>
    joinedMs[indexOf.get(node.id)!]! <= atMs && node.upSince * 1000 <= atMs && atMs < node.downAt * 1000;

  const hours: {
    hour: number;
    found: number;
    current: number;
    asked: number;
    questions: number;
    unanswered: number;
    ms: number[];
    bytes: { refresh: number; publish: number; join: number; find: number };
    puts: number;
    taken: number;
  }[] = [];
  const descriptors = new Map<string, Uint8Array>();
  let bundle: ViewBundle | undefined;
  let fullBytes = 0;
  let deltaBytes = 0;

  for (let hour = 0; hour < options.hours; hour++) {
    const epoch = EPOCH + hour;
    const startMs = epoch * HOUR * 1000;
    nowMs = startMs;
    const last = bundle;
    bundle = population.view(epoch);
    for (const { descriptor } of bundle.entries) {
      const own = new Uint8Array(descriptor);
      descriptors.set(nodeIdHex(decodeDescriptor(own, suite).nodeId), own);
    }
    fullBytes = encodeViewBundle(bundle).length;
    if (last !== undefined) deltaBytes = deltaOf(last, bundle, suite);
    population.churn(epoch);

    const work: Work[] = [];
    const endMs = startMs + HOUR * 1000;
    for (const node of population.present) {
      const peer = peerOf(node);
      // Those that came (back) this hour join one after the other; at the beginning all are there already.
      const comes = node.upSince * 1000 === startMs;
      let fromMs = startMs;
      if (comes || hour === 0) {
        fromMs = startMs + uniform(random) * JOIN_SPREAD_MS;
        joinedMs[peer] = Number.POSITIVE_INFINITY;
        work.push({ atMs: fromMs, node, kind: 'join' });
      }
      const untilMs = Math.min(endMs, node.downAt * 1000);
      for (let atMs = fromMs + uniform(random) * refreshMs; atMs < untilMs; atMs += refreshMs) {
        work.push({ atMs, node, kind: 'refresh' });
      }
      // A new descriptor within the first minutes of an epoch, then again every ten minutes.
      for (let atMs = fromMs + 1000 + uniform(random) * 60_000; atMs < untilMs; atMs += REPUBLISH_MS) {
        work.push({ atMs, node, kind: 'publish' });
      }
      if (node.downAt * 1000 < endMs) work.push({ atMs: node.downAt * 1000, node, kind: 'leave' });
    }
    for (let i = 0; i < options.lookups; i++) {
      const atMs = startMs + ((i + 0.5) / options.lookups) * HOUR * 1000;
      work.push({ atMs, node: population.present[0]!, kind: 'find' });
    }
    work.sort((a, b) => a.atMs - b.atMs);

    const figures = {
      hour: hour + 1,
      found: 0,
      current: 0,
      asked: 0,
      questions: 0,
      unanswered: 0,
      ms: [] as number[],
      bytes: { refresh: 0, publish: 0, join: 0, find: 0 },
      puts: 0,
      taken: 0,
    };
    for (const { atMs, node, kind } of work) {
      nowMs = atMs;
      const before = kad.bytes;
      const peer = peerOf(node);
      switch (kind) {
        case 'join': {
          joinedMs[peer] = atMs;
          for (let i = 0; i < 3; i++) {
            const known = upAt(atMs);
            if (known === undefined || known === node) continue;
            kad.meet(peer, indexOf.get(known.id)!, atMs);
            kad.meet(indexOf.get(known.id)!, peer, atMs);
          }
          refresh(peer, atMs);
          figures.bytes.join += kad.bytes - before;
          break;
        }
        case 'refresh':
          refresh(peer, atMs);
          figures.bytes.refresh += kad.bytes - before;
          break;
        case 'publish': {
          const value = descriptors.get(node.id);
          if (value === undefined) break;
          figures.puts++;
          figures.taken += kad.put(peer, keyOf(node.id), placeOf(keyOf(node.id)), value, atMs);
          figures.bytes.publish += kad.bytes - before;
          break;
        }
        case 'leave':
          kad.left(peer);
          break;
        case 'find': {
          const [asking, wanted] = [upAt(atMs), upAt(atMs)];
          if (asking === undefined || wanted === undefined || !descriptors.has(wanted.id)) break;
          const key = keyOf(wanted.id);
          const result = kad.lookup(indexOf.get(asking.id)!, placeOf(key), atMs, key);
          const best = kad.best(key, result.values);
          figures.asked++;
          figures.questions += result.questions;
          figures.unanswered += result.unanswered;
          figures.ms.push(result.ms);
          if (best !== undefined) figures.found++;
          if (best === descriptors.get(wanted.id)) figures.current++;
          figures.bytes.find += kad.bytes - before;
        }
      }
    }
    hours.push(figures);
    const share = (figures.found / Math.max(1, figures.asked)) * 100;
    onProgress(`hour ${hour + 1}/${options.hours}: ${share.toFixed(2)} % of ${figures.asked} lookups found the record`);
    if (hour < options.hours - 1) population.settle(epoch);
  }

  // The view, from five authorities to who is up at the end, over connections as nodes open them.
  const up = population.present.filter((node) => isUp(node, nowMs));
  const position = new Map(up.map((node, i) => [indexOf.get(node.id)!, i]));
  const connections: number[][] = [...up.map(() => []), ...Array.from({ length: AUTHORITIES }, () => [])];
  const connect = (a: number, b: number) => {
    connections[a]!.push(b);
    connections[b]!.push(a);
  };
  up.forEach((node, i) => {
    const known = kad.peers[indexOf.get(node.id)!]!.buckets.flat().flatMap((peer) => position.get(peer) ?? []);
    for (let n = 0; n < CONNECTIONS && known.length > 0; n++) {
      connect(i, known.splice(Math.floor(uniform(random) * known.length), 1)[0]!);
    }
  });
  // Every node has brought its descriptor to every authority; of these connections a few stay.
  for (let a = 0; a < AUTHORITIES; a++) {
    for (let n = 0; n < 64; n++) connect(up.length + a, Math.floor(uniform(random) * up.length));
  }
  const spreading = (bytes: number) => {
    const { atMs, timeouts, busy } = spreadView({
      bytes,
      nodes: connections.map((each, i) => ({ bandwidth: up[i]?.bandwidth ?? 12_500_000, connections: each })),
      sources: Array.from({ length: AUTHORITIES }, (_, a) => up.length + a),
      random,
    });
    const times = atMs.slice(0, up.length).sort((a, b) => a - b);
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))]! / 1000;
    return {
      bytes,
      seconds: { p50: at(0.5), p90: at(0.9), p99: at(0.99) },
      /** Of all up, share that has it after so many seconds. */
      curve: [5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900].map(
        (seconds) => [seconds, times.filter((time) => time <= seconds * 1000).length / times.length] as const,
      ),
      without: times.filter((time) => time === Number.POSITIVE_INFINITY).length / times.length,
      timeouts,
      busy,
    };
  };
  onProgress('the view spreads');
  const whole = spreading(fullBytes);
  const delta = spreading(deltaBytes);

  onProgress('one record is eclipsed');
  const eclipse = eclipseOf(kad, { random, placeOf, keyOf, upAt, descriptors, indexOf, nowMs });
  return {
    options: { ...options },
    descriptorBytes: population.descriptorBytes,
    announceBytes: AUTHORITIES * (population.descriptorBytes + ANNOUNCE_BYTES),
    up: up.length,
    refused: kad.refused,
    tableSize: up.reduce((sum, node) => sum + kad.tableSize(indexOf.get(node.id)!), 0) / up.length,
    hours: hours.map(({ ms, ...rest }) => ({ ...rest, ms: quantiles(ms) })),
    spread: { whole, delta },
    eclipse,
  };
}

interface EclipseParts {
  readonly random: Parameters<typeof uniform>[0];
  readonly placeOf: (text: string) => KadPlace;
  readonly keyOf: (id: string) => string;
  readonly upAt: (atMs: number) => SimNode | undefined;
  readonly descriptors: ReadonlyMap<string, Uint8Array>;
  readonly indexOf: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

/** Attackers with ids next to one record's key, known to all who have room for them: how often the record is still found. */
function eclipseOf(kad: KadModel, { random, placeOf, keyOf, upAt, descriptors, indexOf, nowMs }: EclipseParts) {
  return [0, 10, 20, 40, 80].map((attackers) => {
    let found = 0;
    let forged = 0;
    const rounds = 100;
    for (let round = 0; round < rounds; round++) {
      const victim = upAt(nowMs)!;
      const key = keyOf(victim.id);
      const place = placeOf(key);
      const friends: number[] = [];
      for (let i = 0; i < attackers; i++) {
        // As close as 2^40 tries make them, which beats any honest one of thousands.
        const peer = kad.add({ hi: place.hi, lo: (place.lo ^ (1 + Math.floor(uniform(random) * 2 ** 24))) >>> 0 });
        friends.push(peer);
      }
      for (const peer of friends) kad.peers[peer]!.friends = friends;
      // Nobody holds the record yet, as after a change of keys: what is held already, holders keep for its time.
      for (const { records } of kad.peers) records.delete(key);
      // They have walked to the key and so are known around it.
      const { closest } = kad.lookup(indexOf.get(upAt(nowMs)!.id)!, place, nowMs);
      for (const near of closest) for (const peer of friends) kad.meet(near, peer, nowMs);
      // What they hold under the key is another node's descriptor: the rules have to refuse it.
      const wrong = descriptors.get(upAt(nowMs)!.id);
      if (wrong !== undefined && wrong !== descriptors.get(victim.id)) {
        for (const peer of friends) kad.peers[peer]!.records.set(key, wrong);
      }
      // The owner puts it again; then somebody looks for it.
      const own = descriptors.get(victim.id);
      if (own !== undefined) kad.put(indexOf.get(victim.id)!, key, place, own, nowMs);
      const { values } = kad.lookup(indexOf.get(upAt(nowMs)!.id)!, place, nowMs, key);
      const best = kad.best(key, values);
      if (best !== undefined && best === own) found++;
      else if (best !== undefined) forged++;
      for (const peer of friends) kad.peers[peer]!.records.clear();
    }
    return { attackers, found: found / rounds, forged };
  });
}

function deltaOf(from: ViewBundle, to: ViewBundle, suite: ReturnType<typeof createNativeSuite>): number {
  const idOf = ({ descriptor }: ViewBundle['entries'][number]) => decodeDescriptor(descriptor, suite).nodeId;
  const steps = encodeDeltaSteps(from, to, idOf, suite);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value.length;
  }
}

function quantiles(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}
