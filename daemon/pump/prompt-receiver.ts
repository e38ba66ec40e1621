/**
 * Reads the sockets past the event loop while datagrams follow closely upon each other: each turn of the loop ends with a
 * short wait for the next ones, which are then handled and answered without a way through node:dgram. The wait ends for
 * everything that the event loop would wake for as well, and after a millisecond without datagrams the loop has the
 * sockets back: whoever is idle sleeps as before. A client in constant mode never does it: when its cells leave must not
 * depend on what comes.
 */
import type { TimeMs } from '@nyx/core/ports.ts';
import type { FlushLoop } from './flush-loop.ts';
import type { PumpSockets } from './sockets.ts';

/** Datagrams that come so soon after others are followed by more. */
const CLOSE_MS = 2;
/** For so long the next ones are waited for: what the event loop does not tell of the wait (its own timers) is late by no more. */
const STAY_MS = 1;

export class PromptReceiver {
  readonly #sockets: Pick<PumpSockets, 'attend' | 'endAttention' | 'receive'>;
  readonly #loop: Pick<FlushLoop, 'isScheduled' | 'isPaced' | 'nextTimerMs' | 'turnOver'>;
  readonly #nowMs: () => TimeMs;
  readonly #nextTurn: (callback: () => void) => void;
  #attending = false;
  #cannot = false;
  #receivedMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** While it attends: since when nothing has come. */
  #quietSinceMs: TimeMs = 0;

  constructor(
    sockets: Pick<PumpSockets, 'attend' | 'endAttention' | 'receive'>,
    loop: Pick<FlushLoop, 'isScheduled' | 'isPaced' | 'nextTimerMs' | 'turnOver'>,
    nowMs: () => TimeMs,
    nextTurn: (callback: () => void) => void = setImmediate,
  ) {
    this.#sockets = sockets;
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#nextTurn = nextTurn;
  }

  /** Datagrams have come, whichever way. */
  received(nowMs: TimeMs): void {
    const isClose = nowMs - this.#receivedMs < CLOSE_MS;
    this.#receivedMs = nowMs;
    if (this.#attending || !isClose || this.#cannot || this.#loop.isPaced) return;
    this.#attending = this.#sockets.attend();
    this.#cannot = !this.#attending;
    if (!this.#attending) return;
    this.#quietSinceMs = nowMs;
    this.#nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    // Waiting is for when there is nothing else to do.
    const untilMs = Math.min(this.#quietSinceMs + STAY_MS, this.#loop.nextTimerMs);
    const waitMs = this.#loop.isScheduled ? 0 : Math.max(0, untilMs - this.#nowMs());
    const buffers = this.#sockets.receive(waitMs);
    this.#loop.turnOver(this.#nowMs());
    const nowMs = this.#nowMs();
    if (buffers !== 0) this.#quietSinceMs = nowMs;
    if (buffers !== undefined && !this.#loop.isPaced && nowMs - this.#quietSinceMs < STAY_MS) {
      this.#nextTurn(this.#turn);
      return;
    }
    this.#attending = false;
    this.#sockets.endAttention();
  };
}
