/**
 * A session that has lost its circuit, or hears nothing on it, is brought onto another one to the same last hop. One
 * attempt follows the other as in a race of set-ups; the first that is ready ends it. When the time is over, a session
 * that still has no circuit is given up.
 */
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import type { TimeMs } from '@nyx/core/ports.ts';

/**
 * While other nodes are heard, a last hop that no path leads to in this time is dead: its streams fail, and within five
 * seconds of its death at that.
 */
const LAST_HOP_DEAD_MS = 3200;
/** As long as nobody is heard it may be our own network. The last hop waits 15 s (core/engine/served-session.ts). */
const GIVE_UP_MS = 12_000;
const MAX_ATTEMPTS = 8;
/** Keep-alives and their answers are rarer, but attempts to set up a circuit make links speak. */
const ONLINE_MS = 2000;
const LOOK_MS = 250;

export interface ResumptionHost {
  /** A path to the session's last hop. Rejects when there is none. */
  requestPath(): Promise<readonly NodeContact[]>;
  /** Builds a circuit over it for the session; false = the session takes none. */
  attach(hops: readonly NodeContact[]): boolean;
  /** How long attempt number `n` (from 1) gets before the next one begins beside it. */
  waitMs(attempt: number): number;
  schedule(delayMs: number, callback: () => void): () => void;
  nowMs(): TimeMs;
  /** Some node has been heard since. */
  isOnline(sinceMs: TimeMs): boolean;
  /** Time is up, or nothing more can be tried. */
  giveUp(): void;
}

export class Resumption {
  readonly #host: ResumptionHost;
  readonly #sinceMs: TimeMs;
  #attempts = 0;
  #over = false;
  #cancel: () => void = () => {};

  constructor(host: ResumptionHost) {
    this.#host = host;
    this.#sinceMs = host.nowMs();
  }

  /** Begins. Also when an attempt has failed: the next one need not wait then. */
  next(): void {
    if (this.#over) return;
    this.#cancel();
    const nowMs = this.#host.nowMs();
    const limitMs = this.#host.isOnline(nowMs - ONLINE_MS) ? LAST_HOP_DEAD_MS : GIVE_UP_MS;
    const leftMs = this.#sinceMs + limitMs - nowMs;
    if (leftMs <= 0) {
      this.#cancel = this.#host.schedule(0, () => this.#end());
      return;
    }
    if (this.#attempts >= MAX_ATTEMPTS) {
      // Those that are under way may still come; and whether we are online may show meanwhile.
      this.#cancel = this.#host.schedule(Math.min(leftMs, LOOK_MS), () => this.next());
      return;
    }
    this.#attempts++;
    this.#cancel = this.#host.schedule(Math.min(leftMs, this.#host.waitMs(this.#attempts)), () => this.next());
    void this.#try();
  }

  /** It is brought onto a circuit, or over. */
  stop(): void {
    this.#over = true;
    this.#cancel();
  }

  async #try(): Promise<void> {
    let hops: readonly NodeContact[];
    try {
      hops = await this.#host.requestPath();
    } catch {
      return; // the next attempt asks again: nodes come back into the view
    }
    if (!this.#over && !this.#host.attach(hops)) this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.stop();
    this.#host.giveUp();
  }
}
