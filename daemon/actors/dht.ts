/**
 * The control plane as a supervised actor: opening → maintaining ⇄ waiting → closing. A crash takes the libp2p peer with
 * it and the next one is opened at the same addresses; what listens for descriptors and the own descriptor outlive it.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { fromPromise, setup } from 'xstate';
import type { SealedFiles } from '../directory/sealed-files.ts';
import {
  type DescriptorFeed,
  type DescriptorListener,
  type P2pOptions,
  type P2pPorts,
  type P2pState,
  type ViewPort,
  zeroCounters,
} from '../p2p/contract.ts';
import type { P2pNode } from '../p2p/node.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildContext, ChildSpec } from '../supervision/supervise.ts';
import type { NodeContext } from './context.ts';

const KEY_FILE = 'p2p.key';
const SEED_BYTES = 32;
const ASK_AGAIN_MS = 250;

export interface ControlPlaneDependencies {
  readonly files: SealedFiles;
  readonly identity: SignKeyPair;
  readonly authority: SignKeyPair | undefined;
  /** Public keys of the authorities that are trusted. */
  readonly authorities: readonly Uint8Array[];
  readonly view: ViewPort;
  readonly params: P2pPorts['params'];
  readonly onRefusedParams: P2pPorts['onRefusedParams'];
}

export class ControlPlane implements DescriptorFeed {
  readonly #context: NodeContext;
  readonly #dependencies: ControlPlaneDependencies;
  readonly #listeners = new Set<DescriptorListener>();
  readonly #counters = zeroCounters();
  /** With the ports that were had, once it has listened. */
  #listen: readonly string[];
  #node: P2pNode | undefined;
  #closed: Promise<void> = Promise.resolve();
  #own: { readonly nodeId: string; readonly descriptor: Uint8Array; readonly expiresAtUnixMs: number } | undefined;

  constructor(context: NodeContext, dependencies: ControlPlaneDependencies) {
    this.#context = context;
    this.#dependencies = dependencies;
    this.#listen = context.config.p2p.listen;
  }

  subscribe(listener: DescriptorListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The own descriptor, whenever there is a new one. */
  publish(nodeId: string, descriptor: Uint8Array, expiresAtUnixMs: number): void {
    this.#own = { nodeId, descriptor, expiresAtUnixMs };
    this.#handOver();
  }

  /** The parameters that some trusted authority goes by, encoded. Undefined: none was reached in the time. */
  async askParams(timeoutMs: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const untilMs = this.#context.timers.nowMs() + timeoutMs;
    for (;;) {
      const params = await this.#node?.askParams(signal);
      if (params !== undefined || this.#context.timers.nowMs() >= untilMs) return params;
      await new Promise<void>((resolve) => this.#context.timers.after(ASK_AGAIN_MS, resolve));
      signal.throwIfAborted();
    }
  }

  /** Undefined while it is down. */
  state(): P2pState | undefined {
    return this.#node?.state();
  }

  get counters(): P2pState['counters'] {
    return this.#counters;
  }

  async open(): Promise<void> {
    await this.#closed;
    const { config, suite, random, unixMs, log } = this.#context;
    const { files, identity, authority, authorities, view, params, onRefusedParams } = this.#dependencies;
    // A client tells nobody who it is, and is a new peer at every start.
    const isNode = config.roles.some((role) => role !== 'client') || authority !== undefined;
    const keySeed = isNode ? loadSeed(files) : randomBytes(SEED_BYTES);
    const { bootstrap, announce, mdns, allowPrivate, limits } = config.p2p;
    const databaseFile = join(config.dataDir, 'p2p.sqlite');
    const options: P2pOptions = {
      ...{ bootstrap, announce, mdns, allowPrivate, limits },
      ...{ listen: this.#listen, databaseFile, keySeed },
    };
    const ports: P2pPorts = {
      ...{ suite, random, unixMs, log, view, params, onRefusedParams, authority, authorities },
      identity: isNode ? identity : undefined,
    };
    // Loaded only where it is used: it costs memory.
    const { P2pNode } = await import('../p2p/node.ts');
    this.#node = await P2pNode.start(options, ports, this.#counters);
    keySeed.fill(0);
    this.#listen = withPorts(this.#listen, this.#node.addresses);
    this.#node.feed.subscribe(async (descriptor) => {
      if (this.#listeners.size === 0) throw new Error('nobody takes descriptors here');
      for (const listener of this.#listeners) await listener(descriptor);
    });
    this.#handOver();
    log('info', 'control plane is up', { addresses: this.#node.addresses.length });
    this.#context.events.publish('p2p', 'up', this.#node.state().peerId);
  }

  async maintain(signal: AbortSignal): Promise<void> {
    await this.#node?.maintain(signal);
  }

  get sleepMs(): number {
    return this.#node?.sleepMs ?? 1000;
  }

  /** May be called twice. */
  close(): Promise<void> {
    const node = this.#node;
    this.#node = undefined;
    if (node !== undefined) this.#closed = node.stop();
    return this.#closed;
  }

  #handOver(): void {
    if (this.#own === undefined) return;
    const { nodeId, descriptor, expiresAtUnixMs } = this.#own;
    const lifetimeMs = expiresAtUnixMs - this.#context.unixMs();
    if (lifetimeMs > 0) this.#node?.publish(nodeId, descriptor, lifetimeMs);
  }
}

/** The listen addresses with the ports that the system chose where the configuration says 0. */
const withPorts = (listen: readonly string[], actual: readonly string[]): string[] =>
  listen.map((address) => {
    if (!/\/tcp\/0(\/|$)/.test(address)) return address;
    const isWebSocket = address.endsWith('/ws');
    const family = address.slice(0, 5);
    const had = actual.find((text) => text.startsWith(family) && /\/ws(\/|$)/.test(text) === isWebSocket);
    const port = had === undefined ? undefined : /\/tcp\/(\d+)/.exec(had)?.[1];
    return port === undefined ? address : address.replace('/tcp/0', `/tcp/${port}`);
  });

/** The libp2p key of a node stays the same, so that others find it again. Throws KeyStoreError. */
const loadSeed = (files: SealedFiles): Buffer => {
  const held = files.read(KEY_FILE);
  if (held?.length === SEED_BYTES) return held;
  const seed = randomBytes(SEED_BYTES);
  files.write(KEY_FILE, seed);
  return seed;
};

interface Input {
  readonly plane: ControlPlane;
  readonly child: ChildContext;
}

const machine = setup({
  types: {} as { context: Input; input: Input; events: { type: 'check' } | { type: 'stop' } },
  actors: {
    open: fromPromise<void, Input>(async ({ input: { plane, child } }) => {
      child.signal.addEventListener('abort', () => {
        // What goes wrong in closing what has crashed is of no more consequence.
        plane.close().catch(() => {});
      });
      await plane.open();
      if (child.signal.aborted) await plane.close();
    }),
    maintain: fromPromise<void, Input>(({ input, signal }) => input.plane.maintain(signal)),
    close: fromPromise<void, Input>(({ input }) => input.plane.close()),
  },
  delays: { untilDue: ({ context }) => context.plane.sleepMs },
}).createMachine({
  id: 'dht',
  context: ({ input }) => input,
  initial: 'opening',
  states: {
    opening: {
      invoke: { src: 'open', input: ({ context }) => context, onDone: 'maintaining' },
      on: { stop: 'closing' },
    },
    maintaining: {
      invoke: { src: 'maintain', input: ({ context }) => context, onDone: 'waiting' },
      on: { stop: 'closing' },
    },
    waiting: { after: { untilDue: 'maintaining' }, on: { check: 'maintaining', stop: 'closing' } },
    closing: { invoke: { src: 'close', input: ({ context }) => context, onDone: 'closed' } },
    closed: { type: 'final' },
  },
});

export const dhtChild = (context: NodeContext, plane: ControlPlane): ChildSpec =>
  actorChild({
    id: 'dht',
    machine,
    input: (child) => ({ plane, child }),
    timers: context.timers,
    // Maintenance begins once it listens.
    readyState: 'maintaining',
    stopEvent: { type: 'stop' },
    shutdownMs: 5000,
    inboxLimit: 8,
  });
