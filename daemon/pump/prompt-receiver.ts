/**
 * Reads the sockets past the event loop under load, while whole runs of datagrams follow closely upon each other: each turn
 * of the loop ends with a short wait for the next ones, which are then handled without a way through node:dgram. The wait
 * ends for everything that the event loop would wake for as well, and after a millisecond without such runs the loop has
 * the sockets back: whoever is idle sleeps as before, and lone datagrams (echoes, set-ups) gain nothing by it, so they do
 * not count. A client in constant mode never does it: when its cells leave must not depend on what comes.
 */
import type { TimeMs } from '@nyx/core/ports.ts';
import type { FlushLoop } from './flush-loop.ts';
import type { PumpSockets } from './sockets.ts';

/** Runs that come so soon after others are followed by more. */
const CLOSE_MS = 2;
/** For so long the next ones are waited for: what the event loop does not tell of the wait (its own timers) is late by no more. */
const STAY_MS = 1;
/**
 * Nor for longer than this right after something has happened: what callbacks have opened since (a connection that was
 * accepted) is watched by the event loop, and so by the wait, only from its next turn on.
 */
const UNSETTLED_MS = 0.05;

export class PromptReceiver {
  readonly #sockets: Pick<PumpSockets, 'attend' | 'endAttention' | 'receive' | 'isLoopReady'>;
  readonly #loop: Pick<FlushLoop, 'isScheduled' | 'isPaced' | 'nextTimerMs' | 'turnOver'>;
  readonly #nowMs: () => TimeMs;
  readonly #nextTurn: (callback: () => void) => void;
  #attending = false;
  #cannot = false;
  #runMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** While it attends: a run has come in this turn, and since when none has. */
  #hasRun = false;
  #quietSinceMs: TimeMs = 0;
  /** Nothing has happened in the last turn. */
  #settled = false;

  constructor(
    sockets: Pick<PumpSockets, 'attend' | 'endAttention' | 'receive' | 'isLoopReady'>,
    loop: Pick<FlushLoop, 'isScheduled' | 'isPaced' | 'nextTimerMs' | 'turnOver'>,
    nowMs: () => TimeMs,
    nextTurn: (callback: () => void) => void = setImmediate,
  ) {
    this.#sockets = sockets;
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#nextTurn = nextTurn;
  }

  /** Datagrams have come in one buffer, whichever way. */
  received(datagrams: number, nowMs: TimeMs): void {
    if (datagrams < 2) return;
    const isClose = nowMs - this.#runMs < CLOSE_MS;
    this.#runMs = nowMs;
    this.#hasRun = true;
    if (this.#attending || !isClose || this.#cannot || this.#loop.isPaced) return;
    this.#attending = this.#sockets.attend();
    this.#cannot = !this.#attending;
    if (this.#attending) this.#nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    const startMs = this.#nowMs();
    if (this.#hasRun) this.#quietSinceMs = startMs;
    this.#hasRun = false;
    // Waiting is for when there is nothing else to do.
    const untilMs = Math.min(this.#quietSinceMs + STAY_MS, this.#loop.nextTimerMs);
    const spareMs = this.#loop.isScheduled ? 0 : Math.max(0, untilMs - startMs);
    const buffers = this.#sockets.receive(this.#settled ? spareMs : Math.min(spareMs, UNSETTLED_MS));
    this.#settled = buffers === 0 && !this.#sockets.isLoopReady;
    this.#loop.turnOver(this.#nowMs());
    const nowMs = this.#nowMs();
    if (this.#hasRun) this.#quietSinceMs = nowMs;
    this.#hasRun = false;
    if (buffers !== undefined && !this.#loop.isPaced && nowMs - this.#quietSinceMs < STAY_MS) {
      this.#nextTurn(this.#turn);
      return;
    }
    this.#attending = false;
    this.#settled = false;
    this.#sockets.endAttention();
  };
}
