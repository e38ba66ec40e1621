/**
 * Error correction of a session (docs/protocol.md §5.6): what is agreed with the peer, which packets are worth protecting,
 * which path carries whose repair symbols, and what becomes of packets that come back.
 */
import type { BlockCodec } from '../fec/block-codec.ts';
import { SYMBOL_BYTES } from '../fec/block-codec.ts';
import { PathFec } from '../fec/path-fec.ts';
import {
  checkFecPolicy,
  decodeFecPolicy,
  type FecPolicy,
  type FecResources,
  fecPolicyText,
  fecTunings,
} from '../fec/policy.ts';
import { addFecStats, emptyFecStats, type FecStats } from '../fec/stats.ts';
import type { TimeMs } from '../ports.ts';
import { RepairDecoder } from '../wire/fec-frames.ts';
import type { FrameDecoder } from '../wire/frames.ts';
import { Control, type SessionCore } from './session-core.ts';
import { PathState, type SessionPath } from './session-path.ts';

/** The mark at the end of a protected packet: FEC_SOURCE and the path's tag. */
export const SOURCE_MARK_BYTES = 2;
export const PROTECTED_BYTES = SYMBOL_BYTES - SOURCE_MARK_BYTES;
/** In CAPS: datagrams may say when they left and how old they may become. */
const TIMED_DATAGRAMS = 'timed-datagrams1';
/** Tags are one byte; 0 stands for the path that a frame comes on. */
const MAX_TAG = 255;
/** A path that is so much slower than the source's own does not help it. */
const MAX_SLOWER = 1.25;

export class SessionFec {
  /** What both sides can and we want; paths look here. */
  readonly wish: { policy: FecPolicy; codecs: readonly BlockCodec[] };
  /** The peer knows TIMED_DATAGRAM. */
  takesTimed = false;
  readonly #core: SessionCore;
  readonly #resources: FecResources;
  readonly #repair = new RepairDecoder();
  #tags = 0;
  /** Of paths that are gone. */
  readonly #past = emptyFecStats();

  constructor(core: SessionCore, resources: FecResources, policy: FecPolicy) {
    this.#core = core;
    this.#resources = resources;
    this.wish = { policy: checkFecPolicy(policy), codecs: [] };
  }

  /** Names for the CAPS message. */
  get capabilities(): string[] {
    return [...this.#resources.codecs.map(({ capability }) => capability), TIMED_DATAGRAMS];
  }

  onPeerCapabilities(names: readonly string[]): void {
    this.takesTimed = names.includes(TIMED_DATAGRAMS);
    this.wish.codecs = this.#resources.codecs.filter(({ capability }) => names.includes(capability));
  }

  /** Server: what the client wishes. */
  onPeerWish(value: number): void {
    const policy = decodeFecPolicy(value);
    if (policy !== undefined && !this.#core.isClient) this.wish.policy = policy;
  }

  /** From now on, both ways: a client's wish reaches the peer with SETTINGS. */
  set policy(policy: FecPolicy) {
    if (fecPolicyText(policy) === fecPolicyText(this.wish.policy)) return;
    this.wish.policy = checkFecPolicy(policy);
    if (this.#core.isClient) this.#core.want(Control.settings);
  }

  /** For a path that begins here, or that comes from a session that is given up. */
  join(path: SessionPath): void {
    const tuning = path.mixRttMs > 0 ? fecTunings.mix : fecTunings.fast;
    const tag = this.#tags < MAX_TAG ? ++this.#tags : 0;
    path.fec = new PathFec(this.wish, this.#resources, tuning, tag, path.acks, path.recovery.loss);
  }

  leave(path: SessionPath): void {
    if (path.fec !== undefined) addFecStats(this.#past, path.fec.tally.counts);
  }

  // ---- Sending

  /** A path whose repair symbols this path may carry now: itself, or one that is no quicker. */
  repairFor(path: SessionPath): SessionPath | undefined {
    const { nowMs, paths } = this.#core;
    // What probes a silent path are packets that have to arrive, not help for some that may have.
    if (path.state !== PathState.usable || path.recovery.probes > 0) return undefined;
    if (path.fec?.sender.queued(nowMs)) return path;
    if (paths.length === 1) return undefined;
    const rttMs = path.recovery.rtt.expectedMs;
    for (const other of paths) {
      if (other === path || other.fec === undefined || !other.fec.sender.named) continue;
      if (rttMs <= MAX_SLOWER * other.recovery.rtt.expectedMs && other.fec.sender.queued(nowMs)) return other;
    }
    return undefined;
  }

  // ---- Receiving

  /** FEC_SOURCE: the packet is kept for a while, under the name that the peer has for the path. */
  onSource(path: SessionPath, packetNumber: number, payload: Uint8Array, tag: number): void {
    const { fec } = path;
    if (fec === undefined) return;
    fec.peerTag = tag;
    fec.receiver.onSource(packetNumber, payload, this.#core.nowMs, fec.recovered);
  }

  /** FEC_REPAIR, on any path. False: it makes no sense. */
  onRepair(path: SessionPath, frame: FrameDecoder, payload: Uint8Array): boolean {
    const repair = this.#repair;
    if (!repair.decode(payload, frame.dataStart, frame.dataLength)) return false;
    const source = repair.path === 0 ? path : this.#tagged(path, repair.path);
    if (source?.fec === undefined) {
      path.fec?.tally.add('repairsRejected');
      return true;
    }
    source.fec.receiver.onRepair(repair, payload, this.#core.nowMs, source.fec.recovered);
    return true;
  }

  #tagged(path: SessionPath, tag: number): SessionPath | undefined {
    if (path.fec?.peerTag === tag) return path;
    const known = this.#core.paths.find(({ fec }) => fec?.peerTag === tag);
    // Its first packet was lost, and with it the name: only where there is no other can it be meant.
    return known ?? (this.#core.paths.length === 1 && path.fec?.peerTag === 0 ? path : undefined);
  }

  // ---- Time

  nextTimeoutMs(path: SessionPath): TimeMs {
    const { fec } = path;
    return fec === undefined
      ? Number.POSITIVE_INFINITY
      : Math.min(fec.sender.nextTimeoutMs, fec.receiver.nextTimeoutMs);
  }

  handleTimeout(path: SessionPath, nowMs: TimeMs): void {
    const { fec } = path;
    if (fec === undefined) return;
    fec.receiver.poll(nowMs);
    fec.sender.poll(nowMs, path.recovery.rtt.expectedMs);
    if (this.#core.paths.length > 1 && fec.sender.queued(nowMs)) this.#core.wakeAll();
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const { fec } of this.#core.paths) bytes += fec?.memoryBytes ?? 0;
    return bytes;
  }

  get stats(): FecStats {
    const { nowMs, paths } = this.#core;
    const sum = { ...this.#past };
    let ratio = 0;
    for (const { fec } of paths) {
      if (fec === undefined) continue;
      addFecStats(sum, fec.tally.counts);
      ratio = Math.max(ratio, fec.sender.ratio(nowMs));
    }
    return { ...sum, policy: this.wish.policy, codecs: this.wish.codecs.map(({ capability }) => capability), ratio };
  }
}
