/** Daemons on the hosts of a lab, one each, configured as operators would: real addresses, no exceptions for one machine. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConfigInput } from '@nyx/daemon/config/schema.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type NodeFailure, NodeProcess, type ReadyNode } from '@nyx/daemon/node-process.ts';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import { type InterfaceOptions, isRunning, Lab, type LabHost } from './lab.ts';

export interface LabNodeSpec {
  readonly name: string;
  readonly role: 'mix' | 'exit' | 'client';
  /** Directory authority as well. */
  readonly authority?: boolean;
  readonly interface: InterfaceOptions;
  /** Merged over what is made here, key by key of the outermost level. */
  readonly config?: Partial<ConfigInput>;
}

export interface NyxLabOptions {
  readonly seed: number;
  readonly nodes: readonly LabNodeSpec[];
  /** `p2p`: nodes know authorities' keys and one bootstrap address; `http`: the authorities' URLs. */
  readonly discovery: 'http' | 'p2p';
  readonly epochSeconds?: number;
  /** Of voting, with several authorities. */
  readonly phaseMs?: number;
  /** Authorities measure what relays carry. Default false: scenarios want the lines for themselves. */
  readonly measuresBandwidth?: boolean;
  readonly startTimeoutMs?: number;
  readonly say: (line: string) => void;
}

export interface LabNode extends ReadyNode {
  readonly role: LabNodeSpec['role'];
  readonly host: LabHost;
  readonly api: NyxClient;
  /** When the process said that it is ready, after its start. */
  readonly readyMs: number;
  readonly configPath: string;
}

/** `FOLDER-PID-…`. */
const FOLDER = 'nyx-netns';
const LINK_PORT = 9001;
const DIRECTORY_PORT = 9030;
const P2P_PORT = 9040;

export class NyxLab {
  readonly lab: Lab;
  readonly folder: string;
  readonly nodes = new Map<string, LabNode>();
  readonly failures: NodeFailure[] = [];
  readonly #options: NyxLabOptions;
  readonly #authorities: readonly Authority[];
  readonly #processes = new Set<NodeProcess>();

  private constructor(options: NyxLabOptions) {
    this.#options = options;
    this.lab = Lab.open(options.seed);
    removeAbandoned();
    this.folder = mkdtempSync(join(tmpdir(), `${FOLDER}-${process.pid}-`));
    this.#authorities = options.nodes
      .filter(({ authority }) => authority)
      .map((spec) => makeAuthority(spec, this.folder));
  }

  /** All nodes at once, as when power comes back; resolves when the last one is ready. */
  static async start(options: NyxLabOptions): Promise<NyxLab> {
    const network = new NyxLab(options);
    try {
      for (const spec of options.nodes) await network.lab.addHost(spec.name, spec.interface);
      const startedMs = performance.now();
      await Promise.all(options.nodes.map((spec) => network.launch(spec)));
      options.say(`${options.nodes.length} daemons ready after ${seconds(performance.now() - startedMs)}`);
      return network;
    } catch (error) {
      await network.close();
      throw error;
    }
  }

  get clients(): readonly LabNode[] {
    return [...this.nodes.values()].filter(({ role }) => role === 'client');
  }

  node(name: string): LabNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new RangeError(`no node ${name}`);
    return node;
  }

  byId(nodeId: string): LabNode {
    return [...this.nodes.values()].find((node) => node.nodeId === nodeId)!;
  }

  /** Starts the daemon of this node, whose host is there. */
  async launch(spec: LabNodeSpec): Promise<LabNode> {
    const host = this.lab.hosts.get(spec.name)!;
    const configPath = join(this.folder, `${spec.name}.json`);
    // JSON is YAML.
    writeFileSync(configPath, JSON.stringify(this.#configOf(spec), null, 1), { mode: 0o600 });
    const startedMs = performance.now();
    const process = new NodeProcess(spec.name, configPath, {
      launcher: host.launcher,
      onUnexpectedExit: (failure) => {
        this.failures.push(failure);
        this.#options.say(`${failure.name} ended (${failure.signal ?? `code ${failure.code}`})`);
      },
    });
    this.#processes.add(process);
    const ready = await process.ready(this.#options.startTimeoutMs ?? 150_000);
    const readyMs = performance.now() - startedMs;
    const api = await connectNyx({ socketPath: ready.apiSocket, connectTimeoutMs: 20_000 });
    const node: LabNode = { ...ready, role: spec.role, host, api, readyMs, configPath };
    this.nodes.set(spec.name, node);
    return node;
  }

  async close(): Promise<void> {
    for (const { api } of this.nodes.values()) api.close();
    await Promise.all([...this.#processes].map((process) => process.stop(5000)));
    await this.lab.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #configOf(spec: LabNodeSpec): ConfigInput {
    const { discovery, epochSeconds = 3600 } = this.#options;
    const { name, role, authority } = spec;
    const address = spec.interface.addresses[0]!;
    const isRelay = role !== 'client';
    const own = this.#authorities.find((candidate) => candidate.name === name);
    const others = this.#authorities.filter((candidate) => candidate !== own);
    const usesHttp = discovery === 'http' || authority === true;
    return {
      dataDir: join(this.folder, name),
      roles: role === 'client' ? ['client'] : role === 'exit' ? ['mix', 'exit'] : ['mix'],
      ...(isRelay && { listen: linkAddress(address) }),
      ...(role === 'exit' && { exit: { policy: ['accept *:*'], allowPrivate: true } }),
      // The hosts of a lab have private addresses.
      path: { allowPrivateTargets: true },
      epochSeconds,
      directory: {
        authorities: { keys: this.#authorities.map(({ publicKey }) => publicKey) },
        sources: usesHttp ? others.map(({ url }) => url) : [],
        ...(own && { listen: bracketed(address, DIRECTORY_PORT) }),
        refreshSeconds: 5,
      },
      ...(own && {
        authority: {
          keyFile: own.keyFile,
          minNodes: this.#options.nodes.filter((node) => node.role !== 'client').length,
          peers: others.map(({ publicKey, url }) => ({ key: publicKey, url })),
          ...(others.length > 0 && { phaseMs: this.#options.phaseMs ?? 1500 }),
          ...(!this.#options.measuresBandwidth && { measure: { bytesPerEpoch: 0 } }),
          // All nodes are new, and two cores solve all of their puzzles.
          params: { rampEpochs: 1, puzzleBits: 2, puzzleMemoryKib: 8192 },
        },
      }),
      ...(discovery === 'p2p' && {
        p2p: {
          enabled: true,
          listen: isRelay ? [multiaddr(address)] : [],
          bootstrap:
            name === this.#options.nodes[0]!.name ? [] : [multiaddr(this.#options.nodes[0]!.interface.addresses[0]!)],
          allowPrivate: true,
        },
      }),
      api: { socket: join(this.folder, name, 'api.sock') },
      log: { level: 'info' },
      shutdown: { drainTimeoutMs: 500 },
      ...spec.config,
    };
  }
}

/** Data of runs that were killed. */
function removeAbandoned(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${FOLDER}-(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

interface Authority {
  readonly name: string;
  readonly publicKey: string;
  readonly keyFile: string;
  readonly url: string;
}

function makeAuthority(spec: LabNodeSpec, folder: string): Authority {
  const seed = randomBytes(32);
  const pair = createNativeSuite().ed25519(seed);
  const keyFile = join(folder, `${spec.name}.authority.key`);
  writeFileSync(keyFile, `${seed.toString('hex')}\n`, { mode: 0o600 });
  const publicKey = Buffer.from(pair.publicKey).toString('hex');
  pair.wipe();
  seed.fill(0);
  return {
    name: spec.name,
    publicKey,
    keyFile,
    url: `http://${bracketed(spec.interface.addresses[0]!, DIRECTORY_PORT)}`,
  };
}

/** Where a host of this address accepts links. */
export const linkAddress = (address: string): string => bracketed(address, LINK_PORT);

export function multiaddr(address: string): string {
  return `/${address.includes(':') ? 'ip6' : 'ip4'}/${address}/tcp/${P2P_PORT}`;
}

function bracketed(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
