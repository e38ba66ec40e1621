/** Takes in a payload's frames (docs/protocol.md §5). What the peer may not say ends the session. */
import { Drop } from '../drop-reason.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { Frame, FrameDecoder, readUint32, SESSION_ID_BYTES, Setting } from '../wire/frames.ts';
import { decodePlugin } from './capabilities.ts';
import { SessionError } from './contract.ts';
import { CryptoMessage } from './crypto-stream.ts';
import { DatagramClock } from './datagram-clock.ts';
import type { FlowControl } from './flow-control.ts';
import { schedulers } from './path-choice.ts';
import { Received } from './receive-buffer.ts';
import { AckResult } from './recovery.ts';
import { reorderLimitBytes } from './reorder-limit.ts';
import type { SessionCore } from './session-core.ts';
import { INITIAL_MAX_STREAMS } from './session-options.ts';
import { PathState, type SessionPath } from './session-path.ts';
import type { SessionPaths } from './session-paths.ts';
import type { SessionSetup } from './session-setup.ts';
import type { SideQueues } from './side-queues.ts';
import { type Stream, StreamEvent } from './stream.ts';
import type { StreamEvents } from './stream-events.ts';
import type { StreamTable } from './stream-table.ts';

/** How long a server waits at its client's wish. */
const MAX_PATIENCE_MS = 300_000;
/** No peer can make a session end sooner. */
const MIN_IDLE_TIMEOUT_MS = 1000;
const MAX_REASON_BYTES = 256;

/** Parts of the session that frames are for. */
export interface ReceiverParts {
  readonly core: SessionCore;
  readonly paths: SessionPaths;
  readonly flow: FlowControl;
  readonly streams: StreamTable;
  readonly events: StreamEvents;
  readonly side: SideQueues;
  readonly setup: SessionSetup;
}

export class FrameReceiver {
  readonly #core: SessionCore;
  readonly #paths: SessionPaths;
  readonly #flow: FlowControl;
  readonly #streams: StreamTable;
  readonly #events: StreamEvents;
  readonly #side: SideQueues;
  readonly #setup: SessionSetup;
  readonly #decoder = new FrameDecoder();
  #settingsSeen = false;

  constructor({ core, paths, flow, streams, events, side, setup }: ReceiverParts) {
    this.#core = core;
    this.#paths = paths;
    this.#flow = flow;
    this.#streams = streams;
    this.#events = events;
    this.#side = side;
    this.#setup = setup;
  }

  /** All frames of one payload, which came on the session's present path. */
  handle(path: SessionPath, packetNumber: number, payload: Uint8Array): Drop {
    const decoder = this.#decoder;
    const { owner } = path;
    decoder.reset(payload);
    let eliciting = false;
    let complete = true;
    let source = -1;
    const known = path.fec?.isKnown(packetNumber) === true;
    while (decoder.next()) {
      if (decoder.type !== Frame.ack && decoder.type !== Frame.fecRecovered) eliciting = true;
      if (decoder.type === Frame.fecSource) source = decoder.code;
      // Put together before it came: all but its ACK has been taken in.
      if (known && decoder.type !== Frame.ack) continue;
      const result = this.#handleFrame(decoder, payload);
      // ATTACH has given it to another session: what is behind it is that one's.
      if (path.owner !== owner) {
        const rest = payload.subarray(decoder.at);
        const taken = path.owner.handlePayload(path, packetNumber, rest, this.#core.nowMs);
        path.acks.now = true;
        return taken;
      }
      if (this.#core.state !== 'open' || path.state === PathState.gone) return result;
      if (result === Drop.memory) complete = false;
    }
    if (decoder.failed) return this.#core.violation(`malformed frame ${decoder.type}`);
    // A frame that could not be taken in: without an ACK the peer sends it again.
    if (!complete) return Drop.memory;
    path.acks.onPacket(packetNumber, eliciting, this.#core.nowMs, path.recovery.rtt.smoothedMs ?? 0);
    if (source >= 0 && payload.length === PAYLOAD_BYTES) this.#core.fec?.onSource(path, packetNumber, payload, source);
    return this.#takeRecovered();
  }

  /** Payloads that repair symbols have brought back, on whichever path they were lost. */
  #takeRecovered(): Drop {
    const { paths } = this.#core;
    if (this.#core.fec === undefined) return Drop.none;
    for (let i = 0; i < paths.length; i++) {
      const path = paths[i]!;
      const recovered = path.fec?.recovered;
      while (recovered !== undefined && recovered.length > 0) {
        const { packetNumber, payload } = recovered.shift()!;
        if (path.acks.isDuplicate(packetNumber) || path.fec!.isKnown(packetNumber)) continue;
        const result = this.#handleRecovered(path, packetNumber, payload);
        if (this.#core.state !== 'open') return result;
      }
    }
    return Drop.none;
  }

  /**
   * Not acknowledged: it was lost, and its sender's congestion control is to know; FEC_RECOVERED says that its frames
   * are here. ACKs in it are of yesterday, and what concerns the path alone is left to the usual repetition.
   */
  #handleRecovered(path: SessionPath, packetNumber: number, payload: Uint8Array): Drop {
    const core = this.#core;
    const decoder = this.#decoder;
    core.path = path;
    decoder.reset(payload);
    let complete = true;
    while (decoder.next()) {
      if (isPathFrame(decoder.type)) continue;
      const result = this.#handleFrame(decoder, payload);
      if (core.state !== 'open' || path.state === PathState.gone) return result;
      if (result === Drop.memory) complete = false;
    }
    if (decoder.failed) return core.violation('a repaired payload is malformed');
    if (!complete) return Drop.memory;
    path.fec?.onTaken(packetNumber);
    path.acks.now = true;
    path.host.onWantSend();
    return Drop.none;
  }

  #handleFrame(frame: FrameDecoder, payload: Uint8Array): Drop {
    switch (frame.type) {
      case Frame.stream:
        return this.#handleStream(frame, payload);
      case Frame.ack:
        return this.#handleAck(frame);
      case Frame.maxData:
        if (frame.value > this.#flow.sendMax) this.#flow.sendMax = frame.value;
        return Drop.none;
      case Frame.maxStreamData:
        return this.#handleMaxStreamData(frame);
      case Frame.reset:
        return this.#handleReset(frame);
      case Frame.stop:
        return this.#handleStop(frame);
      case Frame.datagram:
        this.#core.host.onDatagram?.(frame.id, payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength));
        return Drop.none;
      case Frame.timedDatagram:
        return this.#handleTimedDatagram(frame, payload);
      case Frame.connect:
        return this.#handleConnect(frame);
      case Frame.connected:
        return this.#handleConnected(frame);
      case Frame.resolve:
        return this.#handleResolve(frame);
      case Frame.resolved:
        if (this.#side.onAnswer(frame.id, frame.code, frame.resolvedEntries())) return Drop.none;
        return this.#core.violation('RESOLVED without RESOLVE');
      case Frame.maxStreams:
        if (!this.#core.isClient) return this.#core.violation('MAX_STREAMS from a client');
        this.#streams.peerMaxStreams = Math.max(this.#streams.peerMaxStreams, frame.value);
        return Drop.none;
      case Frame.crypto:
        return this.#handleCrypto(frame, payload);
      case Frame.settings:
        return this.#handleSettings(frame);
      case Frame.ping:
        this.#side.addPong(readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4));
        this.#core.path.acks.now = true;
        return Drop.none;
      case Frame.pong:
        this.#side.onPong(readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4));
        return Drop.none;
      case Frame.pathChallenge:
        this.#core.path.challenge = [readUint32(payload, frame.dataStart), readUint32(payload, frame.dataStart + 4)];
        return Drop.none;
      case Frame.pathResponse:
        this.#paths.onResponse(
          this.#core.path,
          readUint32(payload, frame.dataStart),
          readUint32(payload, frame.dataStart + 4),
        );
        return Drop.none;
      case Frame.attach:
        return this.#handleAttach(payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength));
      case Frame.fecRepair:
        if (this.#core.fec === undefined || this.#core.fec.onRepair(this.#core.path, frame, payload)) return Drop.none;
        return this.#core.violation('FEC_REPAIR');
      case Frame.fecRecovered:
        return this.#handleRecoveredNews(frame);
      case Frame.fecSource:
        return Drop.none;
      case Frame.close:
        return this.#handleClose(frame, payload);
      default:
        if (frame.type >= Frame.pluginFirst) return this.#handlePlugin(frame, payload);
        // DATA_BLOCKED, STREAM_DATA_BLOCKED, LOCALIZED_STRING: limits are repeated until they are acknowledged, and
        // texts are for people.
        return Drop.none;
    }
  }

  /** The one setting that may change: a client's next stream may want something else. */
  #noteFecWish(frame: FrameDecoder): void {
    for (let i = 0; i < frame.count; i++) {
      if (frame.settingId[i] === Setting.fec) this.#core.fec?.onPeerWish(frame.settingValue[i]!);
    }
  }

  #handleRecoveredNews(frame: FrameDecoder): Drop {
    const { path } = this.#core;
    const count = frame.rangeCount;
    for (let i = 0; i < count; i++) {
      if (!path.recovery.onRecovered(frame.rangeLow[i]!)) return this.#core.violation('FEC_RECOVERED of no packet');
    }
    path.fec?.tally.add('recoveredByPeer', count);
    return Drop.none;
  }

  /** One that is too old is not delivered. */
  #handleTimedDatagram(frame: FrameDecoder, payload: Uint8Array): Drop {
    const { path, nowMs, host } = this.#core;
    path.datagramClock ??= new DatagramClock();
    const ageMs = path.datagramClock.ageMs(frame.value, path.recovery.rtt.minMs ?? 0, nowMs);
    if (ageMs > frame.code) {
      this.#side.datagramsExpired++;
      host.onDatagramExpired?.(frame.id, false);
      return Drop.none;
    }
    const data = payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength);
    host.onDatagram?.(frame.id, data, frame.code);
    return Drop.none;
  }

  // ---- Streams

  /** What becomes of a frame whose stream is over, or was not allowed. */
  get #withoutStream(): Drop {
    return this.#core.state === 'open' ? Drop.none : Drop.badFrame;
  }

  #handleStream(frame: FrameDecoder, payload: Uint8Array): Drop {
    const core = this.#core;
    const flow = this.#flow;
    const stream = this.#streams.ofPeer(frame.id);
    if (stream === undefined) return this.#withoutStream;
    const buffer = stream.receive;
    const end = frame.value + frame.dataLength;
    const growth = end - buffer.highest;
    if (growth > 0 && flow.receivedBytes + growth > flow.receiveMax) return core.flowViolation('session');
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
    if (result === Received.beyondLimit) return core.flowViolation(`stream ${stream.id}`);
    if (result === Received.badFinalSize) return core.violation(`final size of stream ${stream.id}`);
    core.path.dataMs = core.nowMs;
    core.path.asked = false;
    core.path.recovery.quiet = false;
    if (growth > 0) flow.receivedBytes += growth;
    const finished = buffer.finalSize === buffer.contiguous;
    // The sender has nothing more to say that could carry news of its loss: tell it at once.
    if (frame.fin) core.path.acks.now = true;
    if (buffer.contiguous > readable || (frame.fin && finished)) {
      this.#events.add(stream, StreamEvent.readable);
      if (finished) this.#streams.finishIfDone(stream);
    }
    return Drop.none;
  }

  /** Data of a stream that we gave up: only its size matters. */
  #handleLateData(stream: Stream, frame: FrameDecoder, end: number): Drop {
    const buffer = stream.receive;
    if (end > stream.receiveLimit) return this.#core.flowViolation(`stream ${stream.id}`);
    if (buffer.finalSize >= 0 ? end > buffer.finalSize : frame.fin && end < buffer.highest) {
      return this.#core.violation(`final size of stream ${stream.id}`);
    }
    this.#streams.discardUpTo(stream, end);
    if (frame.fin && buffer.finalSize < 0) {
      buffer.finalSize = end;
      this.#streams.finishIfDone(stream);
    }
    return Drop.none;
  }

  #handleMaxStreamData(frame: FrameDecoder): Drop {
    if (this.#core.isClient && frame.id >= this.#streams.nextId) return this.#core.violation('unknown stream');
    const stream = this.#streams.get(frame.id);
    if (stream !== undefined && frame.value > stream.sendLimit) {
      stream.sendLimit = frame.value;
      this.#streams.reschedule(stream);
    }
    return Drop.none;
  }

  #handleReset(frame: FrameDecoder): Drop {
    const core = this.#core;
    const flow = this.#flow;
    const stream = this.#streams.ofPeer(frame.id);
    if (stream === undefined) return this.#withoutStream;
    const buffer = stream.receive;
    const finalSize = frame.value;
    if (finalSize < buffer.highest || (buffer.finalSize >= 0 && buffer.finalSize !== finalSize)) {
      return core.violation(`final size of stream ${stream.id}`);
    }
    if (finalSize > stream.receiveLimit) return core.flowViolation(`stream ${stream.id}`);
    if (flow.receivedBytes + finalSize - buffer.highest > flow.receiveMax) return core.flowViolation('session');
    buffer.finalSize = finalSize;
    this.#streams.abort(stream, frame.code, true);
    this.#streams.discardUpTo(stream, finalSize);
    this.#streams.finishIfDone(stream);
    return Drop.none;
  }

  #handleStop(frame: FrameDecoder): Drop {
    const stream = this.#streams.ofPeer(frame.id);
    if (stream === undefined) return this.#withoutStream;
    this.#streams.abort(stream, frame.code, true);
    this.#streams.finishIfDone(stream);
    return Drop.none;
  }

  #handleConnect(frame: FrameDecoder): Drop {
    const { isClient, host } = this.#core;
    if (isClient) return this.#core.violation('CONNECT from a server');
    const stream = this.#streams.ofPeer(frame.id);
    if (stream === undefined) return this.#withoutStream;
    if (stream.opened || stream.aborted) return Drop.none;
    stream.opened = true;
    stream.target = { kind: frame.code === 0 ? 'tcp' : 'udp', host: frame.text(), port: frame.value };
    // Data may have come before it.
    if (stream.receive.readableBytes > 0 || stream.receive.ended) this.#events.add(stream, StreamEvent.readable);
    if (host.onStream === undefined) this.#streams.resetStream(stream, SessionError.connectRefused);
    else host.onStream(stream);
    return Drop.none;
  }

  #handleConnected(frame: FrameDecoder): Drop {
    const { isClient } = this.#core;
    if (!isClient || frame.id >= this.#streams.nextId) return this.#core.violation('CONNECTED without CONNECT');
    const stream = this.#streams.get(frame.id);
    if (stream === undefined || stream.aborted || stream.connectedFrom !== undefined) return Drop.none;
    stream.connectedFrom = { family: frame.code === 4 ? 4 : 6, address: frame.text(), port: frame.value };
    this.#events.add(stream, StreamEvent.connected);
    return Drop.none;
  }

  // ---- The path

  #handleAck(frame: FrameDecoder): Drop {
    const { path, nowMs } = this.#core;
    const { recovery } = path;
    if (recovery.onAck(frame, nowMs) === AckResult.neverSent) {
      return this.#core.violation('ACK of a packet that was never sent');
    }
    path.pacer.setRate(recovery.congestion.pacingRate, nowMs);
    if (path.state === PathState.suspect && recovery.heardSinceGivenUp) this.#paths.revive(path);
    else if (this.#core.paths.length > 1)
      this.#core.reorderLimitBytes = reorderLimitBytes(this.#core.paths, this.#core.nowMs);
    return Drop.none;
  }

  #handleCrypto(frame: FrameDecoder, payload: Uint8Array): Drop {
    const { path } = this.#core;
    const { crypto } = path;
    const result = crypto.receive(frame.value, payload, frame.dataStart, frame.dataLength);
    if (result === Received.tooManyHoles) return Drop.memory;
    if (result !== Received.ok) return this.#core.violation('CRYPTO beyond its window');
    for (let type = crypto.nextType(); type !== 0; type = crypto.nextType()) {
      if (type < 0) return this.#core.violation('CRYPTO message');
      const body = crypto.takeBody();
      if (type === CryptoMessage.caps) {
        if (!this.#setup.onCaps(body)) return this.#core.violation('CAPS');
      } else {
        if (type === CryptoMessage.keys) this.#setup.onKeys();
        path.host.onCryptoMessage(type, body);
        if (this.#core.state !== 'open' || path.state === PathState.gone) return Drop.closed;
      }
      this.#setup.tellReady();
    }
    return Drop.none;
  }

  /** A newcomer's path: first comes this, or it is a session of its own. */
  #handleAttach(body: Uint8Array): Drop {
    const { isClient, path, host } = this.#core;
    if (isClient) return this.#core.violation('ATTACH from a server');
    // Said again, before our ACK came.
    if (path !== this.#core.firstPath) return Drop.none;
    if (this.#setup.readyTold || this.#streams.size > 0 || this.#streams.closedCount > 0) {
      return this.#core.violation('ATTACH too late');
    }
    if (host.onAttach?.(path, body.slice(0, SESSION_ID_BYTES), body.slice(SESSION_ID_BYTES))) return Drop.none;
    this.#core.closer.close(SessionError.pathValidationFailed, 'no such session');
    return Drop.closed;
  }

  // ---- The session

  #handleResolve(frame: FrameDecoder): Drop {
    const { isClient, host } = this.#core;
    if (isClient) return this.#core.violation('RESOLVE from a server');
    const known = this.#side.onQuestion(frame.id);
    if (known === 'tooMany') return this.#core.violation('too many RESOLVE');
    if (known === 'known') return Drop.none;
    if (host.onResolve === undefined) this.#side.answer(frame.id, SessionError.resolveFailed, []);
    else host.onResolve(frame.id, frame.code === 0 ? 'name' : 'address', frame.text());
    return Drop.none;
  }

  /**
   * Limits are taken from a peer's first SETTINGS alone, and raised later by frames of their own. What its client wishes
   * of how data is spread, a server takes from the last one.
   */
  #handleSettings(frame: FrameDecoder): Drop {
    for (let i = 0; i < frame.count && !this.#core.isClient; i++) {
      if (frame.settingId[i] !== Setting.scheduler) continue;
      const wish = schedulers[frame.settingValue[i]!];
      if (wish !== undefined) this.#core.scheduler = wish;
    }
    this.#noteFecWish(frame);
    if (this.#settingsSeen) return Drop.none;
    this.#settingsSeen = true;
    const core = this.#core;
    const streams = this.#streams;
    let streamWindow = 0;
    for (let i = 0; i < frame.count; i++) {
      const value = frame.settingValue[i]!;
      switch (frame.settingId[i]) {
        case Setting.maxStreams:
          // May also be lower than what we assumed, unless MAX_STREAMS has overtaken it.
          if (core.isClient && streams.peerMaxStreams <= INITIAL_MAX_STREAMS) streams.peerMaxStreams = value;
          break;
        case Setting.maxData:
          this.#flow.sendMax = Math.max(this.#flow.sendMax, value);
          break;
        case Setting.maxStreamData:
          streamWindow = value;
          break;
        case Setting.idleTimeoutMs:
          if (value > 0 && (core.idleTimeoutMs === 0 || value < core.idleTimeoutMs)) {
            core.idleTimeoutMs = Math.max(value, MIN_IDLE_TIMEOUT_MS);
          } else if (!core.isClient && core.idleTimeoutMs > 0) {
            // A client that saves power is seldom heard, and not woken.
            core.idleTimeoutMs = Math.min(value, Math.max(core.idleTimeoutMs, MAX_PATIENCE_MS));
          }
          break;
        // Unknown settings are ignored, so that later versions can add some.
      }
    }
    streams.raiseSendLimits(streamWindow);
    return Drop.none;
  }

  #handleClose(frame: FrameDecoder, payload: Uint8Array): Drop {
    const { path, closer } = this.#core;
    if (path.state === PathState.attaching) path.host.onRefused?.();
    else closer.closedByPeer(frame.code, decodeReason(payload, frame.dataStart, frame.dataLength));
    return Drop.none;
  }

  #handlePlugin(frame: FrameDecoder, payload: Uint8Array): Drop {
    const plugin = decodePlugin(payload.subarray(frame.dataStart, frame.dataStart + frame.dataLength));
    if (plugin === undefined) return this.#core.violation('PLUGIN header');
    if (!plugin.required) return Drop.none;
    this.#core.closer.closeUnsupported(plugin.id);
    return Drop.badFrame;
  }
}

/** For people to read: at most 256 bytes, and no control characters. */
function decodeReason(payload: Uint8Array, start: number, length: number): string {
  const text = new TextDecoder().decode(payload.subarray(start, start + Math.min(length, MAX_REASON_BYTES)));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f]/g, ' ');
}

/** Frames that mean the path and the moment they come on. */
function isPathFrame(type: number): boolean {
  switch (type) {
    case Frame.ack:
    case Frame.attach:
    case Frame.pathChallenge:
    case Frame.pathResponse:
    case Frame.fecSource:
    case Frame.fecRepair:
    case Frame.fecRecovered:
      return true;
    default:
      return false;
  }
}
