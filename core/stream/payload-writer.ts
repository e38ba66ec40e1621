/**
 * Fills payloads (docs/protocol.md §5). In a payload of a path come, in this order: its key messages, its ACK, its own
 * control frames; then, if it is to carry what the session has (path-choice.ts): control frames of the session and of
 * streams, datagrams, lost data, fresh data in turn over the streams. Each frame is noted for the path's loss detection.
 */
import { encodeFecPolicy } from '../fec/policy.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { RECOVERED_BYTES, writeSourceMark } from '../wire/fec-frames.ts';
import {
  ACK_FIXED_BYTES,
  ATTACH_FRAME_BYTES,
  connectSize,
  cryptoHeaderSize,
  Frame,
  OPAQUE_FRAME_BYTES,
  Setting,
  streamHeaderSize,
  writeAck,
  writeAttach,
  writeConnect,
  writeConnected,
  writeCryptoHeader,
  writeOpaqueFrame,
  writePairFrame,
  writeReset,
  writeSettings,
  writeStreamHeader,
  writeValueFrame,
} from '../wire/frames.ts';
import { CopyQueue } from './copy-queue.ts';
import type { FlowControl } from './flow-control.ts';
import { choosesPath, pathForCopy, Scheduler, schedulers } from './path-choice.ts';
import { Control, type SessionCore } from './session-core.ts';
import { PROTECTED_BYTES } from './session-fec.ts';
import { INITIAL_STREAM_WINDOW_BYTES } from './session-options.ts';
import { PathState, type SessionPath } from './session-path.ts';
import type { SideQueues } from './side-queues.ts';
import { type Stream, StreamControl } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

/** Less room than this at a payload's end is not worth another frame of a stream's data. */
const MIN_PIECE_BYTES = 24;
const NO_WISH: readonly number[] = [];
/** ACK ranges in a payload that also has data to carry. */
const ACK_SHARE_BYTES = 400;
/** A repair symbol leaves when its block closes; the word that it has helped needs a little longer than an ACK. */
const REPAIR_WAIT = 1.5;

export class PayloadWriter {
  readonly #core: SessionCore;
  readonly #flow: FlowControl;
  readonly #streams: StreamTable;
  readonly #side: SideQueues;
  #datagramTurn = true;

  constructor(core: SessionCore, flow: FlowControl, streams: StreamTable, side: SideQueues) {
    this.#core = core;
    this.#flow = flow;
    this.#streams = streams;
    this.#side = side;
  }

  /** Something that asks for an ACK has to go out, and on this path. */
  wantsEliciting(path: SessionPath): boolean {
    return (
      path.crypto.hasData ||
      path.pingDue ||
      path.attachDue ||
      path.ownChallengeDue ||
      path.challenge !== undefined ||
      (path.copies !== undefined && this.#hasCopies(path.copies)) ||
      this.#core.fec?.repairFor(path) !== undefined ||
      this.#carries(path)
    );
  }

  /** The path is to carry what the session has to send. */
  #carries(path: SessionPath): boolean {
    if (!this.hasWork()) return false;
    const { paths, scheduler, nowMs } = this.#core;
    if (paths.length === 1 && path.state !== PathState.attaching) return true;
    return choosesPath(path, paths, scheduler, nowMs, this.#streams.queuedBytes);
  }

  /** The session has something to send, on whichever path. */
  hasWork(): boolean {
    return (
      this.#core.control !== 0 ||
      this.#streams.hasData ||
      this.#streams.controlList.head !== undefined ||
      this.#side.hasDatagrams
    );
  }

  /** The next payload of the session's present path; false = there is nothing to write (out untouched). */
  write(path: SessionPath, out: Uint8Array, packetNumber: number, withData: boolean, nowMs: number): boolean {
    const core = this.#core;
    const repaired = withData ? core.fec?.repairFor(path) : undefined;
    if (repaired !== undefined) return this.#writeRepair(path, repaired, out, packetNumber, nowMs);
    const protects = withData && this.#protects(path, nowMs);
    core.payloadEnd = protects ? PROTECTED_BYTES : PAYLOAD_BYTES;
    let pos = withData && path.crypto.hasData ? this.#writeCrypto(path, out, 0) : 0;
    let eliciting = pos > 0;
    if (path.acks.pending > 0 || path.acks.now) pos = this.#writeAck(path, out, pos, withData, nowMs);
    if (path.fec?.hasNews && core.payloadEnd - pos >= RECOVERED_BYTES) pos = path.fec.writeNews(out, pos);
    // An ACK alone needs no answer.
    const start = pos;
    if (withData) pos = this.#writePathControl(path, out, pos);
    if (withData && path.copies !== undefined) pos = this.#writeCopies(path.copies, out, pos);
    if (withData && this.#carries(path)) pos = this.#writeSession(out, pos);
    eliciting ||= pos > start;
    if (pos === 0) return false;
    const isSource = protects && eliciting && path.fec !== undefined;
    if (isSource) pos = writeSourceMark(out, pos, path.fec!.sender.tag);
    if (pos < PAYLOAD_BYTES) out.fill(0, pos, PAYLOAD_BYTES);
    if (isSource) path.fec!.sender.onSource(packetNumber, out, path.recovery.rtt.expectedMs, nowMs);
    path.recovery.onSent(packetNumber, eliciting, nowMs);
    if (eliciting) path.pacer.onSend();
    path.lastSentMs = nowMs;
    return true;
  }

  /**
   * The packet is worth repair symbols: somebody waits for what it carries. Who has a queue that fills the path gains
   * nothing from packets that come back sooner, and would pay for them with throughput.
   */
  #protects(path: SessionPath, nowMs: number): boolean {
    const { fec } = path;
    if (fec === undefined) return false;
    const armed = path.state === PathState.usable && fec.sender.armed(nowMs);
    path.recovery.repairMs = armed ? REPAIR_WAIT * fec.sender.blockMs(path.recovery.rtt.expectedMs) : 0;
    if (!armed) return false;
    // A datagram that only a whole payload holds can't be protected.
    if (this.#side.nextDatagramBytes > PROTECTED_BYTES) return false;
    return (
      fec.sender.forced ||
      this.#side.hasDatagrams ||
      this.#streams.controlList.head !== undefined ||
      this.#streams.hasShortQueue
    );
  }

  /** A payload with a repair symbol of the `source` path's and nothing else: there is no room beside it. */
  #writeRepair(path: SessionPath, source: SessionPath, out: Uint8Array, packetNumber: number, nowMs: number): boolean {
    const end = source.fec!.sender.writeRepair(out);
    out.fill(0, end, PAYLOAD_BYTES);
    path.recovery.sent.addFrame(Frame.fecRepair, false, 0, 0, 0);
    path.recovery.onSent(packetNumber, true, nowMs);
    path.pacer.onSend();
    path.lastSentMs = nowMs;
    return true;
  }

  /** What any path may carry. */
  #writeSession(out: Uint8Array, at: number): number {
    const streams = this.#streams;
    let pos = this.#core.control === 0 ? at : this.#writeControl(out, at);
    while (streams.controlList.head !== undefined) {
      const before = pos;
      pos = this.#writeStreamControl(out, pos, streams.controlList.head.item);
      if (pos === before) break;
    }
    if (this.#side.hasDatagrams && (this.#datagramTurn || !streams.hasData)) pos = this.#side.writeDatagrams(out, pos);
    this.#datagramTurn = !this.#datagramTurn;
    if (streams.urgentList.head !== undefined) pos = this.#writeUrgent(out, pos);
    if (streams.freshList.head !== undefined) pos = this.#writeFresh(out, pos);
    return pos;
  }

  // ---- The path's own frames

  #writePathControl(path: SessionPath, out: Uint8Array, at: number): number {
    let pos = at;
    const { sent } = path.recovery;
    if (path.challenge !== undefined && this.#core.payloadEnd - pos >= OPAQUE_FRAME_BYTES) {
      pos = writeOpaqueFrame(out, pos, Frame.pathResponse, path.challenge[0], path.challenge[1]);
      path.challenge = undefined;
      sent.addFrame(Frame.pathResponse, false, 0, 0, 0);
    }
    if (path.pingDue && this.#core.payloadEnd - pos >= OPAQUE_FRAME_BYTES) {
      const id = this.#side.takePingId();
      pos = writeOpaqueFrame(out, pos, Frame.ping, 0, id);
      path.pingDue = false;
      sent.addFrame(Frame.ping, false, 0, id, 0);
    }
    if (path.ownChallengeDue && path.ownChallenge !== undefined && this.#core.payloadEnd - pos >= OPAQUE_FRAME_BYTES) {
      pos = writeOpaqueFrame(out, pos, Frame.pathChallenge, path.ownChallenge[0], path.ownChallenge[1]);
      path.ownChallengeDue = false;
      sent.addFrame(Frame.pathChallenge, false, 0, 0, 0);
    }
    if (path.attachDue && path.attach !== undefined && this.#core.payloadEnd - pos >= ATTACH_FRAME_BYTES) {
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
    const length = Math.min(left, this.#core.payloadEnd - at - cryptoHeaderSize(offset));
    const pos = writeCryptoHeader(out, at, offset, length);
    send.bytes.copy(offset, out, pos, length);
    if (lost) send.takeLost(length);
    else send.next += length;
    path.recovery.sent.addFrame(Frame.crypto, false, length, 0, offset);
    return pos + length;
  }

  #writeAck(path: SessionPath, out: Uint8Array, at: number, withData: boolean, nowMs: number): number {
    const { acks } = path;
    let room = this.#core.payloadEnd - at;
    if (withData) room = Math.min(room, ACK_SHARE_BYTES);
    if (room < ACK_FIXED_BYTES || acks.ranges.count === 0) return at;
    const pos = writeAck(out, at, room, acks.delayUs(nowMs), acks.ranges);
    path.recovery.sent.addFrame(Frame.ack, false, 0, 0, acks.largest);
    acks.onAckSent();
    return pos;
  }

  // ---- The session's and its streams' control frames

  #writeControl(out: Uint8Array, at: number): number {
    let pos = at;
    const core = this.#core;
    const { sent } = core.path.recovery;
    if ((core.control & Control.settings) !== 0 && this.#core.payloadEnd - pos >= 64) {
      const { maxStreams, idleTimeoutMs } = core.options;
      const wish = core.tellsScheduler ? [Setting.scheduler, schedulers.indexOf(core.scheduler)] : NO_WISH;
      pos = writeSettings(out, pos, [
        Setting.maxStreams,
        maxStreams,
        Setting.maxData,
        this.#flow.windowBytes,
        Setting.idleTimeoutMs,
        idleTimeoutMs,
        Setting.maxStreamData,
        INITIAL_STREAM_WINDOW_BYTES,
        ...wish,
        ...(core.fec !== undefined && core.isClient ? [Setting.fec, encodeFecPolicy(core.fec.wish.policy)] : []),
      ]);
      core.control &= ~Control.settings;
      sent.addFrame(Frame.settings, false, 0, 0, 0);
    }
    if ((core.control & Control.maxData) !== 0 && this.#core.payloadEnd - pos >= 9) {
      const limit = this.#flow.raiseReceiveMax();
      pos = writeValueFrame(out, pos, Frame.maxData, limit);
      core.control &= ~Control.maxData;
      sent.addFrame(Frame.maxData, false, 0, 0, limit);
    }
    if ((core.control & Control.maxStreams) !== 0 && this.#core.payloadEnd - pos >= 9) {
      const limit = this.#streams.raiseMaxStreams();
      pos = writeValueFrame(out, pos, Frame.maxStreams, limit);
      core.control &= ~Control.maxStreams;
      sent.addFrame(Frame.maxStreams, false, 0, 0, limit);
    }
    if ((core.control & (Control.ping | Control.pong)) !== 0) pos = this.#side.writePings(out, pos);
    if ((core.control & (Control.resolve | Control.resolved)) !== 0) pos = this.#side.writeNames(out, pos);
    return pos;
  }

  /** As many of the stream's control frames as fit. */
  #writeStreamControl(out: Uint8Array, at: number, stream: Stream): number {
    let pos = at;
    const { id } = stream;
    const { sent } = this.#core.path.recovery;
    if (
      (stream.control & StreamControl.connect) !== 0 &&
      this.#core.payloadEnd - pos >= connectSize(stream.target.host.length)
    ) {
      const { kind, port, host } = stream.target;
      pos = writeConnect(out, pos, id, kind === 'tcp' ? 0 : 1, port, host);
      stream.control &= ~StreamControl.connect;
      sent.addFrame(Frame.connect, false, 0, id, 0);
    }
    const from = stream.connectedFrom;
    if ((stream.control & StreamControl.connected) !== 0 && from !== undefined) {
      if (this.#core.payloadEnd - pos >= connectSize(from.address.length)) {
        pos = writeConnected(out, pos, id, from.family, from.address, from.port);
        stream.control &= ~StreamControl.connected;
        sent.addFrame(Frame.connected, false, 0, id, 0);
      }
    }
    if ((stream.control & StreamControl.maxStreamData) !== 0 && this.#core.payloadEnd - pos >= 17) {
      stream.receiveLimit = Math.max(stream.receiveLimit, stream.receive.readOffset + stream.windowBytes);
      pos = writePairFrame(out, pos, Frame.maxStreamData, id, stream.receiveLimit);
      stream.control &= ~StreamControl.maxStreamData;
      sent.addFrame(Frame.maxStreamData, false, 0, id, stream.receiveLimit);
    }
    if ((stream.control & StreamControl.reset) !== 0 && this.#core.payloadEnd - pos >= 25) {
      pos = writeReset(out, pos, id, stream.resetCode, stream.send.next);
      stream.control &= ~StreamControl.reset;
      sent.addFrame(Frame.reset, false, 0, id, 0);
    }
    if ((stream.control & StreamControl.stop) !== 0 && this.#core.payloadEnd - pos >= 17) {
      pos = writePairFrame(out, pos, Frame.stop, id, stream.closeCode);
      stream.control &= ~StreamControl.stop;
      sent.addFrame(Frame.stop, false, 0, id, 0);
    }
    this.#streams.reschedule(stream);
    return pos;
  }

  // ---- Stream data

  #writeUrgent(out: Uint8Array, at: number): number {
    let pos = at;
    const { urgentList } = this.#streams;
    while (urgentList.head !== undefined) {
      const stream = urgentList.head.item;
      const { send } = stream;
      const lost = send.hasLost;
      const offset = lost ? send.lostStart : send.tail;
      const room = this.#core.payloadEnd - pos - streamHeaderSize(stream.id, offset);
      if (room < (lost ? Math.min(MIN_PIECE_BYTES, send.lostLength) : 0)) break;
      const length = lost ? Math.min(send.lostLength, room) : 0;
      const fin = send.finPending && offset + length === send.tail;
      pos = this.#writeStreamFrame(out, pos, stream, offset, length, fin);
      if (lost) send.takeLost(length);
      stream.bytesRetransmitted += length;
      this.#streams.reschedule(stream);
    }
    return pos;
  }

  #writeFresh(out: Uint8Array, at: number): number {
    let pos = at;
    const flow = this.#flow;
    const { freshList } = this.#streams;
    while (freshList.head !== undefined) {
      const stream = freshList.head.item;
      const { send } = stream;
      // How far it runs ahead is looked at when it is put on the list, so by one frame at most beyond the limit.
      const credit = Math.min(flow.sendMax - flow.sentBytes, stream.sendLimit - send.next);
      const left = Math.min(send.tail - send.next, credit);
      const room = this.#core.payloadEnd - pos - streamHeaderSize(stream.id, send.next);
      if (left <= 0 || room < Math.min(MIN_PIECE_BYTES, left)) break;
      const length = Math.min(left, room);
      const offset = send.next;
      const fin = send.finPending && offset + length === send.tail;
      pos = this.#writeStreamFrame(out, pos, stream, offset, length, fin);
      send.next += length;
      flow.sentBytes += length;
      freshList.rotate();
      this.#streams.reschedule(stream);
    }
    return pos;
  }

  #writeStreamFrame(out: Uint8Array, at: number, stream: Stream, offset: number, length: number, fin: boolean): number {
    const { send } = stream;
    const pos = writeStreamHeader(out, at, stream.id, offset, length, fin);
    if (length > 0) send.bytes.copy(offset, out, pos, length);
    if (fin) send.finPending = false;
    this.#core.path.recovery.sent.addFrame(Frame.stream, fin, length, stream.id, offset);
    if (this.#core.scheduler === Scheduler.redundant) this.#copy(stream, offset, length, fin);
    return pos + length;
  }

  // ---- Scheduler `redundant`

  /** Another path is to send it as well. */
  #copy(stream: Stream, offset: number, length: number, fin: boolean): void {
    const { paths, path } = this.#core;
    const other = pathForCopy(path, paths);
    if (other === undefined) return;
    other.copies ??= new CopyQueue();
    other.copies.push(stream.id, offset, length, fin);
    other.host.onWantSend();
  }

  /** Leaves out what has been acknowledged meanwhile; false = nothing is left. */
  #hasCopies(copies: CopyQueue): boolean {
    for (; copies.count > 0; copies.shift()) {
      const stream = this.#streams.get(copies.id);
      if (stream === undefined || stream.aborted) continue;
      const end = copies.offset + copies.length;
      const offset = stream.send.unackedFrom(copies.offset, end);
      if (offset === end && (!copies.fin || stream.send.finAcked)) continue;
      if (offset > copies.offset) copies.cut(offset);
      return true;
    }
    return false;
  }

  #writeCopies(copies: CopyQueue, out: Uint8Array, at: number): number {
    let pos = at;
    const { path } = this.#core;
    for (; this.#hasCopies(copies); copies.shift()) {
      const stream = this.#streams.get(copies.id)!;
      const { send } = stream;
      const { offset } = copies;
      const end = offset + copies.length;
      const room = this.#core.payloadEnd - pos - streamHeaderSize(stream.id, offset);
      if (room < Math.min(MIN_PIECE_BYTES, end - offset)) return pos;
      const length = Math.min(end - offset, room);
      const fin = copies.fin && offset + length === end;
      pos = writeStreamHeader(out, pos, stream.id, offset, length, fin);
      if (length > 0) send.bytes.copy(offset, out, pos, length);
      path.recovery.sent.addFrame(Frame.stream, fin, length, stream.id, offset);
      path.copiedBytes += length;
      pos += length;
      if (offset + length < end) {
        copies.cut(offset + length);
        return pos;
      }
    }
    return pos;
  }
}
