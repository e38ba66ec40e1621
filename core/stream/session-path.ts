/**
 * One circuit under a session: its packets, their loss and congestion, its key messages. Payloads come and go here; what
 * they carry is the session's. A path is made by a session (Session.firstPath, Session.addPath) and belongs to it until
 * it is lost, or until a newcomer's ATTACH hands it to the session that it asks for.
 */
import { Drop } from '../drop-reason.ts';
import type { PathFec } from '../fec/path-fec.ts';
import type { TimeMs } from '../ports.ts';
import { AckTracker } from './ack-tracker.ts';
import type { CongestionController } from './congestion.ts';
import type { PathStats, SessionApi } from './contract.ts';
import type { CopyQueue } from './copy-queue.ts';
import { CryptoStream } from './crypto-stream.ts';
import type { DatagramClock } from './datagram-clock.ts';
import type { FrameFate } from './frame-fate.ts';
import { Pacer } from './pacer.ts';
import { Recovery } from './recovery.ts';

/** What a path tells whoever runs the circuit. As SessionHost's: synchronously, must not throw. */
export interface PathHost {
  /** The CRYPTO key messages (types 2, 3, 4) belong to the onion layer: handed up and sent down as they are. */
  onCryptoMessage(type: number, body: Uint8Array): void;
  /** There may be something to send on this path now: poll soon. */
  onWantSend(): void;
  /** The peer did not let this path join the session: it is of no use. */
  onRefused?(): void;
}

export const PathState = {
  /** Client: the peer has not confirmed ATTACH. Carries that and key messages only. */
  attaching: 'attaching',
  usable: 'usable',
  /** Nothing was heard for a probe time-out and others can carry the data: it only probes until something is. */
  suspect: 'suspect',
  gone: 'gone',
} as const;
export type PathState = (typeof PathState)[keyof typeof PathState];

/** The session's side of a path. */
export interface PathOwner {
  readonly session: SessionApi;
  handlePayload(path: SessionPath, packetNumber: number, payload: Uint8Array, nowMs: TimeMs): Drop;
  pollPayload(path: SessionPath, out: Uint8Array, packetNumber: number, nowMs: TimeMs): boolean;
  wantsSend(path: SessionPath, nowMs: TimeMs): boolean;
  nextTimeoutMs(path: SessionPath): TimeMs;
  handleTimeout(path: SessionPath, nowMs: TimeMs): void;
  reachable(path: SessionPath, nowMs: TimeMs, moved: boolean): void;
  sendCryptoMessage(path: SessionPath, type: number, body: Uint8Array): void;
  /** What becomes of frames sent on the path. */
  readonly fate: FrameFate;
  lost(path: SessionPath, nowMs: TimeMs): void;
  /** Gives the path away unheard. */
  release(path: SessionPath): void;
}

export class SessionPath {
  /** Counts up within a session; 0 is the first. Changes once, when another session adopts it. */
  id: number;
  readonly host: PathHost;
  /** As in SessionOptions. */
  readonly mixRttMs: number;
  /** For the session alone, all of the following. */
  owner: PathOwner;
  state: PathState = PathState.usable;
  readonly acks = new AckTracker();
  readonly recovery: Recovery;
  readonly pacer = new Pacer();
  readonly crypto = new CryptoStream();
  /** Undefined: this session does not correct errors. */
  fec: PathFec | undefined = undefined;
  /** Of the datagrams that say when they left; made with the first. */
  datagramClock: DatagramClock | undefined = undefined;
  packetsReceived = 0;
  lastSentMs: TimeMs;
  lastReceivedMs: TimeMs;
  /** When data of a stream came last, and whether it was asked since then if it lives. */
  dataMs: TimeMs = 0;
  asked = true;
  /** Not before this: a host that was stalled may have the answer in its sockets. */
  askNotBeforeMs: TimeMs = 0;
  /** A PING of the path's own is due. */
  pingDue = false;
  /** What PATH_CHALLENGE asked for. */
  challenge: readonly [number, number] | undefined = undefined;
  /** Client: body of the ATTACH that has to go out. */
  attach: Uint8Array | undefined = undefined;
  attachDue = false;
  attachAcked = false;
  /** Client: what our PATH_CHALLENGE says, until it has been answered. */
  ownChallenge: readonly [number, number] | undefined = undefined;
  ownChallengeDue = false;
  /** Scheduler `redundant`: what other paths have sent and this one is to send as well. */
  copies: CopyQueue | undefined = undefined;
  /** Of stream data that it sent again like that. */
  copiedBytes = 0;

  constructor(
    id: number,
    owner: PathOwner,
    host: PathHost,
    congestion: CongestionController,
    mixRttMs: number,
    nowMs: TimeMs,
  ) {
    this.id = id;
    this.owner = owner;
    this.host = host;
    this.mixRttMs = mixRttMs;
    this.lastSentMs = nowMs;
    this.lastReceivedMs = nowMs;
    this.recovery = new Recovery(
      {
        onFrameAcked: (kind, fin, length, frameId, offset) =>
          this.owner.fate.onAcked(this, kind, fin, length, frameId, offset),
        onFrameLost: (kind, fin, length, frameId, offset) =>
          this.owner.fate.onLost(this, kind, fin, length, frameId, offset),
      },
      congestion,
      mixRttMs,
    );
  }

  get session(): SessionApi {
    return this.owner.session;
  }

  /** One payload of the peer, packet number = cell index on this circuit. Borrows `payload`. Time does not go backwards. */
  handlePayload(packetNumber: number, payload: Uint8Array, nowMs: TimeMs): Drop {
    if (this.state === PathState.gone) return Drop.closed;
    return this.owner.handlePayload(this, packetNumber, payload, nowMs);
  }

  /**
   * Writes the next payload due (all of `out`, 1144 bytes, zero-filled) and records it under `packetNumber`;
   * false = nothing to send on this path now (out untouched). Call until false, or until the caller has no room.
   * Packet numbers of a path strictly increase; gaps are allowed and mean nothing.
   */
  pollPayload(out: Uint8Array, packetNumber: number, nowMs: TimeMs): boolean {
    return this.state !== PathState.gone && this.owner.pollPayload(this, out, packetNumber, nowMs);
  }

  /**
   * Fills a payload that carries nothing (drop cover) and notes that its packet number was used; false = not now. Nobody
   * acknowledges it on its own, and it is never sent again.
   */
  coverPayload(out: Uint8Array, packetNumber: number, nowMs: TimeMs): boolean {
    if (this.state !== PathState.usable || packetNumber <= this.recovery.sent.largestNumber) return false;
    out.fill(0);
    this.recovery.onSent(packetNumber, false, nowMs);
    return true;
  }

  /** Something would be sent by pollPayload at `nowMs`. Cheap. */
  wantsSend(nowMs: TimeMs): boolean {
    return this.state !== PathState.gone && this.owner.wantsSend(this, nowMs);
  }

  /** When handleTimeout wants to be called (absolute; Infinity = never). Includes the pacer's next release. */
  nextTimeoutMs(): TimeMs {
    return this.state === PathState.gone ? Number.POSITIVE_INFINITY : this.owner.nextTimeoutMs(this);
  }

  handleTimeout(nowMs: TimeMs): void {
    if (this.state !== PathState.gone) this.owner.handleTimeout(this, nowMs);
  }

  /** The circuit is ready, this long after its set-up began: the first thing that is known of its round trip. */
  noteSetup(setupMs: number): void {
    if (this.mixRttMs === 0) this.recovery.rtt.noteSetup(setupMs);
  }

  /** The way was interrupted, and perhaps is not any more: the other end is asked at once. */
  reachable(nowMs: TimeMs, moved: boolean): void {
    if (this.state !== PathState.gone) this.owner.reachable(this, nowMs, moved);
  }

  /** Throws RangeError when the body is too long or too many messages are unacknowledged. */
  sendCryptoMessage(type: number, body: Uint8Array): void {
    if (this.state !== PathState.gone) this.owner.sendCryptoMessage(this, type, body);
  }

  /** The circuit is gone: what was under way on it goes out on another path; without one the session is left alone. */
  lost(nowMs: TimeMs): void {
    if (this.state !== PathState.gone) this.owner.lost(this, nowMs);
  }

  /** Loss detection's time with the congestion controller's leave: something may go out that asks for an ACK. */
  maySend(nowMs: TimeMs): boolean {
    const { recovery } = this;
    return recovery.probes > 0 || (recovery.windowOpen && this.pacer.ready(nowMs));
  }

  get stats(): PathStats {
    const { recovery } = this;
    const { congestion } = recovery;
    return {
      path: this.id,
      state: this.state,
      smoothedRttMs: recovery.rtt.smoothedMs,
      minRttMs: recovery.rtt.minMs,
      jitterMs: recovery.rtt.smoothedMs === undefined ? undefined : recovery.rtt.variationMs,
      packetsSent: recovery.packetsSent,
      packetsReceived: this.packetsReceived,
      packetsLost: recovery.packetsLost,
      spuriousRetransmissions: recovery.spurious,
      packetsInFlight: recovery.inFlight,
      windowPackets: congestion.windowPackets,
      deliveredPacketsPerMs: congestion.deliveryRate,
      copiedBytes: this.copiedBytes,
    };
  }
}
