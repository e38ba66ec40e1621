/**
 * Reads the sockets past the event loop under load, while datagrams follow closely upon each other: each turn of the loop
 * ends with a short wait for the next ones, which are then handled without a way through node:dgram. The wait ends for
 * everything that the event loop would wake for as well, and after a millisecond without them the loop has the sockets back:
 * whoever is idle sleeps as before. A client in constant mode never does it: when its cells leave must not depend on what comes.
 *
 * Whole runs count, and lone datagrams that were only passed on. These leave nothing for the event loop to do, so that several
 * waits follow each other in one turn: a relay then handles a cell at about the cost of its system calls. Lone datagrams that end
 * here, at a client or an exit, do not count: theirs is a turn of the loop each in any case, and a wait would come on top.
 */
import type { TimeMs } from '@nyx/core/ports.ts';
import type { FlushLoop } from './flush-loop.ts';
import type { PumpSockets } from './sockets.ts';

/** Runs that come so soon after others are followed by more. */
const CLOSE_MS = 2;
/** For so long the next ones are waited for. */
const STAY_MS = 1;
/** After this no further wait follows in a turn: what the event loop does not tell of a wait (its own timers) is late by no more than both. */
const TURN_MS = 4;
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
  /** While it attends: what counts has come in this round, and since when nothing has. */
  #hasRun = false;
  #quietSinceMs: TimeMs = 0;
  /** Nothing has come in this round but what was passed on. */
  #relayedOnly = true;
  /** Nothing has happened in the last round that the event loop has to know. */
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

  /** Datagrams have come in one buffer, whichever way. `relayed`: all of them were passed on, and that was all. */
  received(datagrams: number, relayed: boolean, nowMs: TimeMs): void {
    if (!relayed) this.#relayedOnly = false;
    const isLone = datagrams < 2;
    if (isLone && !relayed) return;
    // Lone ones further apart would go back and forth between the two ways.
    const isClose = nowMs - this.#runMs < (isLone ? STAY_MS : CLOSE_MS);
    this.#runMs = nowMs;
    this.#hasRun = true;
    if (this.#attending || !isClose || this.#cannot || this.#loop.isPaced) return;
    this.#attending = this.#sockets.attend();
    this.#cannot = !this.#attending;
    if (this.#attending) this.#nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    const endsMs = this.#nowMs() + TURN_MS;
    let again = true;
    while (again) again = this.#round(endsMs);
  };

  /** One wait, and what it brings. True: another one may follow in this turn. */
  #round(endsMs: TimeMs): boolean {
    const startMs = this.#nowMs();
    if (this.#hasRun) this.#quietSinceMs = startMs;
    this.#hasRun = false;
    this.#relayedOnly = true;
    // Waiting is for when there is nothing else to do.
    const untilMs = Math.min(this.#quietSinceMs + STAY_MS, this.#loop.nextTimerMs);
    const spareMs = this.#loop.isScheduled ? 0 : Math.max(0, untilMs - startMs);
    const buffers = this.#sockets.receive(this.#settled ? spareMs : Math.min(spareMs, UNSETTLED_MS));
    this.#settled = (buffers === 0 || this.#relayedOnly) && !this.#sockets.isLoopReady;
    this.#loop.turnOver(this.#nowMs());
    const nowMs = this.#nowMs();
    if (this.#hasRun) this.#quietSinceMs = nowMs;
    this.#hasRun = false;
    if (buffers !== undefined && !this.#loop.isPaced && nowMs - this.#quietSinceMs < STAY_MS) {
      if (this.#settled && buffers > 0 && nowMs < endsMs) return true;
      this.#nextTurn(this.#turn);
      return false;
    }
    this.#attending = false;
    this.#settled = false;
    this.#sockets.endAttention();
    return false;
  }
}
