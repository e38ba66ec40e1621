/** The streams of a session: which there are and may be, which have something to send, and how they end. */
import type { StreamTarget } from './contract.ts';
import { SessionError } from './contract.ts';
import type { FlowControl } from './flow-control.ts';
import { LinkedList } from './linked-list.ts';
import { RangeSet } from './ranges.ts';
import { Control, type SessionCore } from './session-core.ts';
import { INITIAL_MAX_STREAMS, INITIAL_STREAM_WINDOW_BYTES } from './session-options.ts';
import { Stream, StreamControl, StreamEvent, type StreamOwner } from './stream.ts';
import type { StreamEvents } from './stream-events.ts';

/** A queue of this length is through the path in a moment: what it holds is a message and not a transfer. */
const SHORT_QUEUE_BYTES = 32 * 1024;
/** Streams that are looked at before it is taken for granted that all are transfers. */
const LOOKED_AT = 8;

export class StreamTable implements StreamOwner {
  readonly sendBufferBytes: number;
  blockedWriters = 0;
  /** Those with control frames to send, with lost data or a lone FIN, and with fresh data. */
  readonly controlList = new LinkedList<Stream>();
  readonly urgentList = new LinkedList<Stream>();
  readonly freshList = new LinkedList<Stream>();
  /** Client: the next id to open and the bound the peer gave. */
  nextId = 0;
  peerMaxStreams = INITIAL_MAX_STREAMS;
  closedCount = 0;
  readonly #core: SessionCore;
  readonly #flow: FlowControl;
  readonly #events: StreamEvents;
  readonly #streams = new Map<number, Stream>();
  #last: Stream | undefined;
  /** Server: ids that are over, and the bound we gave. */
  readonly #closedIds: RangeSet;
  #ourMaxStreams: number;

  constructor(core: SessionCore, flow: FlowControl, events: StreamEvents) {
    this.#core = core;
    this.#flow = flow;
    this.#events = events;
    const { maxStreams, sendBufferBytes } = core.options;
    this.sendBufferBytes = sendBufferBytes;
    this.#ourMaxStreams = maxStreams;
    this.#closedIds = new RangeSet(maxStreams + 2 * INITIAL_MAX_STREAMS);
  }

  get size(): number {
    return this.#streams.size;
  }

  get heldBytes(): number {
    let bytes = 0;
    for (const stream of this.#streams.values()) bytes += stream.heldBytes;
    return bytes;
  }

  /** The most that one of them holds out of order. */
  get reorderedBytes(): number {
    let most = 0;
    for (const { receive } of this.#streams.values()) most = Math.max(most, receive.highest - receive.contiguous);
    return most;
  }

  /** Some stream has so little to send that its reader waits for the end of it. */
  get hasShortQueue(): boolean {
    return isShort(this.freshList) || isShort(this.urgentList);
  }

  /** Client. Undefined at the peer's limit. */
  open(target: StreamTarget): Stream | undefined {
    if (this.nextId >= this.peerMaxStreams) return undefined;
    const stream = this.#create(this.nextId++);
    stream.target = target;
    stream.opened = true;
    stream.control = StreamControl.connect;
    this.update(stream);
    return stream;
  }

  get(id: number): Stream | undefined {
    return this.#streams.get(id);
  }

  /** The stream a frame of the peer is about; undefined = over already, or (session then closing) not allowed. */
  ofPeer(id: number): Stream | undefined {
    if (this.#last !== undefined && this.#last.id === id) return this.#last;
    const known = this.#streams.get(id);
    if (known !== undefined) {
      this.#last = known;
      return known;
    }
    if (this.#core.isClient) {
      if (id >= this.nextId) this.#core.violation('stream that was never opened');
      return undefined;
    }
    if (id >= Math.max(this.#ourMaxStreams, INITIAL_MAX_STREAMS)) {
      this.#core.violation('more streams than allowed');
      return undefined;
    }
    if (this.#closedIds.has(id)) return undefined;
    const stream = this.#create(id);
    // More than we allow, opened before the client knew.
    if (this.#streams.size > this.#core.options.maxStreams) this.resetStream(stream, SessionError.limit);
    return stream;
  }

  #create(id: number): Stream {
    const { peerStreamWindow } = this.#flow;
    const stream = new Stream(id, this, peerStreamWindow, INITIAL_STREAM_WINDOW_BYTES, this.#core.nowMs);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Server: the limit in the last MAX_STREAMS. */
  get ourMaxStreams(): number {
    return this.#ourMaxStreams;
  }

  /** Server: the limit to announce now. */
  raiseMaxStreams(): number {
    this.#ourMaxStreams = this.closedCount + this.#core.options.maxStreams;
    return this.#ourMaxStreams;
  }

  /** The peer's SETTINGS: what every stream may send at least. */
  raiseSendLimits(value: number): void {
    if (value <= this.#flow.peerStreamWindow) return;
    this.#flow.peerStreamWindow = value;
    for (const stream of this.#streams.values()) {
      if (value > stream.sendLimit) {
        stream.sendLimit = value;
        this.reschedule(stream);
      }
    }
  }

  /** Called by streams: written, ended, connected. */
  update(stream: Stream): void {
    if (this.reschedule(stream)) this.#core.wakeAll();
  }

  /** Puts the stream on the lists it belongs to; true when it came onto one. */
  reschedule(stream: Stream): boolean {
    const { send } = stream;
    let added = false;
    if (stream.control !== 0) {
      added = !stream.controlNode.listed;
      this.controlList.add(stream.controlNode);
    } else {
      this.controlList.remove(stream.controlNode);
    }
    const fresh = send.next < send.tail;
    if (send.hasLost || (send.finPending && !fresh)) {
      added ||= !stream.urgentNode.listed;
      this.urgentList.add(stream.urgentNode);
    } else {
      this.urgentList.remove(stream.urgentNode);
    }
    const ahead = fresh && send.next < stream.sendLimit;
    stream.held = ahead && send.next - send.base >= this.#core.reorderLimitBytes;
    if (ahead && !stream.held) {
      added ||= !stream.freshNode.listed;
      this.freshList.add(stream.freshNode);
    } else {
      this.freshList.remove(stream.freshNode);
    }
    return added;
  }

  #unlist(stream: Stream): void {
    this.controlList.remove(stream.controlNode);
    this.urgentList.remove(stream.urgentNode);
    this.freshList.remove(stream.freshNode);
  }

  /** Some stream has data to send that may go now. */
  get hasData(): boolean {
    return this.urgentList.head !== undefined || (this.freshList.head !== undefined && this.#flow.hasCredit);
  }

  /** Stream data that may be sent now, about. */
  readonly queuedBytes = (): number => {
    let bytes = 0;
    for (let node = this.freshList.head; node !== undefined; node = node.next) {
      const { send, sendLimit } = node.item;
      bytes += Math.min(send.tail, sendLimit) - send.next;
    }
    return Math.min(bytes, this.#flow.sendMax - this.#flow.sentBytes);
  };

  onRead(stream: Stream, length: number): void {
    this.#flow.consume(length);
    const buffer = stream.receive;
    if (buffer.finalSize < 0) this.#openWindow(stream);
    else if (buffer.ended && stream.sendDone) {
      // Told at the next handle or poll: the reader is still busy with what it just read.
      this.finishIfDone(stream);
      this.#core.wakeAll();
    }
  }

  /** Announces a stream's new limit when it is worth a frame, and lets the window grow with its reader. */
  #openWindow(stream: Stream): void {
    const { readOffset } = stream.receive;
    if (readOffset + stream.windowBytes - stream.receiveLimit < stream.windowBytes / 4) return;
    this.#flow.growWindow(stream, this.#streams.size);
    const limit = readOffset + stream.windowBytes;
    if (limit <= stream.receiveLimit) return;
    stream.control |= StreamControl.maxStreamData;
    this.update(stream);
  }

  /** Counts data of an abandoned stream as received and read. */
  discardUpTo(stream: Stream, end: number): void {
    const buffer = stream.receive;
    const growth = end - buffer.highest;
    if (growth <= 0) return;
    buffer.highest = end;
    buffer.clear();
    this.#flow.receivedBytes += growth;
    this.#flow.consume(growth);
  }

  resetStream(stream: Stream, code: number): void {
    this.abort(stream, code, false);
    stream.control |= StreamControl.stop;
    this.reschedule(stream);
    this.finishIfDone(stream);
    this.#core.wakeAll();
    if (!this.#core.inHandle) this.#events.dispatch();
  }

  /** Ends both directions at once and frees what they hold. */
  abort(stream: Stream, code: number, remote: boolean): void {
    if (stream.aborted) return;
    stream.aborted = true;
    stream.forgetWriter();
    const unread = stream.receive.highest - stream.receive.readOffset;
    stream.receive.clear();
    if (unread > 0) this.#flow.consume(unread);
    stream.control = 0;
    if (!stream.sendDone) {
      stream.resetCode = code;
      stream.control = StreamControl.reset;
      stream.send.clear();
    }
    this.reschedule(stream);
    this.#tellClosed(stream, code, remote);
  }

  /** Forgets the stream when both directions are over. */
  finishIfDone(stream: Stream): void {
    if (!stream.sendDone || !stream.receiveDone || !this.#streams.delete(stream.id)) return;
    if (this.#last === stream) this.#last = undefined;
    stream.forgetWriter();
    stream.control = 0;
    this.#unlist(stream);
    this.#flow.forgetWindow(stream);
    this.closedCount++;
    if (!this.#core.isClient) {
      this.#closedIds.insert(stream.id, stream.id + 1);
      const { maxStreams } = this.#core.options;
      if (this.closedCount + maxStreams - this.#ourMaxStreams >= maxStreams / 4) this.#core.want(Control.maxStreams);
    }
    this.#tellClosed(stream, SessionError.noError, false);
  }

  /** The session is over: all of them end, and what they hold is freed. */
  endAll(code: number, remote: boolean): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    this.#last = undefined;
    for (const stream of streams) {
      stream.aborted = true;
      stream.forgetWriter();
      stream.control = 0;
      stream.send.clear();
      stream.receive.clear();
      this.#unlist(stream);
      this.#tellClosed(stream, code, remote);
    }
  }

  #tellClosed(stream: Stream, code: number, remote: boolean): void {
    if (stream.closeTold || (stream.events & StreamEvent.closed) !== 0) return;
    stream.closeCode = code;
    stream.closeRemote = remote;
    this.#events.add(stream, StreamEvent.closed);
  }
}

function isShort(list: LinkedList<Stream>): boolean {
  let looked = 0;
  for (let node = list.head; node !== undefined && looked < LOOKED_AT; node = node.next) {
    const { send } = node.item;
    if (send.tail - send.next <= SHORT_QUEUE_BYTES) return true;
    looked++;
  }
  return false;
}
