/**
 * The session (docs/protocol.md §5, contract.ts) over one or more paths (session-path.ts). The way of a payload in: its
 * path's handlePayload → frames → buffers, ACK tracking of the path → callbacks, once everything is consistent. The way of
 * a payload out: a path's pollPayload, if this path is to carry (path-choice.ts) → CRYPTO, ACK, control frames, lost data,
 * fresh data in turn over the streams → record for loss detection of the path. What is lost on one path goes on any.
 */
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import {
  ACK_FIXED_BYTES,
  ATTACH_BYTES,
  ATTACH_FRAME_BYTES,
  connectSize,
  cryptoHeaderSize,
  datagramHeaderSize,
  Frame,
  FrameDecoder,
  isFrameText,
  MAX_RESOLVED,
  OPAQUE_FRAME_BYTES,
  type ResolvedEntry,
  readUint32,
  resolvedSize,
  SESSION_ID_BYTES,
  Setting,
  streamHeaderSize,
  writeAck,
  writeAttach,
  writeClose,
  writeConnect,
  writeConnected,
  writeCryptoHeader,
  writeDatagramHeader,
  writeOpaqueFrame,
  writePairFrame,
  writeReset,
  writeResolve,
  writeResolved,
  writeSettings,
  writeStreamHeader,
  writeValueFrame,
} from '../wire/frames.ts';
import { Bbr } from './bbr.ts';
import { decodeCapabilities, decodePlugin, encodeCapabilities } from './capabilities.ts';
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
import { LinkedList } from './linked-list.ts';
import { choosesPath, Scheduler } from './path-choice.ts';
import { RangeSet } from './ranges.ts';
import { Received } from './receive-buffer.ts';
import { AckResult, STALL_MS } from './recovery.ts';
import { Answers, Questions } from './resolver.ts';
import { type PathHost, type PathOwner, PathState, SessionPath } from './session-path.ts';
import { Stream, StreamControl, StreamEvent, type StreamOwner } from './stream.ts';

/** How long a server waits at its client's wish. */
const MAX_PATIENCE_MS = 300_000;

export const defaultSessionOptions: SessionOptions = {
  role: 'client',
  maxStreams: 256,
  streamWindowBytes: 4 * 1024 * 1024,
  sessionWindowBytes: 16 * 1024 * 1024,
  sendBufferBytes: 4 * 1024 * 1024,
  idleTimeoutMs: 60_000,
  keepAliveMs: 15_000,
  capabilities: [],
  mixRttMs: 0,
  scheduler: Scheduler.latencyWeighted,
};

/** What a client may use before it has seen the peer's SETTINGS (0-RTT); smaller windows are raised to these. */
export const INITIAL_STREAM_WINDOW_BYTES = 65_536;
export const INITIAL_SESSION_WINDOW_BYTES = 262_144;
export const INITIAL_MAX_STREAMS = 64;

/** Streams for which a first window is kept free, whatever the others have grown to. */
const RESERVED_STREAMS = 8;
const MAX_DATAGRAM_QUEUE = 128;
const MAX_PINGS = 16;
const MAX_PONGS = 8;
const MAX_CLOSE_FRAMES = 5;
const MAX_REASON_BYTES = 256;
/** Less room than this at a payload's end is not worth another frame of a stream's data. */
const MIN_PIECE_BYTES = 24;
/** ACK ranges in a payload that also has data to carry. */
const ACK_SHARE_BYTES = 400;
const TRIM_AFTER_MS = 2000;
/** Probe time-outs in a row after which a session on one path asks for another: two are no accident. */
const STALLED_PROBES = 2;
/** A client asks for a sign of life when nothing has come for this long, or for two probe time-outs. */
const QUIET_MS = 250;
/** No peer can make a session end sooner. */
const MIN_IDLE_TIMEOUT_MS = 1000;

/** Frames of the session itself that wait to be sent. */
const Control = {
  settings: 1,
  maxData: 2,
  maxStreams: 4,
  ping: 8,
  pong: 16,
  resolve: 32,
  resolved: 64,
} as const;

interface Ping {
  id: number;
  sentAtMs: number;
  readonly onPong: ((rttMs: number) => void) | undefined;
}

interface Datagram {
  readonly flowId: number;
  readonly data: Uint8Array;
}

type State = 'open' | 'closing' | 'closed';

export class Session implements SessionApi {
  readonly #options: SessionOptions;
  readonly #host: SessionHost;
  readonly #isClient: boolean;
  #state: State = 'open';
  #nowMs: number;
  readonly #decoder = new FrameDecoder();
  readonly #pathOwner: PathOwner;
  /** Usable or on the way to it. */
  readonly #paths: SessionPath[] = [];
  #pathCount = 0;
  readonly #newCongestion: () => CongestionController;
  /** Of paths that are gone. */
  readonly #past = { packetsSent: 0, packetsReceived: 0, packetsLost: 0, spurious: 0 };
  /** The one that a payload is being taken from or written for. */
  #path: SessionPath;
  #lastReceivedMs: number;
  #idleTimeoutMs: number;
  #control: number = Control.settings;

  // Streams
  readonly #streams = new Map<number, Stream>();
  #lastStream: Stream | undefined;
  readonly #streamOwner: StreamOwner;
  readonly #controlList = new LinkedList<Stream>();
  readonly #urgentList = new LinkedList<Stream>();
  readonly #freshList = new LinkedList<Stream>();
  /** Client: the next id to open and the bound the peer gave. */
  #nextStreamId = 0;
  #peerMaxStreams = INITIAL_MAX_STREAMS;
  /** Server: ids that are over, and the bound we gave. */
  readonly #closedIds: RangeSet;
  #closedCount = 0;
  #ourMaxStreams: number;

  // Flow control of the session
  #sendMax = INITIAL_SESSION_WINDOW_BYTES;
  #sentBytes = 0;
  #peerStreamWindow = INITIAL_STREAM_WINDOW_BYTES;
  #receiveMax: number;
  #receivedBytes = 0;
  #consumedBytes = 0;
  /** Sum over the streams of what their windows have grown beyond the first one. */
  #extraWindow = 0;

  // Set-up
  #capsQueued = false;
  #peerCapabilities: readonly string[] | undefined;
  #keysSeen = false;
  #readyTold = false;
  #settingsSeen = false;

  // Small queues
  readonly #datagrams: Datagram[] = [];
  #datagramTurn = true;
  #pings: Ping[] = [];
  #pingQueue: number[] = [];
  #nextPingId = 1;
  #pongs: number[] = [];
  #questions: Questions | undefined;
  #answers: Answers | undefined;

  // Callbacks to streams are given when the session is consistent.
  readonly #eventQueue: Stream[] = [];
  #dispatching = false;
  #inHandle = false;

  // Closing
  #closeCode = 0;
  #closeReason = new Uint8Array(0);
  #closeFrames = 0;
  #closePending = false;
  #drainUntilMs = 0;

  /** The path that the session began on; gone, perhaps. */
  readonly firstPath: SessionPath;

  /** `congestion` makes controllers other than the default one (BBR), one for each path. */
  constructor(
    options: Partial<SessionOptions>,
    host: SessionHost & PathHost,
    nowMs: number,
    congestion: () => CongestionController = () => new Bbr(),
  ) {
    this.#options = { ...defaultSessionOptions, ...options };
    this.#host = host;
    this.#isClient = this.#options.role === 'client';
    this.#nowMs = nowMs;
    this.#lastReceivedMs = nowMs;
    this.#idleTimeoutMs = this.#options.idleTimeoutMs;
    this.#ourMaxStreams = this.#options.maxStreams;
    this.#closedIds = new RangeSet(this.#options.maxStreams + 2 * INITIAL_MAX_STREAMS);
    this.#receiveMax = Math.max(INITIAL_SESSION_WINDOW_BYTES, this.#options.sessionWindowBytes);
    this.#newCongestion = congestion;
    this.#pathOwner = {
      session: this,
      handlePayload: (path, packetNumber, payload, now) => this.#handlePayload(path, packetNumber, payload, now),
      pollPayload: (path, out, packetNumber, now) => this.#pollPayload(path, out, packetNumber, now),
      wantsSend: (path, now) => this.#wantsSend(path, now),
      nextTimeoutMs: (path) => this.#nextTimeoutMs(path),
      handleTimeout: (path, now) => this.#handleTimeout(path, now),
      sendCryptoMessage: (path, type, body) => this.#sendCryptoMessage(path, type, body),
      onFrameAcked: (path, kind, fin, length, id, offset) => this.#onFrameAcked(path, kind, fin, length, id, offset),
      onFrameLost: (path, kind, fin, length, id, offset) => this.#onFrameLost(path, kind, fin, length, id, offset),
      lost: (path, now) => this.#pathLost(path, now),
      release: (path) => this.#release(path),
    };
    this.#streamOwner = {
      sendBufferBytes: this.#options.sendBufferBytes,
      update: (stream) => this.#onStreamChanged(stream),
      onRead: (stream, length) => this.#onRead(stream, length),
      resetStream: (stream, code) => this.#resetLocally(stream, code),
    };
    this.firstPath = this.#newPath(host, this.#options.mixRttMs, nowMs);
    this.#path = this.firstPath;
    if (this.#isClient) this.#queueCaps(this.firstPath);
  }

  // ---- Paths

  /**
   * Client: one more circuit to the same last hop. It carries `attach` (session id ‖ proof, 32 bytes) until the peer has
   * confirmed it, and data from then on. `mixRttMs` as in SessionOptions.
   */
  addPath(host: PathHost, attach: Uint8Array, mixRttMs: number, nowMs: TimeMs): SessionPath {
    if (attach.length !== ATTACH_BYTES) {
      throw new RangeError(`addPath: attach has ${attach.length} bytes, not ${ATTACH_BYTES}`);
    }
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    const path = this.#newPath(host, mixRttMs, nowMs);
    path.state = PathState.attaching;
    path.attach = attach.slice();
    path.attachDue = true;
    return path;
  }

  /** Server: takes over a newcomer's path (SessionHost.onAttach). */
  adopt(path: SessionPath): void {
    path.owner.release(path);
    path.owner = this.#pathOwner;
    path.state = PathState.usable;
    this.#paths.push(path);
    this.#lastReceivedMs = Math.max(this.#lastReceivedMs, path.lastReceivedMs);
    this.#relieveSilent();
  }

  #newPath(host: PathHost, mixRttMs: number, nowMs: TimeMs): SessionPath {
    const path = new SessionPath(this.#pathCount++, this.#pathOwner, host, this.#newCongestion(), mixRttMs, nowMs);
    this.#paths.push(path);
    return path;
  }

  /** The peer has let it in. What is under way on paths that are silent goes out on it at once. */
  #joined(path: SessionPath): void {
    if (path.state !== PathState.attaching) return;
    path.state = PathState.usable;
    this.#relieveSilent();
  }

  #relieveSilent(): void {
    for (const path of this.#paths) {
      if (path.state === PathState.usable && path.recovery.silentProbes > 0) this.#suspect(path);
    }
    this.#wakeAll();
  }

  #release(path: SessionPath): void {
    this.#removePath(path);
    // It was made for the newcomer alone; nobody has seen it yet.
    if (this.#paths.length === 0) this.#state = 'closed';
  }

  #removePath(path: SessionPath): void {
    const at = this.#paths.indexOf(path);
    if (at >= 0) this.#paths.splice(at, 1);
  }

  #pathLost(path: SessionPath, nowMs: TimeMs): void {
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    this.#removePath(path);
    path.state = PathState.gone;
    this.#past.packetsSent += path.recovery.packetsSent;
    this.#past.packetsReceived += path.packetsReceived;
    this.#past.packetsLost += path.recovery.packetsLost;
    this.#past.spurious += path.recovery.spurious;
    if (this.#state === 'open') path.recovery.giveUp();
    if (this.#paths.length > 0) {
      this.#wakeAll();
      return;
    }
    if (this.#state === 'open' && this.#host.onDetached !== undefined) this.#host.onDetached();
    else this.abandon(SessionError.sessionLost, 'the circuit ended');
  }

  /** Any path may have something to send. */
  #wakeAll(): void {
    for (const path of this.#paths) path.host.onWantSend();
  }

  // ---- SessionApi: streams, names, datagrams, key messages

  openStream(target: StreamTarget): SessionStream | undefined {
    if (!this.#isClient) throw new TypeError('openStream: only the client of a session opens streams');
    if (!isFrameText(target.host) || !Number.isInteger(target.port) || target.port < 0 || target.port > 0xffff) {
      throw new RangeError('openStream: host must be 1…255 printable ASCII characters and port 0…65535');
    }
    if (this.#state !== 'open' || this.#nextStreamId >= this.#peerMaxStreams) return undefined;
    const stream = this.#createStream(this.#nextStreamId++);
    stream.target = target;
    stream.opened = true;
    stream.control = StreamControl.connect;
    this.#onStreamChanged(stream);
    return stream;
  }

  resolve(
    kind: 'name' | 'address',
    value: string,
    onResult: (addresses: readonly ResolvedAddress[] | undefined, name: string | undefined, code: number) => void,
  ): void {
    let code: number = SessionError.noError;
    if (!isFrameText(value)) code = SessionError.resolveFailed;
    else if (this.#state !== 'open') code = SessionError.sessionLost;
    else if (!this.#openQuestions().ask(kind === 'name' ? 0 : 1, value, onResult)) code = SessionError.limit;
    if (code === SessionError.noError) this.#want(Control.resolve);
    else onResult(undefined, undefined, code);
  }

  resolved(requestId: number, code: number, addresses: readonly ResolvedAddress[], name?: string): void {
    if (this.#state !== 'open') return;
    const entries: ResolvedEntry[] = addresses
      .slice(0, MAX_RESOLVED - 1)
      .map(({ family, address, ttlSeconds }) => ({ family, value: address, ttlSeconds: boundTtl(ttlSeconds) }));
    if (name !== undefined) entries.push({ family: 0, value: name, ttlSeconds: 0 });
    const sendable = entries.filter((entry) => isFrameText(entry.value));
    if (this.#answers?.answer(requestId, code, sendable)) this.#want(Control.resolved);
  }

  sendDatagram(flowId: number, data: Uint8Array): boolean {
    if (this.#state !== 'open' || this.#datagrams.length >= MAX_DATAGRAM_QUEUE) return false;
    if (datagramHeaderSize(flowId) + data.length > PAYLOAD_BYTES) return false;
    this.#datagrams.push({ flowId, data: new Uint8Array(data) });
    this.#wakeAll();
    return true;
  }

  #sendCryptoMessage(path: SessionPath, type: number, body: Uint8Array): void {
    if (this.#state !== 'open') return;
    if (!path.crypto.write(type, body)) throw new RangeError(`sendCryptoMessage: no room for ${body.length} bytes`);
    // The set-up reply has to be the first message of the last hop.
    if (!this.#isClient && type === CryptoMessage.keys) this.#queueCaps(path);
    path.host.onWantSend();
  }

  // ---- Packets and time, by path

  #handlePayload(path: SessionPath, packetNumber: number, payload: Uint8Array, nowMs: TimeMs): Drop {
    if (this.#state === 'closed') return Drop.closed;
    this.#nowMs = nowMs;
    if (this.#state === 'closing') {
      if (this.#closeFrames < MAX_CLOSE_FRAMES) this.#closePending = true;
      return Drop.closed;
    }
    if (path.acks.isDuplicate(packetNumber)) return Drop.replayed;
    path.packetsReceived++;
    path.lastReceivedMs = nowMs;
    this.#lastReceivedMs = nowMs;
    this.#path = path;
    this.#inHandle = true;
    const result = this.#handleFrames(path, packetNumber, payload);
    this.#inHandle = false;
    this.#dispatch();
    return result;
  }

  #pollPayload(path: SessionPath, out: Uint8Array, packetNumber: number, nowMs: TimeMs): boolean {
    this.#nowMs = nowMs;
    if (this.#eventQueue.length > 0) this.#dispatch();
    if (this.#state !== 'open') return this.#pollClose(out);
    const { recovery } = path;
    if (packetNumber <= recovery.sent.largestNumber) {
      throw new RangeError(`pollPayload: packet number ${packetNumber} is not above ${recovery.sent.largestNumber}`);
    }
    this.#path = path;
    const wants = this.#wantsEliciting(path);
    const maySend = path.maySend(nowMs);
    if (!(wants && maySend) && !path.acks.due(nowMs)) {
      if (!wants && recovery.windowOpen) recovery.onAppLimited();
      return false;
    }
    const written = this.#writePayload(path, out, packetNumber, maySend && wants, nowMs);
    // Others held back for this one as long as it could send.
    if (this.#paths.length > 1 && !path.maySend(nowMs)) this.#wakeAll();
    return written;
  }

  #wantsSend(path: SessionPath, nowMs: TimeMs): boolean {
    if (this.#state !== 'open') return this.#closePending;
    this.#nowMs = nowMs;
    return path.acks.due(nowMs) || (this.#wantsEliciting(path) && path.maySend(nowMs));
  }

  #nextTimeoutMs(path: SessionPath): TimeMs {
    if (this.#state === 'closed') return Number.POSITIVE_INFINITY;
    if (this.#state === 'closing') return this.#drainUntilMs;
    if (this.#eventQueue.length > 0) return this.#nowMs;
    let next = Math.min(this.#idleDeadlineMs(), this.#keepAliveDeadlineMs(path), trimDeadlineMs(path));
    next = Math.min(next, path.recovery.nextTimeoutMs());
    next = Math.min(next, path.acks.deadlineMs, this.#quietDeadlineMs(path));
    if (path.recovery.windowOpen && this.#wantsEliciting(path)) {
      const release = path.pacer.nextMs();
      if (release > this.#nowMs) next = Math.min(next, release);
    }
    return next;
  }

  #handleTimeout(path: SessionPath, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    if (this.#state === 'closing' && nowMs >= this.#drainUntilMs) this.#state = 'closed';
    if (this.#state !== 'open') return;
    if (nowMs >= this.#idleDeadlineMs()) {
      this.#end(SessionError.idleTimeout, 'nothing heard from the peer', false);
      this.#state = 'closed';
      return;
    }
    const { recovery } = path;
    if (recovery.handleTimeout(nowMs)) {
      if (recovery.probes > 0) this.#onSilence(path);
      if (!this.#wantsEliciting(path)) path.pingDue = true;
    }
    if (nowMs >= this.#keepAliveDeadlineMs(path)) path.pingDue = true;
    this.#askIfQuiet(path, nowMs);
    if (nowMs >= trimDeadlineMs(path)) {
      recovery.sent.trim();
      path.acks.ranges.compact();
    }
    this.#dispatch();
  }

  /** A probe time-out has passed. If others can carry what is under way on the path, it goes out there at once. */
  #onSilence(path: SessionPath): void {
    if (path.state !== PathState.usable) return;
    if (this.#paths.some((other) => other !== path && other.state === PathState.usable)) this.#suspect(path);
    else if (path.recovery.silentProbes === STALLED_PROBES && path.acks.largest >= 0) this.#host.onStalled?.();
  }

  #suspect(path: SessionPath): void {
    path.state = PathState.suspect;
    path.pingDue = true;
    path.recovery.giveUp();
    path.recovery.probes = 1;
    this.#wakeAll();
  }

  // ---- SessionApi: the rest

  ping(onPong: (rttMs: number) => void): void {
    if (this.#state === 'open') this.#queuePing(onPong);
  }

  close(code: number, reason: string): void {
    if (this.#state !== 'open') return;
    this.#startClosing(code, reason);
    this.#end(code, reason, false);
    this.#wakeAll();
  }

  abandon(code: number, reason: string): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    this.#closePending = false;
    if (wasOpen) this.#end(code, reason, false);
  }

  /** Circuits under it, those included that are still asking to join. */
  get pathCount(): number {
    return this.#paths.length;
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  get stats(): SessionStats {
    let bufferedBytes = 0;
    for (const stream of this.#streams.values()) bufferedBytes += stream.heldBytes;
    for (const { data } of this.#datagrams) bufferedBytes += data.length;
    let { packetsSent, packetsReceived, packetsLost, spurious } = this.#past;
    let quickest: SessionPath | undefined;
    let inFlight = 0;
    let windowPackets = 0;
    let packetsPerMs = 0;
    for (const path of this.#paths) {
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
      paths: this.#paths.map((path) => path.stats),
    };
  }

  // ---- Receiving

  #handleFrames(path: SessionPath, packetNumber: number, payload: Uint8Array): Drop {
    const decoder = this.#decoder;
    decoder.reset(payload);
    let eliciting = false;
    let complete = true;
    while (decoder.next()) {
      if (decoder.type !== Frame.ack) eliciting = true;
      const result = this.#handleFrame(decoder, payload);
      if (path.owner !== this.#pathOwner) break; // ATTACH has given it to another session
      if (this.#state !== 'open' || path.state === PathState.gone) return result;
      if (result === Drop.memory) complete = false;
    }
    if (decoder.failed) return this.#violation(`malformed frame ${decoder.type}`);
    // A frame that could not be taken in: without an ACK the peer sends it again.
    if (!complete) return Drop.memory;
    path.acks.onPacket(packetNumber, eliciting, this.#nowMs, path.recovery.rtt.smoothedMs ?? 0);
    return Drop.none;
  }

  #handleFrame(frame: FrameDecoder, payload: Uint8Array): Drop {
    switch (frame.type) {
      case Frame.stream:
        return this.#handleStream(frame, payload);
      case Frame.ack:
        return this.#handleAck(frame);
      case Frame.maxData:
        if (frame.value > this.#sendMax) this.#sendMax = frame.value;
        return Drop.none;
      case Frame.maxStreamData:
        return this.#handleMaxStreamData(frame);
      case Frame.reset:
        return this.#handleReset(frame);
      case Frame.stop:
        return this.#handleStop(frame);
      case Frame.datagram:
        this.#host.onDatagram?.(frame.id, payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength));
        return Drop.none;
      case Frame.connect:
        return this.#handleConnect(frame);
      case Frame.connected:
        return this.#handleConnected(frame);
      case Frame.resolve:
        return this.#handleResolve(frame);
      case Frame.resolved:
        if (this.#questions === undefined || this.#questions.neverAsked(frame.id)) {
          return this.#violation('RESOLVED without RESOLVE');
        }
        this.#questions.answer(frame.id, frame.code, frame.resolvedEntries());
        return Drop.none;
      case Frame.maxStreams:
        if (!this.#isClient) return this.#violation('MAX_STREAMS from a client');
        this.#peerMaxStreams = Math.max(this.#peerMaxStreams, frame.value);
        return Drop.none;
      case Frame.crypto:
        return this.#handleCrypto(frame, payload);
      case Frame.settings:
        return this.#handleSettings(frame);
      case Frame.ping:
        this.#handlePing(readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4));
        return Drop.none;
      case Frame.pong:
        this.#handlePong(readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4));
        return Drop.none;
      case Frame.pathChallenge:
        this.#path.challenge = [readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4)];
        return Drop.none;
      case Frame.attach:
        return this.#handleAttach(payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength));
      case Frame.close:
        if (this.#path.state === PathState.attaching) return this.#refused(this.#path);
        this.#state = 'closed';
        this.#end(frame.code, decodeReason(payload, frame.dataStart, frame.dataLength), true);
        return Drop.none;
      default:
        if (frame.type >= Frame.pluginFirst) return this.#handlePlugin(frame, payload);
        // DATA_BLOCKED, STREAM_DATA_BLOCKED, PATH_RESPONSE, LOCALIZED_STRING: limits are repeated until they are
        // acknowledged, no challenge of ours is open, and texts are for people.
        return Drop.none;
    }
  }

  #handleStream(frame: FrameDecoder, payload: Uint8Array): Drop {
    const stream = this.#peerStream(frame.id);
    if (stream === undefined) return this.#state === 'open' ? Drop.none : Drop.badFrame;
    const buffer = stream.receive;
    const end = frame.value + frame.dataLength;
    const growth = end - buffer.highest;
    if (growth > 0 && this.#receivedBytes + growth > this.#receiveMax) return this.#flowViolation('session');
    if (stream.aborted) return this.#handleLateData(stream, frame, end);
    const readable = buffer.contiguous;
    const result = buffer.receive(
      frame.value,
      payload,
      frame.dataStart,
      frame.dataLength,
      frame.fin,
      stream.receiveLimit,
    );
    if (result === Received.tooManyHoles) return Drop.memory;
    if (result === Received.beyondLimit) return this.#flowViolation(`stream ${stream.id}`);
    if (result === Received.badFinalSize) return this.#violation(`final size of stream ${stream.id}`);
    this.#path.dataMs = this.#nowMs;
    this.#path.asked = false;
    if (growth > 0) this.#receivedBytes += growth;
    const finished = buffer.finalSize === buffer.contiguous;
    // The sender has nothing more to say that could carry news of its loss: tell it at once.
    if (frame.fin) this.#path.acks.now = true;
    if (buffer.contiguous > readable || (frame.fin && finished)) {
      this.#event(stream, StreamEvent.readable);
      if (finished) this.#finishIfDone(stream);
    }
    return Drop.none;
  }

  /** Data of a stream that we gave up: only its size matters. */
  #handleLateData(stream: Stream, frame: FrameDecoder, end: number): Drop {
    const buffer = stream.receive;
    if (end > stream.receiveLimit) return this.#flowViolation(`stream ${stream.id}`);
    if (buffer.finalSize >= 0 ? end > buffer.finalSize : frame.fin && end < buffer.highest) {
      return this.#violation(`final size of stream ${stream.id}`);
    }
    this.#discardUpTo(stream, end);
    if (frame.fin && buffer.finalSize < 0) {
      buffer.finalSize = end;
      this.#finishIfDone(stream);
    }
    return Drop.none;
  }

  #handleAck(frame: FrameDecoder): Drop {
    const path = this.#path;
    const { recovery } = path;
    if (recovery.onAck(frame, this.#nowMs) === AckResult.neverSent) {
      return this.#violation('ACK of a packet that was never sent');
    }
    path.pacer.setRate(recovery.congestion.pacingRate, this.#nowMs);
    if (path.state === PathState.suspect && recovery.heardSinceGivenUp) {
      path.state = PathState.usable;
      this.#wakeAll();
    }
    return Drop.none;
  }

  #handleMaxStreamData(frame: FrameDecoder): Drop {
    if (this.#isClient && frame.id >= this.#nextStreamId) return this.#violation('unknown stream');
    const stream = this.#streams.get(frame.id);
    if (stream !== undefined && frame.value > stream.sendLimit) {
      stream.sendLimit = frame.value;
      this.#reschedule(stream);
    }
    return Drop.none;
  }

  #handleReset(frame: FrameDecoder): Drop {
    const stream = this.#peerStream(frame.id);
    if (stream === undefined) return this.#state === 'open' ? Drop.none : Drop.badFrame;
    const buffer = stream.receive;
    const finalSize = frame.value;
    if (finalSize < buffer.highest || (buffer.finalSize >= 0 && buffer.finalSize !== finalSize)) {
      return this.#violation(`final size of stream ${stream.id}`);
    }
    if (finalSize > stream.receiveLimit) return this.#flowViolation(`stream ${stream.id}`);
    if (this.#receivedBytes + finalSize - buffer.highest > this.#receiveMax) return this.#flowViolation('session');
    buffer.finalSize = finalSize;
    this.#abort(stream, frame.code, true);
    this.#discardUpTo(stream, finalSize);
    this.#finishIfDone(stream);
    return Drop.none;
  }

  #handleStop(frame: FrameDecoder): Drop {
    const stream = this.#peerStream(frame.id);
    if (stream === undefined) return this.#state === 'open' ? Drop.none : Drop.badFrame;
    this.#abort(stream, frame.code, true);
    this.#finishIfDone(stream);
    return Drop.none;
  }

  #handleConnect(frame: FrameDecoder): Drop {
    if (this.#isClient) return this.#violation('CONNECT from a server');
    const stream = this.#peerStream(frame.id);
    if (stream === undefined) return this.#state === 'open' ? Drop.none : Drop.badFrame;
    if (stream.opened || stream.aborted) return Drop.none;
    stream.opened = true;
    stream.target = { kind: frame.code === 0 ? 'tcp' : 'udp', host: frame.text(), port: frame.value };
    // Data may have come before it.
    if (stream.receive.readableBytes > 0 || stream.receive.ended) this.#event(stream, StreamEvent.readable);
    if (this.#host.onStream === undefined) this.#resetLocally(stream, SessionError.connectRefused);
    else this.#host.onStream(stream);
    return Drop.none;
  }

  #handleConnected(frame: FrameDecoder): Drop {
    if (!this.#isClient || frame.id >= this.#nextStreamId) return this.#violation('CONNECTED without CONNECT');
    const stream = this.#streams.get(frame.id);
    if (stream === undefined || stream.aborted || stream.connectedFrom !== undefined) return Drop.none;
    stream.connectedFrom = { family: frame.code === 4 ? 4 : 6, address: frame.text(), port: frame.value };
    this.#event(stream, StreamEvent.connected);
    return Drop.none;
  }

  #handleResolve(frame: FrameDecoder): Drop {
    if (this.#isClient) return this.#violation('RESOLVE from a server');
    this.#answers ??= new Answers();
    const known = this.#answers.onQuestion(frame.id);
    if (known === 'tooMany') return this.#violation('too many RESOLVE');
    if (known === 'known') return Drop.none;
    if (this.#host.onResolve === undefined) this.resolved(frame.id, SessionError.resolveFailed, []);
    else this.#host.onResolve(frame.id, frame.code === 0 ? 'name' : 'address', frame.text());
    return Drop.none;
  }

  #handleCrypto(frame: FrameDecoder, payload: Uint8Array): Drop {
    const path = this.#path;
    const { crypto } = path;
    const result = crypto.receive(frame.value, payload, frame.dataStart, frame.dataLength);
    if (result === Received.tooManyHoles) return Drop.memory;
    if (result !== Received.ok) return this.#violation('CRYPTO beyond its window');
    for (let type = crypto.nextType(); type !== 0; type = crypto.nextType()) {
      if (type < 0) return this.#violation('CRYPTO message');
      const body = crypto.takeBody();
      if (type === CryptoMessage.caps) {
        this.#peerCapabilities = decodeCapabilities(body);
        if (this.#peerCapabilities === undefined) return this.#violation('CAPS');
      } else {
        if (type === CryptoMessage.keys) this.#keysSeen = true;
        path.host.onCryptoMessage(type, body);
        if (this.#state !== 'open' || path.state === PathState.gone) return Drop.closed;
      }
      this.#tellReady();
    }
    return Drop.none;
  }

  /** A newcomer's path: first comes this, or it is a session of its own. */
  #handleAttach(body: Uint8Array): Drop {
    if (this.#isClient) return this.#violation('ATTACH from a server');
    const path = this.#path;
    // Said again, before our ACK came.
    if (path !== this.firstPath) return Drop.none;
    if (this.#readyTold || this.#streams.size > 0 || this.#closedCount > 0) return this.#violation('ATTACH too late');
    if (this.#host.onAttach?.(path, body.slice(0, SESSION_ID_BYTES), body.slice(SESSION_ID_BYTES))) return Drop.none;
    this.close(SessionError.pathValidationFailed, 'no such session');
    return Drop.closed;
  }

  #refused(path: SessionPath): Drop {
    path.host.onRefused?.();
    return Drop.none;
  }

  #tellReady(): void {
    if (this.#readyTold || this.#peerCapabilities === undefined || (this.#isClient && !this.#keysSeen)) return;
    this.#readyTold = true;
    this.#host.onReady?.(this.#peerCapabilities);
  }

  /** A peer sends SETTINGS once; repetitions say the same. Limits are raised later by frames of their own. */
  #handleSettings(frame: FrameDecoder): Drop {
    if (this.#settingsSeen) return Drop.none;
    this.#settingsSeen = true;
    let streamWindow = 0;
    for (let i = 0; i < frame.count; i++) {
      const value = frame.settingValue[i]!;
      switch (frame.settingId[i]) {
        case Setting.maxStreams:
          // May also be lower than what we assumed, unless MAX_STREAMS has overtaken it.
          if (this.#isClient && this.#peerMaxStreams <= INITIAL_MAX_STREAMS) this.#peerMaxStreams = value;
          break;
        case Setting.maxData:
          this.#sendMax = Math.max(this.#sendMax, value);
          break;
        case Setting.maxStreamData:
          streamWindow = value;
          break;
        case Setting.idleTimeoutMs:
          if (value > 0 && (this.#idleTimeoutMs === 0 || value < this.#idleTimeoutMs)) {
            this.#idleTimeoutMs = Math.max(value, MIN_IDLE_TIMEOUT_MS);
          } else if (!this.#isClient && this.#idleTimeoutMs > 0) {
            // A client that saves power is seldom heard, and not woken.
            this.#idleTimeoutMs = Math.min(value, Math.max(this.#idleTimeoutMs, MAX_PATIENCE_MS));
          }
          break;
        // Unknown settings are ignored, so that later versions can add some.
      }
    }
    this.#raiseStreamLimits(streamWindow);
    return Drop.none;
  }

  #raiseStreamLimits(value: number): void {
    if (value <= this.#peerStreamWindow) return;
    this.#peerStreamWindow = value;
    for (const stream of this.#streams.values()) {
      if (value > stream.sendLimit) {
        stream.sendLimit = value;
        this.#reschedule(stream);
      }
    }
  }

  #handlePing(high: number, low: number): void {
    this.#queuePong(high, low);
    this.#path.acks.now = true;
  }

  #queuePong(high: number, low: number): void {
    if (this.#pongs.length >= 2 * MAX_PONGS) this.#pongs.splice(0, 2);
    this.#pongs.push(high, low);
    this.#control |= Control.pong;
  }

  #handlePong(high: number, low: number): void {
    if (high !== 0) return;
    const index = this.#pings.findIndex((ping) => ping.id === low && ping.sentAtMs >= 0);
    if (index < 0) return;
    const [ping] = this.#pings.splice(index, 1);
    ping?.onPong?.(this.#nowMs - ping.sentAtMs);
  }

  #handlePlugin(frame: FrameDecoder, payload: Uint8Array): Drop {
    const body = payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength);
    const plugin = decodePlugin(body);
    if (plugin === undefined) return this.#violation('PLUGIN header');
    if (!plugin.required) return Drop.none;
    const { id } = plugin;
    this.#startClosing(SessionError.unsupportedCapability, '');
    this.#closeReason = new Uint8Array([id >>> 24, id >>> 16, id >>> 8, id]);
    this.#end(SessionError.unsupportedCapability, `plugin ${id} is required`, false);
    return Drop.badFrame;
  }

  #violation(reason: string): Drop {
    this.close(SessionError.protocolViolation, reason);
    return Drop.badFrame;
  }

  #flowViolation(what: string): Drop {
    this.close(SessionError.flowControl, `more data than allowed: ${what}`);
    return Drop.badFrame;
  }

  // ---- Streams

  /** The stream a frame of the peer is about; undefined = over already, or (session then closing) not allowed. */
  #peerStream(id: number): Stream | undefined {
    if (this.#lastStream !== undefined && this.#lastStream.id === id) return this.#lastStream;
    const known = this.#streams.get(id);
    if (known !== undefined) {
      this.#lastStream = known;
      return known;
    }
    if (this.#isClient) {
      if (id >= this.#nextStreamId) this.#violation('stream that was never opened');
      return undefined;
    }
    if (id >= Math.max(this.#ourMaxStreams, INITIAL_MAX_STREAMS)) {
      this.#violation('more streams than allowed');
      return undefined;
    }
    if (this.#closedIds.has(id)) return undefined;
    const stream = this.#createStream(id);
    // More than we allow, opened before the client knew.
    if (this.#streams.size > this.#options.maxStreams) this.#resetLocally(stream, SessionError.limit);
    return stream;
  }

  #createStream(id: number): Stream {
    const stream = new Stream(id, this.#streamOwner, this.#peerStreamWindow, INITIAL_STREAM_WINDOW_BYTES, this.#nowMs);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Called by streams: written, ended, connected. */
  #onStreamChanged(stream: Stream): void {
    if (this.#reschedule(stream)) this.#wakeAll();
  }

  /** Puts the stream on the lists it belongs to; true when it came onto one. */
  #reschedule(stream: Stream): boolean {
    const { send } = stream;
    let added = false;
    if (stream.control !== 0) {
      added = !stream.controlNode.listed;
      this.#controlList.add(stream.controlNode);
    } else {
      this.#controlList.remove(stream.controlNode);
    }
    const fresh = send.next < send.tail;
    if (send.hasLost || (send.finPending && !fresh)) {
      added ||= !stream.urgentNode.listed;
      this.#urgentList.add(stream.urgentNode);
    } else {
      this.#urgentList.remove(stream.urgentNode);
    }
    if (fresh && send.next < stream.sendLimit) {
      added ||= !stream.freshNode.listed;
      this.#freshList.add(stream.freshNode);
    } else {
      this.#freshList.remove(stream.freshNode);
    }
    return added;
  }

  #onRead(stream: Stream, length: number): void {
    this.#consume(length);
    const buffer = stream.receive;
    if (buffer.finalSize < 0) this.#openWindow(stream);
    else if (buffer.ended && stream.sendDone) {
      // Told at the next handle or poll: the reader is still busy with what it just read.
      this.#finishIfDone(stream);
      this.#wakeAll();
    }
  }

  /** Announces a stream's new limit when it is worth a frame, and lets the window grow with its reader. */
  #openWindow(stream: Stream): void {
    const { readOffset } = stream.receive;
    if (readOffset + stream.windowBytes - stream.receiveLimit < stream.windowBytes / 4) return;
    this.#growWindow(stream);
    const limit = readOffset + stream.windowBytes;
    if (limit <= stream.receiveLimit) return;
    stream.control |= StreamControl.maxStreamData;
    this.#onStreamChanged(stream);
  }

  /**
   * A reader that keeps up gets twice the window, up to the option's maximum and half of what the session has left
   * when every stream and a few new ones have their first window: readers that then stop can't take everything.
   */
  #growWindow(stream: Stream): void {
    const base = INITIAL_STREAM_WINDOW_BYTES;
    const extra = stream.windowBytes - base;
    const firstWindows = base * (this.#streams.size + RESERVED_STREAMS);
    const spare = (this.#options.sessionWindowBytes - firstWindows - (this.#extraWindow - extra)) / 2;
    const wanted = Math.min(2 * stream.windowBytes, this.#options.streamWindowBytes);
    const window = Math.max(base, Math.min(wanted, base + Math.floor(spare)));
    this.#extraWindow += window - stream.windowBytes;
    stream.windowBytes = window;
  }

  #consume(length: number): void {
    this.#consumedBytes += length;
    const window = Math.max(INITIAL_SESSION_WINDOW_BYTES, this.#options.sessionWindowBytes);
    if (this.#consumedBytes + window - this.#receiveMax >= window / 4) this.#want(Control.maxData);
  }

  /** Counts data of an abandoned stream as received and read. */
  #discardUpTo(stream: Stream, end: number): void {
    const buffer = stream.receive;
    const growth = end - buffer.highest;
    if (growth <= 0) return;
    buffer.highest = end;
    buffer.clear();
    this.#receivedBytes += growth;
    this.#consume(growth);
  }

  #resetLocally(stream: Stream, code: number): void {
    this.#abort(stream, code, false);
    stream.control |= StreamControl.stop;
    this.#reschedule(stream);
    this.#finishIfDone(stream);
    this.#wakeAll();
    if (!this.#inHandle) this.#dispatch();
  }

  /** Ends both directions at once and frees what they hold. */
  #abort(stream: Stream, code: number, remote: boolean): void {
    if (stream.aborted) return;
    stream.aborted = true;
    const unread = stream.receive.highest - stream.receive.readOffset;
    stream.receive.clear();
    if (unread > 0) this.#consume(unread);
    stream.control = 0;
    if (!stream.sendDone) {
      stream.resetCode = code;
      stream.control = StreamControl.reset;
      stream.send.clear();
    }
    this.#reschedule(stream);
    this.#tellClosed(stream, code, remote);
  }

  #tellClosed(stream: Stream, code: number, remote: boolean): void {
    if (stream.closeTold || (stream.events & StreamEvent.closed) !== 0) return;
    stream.closeCode = code;
    stream.closeRemote = remote;
    this.#event(stream, StreamEvent.closed);
  }

  /** Forgets the stream when both directions are over. */
  #finishIfDone(stream: Stream): void {
    if (!stream.sendDone || !stream.receiveDone || !this.#streams.delete(stream.id)) return;
    if (this.#lastStream === stream) this.#lastStream = undefined;
    stream.control = 0;
    this.#controlList.remove(stream.controlNode);
    this.#urgentList.remove(stream.urgentNode);
    this.#freshList.remove(stream.freshNode);
    this.#extraWindow -= stream.windowBytes - INITIAL_STREAM_WINDOW_BYTES;
    this.#closedCount++;
    if (!this.#isClient) {
      this.#closedIds.insert(stream.id, stream.id + 1);
      const { maxStreams } = this.#options;
      if (this.#closedCount + maxStreams - this.#ourMaxStreams >= maxStreams / 4) this.#want(Control.maxStreams);
    }
    this.#tellClosed(stream, SessionError.noError, false);
  }

  // ---- Callbacks to streams

  #event(stream: Stream, event: number): void {
    if (stream.events === 0) this.#eventQueue.push(stream);
    stream.events |= event;
  }

  /** Gives the callbacks that are due; those may call anything, and what that causes is given here too. */
  #dispatch(): void {
    if (this.#dispatching || this.#eventQueue.length === 0) return;
    this.#dispatching = true;
    for (let i = 0; i < this.#eventQueue.length; i++) {
      const stream = this.#eventQueue[i]!;
      const { events } = stream;
      stream.events = 0;
      this.#tell(stream, events);
    }
    this.#eventQueue.length = 0;
    this.#dispatching = false;
  }

  #tell(stream: Stream, events: number): void {
    if (!stream.opened || stream.closeTold) return;
    const from = stream.connectedFrom;
    if ((events & StreamEvent.connected) !== 0 && from !== undefined && !stream.aborted) {
      stream.onConnected?.(from.family, from.address, from.port);
    }
    if ((events & StreamEvent.readable) !== 0 && !stream.aborted) stream.onReadable?.();
    if ((events & StreamEvent.writable) !== 0 && !stream.aborted) stream.onWritable?.();
    if ((events & StreamEvent.closed) !== 0 && !stream.closeTold) {
      stream.closeTold = true;
      stream.onClose?.(stream.closeCode, stream.closeRemote);
    }
  }

  // ---- Sending

  #want(control: number): void {
    this.#control |= control;
    this.#wakeAll();
  }

  /** Something that asks for an ACK has to go out, and on this path. */
  #wantsEliciting(path: SessionPath): boolean {
    return path.crypto.hasData || path.pingDue || path.attachDue || path.challenge !== undefined || this.#carries(path);
  }

  /** The path is to carry what the session has to send. */
  #carries(path: SessionPath): boolean {
    if (!this.#hasWork()) return false;
    if (this.#paths.length === 1 && path.state !== PathState.attaching) return true;
    return choosesPath(path, this.#paths, this.#options.scheduler, this.#nowMs, this.#queuedBytes);
  }

  #hasWork(): boolean {
    return (
      this.#control !== 0 ||
      (this.#freshList.head !== undefined && this.#sentBytes < this.#sendMax) ||
      this.#urgentList.head !== undefined ||
      this.#controlList.head !== undefined ||
      this.#datagrams.length > 0
    );
  }

  /** Stream data that may be sent now, about. */
  readonly #queuedBytes = (): number => {
    let bytes = 0;
    for (let node = this.#freshList.head; node !== undefined; node = node.next) {
      const { send, sendLimit } = node.item;
      bytes += Math.min(send.tail, sendLimit) - send.next;
    }
    return Math.min(bytes, this.#sendMax - this.#sentBytes);
  };

  #writePayload(path: SessionPath, out: Uint8Array, packetNumber: number, withData: boolean, nowMs: number): boolean {
    let pos = withData && path.crypto.hasData ? this.#writeCrypto(path, out, 0) : 0;
    let eliciting = pos > 0;
    if (path.acks.pending > 0 || path.acks.now) pos = this.#writeAck(path, out, pos, withData, nowMs);
    // An ACK alone needs no answer.
    const start = pos;
    if (withData) pos = this.#writePathControl(path, out, pos);
    if (withData && this.#carries(path)) {
      if (this.#control !== 0) pos = this.#writeControl(out, pos);
      while (this.#controlList.head !== undefined) {
        const before = pos;
        pos = this.#writeStreamControl(out, pos, this.#controlList.head.item);
        if (pos === before) break;
      }
      if (this.#datagrams.length > 0 && (this.#datagramTurn || !this.#hasStreamData()))
        pos = this.#writeDatagrams(out, pos);
      this.#datagramTurn = !this.#datagramTurn;
      if (this.#urgentList.head !== undefined) pos = this.#writeUrgent(out, pos);
      if (this.#freshList.head !== undefined) pos = this.#writeFresh(out, pos);
    }
    eliciting ||= pos > start;
    if (pos === 0) return false;
    if (pos < PAYLOAD_BYTES) out.fill(0, pos, PAYLOAD_BYTES);
    path.recovery.onSent(packetNumber, eliciting, nowMs);
    if (eliciting) path.pacer.onSend();
    path.lastSentMs = nowMs;
    return true;
  }

  #hasStreamData(): boolean {
    return (
      this.#urgentList.head !== undefined || (this.#freshList.head !== undefined && this.#sentBytes < this.#sendMax)
    );
  }

  /** The path's own frames. */
  #writePathControl(path: SessionPath, out: Uint8Array, at: number): number {
    let pos = at;
    const { sent } = path.recovery;
    if (path.challenge !== undefined && PAYLOAD_BYTES - pos >= OPAQUE_FRAME_BYTES) {
      pos = writeOpaqueFrame(out, pos, Frame.pathResponse, path.challenge[0], path.challenge[1]);
      path.challenge = undefined;
      sent.addFrame(Frame.pathResponse, false, 0, 0, 0);
    }
    if (path.pingDue && PAYLOAD_BYTES - pos >= OPAQUE_FRAME_BYTES) {
      const id = this.#nextPingId++ >>> 0;
      pos = writeOpaqueFrame(out, pos, Frame.ping, 0, id);
      path.pingDue = false;
      sent.addFrame(Frame.ping, false, 0, id, 0);
    }
    if (path.attachDue && path.attach !== undefined && PAYLOAD_BYTES - pos >= ATTACH_FRAME_BYTES) {
      pos = writeAttach(out, pos, path.attach);
      path.attachDue = false;
      sent.addFrame(Frame.attach, false, 0, 0, 0);
    }
    return pos;
  }

  #writeCrypto(path: SessionPath, out: Uint8Array, at: number): number {
    const { send } = path.crypto;
    const lost = send.hasLost;
    const offset = lost ? send.lostStart : send.next;
    const left = lost ? send.lostLength : send.tail - send.next;
    const length = Math.min(left, PAYLOAD_BYTES - at - cryptoHeaderSize(offset));
    const pos = writeCryptoHeader(out, at, offset, length);
    send.bytes.copy(offset, out, pos, length);
    if (lost) send.takeLost(length);
    else send.next += length;
    path.recovery.sent.addFrame(Frame.crypto, false, length, 0, offset);
    return pos + length;
  }

  #writeAck(path: SessionPath, out: Uint8Array, at: number, withData: boolean, nowMs: number): number {
    const { acks } = path;
    let room = PAYLOAD_BYTES - at;
    if (withData) room = Math.min(room, ACK_SHARE_BYTES);
    if (room < ACK_FIXED_BYTES || acks.ranges.count === 0) return at;
    const pos = writeAck(out, at, room, acks.delayUs(nowMs), acks.ranges);
    this.#path.recovery.sent.addFrame(Frame.ack, false, 0, 0, acks.largest);
    acks.onAckSent();
    return pos;
  }

  #writeControl(out: Uint8Array, at: number): number {
    let pos = at;
    const { sent } = this.#path.recovery;
    if ((this.#control & Control.settings) !== 0 && PAYLOAD_BYTES - pos >= 64) {
      const { maxStreams, idleTimeoutMs } = this.#options;
      pos = writeSettings(out, pos, [
        Setting.maxStreams,
        maxStreams,
        Setting.maxData,
        Math.max(INITIAL_SESSION_WINDOW_BYTES, this.#options.sessionWindowBytes),
        Setting.idleTimeoutMs,
        idleTimeoutMs,
        Setting.maxStreamData,
        INITIAL_STREAM_WINDOW_BYTES,
      ]);
      this.#control &= ~Control.settings;
      sent.addFrame(Frame.settings, false, 0, 0, 0);
    }
    if ((this.#control & Control.maxData) !== 0 && PAYLOAD_BYTES - pos >= 9) {
      const window = Math.max(INITIAL_SESSION_WINDOW_BYTES, this.#options.sessionWindowBytes);
      this.#receiveMax = this.#consumedBytes + window;
      pos = writeValueFrame(out, pos, Frame.maxData, this.#receiveMax);
      this.#control &= ~Control.maxData;
      sent.addFrame(Frame.maxData, false, 0, 0, this.#receiveMax);
    }
    if ((this.#control & Control.maxStreams) !== 0 && PAYLOAD_BYTES - pos >= 9) {
      this.#ourMaxStreams = this.#closedCount + this.#options.maxStreams;
      pos = writeValueFrame(out, pos, Frame.maxStreams, this.#ourMaxStreams);
      this.#control &= ~Control.maxStreams;
      sent.addFrame(Frame.maxStreams, false, 0, 0, this.#ourMaxStreams);
    }
    if ((this.#control & (Control.ping | Control.pong)) !== 0) pos = this.#writePings(out, pos);
    if ((this.#control & (Control.resolve | Control.resolved)) !== 0) pos = this.#writeNames(out, pos);
    return pos;
  }

  #writePings(out: Uint8Array, at: number): number {
    let pos = at;
    const { sent } = this.#path.recovery;
    while (this.#pongs.length > 0 && PAYLOAD_BYTES - pos >= OPAQUE_FRAME_BYTES) {
      const high = this.#pongs.shift()!;
      const low = this.#pongs.shift()!;
      pos = writeOpaqueFrame(out, pos, Frame.pong, high, low);
      sent.addFrame(Frame.pong, false, 0, high, low);
    }
    while (this.#pingQueue.length > 0 && PAYLOAD_BYTES - pos >= OPAQUE_FRAME_BYTES) {
      const id = this.#pingQueue.shift()!;
      const ping = this.#pings.find((candidate) => candidate.id === id);
      if (ping !== undefined) ping.sentAtMs = this.#nowMs;
      pos = writeOpaqueFrame(out, pos, Frame.ping, 0, id);
      sent.addFrame(Frame.ping, false, 0, id, 0);
    }
    if (this.#pongs.length === 0) this.#control &= ~Control.pong;
    if (this.#pingQueue.length === 0) this.#control &= ~Control.ping;
    return pos;
  }

  #writeNames(out: Uint8Array, at: number): number {
    let pos = at;
    if (this.#questions !== undefined) pos = this.#writeQuestions(out, pos, this.#questions);
    if (this.#answers !== undefined) pos = this.#writeAnswers(out, pos, this.#answers);
    return pos;
  }

  #writeQuestions(out: Uint8Array, at: number, questions: Questions): number {
    let pos = at;
    const { queue } = questions;
    while (queue.length > 0) {
      const id = queue[0]!;
      const question = questions.get(id);
      if (question !== undefined) {
        if (PAYLOAD_BYTES - pos < connectSize(question.value.length)) return pos;
        pos = writeResolve(out, pos, id, question.kind, question.value);
        this.#path.recovery.sent.addFrame(Frame.resolve, false, 0, id, 0);
      }
      queue.shift();
    }
    this.#control &= ~Control.resolve;
    return pos;
  }

  #writeAnswers(out: Uint8Array, at: number, answers: Answers): number {
    let pos = at;
    const { queue } = answers;
    while (queue.length > 0) {
      const id = queue[0]!;
      const answer = answers.get(id);
      if (answer !== undefined) {
        if (PAYLOAD_BYTES - pos < resolvedSize(answer.entries)) return pos;
        pos = writeResolved(out, pos, id, answer.status, answer.entries);
        this.#path.recovery.sent.addFrame(Frame.resolved, false, 0, id, 0);
      }
      queue.shift();
    }
    this.#control &= ~Control.resolved;
    return pos;
  }

  /** As many of the stream's control frames as fit. */
  #writeStreamControl(out: Uint8Array, at: number, stream: Stream): number {
    let pos = at;
    const { id } = stream;
    const { sent } = this.#path.recovery;
    if (
      (stream.control & StreamControl.connect) !== 0 &&
      PAYLOAD_BYTES - pos >= connectSize(stream.target.host.length)
    ) {
      const { kind, port, host } = stream.target;
      pos = writeConnect(out, pos, id, kind === 'tcp' ? 0 : 1, port, host);
      stream.control &= ~StreamControl.connect;
      sent.addFrame(Frame.connect, false, 0, id, 0);
    }
    const from = stream.connectedFrom;
    if ((stream.control & StreamControl.connected) !== 0 && from !== undefined) {
      if (PAYLOAD_BYTES - pos >= connectSize(from.address.length)) {
        pos = writeConnected(out, pos, id, from.family, from.address, from.port);
        stream.control &= ~StreamControl.connected;
        sent.addFrame(Frame.connected, false, 0, id, 0);
      }
    }
    if ((stream.control & StreamControl.maxStreamData) !== 0 && PAYLOAD_BYTES - pos >= 17) {
      stream.receiveLimit = Math.max(stream.receiveLimit, stream.receive.readOffset + stream.windowBytes);
      pos = writePairFrame(out, pos, Frame.maxStreamData, id, stream.receiveLimit);
      stream.control &= ~StreamControl.maxStreamData;
      sent.addFrame(Frame.maxStreamData, false, 0, id, stream.receiveLimit);
    }
    if ((stream.control & StreamControl.reset) !== 0 && PAYLOAD_BYTES - pos >= 25) {
      pos = writeReset(out, pos, id, stream.resetCode, stream.send.next);
      stream.control &= ~StreamControl.reset;
      sent.addFrame(Frame.reset, false, 0, id, 0);
    }
    if ((stream.control & StreamControl.stop) !== 0 && PAYLOAD_BYTES - pos >= 17) {
      pos = writePairFrame(out, pos, Frame.stop, id, stream.closeCode);
      stream.control &= ~StreamControl.stop;
      sent.addFrame(Frame.stop, false, 0, id, 0);
    }
    this.#reschedule(stream);
    return pos;
  }

  #writeDatagrams(out: Uint8Array, at: number): number {
    let pos = at;
    while (this.#datagrams.length > 0) {
      const { flowId, data } = this.#datagrams[0]!;
      if (PAYLOAD_BYTES - pos < datagramHeaderSize(flowId) + data.length) break;
      pos = writeDatagramHeader(out, pos, flowId, data.length);
      out.set(data, pos);
      pos += data.length;
      this.#datagrams.shift();
      this.#path.recovery.sent.addFrame(Frame.datagram, false, 0, flowId, 0);
    }
    return pos;
  }

  #writeUrgent(out: Uint8Array, at: number): number {
    let pos = at;
    while (this.#urgentList.head !== undefined) {
      const stream = this.#urgentList.head.item;
      const { send } = stream;
      const lost = send.hasLost;
      const offset = lost ? send.lostStart : send.tail;
      const room = PAYLOAD_BYTES - pos - streamHeaderSize(stream.id, offset);
      if (room < (lost ? Math.min(MIN_PIECE_BYTES, send.lostLength) : 0)) break;
      const length = lost ? Math.min(send.lostLength, room) : 0;
      const fin = send.finPending && offset + length === send.tail;
      pos = this.#writeStreamFrame(out, pos, stream, offset, length, fin);
      if (lost) send.takeLost(length);
      stream.bytesRetransmitted += length;
      this.#reschedule(stream);
    }
    return pos;
  }

  #writeFresh(out: Uint8Array, at: number): number {
    let pos = at;
    while (this.#freshList.head !== undefined) {
      const stream = this.#freshList.head.item;
      const { send } = stream;
      const credit = Math.min(this.#sendMax - this.#sentBytes, stream.sendLimit - send.next);
      const left = Math.min(send.tail - send.next, credit);
      const room = PAYLOAD_BYTES - pos - streamHeaderSize(stream.id, send.next);
      if (left <= 0 || room < Math.min(MIN_PIECE_BYTES, left)) break;
      const length = Math.min(left, room);
      const offset = send.next;
      const fin = send.finPending && offset + length === send.tail;
      pos = this.#writeStreamFrame(out, pos, stream, offset, length, fin);
      send.next += length;
      this.#sentBytes += length;
      this.#freshList.rotate();
      this.#reschedule(stream);
    }
    return pos;
  }

  #writeStreamFrame(out: Uint8Array, at: number, stream: Stream, offset: number, length: number, fin: boolean): number {
    const { send } = stream;
    const pos = writeStreamHeader(out, at, stream.id, offset, length, fin);
    if (length > 0) send.bytes.copy(offset, out, pos, length);
    if (fin) send.finPending = false;
    this.#path.recovery.sent.addFrame(Frame.stream, fin, length, stream.id, offset);
    return pos + length;
  }

  // ---- Fate of frames

  #onFrameAcked(path: SessionPath, kind: number, fin: boolean, length: number, id: number, offset: number): void {
    switch (kind) {
      case Frame.stream: {
        const stream = this.#streams.get(id);
        // After our RESET only its own ACK ends the stream.
        if (stream === undefined || stream.aborted) return;
        stream.bytesAcked += stream.send.onAcked(offset, length, fin);
        if (stream.urgentNode.listed) this.#reschedule(stream);
        if (stream.takeWritable()) this.#event(stream, StreamEvent.writable);
        if (stream.send.done) this.#finishIfDone(stream);
        return;
      }
      case Frame.crypto:
        path.crypto.send.onAcked(offset, length, false);
        return;
      case Frame.ack:
        path.acks.onAckAcked(offset, this.#nowMs, path.recovery.rtt.expectedMs);
        return;
      case Frame.attach:
        this.#joined(path);
        return;
      case Frame.resolved:
        this.#answers?.onAcked(id);
        return;
    }
    const bit = streamControlOf(kind);
    if (bit === 0) return;
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (kind !== Frame.maxStreamData) stream.controlAcked |= bit;
    if (kind === Frame.reset) {
      stream.control &= ~StreamControl.reset;
      this.#reschedule(stream);
      this.#finishIfDone(stream);
    }
  }

  #onFrameLost(path: SessionPath, kind: number, fin: boolean, length: number, id: number, offset: number): void {
    switch (kind) {
      case Frame.stream: {
        const stream = this.#streams.get(id);
        if (stream === undefined || stream.aborted) return;
        stream.send.onLost(offset, length, fin);
        this.#reschedule(stream);
        return;
      }
      case Frame.crypto:
        path.crypto.send.onLost(offset, length, false);
        return;
      case Frame.attach:
        path.attachDue = path.state === PathState.attaching;
        return;
      case Frame.settings:
        this.#control |= Control.settings;
        return;
      case Frame.maxData:
        if (offset === this.#receiveMax) this.#control |= Control.maxData;
        return;
      case Frame.maxStreams:
        if (offset === this.#ourMaxStreams) this.#control |= Control.maxStreams;
        return;
      case Frame.ping:
        this.#requeuePing(id);
        return;
      case Frame.pong:
        this.#queuePong(id, offset);
        return;
      case Frame.resolve:
        this.#questions?.onLost(id);
        this.#control |= Control.resolve;
        return;
      case Frame.resolved:
        this.#answers?.onLost(id);
        this.#control |= Control.resolved;
        return;
    }
    const bit = streamControlOf(kind);
    if (bit === 0) return;
    const stream = this.#streams.get(id);
    if (stream === undefined || (stream.controlAcked & bit) !== 0) return;
    // Only the last limit counts, and an abandoned stream repeats nothing but its end.
    if (kind === Frame.maxStreamData && (offset !== stream.receiveLimit || stream.receive.finalSize >= 0)) return;
    if (stream.aborted && kind !== Frame.reset && kind !== Frame.stop) return;
    stream.control |= bit;
    this.#reschedule(stream);
  }

  // ---- Small things

  #openQuestions(): Questions {
    this.#questions ??= new Questions();
    return this.#questions;
  }

  #queueCaps(path: SessionPath): void {
    if (this.#capsQueued) return;
    this.#capsQueued = true;
    if (!path.crypto.write(CryptoMessage.caps, encodeCapabilities(this.#options.capabilities))) {
      throw new RangeError('capabilities: too long for one CAPS message');
    }
  }

  #queuePing(onPong: (rttMs: number) => void): void {
    const id = this.#nextPingId++ >>> 0;
    if (this.#pings.length >= MAX_PINGS) this.#pings.shift();
    this.#pings.push({ id, sentAtMs: -1, onPong });
    this.#pingQueue.push(id);
    this.#want(Control.ping);
  }

  /** A lost PING goes again under a new id, so that its time starts anew. */
  #requeuePing(id: number): void {
    const ping = this.#pings.find((candidate) => candidate.id === id);
    if (ping === undefined) return;
    ping.id = this.#nextPingId++ >>> 0;
    ping.sentAtMs = -1;
    this.#pingQueue.push(ping.id);
    this.#control |= Control.ping;
  }

  #idleDeadlineMs(): number {
    return this.#idleTimeoutMs > 0 ? this.#lastReceivedMs + this.#idleTimeoutMs : Number.POSITIVE_INFINITY;
  }

  #keepAliveDeadlineMs(path: SessionPath): number {
    const keepAliveMs = Math.max(this.#options.keepAliveMs, this.#isClient ? 0 : this.#idleTimeoutMs / 4);
    if (this.#options.keepAliveMs <= 0 || path.pingDue) return Number.POSITIVE_INFINITY;
    return path.lastSentMs + keepAliveMs;
  }

  /**
   * Client: something was coming and comes no more. Who only receives would never know that the path is dead, so it asks,
   * once.
   */
  #quietDeadlineMs(path: SessionPath): number {
    if (!this.#isClient || path.asked || this.#streams.size === 0) {
      return Number.POSITIVE_INFINITY;
    }
    return Math.max(path.dataMs + Math.max(QUIET_MS, 2 * path.recovery.probeTimeoutMs()), path.askNotBeforeMs);
  }

  #askIfQuiet(path: SessionPath, nowMs: TimeMs): void {
    const dueMs = this.#quietDeadlineMs(path);
    if (nowMs < dueMs) return;
    if (nowMs > dueMs + STALL_MS && dueMs !== path.askNotBeforeMs) {
      path.askNotBeforeMs = nowMs + 1;
      return;
    }
    path.asked = true;
    path.pingDue = true;
  }

  // ---- The end

  #startClosing(code: number, reason: string): void {
    this.#state = 'closing';
    this.#closeCode = code;
    this.#closeReason = new TextEncoder().encode(reason).subarray(0, MAX_REASON_BYTES);
    this.#closePending = true;
    let probeMs = 0;
    for (const path of this.#paths) probeMs = Math.max(probeMs, path.recovery.probeTimeoutMs());
    this.#drainUntilMs = this.#nowMs + 3 * probeMs;
  }

  #pollClose(out: Uint8Array): boolean {
    if (this.#state !== 'closing' || !this.#closePending) return false;
    const pos = writeClose(out, 0, this.#closeCode, this.#closeReason);
    out.fill(0, pos, PAYLOAD_BYTES);
    this.#closePending = false;
    if (++this.#closeFrames >= MAX_CLOSE_FRAMES) this.#state = 'closed';
    return true;
  }

  /** Tells everybody and frees everything. The state has been set. */
  #end(code: number, reason: string, remote: boolean): void {
    if (this.#state === 'open') this.#state = 'closed';
    // A stream that was cut off did not end well, whatever the session says of itself.
    const streamCode = code === SessionError.noError ? SessionError.shutdown : code;
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    this.#lastStream = undefined;
    for (const stream of streams) {
      stream.aborted = true;
      stream.control = 0;
      stream.send.clear();
      stream.receive.clear();
      this.#controlList.remove(stream.controlNode);
      this.#urgentList.remove(stream.urgentNode);
      this.#freshList.remove(stream.freshNode);
      this.#tellClosed(stream, streamCode, remote);
    }
    this.#datagrams.length = 0;
    this.#pings.length = 0;
    this.#answers?.clear();
    this.#dispatch();
    this.#questions?.failAll(streamCode);
    this.#wakeAll();
    this.#host.onClose(code, reason, remote);
  }
}

function trimDeadlineMs(path: SessionPath): number {
  return path.recovery.sent.canTrim ? path.lastSentMs + TRIM_AFTER_MS : Number.POSITIVE_INFINITY;
}

/** Whole seconds that a varint carries; resolvers give anything from −1 to NaN. */
function boundTtl(ttlSeconds: number): number {
  return ttlSeconds > 0 ? Math.min(Math.floor(ttlSeconds), 0xffff_ffff) : 0;
}

function streamControlOf(kind: number): number {
  switch (kind) {
    case Frame.connect:
      return StreamControl.connect;
    case Frame.connected:
      return StreamControl.connected;
    case Frame.reset:
      return StreamControl.reset;
    case Frame.stop:
      return StreamControl.stop;
    case Frame.maxStreamData:
      return StreamControl.maxStreamData;
    default:
      return 0;
  }
}

/** For people to read: at most 256 bytes, and no control characters. */
function decodeReason(payload: Uint8Array, start: number, length: number): string {
  const text = new TextDecoder().decode(payload.subarray(start, start + Math.min(length, MAX_REASON_BYTES)));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f]/g, ' ');
}
