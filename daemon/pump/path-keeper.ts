/**
 * Keeps sessions on as many circuits as their users asked for: builds further ones to the same last hop over nodes that
 * none of the others has, and replaces those that are lost, or from which nothing has come for a while, in the
 * background. Who asked for one circuit has nothing to do with this (resumption.ts).
 */
import type { CircuitClass, NodeContact } from '@nyx/core/engine/contract.ts';
import type { TimeMs } from '@nyx/core/ports.ts';
import { PathState } from '@nyx/core/stream/session-path.ts';
import type { PathConstraints } from './contract.ts';
import type { PooledCircuit } from './pooled-circuit.ts';

/** After a failure the next attempt waits, and after the next one twice as long. */
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 60_000;
/** A circuit from which nothing comes for so long gets a substitute beside it. Shorter pauses are the session's to bridge. */
const SUSPECT_MS = 500;

export interface PathKeeperHost {
  requestPath(constraints: PathConstraints): Promise<readonly NodeContact[]>;
  /** Builds a circuit over it for the session; false = the session takes none. */
  attach(record: PooledCircuit, hops: readonly NodeContact[]): boolean;
  /** Ends one of its circuits. */
  drop(circuit: number): void;
  /** What the circuit is to its session; undefined = there is no such circuit. */
  stateOf(circuit: number): PathState | undefined;
  /** After this time a set-up of this class and length is late. */
  waitMs(circuitClass: CircuitClass, hops: number): number;
  /** NodeIDs (hex) that do not answer at the moment. */
  suspects(): readonly string[];
  nowMs(): TimeMs;
}

interface Kept {
  /** A path has been asked for. */
  asking: boolean;
  failures: number;
  notBeforeMs: TimeMs;
}

export class PathKeeper {
  readonly #host: PathKeeperHost;
  readonly #kept = new WeakMap<PooledCircuit, Kept>();

  constructor(host: PathKeeperHost) {
    this.#host = host;
  }

  /** Looks whether the session has what it should have. Call it when something has changed, and now and then. */
  look(record: PooledCircuit): void {
    if (record.wantedPaths < 2 || record.state !== 'ready' || record.session.closed || record.users.size === 0) return;
    const nowMs = this.#host.nowMs();
    const good = this.#count(record, nowMs);
    if (good.ready >= record.wantedPaths) {
      this.#dropSurplus(record);
      return;
    }
    const kept = this.#of(record);
    if (good.ready + good.coming >= record.wantedPaths || kept.asking || nowMs < kept.notBeforeMs) return;
    kept.asking = true;
    void this.#add(record, kept);
  }

  /** A circuit has come: failures before it are forgotten. */
  succeeded(record: PooledCircuit): void {
    const kept = this.#of(record);
    kept.failures = 0;
    kept.notBeforeMs = 0;
  }

  /** A circuit that was to join has ended. */
  failed(record: PooledCircuit): void {
    const kept = this.#of(record);
    kept.notBeforeMs = this.#host.nowMs() + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(kept.failures, 10));
    kept.failures++;
  }

  #of(record: PooledCircuit): Kept {
    let kept = this.#kept.get(record);
    if (kept === undefined) {
      kept = { asking: false, failures: 0, notBeforeMs: 0 };
      this.#kept.set(record, kept);
    }
    return kept;
  }

  /** Circuits that carry, and those that may soon. */
  #count(record: PooledCircuit, nowMs: TimeMs): { readonly ready: number; readonly coming: number } {
    let ready = 0;
    let coming = 0;
    for (const [handle, circuit] of record.circuits) {
      if (circuit.readyAtMs === undefined) {
        if (nowMs - circuit.builtAtMs < this.#host.waitMs(record.class, circuit.path.length)) coming++;
        continue;
      }
      const state = this.#host.stateOf(handle);
      if (state === PathState.suspect) circuit.suspectSinceMs ??= nowMs;
      else circuit.suspectSinceMs = undefined;
      if (circuit.suspectSinceMs === undefined || nowMs - circuit.suspectSinceMs < SUSPECT_MS) ready++;
    }
    return { ready, coming };
  }

  async #add(record: PooledCircuit, kept: Kept): Promise<void> {
    try {
      const taken = new Set<string>();
      for (const { path } of record.circuits.values()) for (const id of path.slice(0, -1)) taken.add(id);
      const hops = await this.#host.requestPath({
        hops: record.path.length,
        class: record.class,
        needExit: undefined,
        lastHop: record.path.at(-1)!,
        apartFrom: [...taken],
        avoid: this.#host.suspects(),
      });
      if (record.session.closed || record.state !== 'ready') return;
      if (!this.#host.attach(record, hops)) this.failed(record);
    } catch {
      // There is no further path now; the view may bring one.
      this.failed(record);
    } finally {
      kept.asking = false;
    }
    this.look(record);
  }

  /** Enough are there: late ones, and those that are silent, go. */
  #dropSurplus(record: PooledCircuit): void {
    for (const [handle, circuit] of [...record.circuits]) {
      if (record.circuits.size <= record.wantedPaths) return;
      if (circuit.readyAtMs === undefined || circuit.suspectSinceMs !== undefined) this.#host.drop(handle);
    }
  }
}
