/**
 * How fast a node carries cells: the session of a circuit `authority → node → authority's own relay` is filled with
 * datagrams, and what the far end acknowledges is counted. Acknowledgements are sealed for the measuring end, so the node
 * between can't make them up; only what it passed on counts. Pure: time is an argument.
 */
import type { SessionOwner } from '../engine/contract.ts';
import type { TimeMs } from '../ports.ts';
import type { SessionApi } from '../stream/contract.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import { type RampRates, SendRamp } from './send-ramp.ts';

/** One of these and the frame's head fill a payload. */
const PIECE_BYTES = 1120;
const FLOW_ID = 1;
/** Fewer acknowledged cells say nothing about a speed. */
const MIN_CELLS = 64;
const MAX_SAMPLES = 4096;
/** The count is looked at so often. */
const LOOK_MS = 5;
/** Of all that went through, where the count ends. */
const TAIL = 0.95;
/** Of a node that was never measured: a megabit a second, which any line takes. */
const FIRST_BYTES_PER_SECOND = 128 * 1024;
/** Of what was measured before, the rate to begin with: the line may have less to spare today. */
const SHARE_OF_LAST = 0.25;

export interface SpeedTestOptions {
  /** Ends once this many bytes are sent and acknowledged … */
  readonly maxBytes: number;
  /** … or after so long from the first cell on. */
  readonly durationMs: number;
  /** The circuit has to stand within this. */
  readonly setupMs: number;
  /** What was measured before: where the rate begins. Undefined: nothing was. */
  readonly lastBytesPerSecond?: number | undefined;
}

export interface SpeedResult {
  /**
   * Bytes of cells that went through in a second, in the second half of what went through: the start is slow. Undefined:
   * the circuit did not come up, or too little went through.
   */
  readonly bytesPerSecond: number | undefined;
  /** Bytes of cells sent, lost ones included. */
  readonly sentBytes: number;
}

export class SpeedTest implements SessionOwner {
  readonly #options: SpeedTestOptions;
  readonly #begunMs: TimeMs;
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #session: SessionApi | undefined;
  #readyMs: TimeMs | undefined;
  #ready = false;
  #ramp: SendRamp | undefined;
  #pieces = 0;
  #nextLookMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** Pairs of time and acknowledged cells. */
  readonly #samples: { readonly atMs: TimeMs; readonly cells: number }[] = [];
  #result: SpeedResult | undefined;

  constructor(options: SpeedTestOptions, nowMs: TimeMs) {
    this.#options = options;
    this.#begunMs = nowMs;
  }

  /** The session that this test is the owner of. */
  attach(session: SessionApi): void {
    this.#session = session;
  }

  get finished(): boolean {
    return this.#result !== undefined;
  }

  /** Undefined while the test runs. */
  get result(): SpeedResult | undefined {
    return this.#result;
  }

  get nextTimeoutMs(): TimeMs {
    if (this.finished) return Number.POSITIVE_INFINITY;
    return this.#readyMs === undefined ? this.#begunMs + this.#options.setupMs : this.#nextLookMs;
  }

  onReady(): void {
    this.#ready = true;
  }

  onClose(): void {
    this.#finish();
  }

  /** Sends as fast as the ramp allows and counts. Call after everything that came in, and at `nextTimeoutMs`. */
  poll(nowMs: TimeMs): void {
    const session = this.#session;
    if (this.finished || session === undefined) return;
    if (this.#ready && this.#readyMs === undefined) {
      this.#readyMs = nowMs;
      this.#nextLookMs = nowMs;
      this.#ramp = new SendRamp(ratesFrom(this.#options.lastBytesPerSecond), nowMs);
    }
    if (this.#readyMs === undefined || this.#ramp === undefined) {
      if (nowMs >= this.#begunMs + this.#options.setupMs) this.#finish();
      return;
    }
    const { maxBytes, durationMs } = this.#options;
    const { packetsSent: sent, packetsLost: lost, smoothedRttMs, bufferedBytes } = session.stats;
    // What the session holds back itself is sent at its pace, not at the ramp's.
    const room = this.#pieces + this.#ramp.burstCells - bufferedBytes / PIECE_BYTES;
    while (this.#pieces * DATAGRAM_BYTES < maxBytes && this.#pieces < room && this.#ramp.take(nowMs)) {
      if (!session.sendDatagram(FLOW_ID, this.#piece)) break;
      this.#pieces++;
    }
    if (nowMs < this.#nextLookMs) return;
    this.#nextLookMs = nowMs + LOOK_MS;
    const cells = acknowledged(session);
    this.#ramp.observe(nowMs, { sent, acknowledged: cells, lost, smoothedRttMs });
    if (this.#samples.length < MAX_SAMPLES) this.#samples.push({ atMs: nowMs, cells });
    const isThrough = this.#pieces * DATAGRAM_BYTES >= maxBytes && isIdle(session);
    if (isThrough || nowMs >= this.#readyMs + durationMs) this.#finish();
  }

  #finish(): void {
    if (this.finished) return;
    const sentBytes = (this.#session?.stats.packetsSent ?? 0) * DATAGRAM_BYTES;
    this.#result = { bytesPerSecond: this.#speed(), sentBytes };
  }

  #speed(): number | undefined {
    const last = this.#samples.at(-1);
    const total = last?.cells ?? 0;
    if (last === undefined || total < MIN_CELLS) return undefined;
    // For the last few, sessions wait long: that is not carrying.
    const end = this.#samples.find(({ cells }) => cells >= TAIL * total)!;
    const half = this.#samples.find(({ cells }) => cells >= total / 2)!;
    const whole = half === end ? { atMs: this.#readyMs!, cells: 0 } : half;
    return Math.floor(((end.cells - whole.cells) * DATAGRAM_BYTES * 1000) / Math.max(1, end.atMs - whole.atMs));
  }
}

function ratesFrom(lastBytesPerSecond: number | undefined): RampRates {
  const perMs = 1 / (1000 * DATAGRAM_BYTES);
  const first = Math.max(FIRST_BYTES_PER_SECOND, SHARE_OF_LAST * (lastBytesPerSecond ?? 0));
  return { firstPerMs: first * perMs, knownPerMs: lastBytesPerSecond ? lastBytesPerSecond * perMs : undefined };
}

function acknowledged(session: SessionApi): number {
  let cells = 0;
  for (const path of session.stats.paths) cells += path.packetsSent - path.packetsLost - path.packetsInFlight;
  return cells;
}

function isIdle(session: SessionApi): boolean {
  const { bytesInFlight, bufferedBytes } = session.stats;
  return bytesInFlight === 0 && bufferedBytes === 0;
}
