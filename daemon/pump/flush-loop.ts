/**
 * When the engine is flushed. Everything that happens in one turn of the event loop (up to 32 buffers per socket,
 * writes of proxies) is answered by one flush in the check phase right behind it: batches grow with the load, and
 * without load nothing waits. Between turns one timer stands for all of the engine's.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export interface Flushable {
  flush(nowMs: TimeMs): void;
  nextTimeoutMs(): TimeMs;
}

/** Longest sleep: what setTimeout can hold is less than Infinity. */
const MAX_SLEEP_MS = 60_000;
/** A datagram that comes so long after the last flush is taken to have come alone: less than a flush under load takes. */
const QUIET_MS = 0.15;

export class FlushLoop {
  readonly #engine: Flushable;
  readonly #nowMs: () => TimeMs;
  #scheduled = false;
  #timer: NodeJS.Timeout | undefined;
  /** What the timer stands for (it fires up to a millisecond later), Infinity = no timer. */
  #armedForMs: TimeMs = Number.POSITIVE_INFINITY;
  #flushedMs: TimeMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(engine: Flushable, nowMs: () => TimeMs) {
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  /** There is something to do: flush at the end of this turn. */
  readonly wake = (): void => {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  };

  /** The engine has taken in datagrams. One alone after a quiet spell is answered at once: nothing is there to wait for. */
  received(datagrams: number, nowMs: TimeMs): void {
    if (datagrams > 1 || nowMs - this.#flushedMs < QUIET_MS) this.wake();
    else if (!this.#stopped) this.#flush(nowMs);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    this.#flush(this.#nowMs());
  };

  #flush(nowMs: TimeMs): void {
    this.#flushedMs = nowMs;
    this.#engine.flush(nowMs);
    this.#arm(nowMs);
  }

  readonly #onTimer = (): void => {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    if (this.#stopped || this.#scheduled) return;
    const nowMs = this.#nowMs();
    // The timer may stand for something that has been put off since, or fire a little early.
    if (this.#engine.nextTimeoutMs() <= nowMs) this.#run();
    else this.#arm(nowMs);
  };

  /** An armed timer that fires early enough is left as it is: re-arming costs more than a look at the clock. */
  #arm(nowMs: TimeMs): void {
    const nextMs = this.#engine.nextTimeoutMs();
    if (this.#scheduled || nextMs >= this.#armedForMs) return;
    if (nextMs <= nowMs) {
      this.wake();
      return;
    }
    // setTimeout counts whole milliseconds; rounding up keeps it from firing before the time.
    const sleepMs = Math.min(Math.ceil(nextMs - nowMs), MAX_SLEEP_MS);
    clearTimeout(this.#timer);
    this.#armedForMs = Math.min(nextMs, nowMs + sleepMs);
    this.#timer = setTimeout(this.#onTimer, sleepMs);
  }
}
