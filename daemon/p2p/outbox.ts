/** Descriptors that have to reach the authorities: the own one, and those that peers asked to pass on. */

/** What delivery needs of the network. */
export interface OutboxNetwork {
  /** Hands it to the authority with this key (hex). `unknown`: it is not known where that authority is. */
  deliver(
    authority: string,
    descriptor: Uint8Array,
    isOwn: boolean,
  ): Promise<'taken' | 'refused' | 'failed' | 'unknown'>;
  /** Asks peers to pass it on. Returns how many will. */
  passOn(descriptor: Uint8Array): Promise<number>;
}

interface Entry {
  readonly descriptor: Uint8Array;
  readonly isOwn: boolean;
  /** Authorities that do not have it yet. */
  readonly missing: Set<string>;
  readonly expiresAtMs: number;
  attempts: number;
  dueAtMs: number;
}

const MAX_ENTRIES = 256;
const MIN_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;
/** Others' descriptors are tried so often; the own one until it expires. */
const MAX_ATTEMPTS_FOR_OTHERS = 4;
/** Failures to reach an authority after which peers are asked. */
const OWN_WAY_ATTEMPTS = 2;

export class Outbox {
  readonly #authorities: readonly string[];
  readonly #network: OutboxNetwork;
  readonly #nowMs: () => number;
  readonly #entries = new Map<string, Entry>();
  #delivered = 0;

  /** `authorities`: keys in hex. `nowMs` is monotonic. */
  constructor(authorities: readonly string[], network: OutboxNetwork, nowMs: () => number) {
    this.#authorities = authorities;
    this.#network = network;
    this.#nowMs = nowMs;
  }

  /** Deliveries so far. */
  get delivered(): number {
    return this.#delivered;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether some authority still has to get the own descriptor. */
  get ownIsMissing(): boolean {
    for (const entry of this.#entries.values()) if (entry.isOwn) return true;
    return false;
  }

  /** Replaces an earlier one of the node. False: there are too many of others. */
  add(nodeId: string, descriptor: Uint8Array, isOwn: boolean, lifetimeMs: number): boolean {
    const held = this.#entries.get(nodeId);
    if (held !== undefined && Buffer.compare(held.descriptor, descriptor) === 0) return true;
    if (held?.isOwn === true && !isOwn) return false;
    if (held === undefined && !isOwn && this.#entries.size >= MAX_ENTRIES) return false;
    const nowMs = this.#nowMs();
    this.#entries.set(nodeId, {
      descriptor,
      isOwn,
      missing: new Set(this.#authorities),
      expiresAtMs: nowMs + lifetimeMs,
      attempts: 0,
      dueAtMs: nowMs,
    });
    return true;
  }

  /** One round of what is due. */
  async run(): Promise<void> {
    const nowMs = this.#nowMs();
    const due: [string, Entry][] = [];
    for (const [nodeId, entry] of this.#entries) {
      if (entry.expiresAtMs <= nowMs) this.#entries.delete(nodeId);
      else if (entry.dueAtMs <= nowMs) due.push([nodeId, entry]);
    }
    await Promise.all(due.map(([nodeId, entry]) => this.#attempt(nodeId, entry)));
  }

  /** Until something is due; undefined: nothing is waiting. */
  get sleepMs(): number | undefined {
    let dueAtMs: number | undefined;
    for (const entry of this.#entries.values()) dueAtMs = Math.min(dueAtMs ?? entry.dueAtMs, entry.dueAtMs);
    return dueAtMs === undefined ? undefined : Math.max(0, dueAtMs - this.#nowMs());
  }

  async #attempt(nodeId: string, entry: Entry): Promise<void> {
    entry.attempts++;
    entry.dueAtMs = this.#nowMs() + Math.min(MAX_WAIT_MS, MIN_WAIT_MS * 2 ** Math.min(entry.attempts, 20));
    const outcomes = await Promise.all(
      [...entry.missing].map(async (authority) => {
        const outcome = await this.#network.deliver(authority, entry.descriptor, entry.isOwn);
        if (outcome === 'taken') {
          entry.missing.delete(authority);
          this.#delivered++;
        }
        return outcome;
      }),
    );
    // It may have been replaced while it was on its way.
    if (this.#entries.get(nodeId) !== entry) return;
    const isDone = entry.missing.size === 0 || (!entry.isOwn && entry.attempts >= MAX_ATTEMPTS_FOR_OTHERS);
    if (isDone) {
      this.#entries.delete(nodeId);
      return;
    }
    const isCutOff = entry.isOwn && outcomes.every((outcome) => outcome !== 'taken' && outcome !== 'refused');
    if (isCutOff && entry.attempts >= OWN_WAY_ATTEMPTS) await this.#network.passOn(entry.descriptor);
  }
}
