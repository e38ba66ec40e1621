/**
 * When the engine is flushed. Everything that happens in one turn of the event loop (up to 32 buffers per socket,
 * writes of proxies) is answered by one flush in the check phase right behind it: batches grow with the load, and
 * without load nothing waits. Before it, what has come for readers goes to them, so that one flush also carries the
 * credit for it. Between turns one timer stands for all of the engine's, and a second one for cells of links in constant mode:
 * they leave by that alone, whatever else brings about a flush, so that when they leave says nothing of it.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export interface Flushable {
  flush(nowMs: TimeMs, paced: boolean): void;
  nextTimeoutMs(paced: boolean): TimeMs;
  nextPacedMs(): TimeMs;
}

/** Longest sleep: what setTimeout can hold is less than Infinity. */
const MAX_SLEEP_MS = 60_000;
/** What comes so long after the last flush is taken to have come alone: less than a flush under load takes. */
const QUIET_MS = 0.15;

export class FlushLoop {
  readonly #engine: Flushable;
  readonly #nowMs: () => TimeMs;
  #scheduled = false;
  /** For the next flush, and the list that takes its place meanwhile. */
  #tasks: (() => void)[] = [];
  #spareTasks: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** What the timer stands for (it fires up to a millisecond later), Infinity = no timer. */
  #armedForMs: TimeMs = Number.POSITIVE_INFINITY;
  /** Whole milliseconds after it was set, as the event loop counts: what is due meanwhile is done in one go. */
  #firesMs: TimeMs = Number.POSITIVE_INFINITY;
  #pacer: NodeJS.Timeout | undefined;
  #pacedForMs: TimeMs = Number.POSITIVE_INFINITY;
  #flushedMs: TimeMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(engine: Flushable, nowMs: () => TimeMs) {
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  /** There is something to do: flush at the end of this turn, after a quiet spell at the end of what is running now. */
  readonly wake = (): void => {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    if (this.#isQuiet(this.#nowMs())) process.nextTick(this.#run);
    else setImmediate(this.#run);
  };

  /** Runs `task` once, just before the next flush, which it brings about. */
  readonly atTurnEnd = (task: () => void): void => {
    if (this.#stopped) {
      setImmediate(task);
      return;
    }
    this.#tasks.push(task);
    this.wake();
  };

  /** The engine has taken in datagrams. One alone after a quiet spell is answered at once: nothing is there to wait for. */
  received(datagrams: number, nowMs: TimeMs): void {
    if (datagrams > 1 || !this.#isQuiet(nowMs)) this.wake();
    else if (!this.#stopped) this.#flush(nowMs);
  }

  /** There is something to flush. */
  get isScheduled(): boolean {
    return this.#scheduled;
  }

  /** When the engine's timer fires, Infinity = there is none. */
  get nextTimerMs(): TimeMs {
    return this.#firesMs;
  }

  /** Cells wait for the timer of constant mode. */
  get isPaced(): boolean {
    return this.#pacedForMs !== Number.POSITIVE_INFINITY;
  }

  /** Does now what is to be flushed at the end of this turn, or what the engine's timer stands for if that is due. */
  turnOver(nowMs: TimeMs): void {
    if (this.#stopped) return;
    if (this.#scheduled) this.#flush(nowMs);
    else if (this.#firesMs <= nowMs) {
      clearTimeout(this.#timer);
      this.#onTimer();
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#pacer);
    this.#timer = undefined;
    this.#pacer = undefined;
    for (const task of this.#tasks.splice(0)) setImmediate(task);
  }

  #isQuiet(nowMs: TimeMs): boolean {
    return nowMs - this.#flushedMs >= QUIET_MS;
  }

  /** What it was to do may have been done meanwhile by a flush at once. */
  readonly #run = (): void => {
    if (this.#scheduled && !this.#stopped) this.#flush(this.#nowMs());
  };

  #flush(nowMs: TimeMs, paced = false): void {
    this.#flushedMs = nowMs;
    this.#runTasks();
    this.#scheduled = false;
    this.#engine.flush(nowMs, paced);
    if (this.#tasks.length > 0) this.wake();
    this.#arm(nowMs);
    this.#armPacer(nowMs);
  }

  #runTasks(): void {
    const tasks = this.#tasks;
    if (tasks.length === 0) return;
    this.#tasks = this.#spareTasks;
    // What they wake is part of the flush that follows.
    this.#scheduled = true;
    for (const task of tasks) task();
    tasks.length = 0;
    this.#spareTasks = tasks;
  }

  readonly #onTimer = (): void => {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    this.#firesMs = Number.POSITIVE_INFINITY;
    if (this.#stopped || this.#scheduled) return;
    const nowMs = this.#nowMs();
    // The timer may stand for something that has been put off since, or fire a little early.
    if (this.#engine.nextTimeoutMs(false) <= nowMs) this.#flush(nowMs);
    else this.#arm(nowMs);
  };

  /** An armed timer that fires early enough is left as it is: re-arming costs more than a look at the clock. */
  #arm(nowMs: TimeMs): void {
    const nextMs = this.#engine.nextTimeoutMs(false);
    if (this.#scheduled || nextMs >= this.#armedForMs) return;
    if (nextMs <= nowMs) {
      this.wake();
      return;
    }
    // setTimeout counts whole milliseconds; rounding up keeps it from firing before the time.
    const sleepMs = Math.min(Math.ceil(nextMs - nowMs), MAX_SLEEP_MS);
    clearTimeout(this.#timer);
    this.#armedForMs = Math.min(nextMs, nowMs + sleepMs);
    this.#firesMs = nowMs + sleepMs;
    this.#timer = setTimeout(this.#onTimer, sleepMs);
  }

  readonly #onPacer = (): void => {
    this.#pacedForMs = Number.POSITIVE_INFINITY;
    if (this.#stopped) return;
    const nowMs = this.#nowMs();
    if (this.#engine.nextPacedMs() <= nowMs) this.#flush(nowMs, true);
    else this.#armPacer(nowMs);
  };

  #armPacer(nowMs: TimeMs): void {
    const nextMs = this.#engine.nextPacedMs();
    if (nextMs === this.#pacedForMs) return;
    clearTimeout(this.#pacer);
    this.#pacedForMs = nextMs;
    if (nextMs === Number.POSITIVE_INFINITY) return;
    this.#pacer = setTimeout(this.#onPacer, Math.max(0, Math.min(Math.ceil(nextMs - nowMs), MAX_SLEEP_MS)));
  }
}
