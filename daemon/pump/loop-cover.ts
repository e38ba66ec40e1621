/**
 * Loop cover: cells of ours that go over a circuit of class mix to its last hop and come back to us, at the times of a
 * Poisson process. They look like any others, so whoever drops or holds back what passes it loses some of them too; how many
 * come back, and when, is what core/mix/loop-monitor.ts judges. Loops have a circuit of their own that no stream shares.
 *
 * A path on which nothing comes back any more is not left at once, as a stream would: who blocks all cells in front of a mix
 * would be noticed by nobody. It is tried again with every loop that is due, and each of these is lost, until there are
 * enough to be judged. A relay that has died without a word looks the same.
 */
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import type { Exponential } from '@nyx/core/mix/exponential.ts';
import { LoopMonitor, type LoopStats, type LoopVerdict, loopIsLateMs } from '@nyx/core/mix/loop-monitor.ts';
import type { TimeMs } from '@nyx/core/ports.ts';
import type { CircuitPool } from './circuit-pool.ts';
import type { PathConstraints } from './contract.ts';
import type { PooledCircuit } from './pooled-circuit.ts';

/** A circuit of loops is replaced after this. */
const CIRCUIT_LIFE_MS = 600_000;
/** So many loops in a row are tried on a path that is silent. */
const MAX_SILENT_LOOPS = 8;
/** After a path that could not be had. */
const RETRY_MS = 3000;

export interface LoopCoverOptions {
  /** 0: none for now. */
  readonly perMinute: number;
  readonly hops: number;
}

export interface LoopCoverHost {
  readonly pool: CircuitPool;
  readonly times: Exponential;
  requestPath(constraints: PathConstraints): Promise<readonly NodeContact[]>;
  nowMs(): TimeMs;
  /** Some node was heard lately: when nobody is, loops are lost to our own network, and are not counted. */
  isOnline(): boolean;
  /** Calls once after this time; gives what cancels that. */
  schedule(delayMs: number, callback: () => void): () => void;
  onVerdict(verdict: LoopVerdict, stats: LoopStats): void;
  /** There is no circuit for loops now. */
  onUnable(reason: string): void;
}

export class LoopCover {
  #options: LoopCoverOptions;
  readonly #host: LoopCoverHost;
  readonly #monitor = new LoopMonitor();
  readonly #cancels = new Set<() => void>();
  #circuit: PooledCircuit | undefined = undefined;
  #hops: readonly NodeContact[] = [];
  #builtMs = 0;
  /** Loops that were due since the path went silent. */
  #silentLoops = 0;
  #stopped = false;
  #cancelNext: () => void = () => {};

  constructor(options: LoopCoverOptions, host: LoopCoverHost) {
    this.#options = options;
    this.#host = host;
    this.#next();
  }

  get stats(): LoopStats {
    return this.#monitor.stats;
  }

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
  }

  /** From now on; exponential times have no memory, so the next loop is drawn anew. */
  retune(options: LoopCoverOptions): void {
    const before = this.#options;
    this.#options = options;
    if (options.perMinute === before.perMinute) return;
    this.#cancelNext();
    this.#next();
  }

  #after(delayMs: number, callback: () => void): () => void {
    const cancel = this.#host.schedule(delayMs, () => {
      this.#cancels.delete(cancel);
      callback();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  #next(): void {
    if (this.#stopped || this.#options.perMinute === 0) return;
    this.#cancelNext = this.#after(this.#host.times.sample(60_000 / this.#options.perMinute), () => {
      this.#next();
      this.#loop();
    });
  }

  #loop(): void {
    const circuit = this.#circuit;
    const { pool } = this.#host;
    if (circuit !== undefined && this.#tryAgain(circuit)) return;
    const old = this.#host.nowMs() - this.#builtMs > CIRCUIT_LIFE_MS;
    if (circuit === undefined || circuit.state === 'ended' || circuit.session.closed || old) {
      if (this.#host.nowMs() < this.#builtMs + RETRY_MS && this.#builtMs > 0 && !old) return;
      this.#builtMs = this.#host.nowMs();
      this.#silentLoops = 0;
      if (circuit !== undefined && circuit.state !== 'ended') pool.close(circuit.circuit);
      void this.#build();
      return;
    }
    if (circuit.state === 'ready') this.#send(circuit);
  }

  /** A loop is due on a path that has gone silent: it is lost, and the path gets another chance. False: it has not, or had enough. */
  #tryAgain(circuit: PooledCircuit): boolean {
    const over = circuit.state === 'ended' || circuit.session.closed;
    // Once it was silent, what set-ups over it come to (time-outs, an unreachable hop) is no news.
    const trying = this.#silentLoops > 0 && (over || circuit.state === 'building');
    const silent = (over && circuit.wentSilent) || trying;
    if (!silent || this.#silentLoops >= MAX_SILENT_LOOPS) return false;
    this.#silentLoops++;
    this.#note(undefined, 2 * circuit.addedLatencyMs);
    if (over) {
      try {
        this.#circuit = this.#host.pool.build(this.#hops, 'mix');
      } catch (error) {
        this.#silentLoops = MAX_SILENT_LOOPS;
        this.#host.onUnable(error instanceof Error ? error.message : String(error));
      }
    }
    return true;
  }

  async #build(): Promise<void> {
    this.#circuit = undefined;
    try {
      const hops = await this.#host.requestPath({ hops: this.#options.hops, class: 'mix', needExit: undefined });
      if (this.#stopped) return;
      this.#hops = hops;
      this.#circuit = this.#host.pool.build(hops, 'mix');
    } catch (error) {
      this.#host.onUnable(error instanceof Error ? error.message : String(error));
    }
  }

  #send(circuit: PooledCircuit): void {
    const expectedMs = 2 * circuit.addedLatencyMs;
    let over = false;
    const settle = (rttMs: number | undefined) => {
      if (over || this.#stopped) return;
      over = true;
      cancel();
      if (rttMs !== undefined) this.#silentLoops = 0;
      this.#note(rttMs, expectedMs);
    };
    const cancel = this.#after(loopIsLateMs(expectedMs), () => settle(undefined));
    circuit.session.ping((rttMs) => settle(rttMs));
  }

  #note(rttMs: number | undefined, expectedMs: number): void {
    if (rttMs === undefined && !this.#host.isOnline()) return;
    const verdict = this.#monitor.note(rttMs, expectedMs);
    this.#host.onVerdict(verdict, this.#monitor.stats);
  }
}
