/**
 * A whole network on this machine: every node a daemon process of its own, with generated configuration, keys and free
 * ports. Behind `npm start`, `nyx-cli up`, the end-to-end tests and the benchmarks.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BatchRules } from '@nyx/core/mix/batch-records.ts';
import { stringify } from 'yaml';
import type { ConfigInput } from './config/schema.ts';
import { createNativeSuite } from './io/native-suite.ts';
import { type NodeFailure, NodeProcess, type ReadyNode } from './node-process.ts';

export interface LocalNetworkOptions {
  /** Nodes that only relay. Default 3. */
  readonly mixes?: number;
  /** Nodes that relay and are exits, to loopback and other private addresses too. Default 1. */
  readonly exits?: number;
  /** Default 1. */
  readonly clients?: number;
  /** Of the relays, so many are directory authorities as well; more than half of them have to agree. Default 1. */
  readonly authorities?: number;
  /** 3…7. Default 3. */
  readonly hops?: number;
  /** Circuits that clients keep ready. Default: that of the configuration. */
  readonly spareCircuits?: number;
  /** Where configurations, keys and sockets go; default a new folder under the system's temporary one. Removed at stop(). */
  readonly folder?: string;
  /** Allows CrashActor. Default false. */
  readonly allowCrash?: boolean;
  /** Default 3600. */
  readonly epochSeconds?: number;
  /** Of all nodes. Default 'warn'. */
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error';
  readonly udp?: 'auto' | 'gso' | 'plain';
  readonly workers?: number;
  /** How nodes find each other: by asking the authority, or over libp2p from the first node's address alone. Default 'http'. */
  readonly discovery?: 'http' | 'p2p';
  /** Authorities measure the nodes, by 1 MiB each. Default false: those who count cells know whose they are. */
  readonly measureBandwidth?: boolean;
  /** Class cmix: what the authorities say of batches. Default as in every network: 100 cells, 100 ms. */
  readonly batches?: BatchRules;
  /** Port for the first client's SOCKS proxy; default any free one. */
  readonly socksPort?: number;
  readonly httpConnectPort?: number;
  /** Merged over the generated configuration of every node of that role. */
  readonly overrides?: (role: NodeRole, index: number) => Partial<ConfigInput>;
  /** What comes before the command line of a node, as in NodeProcessOptions. */
  readonly launchers?: (role: NodeRole, index: number) => readonly string[] | undefined;
  readonly onProgress?: (progress: LocalNetworkProgress) => void;
  /** A node ended that nobody stopped. */
  readonly onUnexpectedExit?: (failure: NodeFailure) => void;
  /** All nodes have to be ready within this. Default 60 000 and 2000 for each. */
  readonly startTimeoutMs?: number;
}

export type NodeRole = 'authority' | 'mix' | 'exit' | 'client';

export interface LocalNetworkProgress {
  readonly stage: 'starting' | 'ready';
  readonly ready: number;
  readonly total: number;
  readonly node: string;
}

export interface LocalNode extends ReadyNode {
  readonly role: NodeRole;
}

export interface LocalNetwork {
  /** host:port of the first client's proxies. */
  readonly socks: string;
  readonly httpConnect: string;
  /** `unix:/path` of the first client's API. */
  readonly apiSocket: string;
  readonly metrics: string;
  readonly folder: string;
  readonly nodes: readonly LocalNode[];
  readonly clients: readonly LocalNode[];
  /** Nodes that ended although nobody stopped them. */
  readonly failures: readonly NodeFailure[];
  /** SIGTERM to all, SIGKILL to who is still there after the time; then the folder goes. */
  stop(timeoutMs?: number): Promise<void>;
}

const MIN_RELAYS = 3;

/** Resolves when every node has verified the full view and every client's proxies answer. Rejects with what went wrong. */
export const startLocalNetwork = async (options: LocalNetworkOptions = {}): Promise<LocalNetwork> => {
  const { mixes = 3, exits = 1, clients = 1, hops = 3, authorities: authorityCount = 1, onProgress } = options;
  checkCounts(mixes, exits, clients, hops, authorityCount);
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'nyx-'));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const specs: NodeSpec[] = [
    ...Array.from({ length: mixes }, (_, index) => ({ role: 'mix' as const, index, name: `mix-${index}` })),
    ...Array.from({ length: exits }, (_, index) => ({ role: 'exit' as const, index, name: `exit-${index}` })),
    ...Array.from({ length: clients }, (_, index) => ({ role: 'client' as const, index, name: `client-${index}` })),
  ];
  const relays = mixes + exits;
  const authorities = await makeAuthorities(folder, authorityCount);

  const processes: NodeProcess[] = [];
  const failures: NodeFailure[] = [];
  let stopping = false;
  const onExit = (failure: NodeFailure) => {
    if (stopping) return;
    failures.push(failure);
    options.onUnexpectedExit?.(failure);
  };
  const stop = async (timeoutMs = 10_000): Promise<void> => {
    stopping = true;
    await Promise.all(processes.map((node) => node.stop(timeoutMs)));
    rmSync(folder, { recursive: true, force: true });
  };

  let ready = 0;
  const launch = async (spec: NodeSpec, first: LocalNode | undefined): Promise<LocalNode> => {
    onProgress?.({ stage: 'starting', ready, total: specs.length, node: spec.name });
    const config = configOf(spec, { options, folder, hops, relays, authorities, first });
    const path = join(folder, `${spec.name}.yaml`);
    writeFileSync(path, stringify(config), { mode: 0o600 });
    const launcher = options.launchers?.(spec.role, spec.index);
    const node = new NodeProcess(spec.name, path, { onUnexpectedExit: onExit, ...(launcher && { launcher }) });
    processes.push(node);
    const started = { ...(await node.ready(options.startTimeoutMs ?? 60_000 + 2000 * specs.length)), role: spec.role };
    ready++;
    onProgress?.({ stage: 'ready', ready, total: specs.length, node: spec.name });
    return started;
  };

  try {
    // The first relay is an authority as well, so that its address is known to the others.
    const [first, ...others] = specs;
    const authority = await launch(first!, undefined);
    const nodes = [authority, ...(await Promise.all(others.map((spec) => launch(spec, authority))))];
    const clientNodes = nodes.filter((node) => node.role === 'client');
    const client = clientNodes[0] ?? authority;
    const { socks, httpConnect, apiSocket, metrics } = client;
    return { socks, httpConnect, apiSocket, metrics, folder, nodes, clients: clientNodes, failures, stop };
  } catch (error) {
    await stop(2000);
    throw error;
  }
};

interface NodeSpec {
  readonly role: NodeRole;
  readonly index: number;
  readonly name: string;
}

interface Environment {
  readonly options: LocalNetworkOptions;
  readonly folder: string;
  readonly hops: number;
  readonly relays: number;
  readonly authorities: readonly LocalAuthority[];
  /** The node that was started first; undefined: this is it. */
  readonly first: LocalNode | undefined;
}

/** The i-th relay has the i-th of them. */
interface LocalAuthority {
  readonly publicKey: string;
  readonly keyFile: string;
  readonly listen: string;
}

const makeAuthorities = async (folder: string, count: number): Promise<LocalAuthority[]> => {
  const ports = count === 1 ? [0] : await freePorts(count);
  return ports.map((port, i) => {
    const seed = randomBytes(32);
    const key = createNativeSuite().ed25519(seed);
    const keyFile = join(folder, `authority-${i}.key`);
    writeFileSync(keyFile, `${seed.toString('hex')}\n`, { mode: 0o600 });
    const publicKey = Buffer.from(key.publicKey).toString('hex');
    key.wipe();
    seed.fill(0);
    return { publicKey, keyFile, listen: `127.0.0.1:${port}` };
  });
};

/** Authorities have to know each other's addresses before the first of them runs. */
const freePorts = async (count: number): Promise<number[]> => {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
};

const checkCounts = (mixes: number, exits: number, clients: number, hops: number, authorities: number): void => {
  for (const [name, value] of Object.entries({ mixes, exits, clients })) {
    if (!Number.isInteger(value) || value < 0 || value > 1000)
      throw new RangeError(`${name} must be 0…1000, got ${value}`);
  }
  if (!Number.isInteger(hops) || hops < 3 || hops > 7) throw new RangeError(`hops must be 3…7, got ${hops}`);
  if (exits < 1) throw new RangeError('exits must be at least 1');
  if (!Number.isInteger(authorities) || authorities < 1 || authorities > mixes + exits) {
    throw new RangeError(`authorities must be 1…${mixes + exits}, one for each relay at most, got ${authorities}`);
  }
  if (mixes + exits < Math.max(MIN_RELAYS, hops)) {
    throw new RangeError(`${hops} hops need at least ${hops} relays (mixes + exits), got ${mixes + exits}`);
  }
};

const configOf = (spec: NodeSpec, environment: Environment): ConfigInput => {
  const { options, folder, hops, first } = environment;
  const { role, index, name } = spec;
  const isRelay = role !== 'client';
  const port = (wanted: number | undefined) => `127.0.0.1:${index === 0 ? (wanted ?? 0) : 0}`;
  return {
    dataDir: join(folder, name),
    roles: role === 'client' ? ['client'] : role === 'exit' ? ['mix', 'exit', 'mailbox'] : ['mix'],
    ...(isRelay ? { listen: '127.0.0.1:0' } : {}),
    ...(isRelay ? {} : { proxies: { socks: port(options.socksPort), httpConnect: port(options.httpConnectPort) } }),
    ...(role === 'exit' ? { exit: { policy: ['accept *:*'], allowPrivate: true } } : {}),
    // Packets of messages may have no more hops than there are relays, and here nobody need wait long.
    messages: { hops: Math.max(3, Math.min(5, environment.relays)), packetsPerSecond: 20 },
    path: {
      hops,
      allowSameSubnet: true,
      ...(options.spareCircuits === undefined ? {} : { spareCircuits: options.spareCircuits }),
    },
    epochSeconds: options.epochSeconds ?? 3600,
    udp: options.udp ?? 'auto',
    workers: options.workers ?? 1,
    ...directoryOf(spec, environment),
    ...(options.discovery === 'p2p' ? { p2p: controlPlaneOf(isRelay, first) } : {}),
    api: { socket: join(folder, name, 'api.sock') },
    metrics: { listen: '127.0.0.1:0' },
    log: { level: options.logLevel ?? 'warn' },
    shutdown: { drainTimeoutMs: 1000 },
    debug: { allowCrash: options.allowCrash ?? false },
    ...options.overrides?.(role, index),
  };
};

/** Who signs, where to ask, and what an authority needs. */
const directoryOf = (spec: NodeSpec, environment: Environment): Pick<ConfigInput, 'directory' | 'authority'> => {
  const { options, relays, authorities, first } = environment;
  const position = spec.role === 'exit' ? relays - (options.exits ?? 1) + spec.index : spec.index;
  const own = spec.role === 'client' ? undefined : authorities[position];
  const others = authorities.filter((authority) => authority !== own);
  const urls =
    authorities.length > 1
      ? others.map(({ listen }) => `http://${listen}`)
      : first === undefined
        ? []
        : [`http://${first.directory}`];
  return {
    directory: {
      authorities: { keys: authorities.map(({ publicKey }) => publicKey) },
      sources: options.discovery === 'p2p' && own === undefined ? [] : urls,
      ...(own === undefined ? {} : { listen: own.listen }),
      refreshSeconds: 5,
    },
    ...(own === undefined
      ? {}
      : {
          authority: {
            keyFile: own.keyFile,
            minNodes: relays,
            peers: others.map(({ publicKey, listen }) => ({ key: publicKey, url: `http://${listen}` })),
            ...(authorities.length > 1 ? { phaseMs: phaseMsOf(authorities.length, options.epochSeconds ?? 3600) } : {}),
            measure: { bytesPerNode: 1 << 20, ...(options.measureBandwidth ? {} : { bytesPerEpoch: 0 }) },
            // All nodes are new, in one subnet, and share this machine.
            params: {
              maxPerSubnet: 0,
              maxPerFamily: 0,
              rampEpochs: 1,
              puzzleBits: 2,
              puzzleMemoryKib: 8192,
              ...(options.batches && { cmixCells: options.batches.cells, cmixDelayMs: options.batches.delayMs }),
            },
          },
        }),
  };
};

/** Here clocks do not differ and the network is fast, so that nobody need wait for long. */
const phaseMsOf = (authorities: number, epochSeconds: number): number => {
  const faults = Math.ceil(authorities / 2) - 1;
  return Math.min(1000, Math.floor((epochSeconds * 1000) / (4 * (faults + 3))));
};

/** Everybody shares one address here, so the limits by subnet and address would be everybody's. */
const controlPlaneOf = (isRelay: boolean, first: LocalNode | undefined): ConfigInput['p2p'] => ({
  enabled: true,
  listen: isRelay ? ['/ip4/127.0.0.1/tcp/0'] : [],
  bootstrap: first === undefined ? [] : [first.p2p],
  allowPrivate: true,
  limits: { maxPerSubnet: 1000, inboundPerSecond: 1000 },
});
