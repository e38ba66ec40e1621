/**
 * The directory actor: keeps the view fresh, publishes the own descriptor, runs the authority and serves the view where
 * that is configured. loading → refreshing ⇄ waiting; a failed refresh is a shorter wait, never an end.
 */
import { join } from 'node:path';
import {
  type DescriptorFields,
  encodeDescriptor,
  nodeIdHex,
  signDescriptor,
  toContact,
} from '@nyx/core/directory/descriptor.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { fromPromise, setup } from 'xstate';
import type { Authority } from '../directory/authority.ts';
import { DirectoryClient, type HeldView } from '../directory/directory-client.ts';
import type { DirectoryServerHost } from '../directory/directory-server.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { type NodeContext, unixSeconds } from './context.ts';
import type { EpochKeys } from './epoch-keys.ts';
import type { PumpPool } from './pump-pool.ts';

/** While there is no view at all: the first waits. */
const FIRST_RETRY_MS = 100;

export class Directory {
  readonly #context: NodeContext;
  readonly #keys: EpochKeys;
  readonly #pool: PumpPool;
  readonly #authority: Authority | undefined;
  readonly client: DirectoryClient;
  #published: Uint8Array | undefined;
  #lastPublished = 0;
  #unpublished = false;
  #failures = 0;
  readonly #onView: (view: HeldView) => void;
  /** Told of every new descriptor of this node; set when there is a control plane to carry it. */
  onDescriptor: ((nodeId: string, descriptor: Uint8Array, expiresAtUnixMs: number) => void) | undefined;

  constructor(
    context: NodeContext,
    keys: EpochKeys,
    pool: PumpPool,
    authority: Authority | undefined,
    onView: (view: HeldView) => void,
  ) {
    this.#context = context;
    this.#keys = keys;
    this.#pool = pool;
    this.#authority = authority;
    this.#onView = onView;
    const { config } = context;
    const configured = config.directory.authorities;
    const trusted =
      configured.keys.length > 0
        ? configured.keys.map((key) => new Uint8Array(Buffer.from(key, 'hex')))
        : [authority!.publicKey];
    this.client = new DirectoryClient(
      {
        authorities: { threshold: configured.threshold ?? Math.floor(trusted.length / 2) + 1, keys: trusted },
        sources: config.directory.sources,
        viewFile: join(config.dataDir, 'view.bin'),
      },
      {
        suite: context.suite,
        unixSeconds: () => unixSeconds(context),
        onView: (view) => this.#accepted(view),
        onProblem: (message) => this.#problem(message),
      },
    );
  }

  get threshold(): number {
    return this.client.options.authorities.threshold;
  }

  get view(): HeldView | undefined {
    return this.client.held;
  }

  /** Node's contact with the mix key of the present epoch only: that is what a set-up must be sealed to. */
  contactOf(nodeId: string): NodeContact | undefined {
    const descriptor = this.view?.verified.byId.get(nodeId);
    if (descriptor === undefined) return undefined;
    const { epoch } = this.#keys;
    const mixKeys = descriptor.mixKeys.filter((keys) => keys.epoch <= epoch).slice(-1);
    return { ...toContact(descriptor), mixKeys };
  }

  /** Tells the pumps who is who. */
  pushView(): void {
    const { view } = this;
    if (view === undefined) return;
    const contacts = view.verified.nodes.flatMap(
      (node) => this.contactOf(Buffer.from(node.nodeId).toString('hex')) ?? [],
    );
    this.#pool.setView(contacts);
  }

  /** The descriptor has to be made and published again (new keys, a new address). */
  changed(): void {
    this.#published = undefined;
    this.#unpublished = true;
  }

  load(): void {
    this.client.load();
    if (this.#context.config.roles.some((role) => role !== 'client')) this.#unpublished = true;
  }

  /** One round: publish what is due, sign what is due, fetch what is newer. */
  async refresh(signal: AbortSignal): Promise<void> {
    await this.#publish(signal);
    this.#sign();
    if (!this.#isCurrent) await this.client.refresh(signal);
    if (this.#isCurrent && !this.#unpublished) this.#failures = 0;
    else this.#failures++;
  }

  /** Until the next round; spread, so that not all clients ask at once. */
  get sleepMs(): number {
    const { config } = this.#context;
    const refreshMs = config.directory.refreshSeconds * 1000;
    if (this.#authority !== undefined) return Math.min(refreshMs, this.view === undefined ? 200 : 1000);
    if (!this.#isCurrent || this.#unpublished) {
      return this.#jitter(Math.min(refreshMs, FIRST_RETRY_MS * 1.3 ** Math.min(this.#failures, 60)));
    }
    const epochMs = config.epochSeconds * 1000;
    const toBoundaryMs = epochMs - (this.#context.unixMs() % epochMs);
    return Math.min(refreshMs, toBoundaryMs + this.#jitter(Math.min(epochMs / 20, 30_000)));
  }

  /** A bundle that some peer gave. True: it verified and is newer than what was held. Throws DirectoryError. */
  offer(bytes: Uint8Array): boolean {
    return this.client.offer(bytes);
  }

  serverHost(): DirectoryServerHost {
    const authority = this.#authority;
    return {
      view: () => this.view,
      submit:
        authority === undefined
          ? undefined
          : (bytes) => {
              authority.submit(bytes, unixSeconds(this.#context));
              this.#sign();
            },
    };
  }

  get #isCurrent(): boolean {
    return this.view !== undefined && this.view.verified.epoch >= this.#keys.epoch;
  }

  #jitter(meanMs: number): number {
    const byte = new Uint8Array(1);
    this.#context.random.fill(byte);
    return meanMs * (0.75 + (0.5 * byte[0]!) / 255);
  }

  #sign(): void {
    const bundle = this.#authority?.sign(unixSeconds(this.#context));
    if (bundle !== undefined) this.client.take(bundle);
    else if (this.view === undefined && this.#authority?.bundle !== undefined) this.client.take(this.#authority.bundle);
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const relays = this.#context.config.roles.some((role) => role !== 'client');
    if (!relays || !this.#unpublished || this.#pool.addresses.listen === undefined) return;
    if (this.#published === undefined) {
      const descriptor = this.#describe();
      this.#published = descriptor.bytes;
      this.onDescriptor?.(nodeIdHex(descriptor.nodeId), descriptor.bytes, descriptor.expires * 1000);
    }
    if (this.#authority !== undefined) {
      this.#authority.submit(this.#published, unixSeconds(this.#context));
      this.#unpublished = false;
      return;
    }
    if (this.client.options.sources.length === 0 && this.onDescriptor !== undefined) {
      // The control plane goes on until the authorities have it.
      this.#unpublished = false;
      return;
    }
    const taken = await this.client.publish(this.#published, signal);
    if (taken === 0) return;
    this.#unpublished = false;
    this.#context.log('info', 'descriptor published', { authorities: taken });
    this.#context.events.publish('directory', 'published', '', { authorities: taken });
  }

  #describe(): { readonly nodeId: Uint8Array; readonly bytes: Uint8Array; readonly expires: number } {
    const { config, suite } = this.#context;
    const { store } = this.#keys;
    const { listen } = this.#pool.addresses;
    const addresses = config.announce.length > 0 ? config.announce : [listen!];
    const isExit = config.roles.includes('exit');
    const { epoch } = this.#keys;
    // Two descriptors of one second must still be told apart by age.
    const published = Math.max(unixSeconds(this.#context), this.#lastPublished);
    this.#lastPublished = published;
    const fields: DescriptorFields = {
      identity: store.identity.publicKey,
      linkX25519: store.linkX25519,
      linkKem: store.linkKem,
      mixKeys: store.mixPublicKeys().filter((keys) => keys.epoch >= epoch),
      addresses: addresses.map(({ host, port }) => ({ address: host, port })),
      roles: { mix: config.roles.includes('mix'), exit: isExit },
      exitPolicy: isExit ? config.exit.policy : [],
      family: config.family,
      compliance: 'core',
      bandwidthBytesPerSecond: config.bandwidthBytesPerSecond,
      ...(config.region === undefined ? {} : { region: config.region }),
      published,
      expires: published + Math.min(7 * 86_400, 3 * config.epochSeconds),
    };
    const descriptor = signDescriptor(fields, store.identity, suite);
    return { nodeId: descriptor.nodeId, bytes: encodeDescriptor(descriptor), expires: descriptor.expires };
  }

  #accepted(view: HeldView): void {
    const { epoch, nodes } = view.verified;
    if (view.verified.view.epochSeconds !== this.#context.config.epochSeconds) {
      this.#problem(
        `the view's epochs last ${view.verified.view.epochSeconds} s, ours ${this.#context.config.epochSeconds} s; set epochSeconds to match`,
      );
    }
    this.#context.log('info', 'view verified', { epoch, nodes: nodes.length });
    this.#context.events.publish('directory', 'refreshed', epoch, { epoch, nodes: nodes.length, digest: view.digest });
    this.pushView();
    this.#onView(view);
  }

  #problem(message: string): void {
    this.#context.log(this.#failures % 20 === 0 ? 'warn' : 'debug', 'directory problem', { problem: message });
  }
}

const machine = setup({
  types: {} as { context: { directory: Directory }; input: { directory: Directory }; events: { type: 'check' } },
  actors: {
    refresh: fromPromise<void, { directory: Directory }>(({ input, signal }) => input.directory.refresh(signal)),
  },
  actions: { load: ({ context }) => context.directory.load() },
  delays: { untilDue: ({ context }) => context.directory.sleepMs },
}).createMachine({
  id: 'directory',
  context: ({ input }) => input,
  initial: 'loading',
  states: {
    loading: { entry: 'load', always: 'refreshing' },
    refreshing: { invoke: { src: 'refresh', input: ({ context }) => context, onDone: 'waiting' } },
    waiting: { after: { untilDue: 'refreshing' }, on: { check: 'refreshing' } },
  },
});

export const directoryChild = (context: NodeContext, directory: Directory): ChildSpec =>
  actorChild({ id: 'directory', machine, input: () => ({ directory }), timers: context.timers, inboxLimit: 8 });
