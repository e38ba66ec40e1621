/**
 * The session (docs/protocol.md §5, contract.ts) over one or more paths (session-path.ts). The way of a payload in: its
 * path's handlePayload → frames (frame-receiver.ts) → buffers, ACK tracking of the path → callbacks, once everything is
 * consistent. The way of a payload out: a path's pollPayload, if this path is to carry (path-choice.ts) → frames
 * (payload-writer.ts) → record for loss detection of the path, which says what became of them (frame-fate.ts). What is
 * lost on one path goes on any.
 */
import { Drop } from '../drop-reason.ts';
import type { FecPolicy } from '../fec/policy.ts';
import type { TimeMs } from '../ports.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { isFrameText, MAX_RESOLVED, type ResolvedEntry, writeClose } from '../wire/frames.ts';
import { Bbr } from './bbr.ts';
import type { CongestionController } from './congestion.ts';
import type {
  ResolvedAddress,
  SessionApi,
  SessionHost,
  SessionOptions,
  SessionStats,
  SessionStream,
  StreamTarget,
} from './contract.ts';
import { SessionError } from './contract.ts';
import { CryptoMessage } from './crypto-stream.ts';
import { FlowControl } from './flow-control.ts';
import { FrameFate } from './frame-fate.ts';
import { FrameReceiver } from './frame-receiver.ts';
import type { Scheduler } from './path-choice.ts';
import { PayloadWriter } from './payload-writer.ts';
import { Control, type SessionCloser, SessionCore } from './session-core.ts';
import { SessionFec } from './session-fec.ts';
import { defaultSessionOptions } from './session-options.ts';
import type { PathHost, PathOwner, SessionPath } from './session-path.ts';
import { SessionPaths } from './session-paths.ts';
import { SessionSetup } from './session-setup.ts';
import { SideQueues } from './side-queues.ts';
import { StreamEvents } from './stream-events.ts';
import { StreamTable } from './stream-table.ts';

const MAX_CLOSE_FRAMES = 5;
const MAX_REASON_BYTES = 256;
const TRIM_AFTER_MS = 2000;
/** A path that has moved and over which nothing came for so long was cut off at the old address. */
const MIN_INTERRUPTION_MS = 10;

export class Session implements SessionApi, SessionCloser {
  readonly #core: SessionCore;
  readonly #events = new StreamEvents();
  readonly #flow: FlowControl;
  readonly #streams: StreamTable;
  readonly #side: SideQueues;
  readonly #setup: SessionSetup;
  readonly #paths: SessionPaths;
  readonly #writer: PayloadWriter;
  readonly #receiver: FrameReceiver;
  readonly #fate: FrameFate;

  // Closing
  #closeCode = 0;
  #closeReason = new Uint8Array(0);
  #closeFrames = 0;
  #closePending = false;
  #drainUntilMs = 0;

  /** `congestion` makes controllers other than the default one (BBR), one for each path. */
  constructor(
    options: Partial<SessionOptions>,
    host: SessionHost & PathHost,
    nowMs: number,
    congestion: () => CongestionController = () => new Bbr(),
  ) {
    const core = new SessionCore({ ...defaultSessionOptions, ...options }, host, this, nowMs);
    this.#core = core;
    if (core.options.fec !== undefined) {
      core.fec = new SessionFec(core, core.options.fec.resources, core.options.fec.policy);
    }
    this.#flow = new FlowControl(core);
    this.#streams = new StreamTable(core, this.#flow, this.#events);
    this.#side = new SideQueues(core);
    this.#setup = new SessionSetup(core);
    this.#paths = new SessionPaths(core, congestion);
    this.#writer = new PayloadWriter(core, this.#flow, this.#streams, this.#side);
    const parts = {
      core,
      paths: this.#paths,
      flow: this.#flow,
      streams: this.#streams,
      events: this.#events,
      side: this.#side,
    };
    this.#receiver = new FrameReceiver({ ...parts, setup: this.#setup });
    this.#fate = new FrameFate(parts);
    this.#paths.owner = this.#pathOwner();
    core.firstPath = this.#paths.create(host, core.options.mixRttMs, nowMs);
    core.path = core.firstPath;
    if (core.isClient) this.#setup.queueCaps(core.firstPath);
  }

  /** The path that the session began on; gone, perhaps. */
  get firstPath(): SessionPath {
    return this.#core.firstPath;
  }

  /**
   * Client: one more circuit to the same last hop. It carries `attach` (session id ‖ proof, 32 bytes) until the peer has
   * confirmed it and answered the challenge (8 random bytes as two words), and data from then on. `mixRttMs` as in
   * SessionOptions.
   */
  addPath(
    host: PathHost,
    attach: Uint8Array,
    challenge: readonly [number, number],
    mixRttMs: number,
    nowMs: TimeMs,
  ): SessionPath {
    this.#core.nowMs = Math.max(this.#core.nowMs, nowMs);
    return this.#paths.attach(host, attach, challenge, mixRttMs, nowMs);
  }

  /** Server: takes over a newcomer's path (SessionHost.onAttach). */
  adopt(path: SessionPath): void {
    this.#paths.adopt(path);
  }

  /** Circuits under it, those included that are still asking to join. */
  get pathCount(): number {
    return this.#core.paths.length;
  }

  // ---- SessionApi: streams, names, datagrams

  openStream(target: StreamTarget): SessionStream | undefined {
    if (!this.#core.isClient) throw new TypeError('openStream: only the client of a session opens streams');
    if (!isFrameText(target.host) || !Number.isInteger(target.port) || target.port < 0 || target.port > 0xffff) {
      throw new RangeError('openStream: host must be 1…255 printable ASCII characters and port 0…65535');
    }
    return this.#core.state === 'open' ? this.#streams.open(target) : undefined;
  }

  resolve(
    kind: 'name' | 'address',
    value: string,
    onResult: (addresses: readonly ResolvedAddress[] | undefined, name: string | undefined, code: number) => void,
  ): void {
    let code: number = SessionError.noError;
    if (!isFrameText(value)) code = SessionError.resolveFailed;
    else if (this.#core.state !== 'open') code = SessionError.sessionLost;
    else if (!this.#side.ask(kind === 'name' ? 0 : 1, value, onResult)) code = SessionError.limit;
    if (code !== SessionError.noError) onResult(undefined, undefined, code);
  }

  resolved(requestId: number, code: number, addresses: readonly ResolvedAddress[], name?: string): void {
    if (this.#core.state !== 'open') return;
    const entries: ResolvedEntry[] = addresses
      .slice(0, MAX_RESOLVED - 1)
      .map(({ family, address, ttlSeconds }) => ({ family, value: address, ttlSeconds: boundTtl(ttlSeconds) }));
    if (name !== undefined) entries.push({ family: 0, value: name, ttlSeconds: 0 });
    const sendable = entries.filter((entry) => isFrameText(entry.value));
    this.#side.answer(requestId, code, sendable);
  }

  sendDatagram(flowId: number, data: Uint8Array, lifetimeMs = 0): boolean {
    return this.#core.state === 'open' && this.#side.addDatagram(flowId, data, lifetimeMs);
  }

  setScheduler(scheduler: Scheduler): void {
    const core = this.#core;
    if (core.scheduler === scheduler || core.state !== 'open') return;
    core.scheduler = scheduler;
    core.tellsScheduler = core.isClient;
    if (core.isClient) core.want(Control.settings);
  }

  /** As SessionApi. */
  setFec(policy: FecPolicy): void {
    if (this.#core.fec !== undefined) this.#core.fec.policy = policy;
  }

  ping(onPong: (rttMs: number) => void): void {
    if (this.#core.state === 'open') this.#side.addPing(onPong);
  }

  // ---- Packets and time, by path

  #pathOwner(): PathOwner {
    return {
      session: this,
      handlePayload: (path, packetNumber, payload, now) => this.#handlePayload(path, packetNumber, payload, now),
      pollPayload: (path, out, packetNumber, now) => this.#pollPayload(path, out, packetNumber, now),
      wantsSend: (path, now) => this.#wantsSend(path, now),
      nextTimeoutMs: (path) => this.#nextTimeoutMs(path),
      handleTimeout: (path, now) => this.#handleTimeout(path, now),
      reachable: (path, now, moved) => this.#reachable(path, now, moved),
      sendCryptoMessage: (path, type, body) => this.#sendCryptoMessage(path, type, body),
      fate: this.#fate,
      lost: (path, now) => this.#pathLost(path, now),
      release: (path) => this.#release(path),
    };
  }

  #handlePayload(path: SessionPath, packetNumber: number, payload: Uint8Array, nowMs: TimeMs): Drop {
    const core = this.#core;
    if (core.state === 'closed') return Drop.closed;
    core.nowMs = nowMs;
    if (core.state === 'closing') {
      if (this.#closeFrames < MAX_CLOSE_FRAMES) this.#closePending = true;
      return Drop.closed;
    }
    if (path.acks.isDuplicate(packetNumber)) return Drop.replayed;
    const silentMs = nowMs - path.lastReceivedMs;
    path.packetsReceived++;
    path.lastReceivedMs = nowMs;
    core.lastReceivedMs = nowMs;
    core.path = path;
    core.inHandle = true;
    const result = this.#receiver.handle(path, packetNumber, payload);
    core.inHandle = false;
    // Still nothing of ours is acknowledged. Once for each silence: a path of which only the way there is dead gets no more.
    const { recovery } = path;
    if (recovery.silentProbes > 0 && silentMs >= recovery.probeTimeoutMs()) this.#reachable(path, nowMs, false);
    // What came (credit, losses) may be another path's to act upon, and only this one is polled now.
    if (core.paths.length > 1 && this.#writer.hasWork()) core.wakeAll();
    this.#events.dispatch();
    return result;
  }

  #pollPayload(path: SessionPath, out: Uint8Array, packetNumber: number, nowMs: TimeMs): boolean {
    const core = this.#core;
    core.nowMs = nowMs;
    if (this.#events.pending) this.#events.dispatch();
    if (core.state !== 'open') return this.#pollClose(out);
    const { recovery } = path;
    if (packetNumber <= recovery.sent.largestNumber) {
      throw new RangeError(`pollPayload: packet number ${packetNumber} is not above ${recovery.sent.largestNumber}`);
    }
    core.path = path;
    const wants = this.#writer.wantsEliciting(path);
    const maySend = path.maySend(nowMs);
    if (!(wants && maySend) && !path.acks.due(nowMs)) return false;
    const written = this.#writer.write(path, out, packetNumber, maySend && wants, nowMs);
    // Others held back for this one as long as it could send.
    if (core.paths.length > 1 && !path.maySend(nowMs)) core.wakeAll();
    return written;
  }

  #wantsSend(path: SessionPath, nowMs: TimeMs): boolean {
    if (this.#core.state !== 'open') return this.#closePending;
    this.#core.nowMs = nowMs;
    const wants = this.#writer.wantsEliciting(path);
    // Noted here, as who asks first never polls in vain. Where a writer waits, it is windows and buffers that limit.
    if (!wants && path.recovery.windowOpen && this.#streams.blockedWriters === 0) path.recovery.onAppLimited();
    return path.acks.due(nowMs) || (wants && path.maySend(nowMs));
  }

  #nextTimeoutMs(path: SessionPath): TimeMs {
    const { state, nowMs } = this.#core;
    if (state === 'closed') return Number.POSITIVE_INFINITY;
    if (state === 'closing') return this.#drainUntilMs;
    if (this.#events.pending) return nowMs;
    let next = Math.min(this.#idleDeadlineMs(), this.#keepAliveDeadlineMs(path), trimDeadlineMs(path));
    next = Math.min(next, path.recovery.nextTimeoutMs());
    next = Math.min(next, path.acks.deadlineMs, this.#paths.quietDeadlineMs(path, this.#streams.size));
    if (this.#core.fec !== undefined) next = Math.min(next, this.#core.fec.nextTimeoutMs(path));
    if (path.recovery.windowOpen && this.#writer.wantsEliciting(path)) {
      const release = path.pacer.nextMs();
      if (release > nowMs) next = Math.min(next, release);
    }
    return next;
  }

  #handleTimeout(path: SessionPath, nowMs: TimeMs): void {
    const core = this.#core;
    core.nowMs = nowMs;
    if (core.state === 'closing' && nowMs >= this.#drainUntilMs) core.state = 'closed';
    if (core.state !== 'open') return;
    if (nowMs >= this.#idleDeadlineMs()) {
      this.#end(SessionError.idleTimeout, 'nothing heard from the peer', false);
      core.state = 'closed';
      return;
    }
    const { recovery } = path;
    core.fec?.handleTimeout(path, nowMs);
    if (recovery.handleTimeout(nowMs)) {
      if (core.paths.length > 1) core.wakeAll();
      if (recovery.probes > 0) this.#paths.onSilence(path);
      if (!this.#writer.wantsEliciting(path)) path.pingDue = true;
    }
    if (nowMs >= this.#keepAliveDeadlineMs(path)) path.pingDue = true;
    this.#paths.askIfQuiet(path, this.#streams.size, nowMs);
    if (nowMs >= trimDeadlineMs(path)) {
      recovery.sent.trim();
      path.acks.ranges.compact();
    }
    this.#events.dispatch();
  }

  #reachable(path: SessionPath, nowMs: TimeMs, moved: boolean): void {
    const core = this.#core;
    core.nowMs = Math.max(core.nowMs, nowMs);
    if (core.state !== 'open') return;
    path.recovery.probeNow(nowMs);
    path.pingDue = true;
    // What has arrived need not come again. Where nothing has for a while, all else went to the old address.
    path.acks.now = true;
    if (moved && nowMs - path.lastReceivedMs >= MIN_INTERRUPTION_MS) path.acks.interrupted = true;
    core.wakeAll();
  }

  #sendCryptoMessage(path: SessionPath, type: number, body: Uint8Array): void {
    if (this.#core.state !== 'open') return;
    if (!path.crypto.write(type, body)) throw new RangeError(`sendCryptoMessage: no room for ${body.length} bytes`);
    // The set-up reply has to be the first message of the last hop.
    if (!this.#core.isClient && type === CryptoMessage.keys) this.#setup.queueCaps(path);
    path.host.onWantSend();
  }

  #pathLost(path: SessionPath, nowMs: TimeMs): void {
    const core = this.#core;
    core.nowMs = Math.max(core.nowMs, nowMs);
    this.#paths.lost(path);
    if (core.paths.length > 0) {
      core.wakeAll();
      return;
    }
    if (core.state === 'open' && core.host.onDetached !== undefined) core.host.onDetached();
    else this.abandon(SessionError.sessionLost, 'the circuit ended');
  }

  #release(path: SessionPath): void {
    this.#paths.remove(path);
    // It was made for the newcomer alone; nobody has seen it yet.
    if (this.#core.paths.length === 0) this.#core.state = 'closed';
  }

  #idleDeadlineMs(): number {
    const { idleTimeoutMs, lastReceivedMs } = this.#core;
    return idleTimeoutMs > 0 ? lastReceivedMs + idleTimeoutMs : Number.POSITIVE_INFINITY;
  }

  #keepAliveDeadlineMs(path: SessionPath): number {
    const { options, isClient, idleTimeoutMs } = this.#core;
    if (options.keepAliveMs <= 0 || path.pingDue) return Number.POSITIVE_INFINITY;
    return path.lastSentMs + Math.max(options.keepAliveMs, isClient ? 0 : idleTimeoutMs / 4);
  }

  // ---- The end

  close(code: number, reason: string): void {
    this.#close(code, reason, new TextEncoder().encode(reason).subarray(0, MAX_REASON_BYTES));
  }

  closeUnsupported(pluginId: number): void {
    const id = new Uint8Array([pluginId >>> 24, pluginId >>> 16, pluginId >>> 8, pluginId]);
    this.#close(SessionError.unsupportedCapability, `plugin ${pluginId} is required`, id);
  }

  closedByPeer(code: number, reason: string): void {
    this.#core.state = 'closed';
    this.#end(code, reason, true);
  }

  abandon(code: number, reason: string): void {
    const { state } = this.#core;
    if (state === 'closed') return;
    this.#core.state = 'closed';
    this.#closePending = false;
    if (state === 'open') this.#end(code, reason, false);
  }

  get closed(): boolean {
    return this.#core.state === 'closed';
  }

  /** `body` is the reason in the CLOSE frame, at most 256 bytes. */
  #close(code: number, reason: string, body: Uint8Array<ArrayBuffer>): void {
    const core = this.#core;
    if (core.state !== 'open') return;
    core.state = 'closing';
    this.#closeCode = code;
    this.#closeReason = body;
    this.#closePending = true;
    let probeMs = 0;
    for (const path of core.paths) probeMs = Math.max(probeMs, path.recovery.probeTimeoutMs());
    this.#drainUntilMs = core.nowMs + 3 * probeMs;
    this.#end(code, reason, false);
  }

  #pollClose(out: Uint8Array): boolean {
    if (this.#core.state !== 'closing' || !this.#closePending) return false;
    const pos = writeClose(out, 0, this.#closeCode, this.#closeReason);
    out.fill(0, pos, PAYLOAD_BYTES);
    this.#closePending = false;
    if (++this.#closeFrames >= MAX_CLOSE_FRAMES) this.#core.state = 'closed';
    return true;
  }

  /** Tells everybody and frees everything. The state has been set. */
  #end(code: number, reason: string, remote: boolean): void {
    const core = this.#core;
    if (core.state === 'open') core.state = 'closed';
    // A stream that was cut off did not end well, whatever the session says of itself.
    const streamCode = code === SessionError.noError ? SessionError.shutdown : code;
    this.#streams.endAll(streamCode, remote);
    this.#side.clear();
    this.#events.dispatch();
    this.#side.failQuestions(streamCode);
    core.wakeAll();
    core.host.onClose(code, reason, remote);
  }

  // ---- Statistics

  get stats(): SessionStats {
    let bufferedBytes = this.#streams.heldBytes + this.#side.datagramBytes + (this.#core.fec?.memoryBytes ?? 0);
    let { packetsSent, packetsReceived, packetsLost, spurious } = this.#paths.past;
    let quickest: SessionPath | undefined;
    let inFlight = 0;
    let windowPackets = 0;
    let packetsPerMs = 0;
    const { paths } = this.#core;
    for (const path of paths) {
      const { recovery } = path;
      bufferedBytes += path.crypto.heldBytes;
      packetsSent += recovery.packetsSent;
      packetsReceived += path.packetsReceived;
      packetsLost += recovery.packetsLost;
      spurious += recovery.spurious;
      inFlight += recovery.inFlight;
      windowPackets += recovery.congestion.windowPackets;
      packetsPerMs += recovery.congestion.deliveryRate;
      if (quickest === undefined || recovery.rtt.expectedMs < quickest.recovery.rtt.expectedMs) quickest = path;
    }
    return {
      smoothedRttMs: quickest?.recovery.rtt.smoothedMs,
      minRttMs: quickest?.recovery.rtt.minMs,
      packetsSent,
      packetsReceived,
      packetsLost,
      spuriousRetransmissions: spurious,
      bytesInFlight: inFlight * PAYLOAD_BYTES,
      congestionWindowBytes: windowPackets * PAYLOAD_BYTES,
      deliveryRateBytesPerSecond: packetsPerMs * 1000 * PAYLOAD_BYTES,
      streams: this.#streams.size,
      bufferedBytes,
      reorderLimitBytes: this.#core.reorderLimitBytes,
      reorderedBytes: this.#streams.reorderedBytes,
      scheduler: this.#core.scheduler,
      fec: this.#core.fec?.stats,
      datagramsExpired: this.#side.datagramsExpired,
      paths: paths.map((path) => path.stats),
    };
  }
}

function trimDeadlineMs(path: SessionPath): number {
  return path.recovery.sent.canTrim ? path.lastSentMs + TRIM_AFTER_MS : Number.POSITIVE_INFINITY;
}

/** Whole seconds that a varint carries; resolvers give anything from −1 to NaN. */
function boundTtl(ttlSeconds: number): number {
  return ttlSeconds > 0 ? Math.min(Math.floor(ttlSeconds), 0xffff_ffff) : 0;
}
