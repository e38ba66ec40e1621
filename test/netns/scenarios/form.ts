/**
 * Eleven hosts in eight subnets find each other over libp2p from one address (one of them from its local network alone), vote, choose
 * paths, are parted for more than an epoch, and come together again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Impairment } from '../impairment.ts';
import { measureDownload, throughNyx } from '../measure.ts';
import { type LabNode, type LabNodeSpec, linkAddress, multiaddr, NyxLab, seconds } from '../nyx-lab.ts';
import { startTargetOn } from '../probe.ts';
import type { ScenarioContext } from '../scenario.ts';
import { checkNetwork } from '../small-network.ts';

interface Formed {
  readonly readyMs: Readonly<Record<string, number>>;
  readonly peersBefore: Readonly<Record<string, number>>;
  readonly paths: { readonly chosen: number; readonly withIpv6: number; readonly distinct: number };
  readonly partedSeconds: number;
  readonly majorityEpochsMeanwhile: number;
  readonly dialWhileParted: { readonly majority: Dial; readonly minority: Dial };
  /** After the parts came together. */
  readonly healed: {
    readonly sameViewMs: number;
    readonly peersMs: number;
    readonly allSignMs: number;
    readonly dial: Dial;
  };
}

interface Dial {
  /** Dials until one worked; the time of that one, and from the first on. */
  readonly attempts: number;
  readonly dialMs: number;
  readonly untilMs: number;
  readonly mbit: number;
}

const EPOCH_SECONDS = 60;
const PARTED_MS = 80_000;
const PATHS = 80;
const DIAL_MS = 60_000;
const TARGET = { host: '10.30.0.2', port: 7001 };
/** Who is alone with whom while the network is parted: one authority of three, and enough relays for a path. */
const minority = ['mix-2', 'mix-5', 'exit-1', 'client-1', 'target-1'];
const MINORITY_TARGET = { host: '10.33.0.2', port: 7001 };

const far = (delayMs: number): Impairment => ({ delayMs, jitterMs: 5, lossShare: 0.005, rateMbit: 50 });

const node = (
  name: string,
  role: LabNodeSpec['role'],
  addresses: readonly string[],
  delayMs: number,
  more: Partial<LabNodeSpec> & { readonly site?: string; readonly dual?: boolean } = {},
): LabNodeSpec => {
  const { site, dual, ...rest } = more;
  const config = { ...(dual && { listen: addresses.map(linkAddress) }), ...rest.config };
  return { name, role, interface: { addresses, up: far(delayMs), down: far(delayMs), site }, ...rest, config };
};

const atHome = multiaddr('10.13.0.2');

const nodes: readonly LabNodeSpec[] = [
  node('mix-0', 'mix', ['10.10.0.2', 'fd00:10::2'], 5, { authority: true, dual: true }),
  node('mix-1', 'mix', ['10.11.0.2', 'fd00:11::2'], 20, { authority: true, dual: true }),
  node('mix-2', 'mix', ['10.12.0.2', 'fd00:12::2'], 40, { authority: true, dual: true }),
  node('mix-3', 'mix', ['10.10.0.3', 'fd00:10::3'], 5),
  node('mix-4', 'mix', ['10.11.0.3', 'fd00:11::3'], 20),
  // It shares a local network with client-1 and says so there.
  node('mix-5', 'mix', ['10.13.0.2', 'fd00:13::2'], 10, {
    site: 'home',
    config: {
      p2p: { enabled: true, listen: [atHome], bootstrap: [multiaddr('10.10.0.2')], mdns: true, allowPrivate: true },
    },
  }),
  // Listens at IPv6 alone.
  node('mix-6', 'mix', ['fd00:16::2', '10.16.0.2'], 30),
  node('exit-0', 'exit', ['10.14.0.2', 'fd00:14::2'], 10, { dual: true }),
  node('exit-1', 'exit', ['10.15.0.2', 'fd00:15::2'], 15),
  // It has IPv4 alone.
  node('client-0', 'client', ['10.20.0.2'], 15),
  node('client-1', 'client', ['10.13.0.3', 'fd00:13::3'], 10, {
    site: 'home',
    config: { p2p: { enabled: true, mdns: true, allowPrivate: true } },
  }),
];

export async function form(context: ScenarioContext): Promise<Formed> {
  const { seed, say, fail } = context;
  const network = await NyxLab.start({
    seed,
    say,
    nodes,
    discovery: 'p2p',
    epochSeconds: EPOCH_SECONDS,
    phaseMs: 2000,
    measuresBandwidth: true,
  });
  try {
    for (const [name, target] of [
      ['target', TARGET],
      ['target-1', MINORITY_TARGET],
    ] as const) {
      await startTargetOn(await network.lab.addHost(name, { addresses: [target.host] }), target.host, target.port);
    }
    const all = [...network.nodes.values()];
    const [majorityClient, minorityClient] = [network.node('client-0'), network.node('client-1')];
    const readyMs = Object.fromEntries(all.map(({ name, readyMs: ms }) => [name, Math.round(ms)]));
    const digestMs = await timeUntil('one view', 90_000, async () => (await digests(all)).size === 1);
    say(`all have one view ${seconds(digestMs)} after the last was ready`);
    await timeUntil('peers', 60_000, async () => Object.values(await peersOf(all)).every((count) => count >= 2));
    const peersBefore = await peersOf(all);
    say(
      `peers of each: ${Object.entries(peersBefore)
        .map(([name, count]) => `${name} ${count}`)
        .join(', ')}`,
    );

    const paths = await checkPaths(network, majorityClient, fail);
    say(
      `${paths.chosen} paths keep to their subnets, ${paths.distinct} different ones, ${paths.withIpv6} with the relay at IPv6`,
    );
    const ipv6Ms = await throughIpv6(network, majorityClient);
    say(`a circuit whose second hop is at IPv6: built in ${ipv6Ms.toFixed(0)} ms`);
    for (const client of [majorityClient, minorityClient]) {
      const { dialMs, mbit } = await dial(client, 'before', TARGET);
      say(`${client.name}: dial ${dialMs.toFixed(0)} ms, ${mbit.toFixed(1)} Mbit/s`);
    }

    const epochBefore = await epochOf(majorityClient);
    await network.lab.partition(Object.fromEntries(minority.map((name) => [name, 1])));
    say(`parted: ${minority.join(', ')} from the rest`);
    const partedAtMs = performance.now();
    const dialWhileParted = {
      majority: await dial(majorityClient, 'parted', TARGET),
      minority: await dial(minorityClient, 'parted', MINORITY_TARGET),
    };
    for (const [part, { attempts, untilMs, mbit }] of Object.entries(dialWhileParted)) {
      say(
        `${part}: a fresh dial within its part works after ${seconds(untilMs)}, attempt ${attempts}, ${mbit.toFixed(1)} Mbit/s`,
      );
    }
    await delay(Math.max(0, partedAtMs + PARTED_MS - performance.now()));
    const majorityEpochsMeanwhile = (await epochOf(majorityClient)) - epochBefore;
    say(
      `after ${seconds(performance.now() - partedAtMs)}, two of three authorities have gone on by ${majorityEpochsMeanwhile} epoch(s)`,
    );
    if (majorityEpochsMeanwhile < 1) fail('no new epoch in the part with the majority of authorities');

    await network.lab.partition({});
    const partedSeconds = (performance.now() - partedAtMs) / 1000;
    const healedAtMs = performance.now();
    const healedDial = await dial(minorityClient, 'healed', TARGET);
    say(
      `together again: a dial from the smaller part to the larger works after ${seconds(healedDial.untilMs)}, attempt ${healedDial.attempts}`,
    );
    const sinceHealed = () => performance.now() - healedAtMs;
    await timeUntil('one view after parting', 150_000, async () => (await digests(all)).size === 1);
    const sameViewMs = sinceHealed();
    say(`one view again after ${seconds(sameViewMs)}`);
    const wanted = (name: string) => Math.min(peersBefore[name]!, 3);
    await timeUntil('peers after parting', 120_000, async () =>
      Object.entries(await peersOf(all)).every(([name, count]) => count >= wanted(name)),
    );
    const peersMs = sinceHealed();
    say(`each has peers again after ${seconds(peersMs)}`);
    await timeUntil('a view signed by all authorities', 180_000, async () => {
      const { view } = await majorityClient.api.status();
      return (view?.epoch ?? 0) > epochBefore + majorityEpochsMeanwhile && view!.signatures === 3;
    });
    const allSignMs = sinceHealed();
    say(`a view of a new epoch with three signatures after ${seconds(allSignMs)}`);
    for (const { name, api } of all) {
      const alarms = (await api.status()).view?.alarms ?? [];
      if (alarms.length > 0) fail(`${name} has alarms: ${JSON.stringify(alarms)}`);
    }
    await checkNetwork(network, fail);
    return {
      readyMs,
      peersBefore,
      paths,
      partedSeconds,
      majorityEpochsMeanwhile,
      dialWhileParted,
      healed: { sameViewMs, peersMs, allSignMs, dial: healedDial },
    };
  } finally {
    await network.close();
  }
}

/** Chooses many paths and looks at the real addresses of their hops. */
async function checkPaths(network: NyxLab, client: LabNode, fail: (why: string) => void): Promise<Formed['paths']> {
  const seen = new Set<string>();
  let withIpv6 = 0;
  for (let i = 0; i < PATHS; i++) {
    const [choice] = await client.api.paths.choose({ exitTarget: TARGET });
    const hops = choice!.hops.map(({ nodeId }) => network.byId(nodeId));
    const names = hops.map(({ name }) => name);
    seen.add(names.join(' '));
    const subnets = names.map(subnetOf);
    if (new Set(subnets).size !== hops.length)
      fail(`path ${names.join(', ')} uses a subnet twice: ${subnets.join(', ')}`);
    const families = [['4'], ...names.map(familiesOf)];
    if (families.slice(1).some((own, i) => !own.some((family) => families[i]!.includes(family)))) {
      fail(`path ${names.join(', ')} has neighbours without a family of addresses in common, or none with the client`);
    }
    if (hops.at(-1)!.role !== 'exit') fail(`path ${names.join(', ')} does not end at an exit`);
    if (names.includes('mix-6')) withIpv6++;
  }
  return { chosen: PATHS, withIpv6, distinct: seen.size };
}

async function throughIpv6(network: NyxLab, client: LabNode): Promise<number> {
  const nodeIds = ['mix-0', 'mix-6', 'exit-0'].map((name) => network.node(name).nodeId);
  const built = await client.api.paths.build({ nodeIds });
  await client.api.paths.close(built.pathId);
  return built.setupMs;
}

/** What the descriptor says: a node's first address is the one at which it listens. */
function subnetOf(name: string): string {
  const address = nodes.find((spec) => spec.name === name)!.interface.addresses[0]!;
  return address.includes(':') ? address.split(':').slice(0, 2).join(':') : address.split('.').slice(0, 2).join('.');
}

/** Those that a relay listens at, as its descriptor says. */
function familiesOf(name: string): readonly string[] {
  const { addresses } = nodes.find((spec) => spec.name === name)!.interface;
  const listening = isDual(name) ? addresses : addresses.slice(0, 1);
  return listening.map((address) => (address.includes(':') ? '6' : '4'));
}

const isDual = (name: string): boolean => {
  const listen = nodes.find((spec) => spec.name === name)!.config?.listen;
  return Array.isArray(listen) && listen.length > 1;
};

/** As a patient application does it: again until it works. */
async function dial(client: LabNode, isolation: string, target: typeof TARGET): Promise<Dial> {
  const startedMs = performance.now();
  for (let attempts = 1; ; attempts++) {
    try {
      const report = await measureDownload(client.host, target, throughNyx(`nyx;isolation=${isolation}`), {
        sizeBytes: 2_000_000,
        stopAfterMs: 20_000,
      });
      const untilMs = performance.now() - startedMs - report.tookMs;
      return { attempts, dialMs: report.dialMs, untilMs, mbit: (report.bytes * 8) / report.tookMs / 1000 };
    } catch (error) {
      if (performance.now() - startedMs > DIAL_MS) throw error;
    }
  }
}

async function digests(nodes: readonly LabNode[]): Promise<Set<string>> {
  return new Set(await Promise.all(nodes.map(async ({ api }) => (await api.status()).view?.digest ?? 'none')));
}

async function peersOf(nodes: readonly LabNode[]): Promise<Record<string, number>> {
  return Object.fromEntries(
    await Promise.all(
      nodes.map(async ({ name, api }) => [name, (await api.controlPlane())?.peers.length ?? 0] as const),
    ),
  );
}

async function epochOf({ api }: LabNode): Promise<number> {
  return (await api.status()).view?.epoch ?? 0;
}

async function timeUntil(what: string, timeoutMs: number, holds: () => Promise<boolean>): Promise<number> {
  const startedMs = performance.now();
  while (!(await holds())) {
    if (performance.now() - startedMs > timeoutMs) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await delay(250);
  }
  return performance.now() - startedMs;
}
