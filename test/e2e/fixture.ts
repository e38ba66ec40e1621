/** A local network of real daemon processes with a tap on the wire in front of every relay, and their APIs at hand. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type LocalNetwork,
  type LocalNetworkOptions,
  type LocalNode,
  startLocalNetwork,
} from '@nyx/daemon/local-network.ts';
import type { GetNodeInfoResponse, StreamInfo, Traffic } from '@nyx/proto/types.ts';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import { LinkTap } from './link-tap.ts';
import type { HostPort } from './socks-client.ts';

/** Relays load their API when somebody speaks to it for the first time, and here all of them at once. */
const API_LOAD_MS = 60_000;

export interface TappedNode extends LocalNode {
  readonly api: NyxClient;
  /** Relays only. */
  readonly tap: LinkTap | undefined;
}

export class TappedNetwork {
  readonly network: LocalNetwork;
  /** All nodes by NodeID. */
  readonly nodes: ReadonlyMap<string, TappedNode>;
  readonly client: TappedNode;
  readonly socks: HostPort;
  readonly httpConnect: HostPort;

  private constructor(network: LocalNetwork, nodes: readonly TappedNode[]) {
    this.network = network;
    this.nodes = new Map(nodes.map((node) => [node.nodeId, node]));
    this.client = nodes.find(({ role }) => role === 'client')!;
    this.socks = hostPort(this.client.socks);
    this.httpConnect = hostPort(this.client.httpConnect);
  }

  /** `taps` false: relays are reached directly. With taps nothing is built ahead: who counts cells knows whose they are. */
  static async start(options: LocalNetworkOptions & { readonly taps?: boolean } = {}): Promise<TappedNetwork> {
    const { mixes = 3, exits = 1, taps: wantTaps = true } = options;
    /** Known before the daemons start: authorities try to reach them through their taps. */
    const ports = new Map<string, number>();
    const taps = new Map<string, LinkTap>();
    const names = [
      ...Array.from({ length: mixes }, (_, index) => `mix-${index}`),
      ...Array.from({ length: exits }, (_, index) => `exit-${index}`),
    ];
    if (wantTaps) {
      for (const name of names) {
        const port = await freeUdpPort();
        ports.set(name, port);
        taps.set(name, await LinkTap.open(() => port));
      }
    }
    const network = await startLocalNetwork({
      ...(wantTaps && { spareCircuits: 0 }),
      ...options,
      overrides: (role, index) => {
        const tap = taps.get(`${role}-${index}`);
        return {
          ...(tap && { listen: `127.0.0.1:${ports.get(`${role}-${index}`)}`, announce: [`127.0.0.1:${tap.port}`] }),
          ...options.overrides?.(role, index),
        };
      },
    }).catch((error: unknown) => {
      for (const tap of taps.values()) tap.close();
      throw error;
    });
    const clients = await Promise.allSettled(
      network.nodes.map(({ apiSocket }) => connectNyx({ socketPath: apiSocket, connectTimeoutMs: API_LOAD_MS })),
    );
    const failed = clients.find((client) => client.status === 'rejected');
    if (failed !== undefined) {
      // Nobody else could stop it, and a test that fails before it begins would never end.
      for (const client of clients) if (client.status === 'fulfilled') client.value.close();
      for (const tap of taps.values()) tap.close();
      await network.stop();
      throw failed.reason;
    }
    const nodes = network.nodes.map((node, i) => ({
      ...node,
      tap: taps.get(node.name),
      api: (clients[i] as PromiseFulfilledResult<NyxClient>).value,
    }));
    return new TappedNetwork(network, nodes);
  }

  node(name: string): TappedNode {
    return [...this.nodes.values()].find((node) => node.name === name)!;
  }

  get relays(): TappedNode[] {
    return [...this.nodes.values()].filter(({ role }) => role !== 'client');
  }

  get taps(): LinkTap[] {
    return this.relays.flatMap(({ tap }) => (tap === undefined ? [] : [tap]));
  }

  /** Counters of every node that answers, by name. */
  async traffic(): Promise<Map<string, Traffic>> {
    const answers = await Promise.all(
      [...this.nodes.values()].map(async ({ name, api }) => [name, (await api.status()).traffic!] as const),
    );
    return new Map(answers);
  }

  /** The nodes that carry the client's stream to `target` (host:port), first hop first. */
  async pathOf(target: string): Promise<TappedNode[]> {
    const stream = await this.stream(target);
    return stream.nodeIds.map((nodeId) => this.nodes.get(nodeId)!);
  }

  async stream(target: string): Promise<StreamInfo> {
    return await until(`a stream to ${target} with its path`, async () =>
      (await this.client.api.streams.list()).findLast((info) => info.target === target && info.nodeIds.length > 0),
    );
  }

  async stop(): Promise<void> {
    for (const { api } of this.nodes.values()) api.close();
    await this.network.stop();
    for (const tap of this.taps) tap.close();
  }
}

/** Looks every 20 ms until there is something; fails with what was waited for. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 10_000,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadlineMs) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await delay(20);
  }
}

export function hostPort(text: string): HostPort {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

/** The drops of a node, all reasons together. */
export function dropsOf(traffic: Traffic | GetNodeInfoResponse['traffic']): number {
  return Object.values(traffic?.drops ?? {}).reduce((sum, count) => sum + count, 0);
}

/** A port that nobody had a moment ago. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

/** A TCP port of loopback that nobody had a moment ago. */
export async function freeTcpPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
