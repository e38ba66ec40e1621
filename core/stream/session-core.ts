/** What the parts of a session share: its options, host, state, time and paths, and the frames of its own that are due. */
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import type { SessionHost, SessionOptions } from './contract.ts';
import { SessionError } from './contract.ts';
import { Scheduler } from './path-choice.ts';
import type { SessionFec } from './session-fec.ts';
import type { SessionPath } from './session-path.ts';

/** Frames of the session itself that wait to be sent. */
export const Control = {
  settings: 1,
  maxData: 2,
  maxStreams: 4,
  ping: 8,
  pong: 16,
  resolve: 32,
  resolved: 64,
} as const;

/** How a part ends the session. */
export interface SessionCloser {
  close(code: number, reason: string): void;
  /** A plugin is required that is not there. */
  closeUnsupported(pluginId: number): void;
  closedByPeer(code: number, reason: string): void;
}

export class SessionCore {
  readonly options: SessionOptions;
  readonly host: SessionHost;
  readonly isClient: boolean;
  readonly closer: SessionCloser;
  state: 'open' | 'closing' | 'closed' = 'open';
  nowMs: TimeMs;
  lastReceivedMs: TimeMs;
  idleTimeoutMs: number;
  /** Bits of Control. */
  control: number = Control.settings;
  scheduler: Scheduler;
  /** Client: the peer is to know it, as it is not or was not the default. */
  tellsScheduler: boolean;
  /** What a stream may run ahead of its oldest unacknowledged byte (reorder-limit.ts). */
  reorderLimitBytes = Number.POSITIVE_INFINITY;
  /** Usable or on the way to it. */
  readonly paths: SessionPath[] = [];
  /** The one that a payload is being taken from or written for. */
  path!: SessionPath;
  /** The one that the session began on; gone, perhaps. */
  firstPath!: SessionPath;
  readonly #beganMs: TimeMs;
  /** Undefined: this side does not correct errors. */
  fec: SessionFec | undefined = undefined;
  /** Where the payload that is being written has to end. */
  payloadEnd = PAYLOAD_BYTES;
  /** A payload is being taken in: callbacks to streams wait until it is done. */
  inHandle = false;

  constructor(options: SessionOptions, host: SessionHost, closer: SessionCloser, nowMs: TimeMs) {
    this.options = options;
    this.host = host;
    this.isClient = options.role === 'client';
    this.closer = closer;
    this.nowMs = nowMs;
    this.lastReceivedMs = nowMs;
    this.#beganMs = nowMs;
    this.idleTimeoutMs = options.idleTimeoutMs;
    this.scheduler = options.scheduler;
    this.tellsScheduler = this.isClient && options.scheduler !== Scheduler.latencyWeighted;
  }

  /** Whole milliseconds since the session began: it says nothing of the host's clock. */
  get sessionMs(): number {
    return Math.floor(this.nowMs - this.#beganMs);
  }

  /** Any path may have something to send. */
  wakeAll(): void {
    for (const path of this.paths) path.host.onWantSend();
  }

  want(control: number): void {
    this.control |= control;
    this.wakeAll();
  }

  violation(reason: string): Drop {
    this.closer.close(SessionError.protocolViolation, reason);
    return Drop.badFrame;
  }

  flowViolation(what: string): Drop {
    this.closer.close(SessionError.flowControl, `more data than allowed: ${what}`);
    return Drop.badFrame;
  }
}
