/**
 * The way in: `connectNyx` to a running daemon. Everything takes an AbortSignal; every failure is a NyxError.
 */
import { EventEmitter } from 'node:events';
import type { AgentOptions } from 'node:http';
import type { AgentOptions as HttpsAgentOptions } from 'node:https';
import type { Client, ClientReadableStream, Metadata } from '@grpc/grpc-js';
import type {
  BuildPathResponse,
  Cheat,
  ControlPlane,
  CrashActorResponse,
  Event,
  GetAnonymityResponse,
  GetNodeInfoResponse,
  GetTopologyResponse,
  ListKeysResponse,
  ListNodesResponse,
  ListPeersResponse,
  MixKey,
  Path,
  PathChoice,
  PathFilter,
  Peer,
  ReloadConfigResponse,
  ResolvedAddress,
  Statistics,
  StreamInfo,
  StreamStatistics,
  UnaryMethod,
} from '@nyx/proto/types.ts';
import { type Dispatcher, fetch as undiciFetch } from 'undici';
import { type DispatcherOptions, NyxHttpAgent, NyxHttpsAgent, nyxDispatcher } from './agents.ts';
import { Connection, type ConnectOptions } from './connection.ts';
import { type DatagramSocketOptions, type DatagramsCall, NyxDatagramSocket } from './datagram-socket.ts';
import { NyxError, toNyxError } from './errors.ts';
import { NyxMessages } from './messages.ts';
import {
  type DataCall,
  type DialOptions,
  type LostStream,
  NyxSocket,
  type PathOptions,
  pathClassNames,
  streamOptions,
} from './socket.ts';

/** How long before the channel's own failure a stream's failure still belongs to the same break. */
const SAME_BREAK_MS = 2_000;

export type NyxEventKind =
  | 'link'
  | 'circuit'
  | 'path'
  | 'session'
  | 'stream'
  | 'guard'
  | 'supervision'
  | 'directory'
  | 'keys'
  | 'p2p'
  | 'cover'
  | 'message'
  | 'cmix'
  | 'config'
  | 'node';

export interface Reconnected {
  /** How long the daemon was out of reach. */
  readonly downMs: number;
  /** Failed attempts in between. */
  readonly attempts: number;
  /** The daemon is another process than before, so circuits and their ids are gone as well. */
  readonly restarted: boolean;
  /** Streams of this client that were open when the connection broke. They are destroyed; nothing is resent. */
  readonly lostStreams: readonly LostStream[];
}

export interface NyxClientEvents {
  /** Every event of the daemon. The first listener opens the subscription, removing the last one closes it. */
  event: [event: Event];
  /** The connection to the daemon broke; it is being re-established. */
  disconnected: [lostStreams: readonly LostStream[]];
  reconnected: [info: Reconnected];
  /** After `close()`. */
  closed: [];
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface BuildPathOptions extends CallOptions {
  readonly hops?: number;
  readonly class?: PathOptions['class'];
  /** An explicit path, first hop first: 3…7 NodeIDs in hex. */
  readonly nodeIds?: readonly string[];
  /** Choose an exit whose policy allows this target. */
  readonly exitTarget?: { readonly host: string; readonly port: number };
  /** How hops are weighed; as the daemon is configured when left out. */
  readonly strategy?: PathStrategyName;
  /** Of `latency`: 0 = as `bandwidth` … 1 = fastest. */
  readonly latencyBias?: number;
  /** Who may be in the path; every list is a restriction. */
  readonly filter?: { readonly [K in keyof PathFilter]?: readonly string[] };
  readonly timeoutMs?: number;
}

export type PathStrategyName = 'uniform' | 'bandwidth' | 'latency' | 'service';

const strategyNames = {
  uniform: 'PATH_STRATEGY_UNIFORM',
  bandwidth: 'PATH_STRATEGY_BANDWIDTH',
  latency: 'PATH_STRATEGY_LATENCY',
  service: 'PATH_STRATEGY_SERVICE',
} as const satisfies Record<PathStrategyName, string>;

function buildRequest(options: BuildPathOptions) {
  const { exitTarget, strategy, latencyBias, filter = {} } = options;
  return {
    hops: options.hops ?? 0,
    pathClass: options.class === undefined ? ('PATH_CLASS_UNSPECIFIED' as const) : pathClassNames[options.class],
    nodeIds: [...(options.nodeIds ?? [])],
    ...(exitTarget && { exitTarget: { ...exitTarget } }),
    strategy: strategy === undefined ? ('PATH_STRATEGY_UNSPECIFIED' as const) : strategyNames[strategy],
    ...(latencyBias !== undefined && { latencyBias }),
    filter: Object.fromEntries(Object.entries(filter).map(([name, list]) => [name, [...(list ?? [])]])),
    timeoutMs: options.timeoutMs ?? 0,
  };
}

/** Connects to a daemon. Rejects with DAEMON_UNREACHABLE (how to start one is in the message), UNAUTHENTICATED, CANCELLED. */
export async function connectNyx(options: ConnectOptions = {}): Promise<NyxClient> {
  const client = new NyxClient(options);
  try {
    await client.open(options);
    return client;
  } catch (error) {
    client.close();
    throw toNyxError(error);
  }
}

export class NyxClient extends EventEmitter<NyxClientEvents> {
  readonly #connection: Connection;
  readonly #sockets = new Set<NyxSocket>();
  readonly #datagramSockets = new Set<NyxDatagramSocket>();
  /** Streams that the daemon took with it, and when. */
  readonly #lost = new Map<NyxSocket, number>();
  #daemonPid = 0;
  #subscription: AbortController | undefined;
  #closed = false;

  /** Applications use `connectNyx`. */
  constructor(options: ConnectOptions) {
    super();
    this.#connection = new Connection(options, {
      onDown: () => this.#onDown(),
      onUp: (downMs, attempts) => void this.#onUp(downMs, attempts),
    });
    this.on('newListener', (name: string | symbol) => {
      if (name === 'event' && !this.#subscription) this.#subscribe();
    });
    this.on('removeListener', (name: string | symbol) => {
      if (name === 'event' && this.listenerCount('event') === 0) {
        this.#subscription?.abort();
        this.#subscription = undefined;
      }
    });
  }

  async open(options: ConnectOptions): Promise<void> {
    await this.#connection.open(options.connectTimeoutMs ?? 5_000, options.signal);
    this.#daemonPid = (await this.status({ signal: options.signal })).pid;
  }

  /** Where the daemon's API is. */
  get where(): string {
    return this.#connection.where;
  }

  /** Opens a stream to `host:port` through the network. Returns at once, as net.connect does; wait for `connect`. */
  dial(options: DialOptions): NyxSocket {
    this.#checkOpen();
    const call = this.#connection.services.stream.data(this.#connection.metadata()) as unknown as DataCall;
    const socket = new NyxSocket(call, options);
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const lost = socket.errored instanceof NyxError && socket.errored.code === 'DAEMON_UNREACHABLE';
      if (lost && socket.streamId !== undefined) this.#lost.set(socket, performance.now());
    });
    return socket;
  }

  /** As `dial`, but settles when the target has answered, with the connected socket. */
  async connect(options: DialOptions): Promise<NyxSocket> {
    const socket = this.dial(options);
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve();
      });
    });
    return socket;
  }

  /** Datagrams through the network, as dgram.Socket. Resolves when the exit has a socket. */
  async createDatagramSocket(options: DatagramSocketOptions = {}): Promise<NyxDatagramSocket> {
    this.#checkOpen();
    const call = this.#connection.services.stream.datagrams(this.#connection.metadata()) as unknown as DatagramsCall;
    const socket = new NyxDatagramSocket(call, options);
    if (!socket.closed) this.#datagramSockets.add(socket);
    socket.once('close', () => this.#datagramSockets.delete(socket));
    await socket.opened;
    return socket;
  }

  /** For `http.request({ agent })`. */
  agent(path: PathOptions = {}, options: AgentOptions = {}): NyxHttpAgent {
    return new NyxHttpAgent((dial) => this.dial(dial), path, options);
  }

  /** For `https.request({ agent })`. */
  httpsAgent(path: PathOptions = {}, options: HttpsAgentOptions = {}): NyxHttpsAgent {
    return new NyxHttpsAgent((dial) => this.dial(dial), path, options);
  }

  /** For `fetch(url, { dispatcher })` of undici, and of Node where its built-in undici is of the same generation. */
  dispatcher(path: PathOptions = {}, options: DispatcherOptions = {}): Dispatcher {
    return nyxDispatcher((dial) => this.dial(dial), path, options);
  }

  /** A `fetch` that runs over Nyx. Its connections are kept for reuse until the returned function's `close()`. */
  fetcher(path: PathOptions = {}, options: DispatcherOptions = {}): typeof undiciFetch & { close(): Promise<void> } {
    const dispatcher = this.dispatcher(path, options);
    const run: typeof undiciFetch = (input, init) => undiciFetch(input, { ...init, dispatcher });
    return Object.assign(run, { close: () => dispatcher.close() });
  }

  /** Addresses of a name, resolved at an exit. */
  async resolve(name: string, options: PathOptions & CallOptions = {}): Promise<ResolvedAddress[]> {
    const { stream } = this.#connection.services;
    const request = { name, options: streamOptions(options) };
    return (await this.#unary(stream, stream.resolve, request, options)).addresses;
  }

  /** Name of a literal address, resolved at an exit; undefined when it has none. */
  async reverse(address: string, options: PathOptions & CallOptions = {}): Promise<string | undefined> {
    const { stream } = this.#connection.services;
    const request = { address, options: streamOptions(options) };
    return (await this.#unary(stream, stream.resolve, request, options)).name;
  }

  /** The node's whole state in one answer. */
  status(options: CallOptions = {}): Promise<GetNodeInfoResponse> {
    const { node } = this.#connection.services;
    return this.#unary(node, node.getNodeInfo, {}, options);
  }

  /**
   * What the classes hide, in bits, as far as the node can know; figures without `bits` say why.
   * @param assumedCellsPerSecond what passes each relay of a path, for the figures of a client, which can't measure it.
   */
  anonymity(options: CallOptions & { readonly assumedCellsPerSecond?: number } = {}): Promise<GetAnonymityResponse> {
    const { node } = this.#connection.services;
    const { assumedCellsPerSecond } = options;
    const request = assumedCellsPerSecond === undefined ? {} : { assumedCellsPerSecond };
    return this.#unary(node, node.getAnonymity, request, options);
  }

  async peers(options: CallOptions = {}): Promise<Peer[]> {
    return (await this.#listPeers(options)).peers;
  }

  /** Peers and figures of the control plane; undefined when the daemon has none. */
  async controlPlane(options: CallOptions = {}): Promise<ControlPlane | undefined> {
    return (await this.#listPeers(options)).controlPlane ?? undefined;
  }

  async #listPeers(options: CallOptions): Promise<ListPeersResponse> {
    const { node } = this.#connection.services;
    return await this.#unary(node, node.listPeers, {}, options);
  }

  readonly paths = {
    list: async (options: CallOptions = {}): Promise<Path[]> => {
      const { path } = this.#connection.services;
      return (await this.#unary(path, path.listPaths, {}, options)).paths;
    },
    /** Settles when the last hop has proved itself. */
    build: (options: BuildPathOptions = {}): Promise<BuildPathResponse> => {
      const { path } = this.#connection.services;
      return this.#unary(path, path.buildPath, buildRequest(options), options);
    },
    /** Paths that `build` could come to, and why, without building them; several share no node. */
    choose: async (options: BuildPathOptions & { readonly count?: number } = {}): Promise<PathChoice[]> => {
      const { path } = this.#connection.services;
      const request = { path: buildRequest(options), count: options.count ?? 0 };
      return (await this.#unary(path, path.choosePaths, request, options)).paths;
    },
    /** Nodes, guards and the hops that circuits join, with what was measured of them. */
    topology: (options: CallOptions = {}): Promise<GetTopologyResponse> => {
      const { path } = this.#connection.services;
      return this.#unary(path, path.getTopology, {}, options);
    },
    close: async (pathId: number, options: CallOptions = {}): Promise<void> => {
      const { path } = this.#connection.services;
      await this.#unary(path, path.closePath, { pathId }, options);
    },
    /** The verified view that paths are chosen from. */
    nodes: (options: CallOptions = {}): Promise<ListNodesResponse> => {
      const { path } = this.#connection.services;
      return this.#unary(path, path.listNodes, {}, options);
    },
  };

  readonly streams = {
    list: async (options: CallOptions = {}): Promise<StreamInfo[]> => {
      const { stream } = this.#connection.services;
      return (await this.#unary(stream, stream.listStreams, {}, options)).streams;
    },
    get: (streamId: number, options: CallOptions = {}): Promise<StreamInfo> => {
      const { stream } = this.#connection.services;
      return this.#unary(stream, stream.getStream, { streamId }, options);
    },
    /**
     * One stream's figures and those of every circuit under its session every `intervalMs` (100…60 000, default 1000),
     * the first at once; ends with the stream.
     */
    watch: (
      streamId: number,
      options: CallOptions & { readonly intervalMs?: number } = {},
    ): AsyncGenerator<StreamStatistics, void, undefined> => {
      const { stream } = this.#connection.services;
      const request = { streamId, intervalMs: options.intervalMs ?? 0 };
      return this.#readOnce((metadata) => stream.statStream(request, metadata), options.signal);
    },
    close: async (streamId: number, options: CallOptions = {}): Promise<void> => {
      const { stream } = this.#connection.services;
      await this.#unary(stream, stream.closeStream, { streamId }, options);
    },
  };

  readonly messages = new NyxMessages(() => {
    this.#checkOpen();
    return {
      service: this.#connection.services.message,
      unary: (service, method, request, options) => this.#unary(service, method, request, options),
      readOnce: (open, signal) => this.#readOnce(open, signal),
      readAcross: (open, signal) => this.#readAcross(open, signal),
    };
  });

  readonly keys = {
    list: (options: CallOptions = {}): Promise<ListKeysResponse> => {
      const { key } = this.#connection.services;
      return this.#unary(key, key.listKeys, {}, options);
    },
    /** Makes the next epoch's mix keys anew and erases the previous epoch's; the present ones are named by the signed view. */
    rotate: async (options: CallOptions = {}): Promise<MixKey[]> => {
      const { key } = this.#connection.services;
      return (await this.#unary(key, key.rotateEpochKeys, {}, options)).mixKeys;
    },
  };

  /**
   * The daemon's events from now on, until `signal` ends the loop or the client is closed. It goes on over a lost
   * connection; a reader that is too slow is told by `event.lost` how many it missed.
   */
  async *events(
    options: CallOptions & {
      readonly kinds?: readonly NyxEventKind[];
      readonly filter?: (event: Event) => boolean;
    } = {},
  ): AsyncGenerator<Event, void, undefined> {
    const { node } = this.#connection.services;
    const open = (metadata: Metadata) => node.watchEvents({ kinds: [...(options.kinds ?? [])] }, metadata);
    for await (const event of this.#readAcross(open, options.signal)) {
      if (!options.filter || options.filter(event)) yield event;
    }
  }

  /** Figures every `intervalMs` (100…60 000, default 1000), the first at once; with `details` those of each path and stream. */
  statistics(
    options: CallOptions & { readonly intervalMs?: number; readonly details?: boolean } = {},
  ): AsyncGenerator<Statistics, void, undefined> {
    const { node } = this.#connection.services;
    const request = { intervalMs: options.intervalMs ?? 0, details: options.details ?? false };
    return this.#readAcross((metadata) => node.watchStatistics(request, metadata), options.signal);
  }

  /**
   * Has the daemon read its configuration file again and go by it, all of it or nothing: `outcome` says what came of it, and what
   * was wrong. `partial`: what needs a restart stays as it is and the rest is applied.
   */
  reloadConfig(options: CallOptions & { readonly partial?: boolean } = {}): Promise<ReloadConfigResponse> {
    const { node } = this.#connection.services;
    return this.#unary(node, node.reloadConfig, { partial: options.partial ?? false }, options);
  }

  /**
   * Gives the daemon evidence against a mix of class cmix (what is in a `.cheat` file): it checks and keeps it, and tells its
   * neighbours. Rejects with BAD_REQUEST if it shows nothing.
   */
  shareEvidence(evidence: Uint8Array, options: CallOptions = {}): Promise<Cheat> {
    const { node } = this.#connection.services;
    return this.#unary(node, node.shareEvidence, { evidence: Buffer.from(evidence) }, options);
  }

  /** Asks the daemon to shut down in order; it answers at once. */
  async shutdown(options: CallOptions & { readonly drainTimeoutMs?: number } = {}): Promise<void> {
    const { node } = this.#connection.services;
    const request = options.drainTimeoutMs === undefined ? {} : { drainTimeoutMs: options.drainTimeoutMs };
    await this.#unary(node, node.shutdown, request, options);
  }

  /** Crashes one supervised child on purpose; PERMISSION_DENIED unless the daemon was configured for it. */
  crashActor(actor: string, options: CallOptions = {}): Promise<CrashActorResponse> {
    const { node } = this.#connection.services;
    return this.#unary(node, node.crashActor, { actor }, options);
  }

  /** Destroys every stream and datagram socket of this client and leaves. The daemon goes on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#subscription?.abort();
    for (const socket of this.#sockets) socket.destroy();
    for (const socket of this.#datagramSockets) socket.close();
    this.#connection.close();
    this.emit('closed');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unary<Req, Res>(
    service: Client,
    method: UnaryMethod<Req, Res>,
    request: Parameters<UnaryMethod<Req, Res>>[0],
    options: CallOptions,
  ): Promise<Res> {
    this.#checkOpen();
    return this.#connection.unary(service, method, request, options.signal);
  }

  /** Until the daemon has said everything, or `signal` ends it. */
  async *#readOnce<Message>(
    open: (metadata: Metadata) => ClientReadableStream<Message>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Message, void, undefined> {
    this.#checkOpen();
    const call = open(this.#connection.metadata());
    const onAbort = () => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
    this.once('closed', onAbort);
    try {
      for await (const message of call as AsyncIterable<Message>) yield message;
    } catch (error) {
      if (!signal?.aborted && !this.#closed) throw toNyxError(error);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.off('closed', onAbort);
      call.cancel();
    }
  }

  async *#readAcross<Message>(
    open: (metadata: Metadata) => ClientReadableStream<Message>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Message, void, undefined> {
    while (!this.#closed && !signal?.aborted) {
      const metadata = this.#connection.metadata();
      metadata.setOptions({ waitForReady: true });
      const call = open(metadata);
      const onAbort = () => call.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
      this.once('closed', onAbort);
      try {
        for await (const message of call as AsyncIterable<Message>) yield message;
        return; // the daemon has said everything, as on its shutdown
      } catch (error) {
        if (signal?.aborted || this.#closed) return;
        const failure = toNyxError(error);
        if (failure.code !== 'DAEMON_UNREACHABLE') throw failure;
      } finally {
        signal?.removeEventListener('abort', onAbort);
        this.off('closed', onAbort);
        call.on('error', () => {}); // cancelling ends the call with an error that nobody waits for
        call.cancel();
      }
    }
  }

  #subscribe(): void {
    const controller = new AbortController();
    this.#subscription = controller;
    const run = async () => {
      for await (const event of this.events({ signal: controller.signal })) this.emit('event', event);
    };
    run().catch((error: unknown) => {
      if (!controller.signal.aborted) this.emit('error' as never, ...([toNyxError(error)] as never));
    });
  }

  #onDown(): void {
    // The calls' failures may arrive just before the channel's; older ones were not part of this break.
    const now = performance.now();
    for (const [socket, at] of this.#lost) if (now - at > SAME_BREAK_MS) this.#lost.delete(socket);
    for (const socket of this.#sockets) if (socket.streamId !== undefined) this.#lost.set(socket, now);
    this.emit('disconnected', this.#lostStreams());
  }

  async #onUp(downMs: number, attempts: number): Promise<void> {
    let pid: number;
    try {
      ({ pid } = await this.status());
    } catch {
      return; // it went down again: the next reconnection reports
    }
    const lostStreams = this.#lostStreams();
    this.#lost.clear();
    const restarted = pid !== this.#daemonPid;
    this.#daemonPid = pid;
    if (!this.#closed) this.emit('reconnected', { downMs, attempts, restarted, lostStreams });
  }

  #lostStreams(): LostStream[] {
    return [...this.#lost.keys()].map((socket) => socket.toLostStream());
  }

  #checkOpen(): void {
    if (this.#closed) throw new NyxError('CANCELLED', 'this client is closed');
  }
}
