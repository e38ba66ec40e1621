/**
 * Loop cover of the message lane: which cover packets of ours should come back, and what those that do and those that do not say
 * of the network. Each takes a path of its own, so a node that drops or holds back what passes it costs a share of them. When
 * loops leave is the messenger's affair; when they come back moves no slot.
 *
 * A loop that is late is lost if anything was heard of the network after that. If nothing was, it may be our own network, and
 * the loop says nothing.
 */
import { LoopMonitor, type LoopStats, type LoopVerdict, loopIsLateMs } from '../mix/loop-monitor.ts';
import type { TimeMs } from '../ports.ts';

/** Loops under way at once: those of the fastest slots with long delays. */
const MAX_LOOPS = 4096;
/** Nothing heard for so long after a loop was late: it is not judged. */
const SILENCE_MS = 10_000;

export interface LaneLoopsOptions {
  /** How long a loop takes on average: delays of all hops out, and of the own circuit back. */
  meanMs(): number;
  onVerdict(verdict: LoopVerdict, stats: LoopStats): void;
}

export class LaneLoops {
  readonly #options: LaneLoopsOptions;
  readonly #monitor = new LoopMonitor();
  /** When each left, by its id; oldest first. */
  readonly #underWay = new Map<string, TimeMs>();

  constructor(options: LaneLoopsOptions) {
    this.#options = options;
  }

  get stats(): LoopStats {
    return this.#monitor.stats;
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  sent(id: string, nowMs: TimeMs): void {
    if (this.#underWay.size < MAX_LOOPS) this.#underWay.set(id, nowMs);
  }

  /** Once is enough; what is not under way says nothing. */
  back(id: string, nowMs: TimeMs): void {
    const sentMs = this.#underWay.get(id);
    if (sentMs === undefined) return;
    this.#underWay.delete(id);
    const meanMs = this.#options.meanMs();
    this.#note(nowMs - sentMs > loopIsLateMs(meanMs) ? undefined : nowMs - sentMs);
  }

  /** Judges what is late. `heardMs`: when anything was heard of the network last. */
  expire(nowMs: TimeMs, heardMs: TimeMs): void {
    const lateMs = loopIsLateMs(this.#options.meanMs());
    for (const [id, sentMs] of this.#underWay) {
      const dueMs = sentMs + lateMs;
      if (nowMs < dueMs) return;
      if (heardMs > dueMs) {
        this.#underWay.delete(id);
        this.#note(undefined);
      } else if (nowMs > dueMs + SILENCE_MS) {
        this.#underWay.delete(id);
      } else {
        return;
      }
    }
  }

  /** The mailbox that they come back to is closed: those under way say nothing. */
  abandon(): void {
    this.#underWay.clear();
  }

  #note(rttMs: number | undefined): void {
    const verdict = this.#monitor.note(rttMs, this.#options.meanMs());
    this.#options.onVerdict(verdict, this.#monitor.stats);
  }
}
