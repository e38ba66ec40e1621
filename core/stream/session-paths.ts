/** The paths of a session: how they come and go, and how their silence is noticed. */
import type { TimeMs } from '../ports.ts';
import { ATTACH_BYTES } from '../wire/frames.ts';
import type { CongestionController } from './congestion.ts';
import { STALL_MS } from './recovery.ts';
import { reorderLimitBytes } from './reorder-limit.ts';
import type { SessionCore } from './session-core.ts';
import { type PathHost, type PathOwner, PathState, SessionPath } from './session-path.ts';

/** Probe time-outs in a row after which a session on one path asks for another: two are no accident. */
const STALLED_PROBES = 2;
/** A client asks for a sign of life when nothing has come for this long or for two probe time-outs, the later of both. */
const MIN_QUIET_MS = 250;

export class SessionPaths {
  /** Packets of paths that are gone. */
  readonly past = { packetsSent: 0, packetsReceived: 0, packetsLost: 0, spurious: 0 };
  /** The session, as its paths see it. */
  owner!: PathOwner;
  readonly #core: SessionCore;
  readonly #newCongestion: () => CongestionController;
  #count = 0;

  constructor(core: SessionCore, newCongestion: () => CongestionController) {
    this.#core = core;
    this.#newCongestion = newCongestion;
  }

  create(host: PathHost, mixRttMs: number, nowMs: TimeMs): SessionPath {
    const path = new SessionPath(this.#count++, this.owner, host, this.#newCongestion(), mixRttMs, nowMs);
    this.#core.paths.push(path);
    this.#core.fec?.join(path);
    return path;
  }

  /** Client: as Session.addPath. */
  attach(
    host: PathHost,
    attach: Uint8Array,
    challenge: readonly [number, number],
    mixRttMs: number,
    nowMs: TimeMs,
  ): SessionPath {
    if (attach.length !== ATTACH_BYTES) {
      throw new RangeError(`addPath: attach has ${attach.length} bytes, not ${ATTACH_BYTES}`);
    }
    const path = this.create(host, mixRttMs, nowMs);
    path.state = PathState.attaching;
    path.attach = attach.slice();
    path.attachDue = true;
    path.ownChallenge = challenge;
    path.ownChallengeDue = true;
    return path;
  }

  /** Server: takes over a newcomer's path. */
  adopt(path: SessionPath): void {
    const core = this.#core;
    path.owner.release(path);
    path.owner = this.owner;
    path.id = this.#count++;
    path.state = PathState.usable;
    path.fec = undefined;
    core.fec?.join(path);
    core.paths.push(path);
    core.lastReceivedMs = Math.max(core.lastReceivedMs, path.lastReceivedMs);
    this.#relieveSilent();
  }

  /** The peer acknowledges ATTACH: it has let the path in. */
  onAttachAcked(path: SessionPath): void {
    path.attachAcked = true;
    this.#joinIfProved(path);
  }

  /** PATH_RESPONSE. One that says something else than our challenge means nothing. */
  onResponse(path: SessionPath, high: number, low: number): void {
    const challenge = path.ownChallenge;
    if (challenge === undefined || challenge[0] !== high || challenge[1] !== low) return;
    path.ownChallenge = undefined;
    path.ownChallengeDue = false;
    this.#joinIfProved(path);
  }

  /** Once it is in and both ways work. What is under way on paths that are silent goes out on it at once. */
  #joinIfProved(path: SessionPath): void {
    if (path.state !== PathState.attaching || !path.attachAcked || path.ownChallenge !== undefined) return;
    path.state = PathState.usable;
    this.#relieveSilent();
  }

  /** A path came, went, or is another one than it was. */
  #changed(): void {
    const { paths } = this.#core;
    this.#core.reorderLimitBytes = reorderLimitBytes(paths, this.#core.nowMs);
    let usable = 0;
    for (const { state } of paths) if (state === PathState.usable) usable++;
    for (const path of paths) path.recovery.backedUp = usable > (path.state === PathState.usable ? 1 : 0);
  }

  #relieveSilent(): void {
    this.#changed();
    for (const path of this.#core.paths) {
      if (path.state === PathState.usable && path.recovery.silentProbes > 0) this.#suspect(path);
    }
    this.#core.wakeAll();
  }

  remove(path: SessionPath): void {
    const { paths } = this.#core;
    const at = paths.indexOf(path);
    if (at >= 0) paths.splice(at, 1);
  }

  /** Its circuit is gone: what was under way on it is queued again. */
  lost(path: SessionPath): void {
    this.remove(path);
    path.state = PathState.gone;
    this.#core.fec?.leave(path);
    this.past.packetsSent += path.recovery.packetsSent;
    this.past.packetsReceived += path.packetsReceived;
    this.past.packetsLost += path.recovery.packetsLost;
    this.past.spurious += path.recovery.spurious;
    path.copies = undefined;
    this.#changed();
    if (this.#core.state === 'open') path.recovery.giveUp();
  }

  /** It is heard again. */
  revive(path: SessionPath): void {
    path.state = PathState.usable;
    this.#changed();
    this.#core.wakeAll();
  }

  /** A probe time-out has passed. If others can carry what is under way on the path, it goes out there at once. */
  onSilence(path: SessionPath): void {
    if (path.state !== PathState.usable) return;
    const { paths, host } = this.#core;
    if (paths.some((other) => other !== path && other.state === PathState.usable)) this.#suspect(path);
    else if (path.recovery.silentProbes === STALLED_PROBES && path.acks.largest >= 0) host.onStalled?.();
  }

  #suspect(path: SessionPath): void {
    path.state = PathState.suspect;
    path.pingDue = true;
    path.copies = undefined;
    this.#changed();
    path.recovery.giveUp();
    path.recovery.probes = 1;
    this.#core.wakeAll();
  }

  /**
   * Client: something was coming and comes no more. Who only receives would never know that the path is dead, so it asks,
   * once.
   */
  quietDeadlineMs(path: SessionPath, streams: number): TimeMs {
    if (!this.#core.isClient || path.asked || streams === 0) return Number.POSITIVE_INFINITY;
    const { recovery } = path;
    const quietMs = Math.max(MIN_QUIET_MS, Math.min(2 * recovery.probeTimeoutMs(), recovery.quietMs()));
    return Math.max(path.dataMs + quietMs, path.askNotBeforeMs);
  }

  askIfQuiet(path: SessionPath, streams: number, nowMs: TimeMs): void {
    const dueMs = this.quietDeadlineMs(path, streams);
    if (nowMs < dueMs) return;
    if (nowMs > dueMs + STALL_MS && dueMs !== path.askNotBeforeMs) {
      path.askNotBeforeMs = nowMs + 1;
      return;
    }
    path.asked = true;
    path.recovery.quiet = true;
    path.pingDue = true;
  }
}
