/** What becomes of the frames that were sent: loss detection of their path says acknowledged or lost. */
import { Frame } from '../wire/frames.ts';
import type { FlowControl } from './flow-control.ts';
import { Control, type SessionCore } from './session-core.ts';
import { PathState, type SessionPath } from './session-path.ts';
import type { SessionPaths } from './session-paths.ts';
import type { SideQueues } from './side-queues.ts';
import { StreamControl, StreamEvent } from './stream.ts';
import type { StreamEvents } from './stream-events.ts';
import type { StreamTable } from './stream-table.ts';

/** Parts of the session that frames came from. */
export interface FateParts {
  readonly core: SessionCore;
  readonly paths: SessionPaths;
  readonly flow: FlowControl;
  readonly streams: StreamTable;
  readonly events: StreamEvents;
  readonly side: SideQueues;
}

export class FrameFate {
  readonly #core: SessionCore;
  readonly #paths: SessionPaths;
  readonly #flow: FlowControl;
  readonly #streams: StreamTable;
  readonly #events: StreamEvents;
  readonly #side: SideQueues;

  constructor({ core, paths, flow, streams, events, side }: FateParts) {
    this.#core = core;
    this.#paths = paths;
    this.#flow = flow;
    this.#streams = streams;
    this.#events = events;
    this.#side = side;
  }

  onAcked(path: SessionPath, kind: number, fin: boolean, length: number, id: number, offset: number): void {
    const streams = this.#streams;
    switch (kind) {
      case Frame.stream: {
        const stream = streams.get(id);
        // After our RESET only its own ACK ends the stream.
        if (stream === undefined || stream.aborted) return;
        stream.bytesAcked += stream.send.onAcked(offset, length, fin);
        if (stream.urgentNode.listed || stream.held) streams.reschedule(stream);
        if (stream.takeWritable()) this.#events.add(stream, StreamEvent.writable);
        if (stream.send.done) streams.finishIfDone(stream);
        return;
      }
      case Frame.crypto:
        path.crypto.send.onAcked(offset, length, false);
        return;
      case Frame.ack:
        path.acks.onAckAcked(offset, this.#core.nowMs, path.recovery.rtt.expectedMs);
        return;
      case Frame.attach:
        this.#paths.onAttachAcked(path);
        return;
      case Frame.resolved:
        this.#side.onAnswerAcked(id);
        return;
    }
    const bit = streamControlOf(kind);
    if (bit === 0) return;
    const stream = streams.get(id);
    if (stream === undefined) return;
    if (kind !== Frame.maxStreamData) stream.controlAcked |= bit;
    if (kind === Frame.reset) {
      stream.control &= ~StreamControl.reset;
      streams.reschedule(stream);
      streams.finishIfDone(stream);
    }
  }

  onLost(path: SessionPath, kind: number, fin: boolean, length: number, id: number, offset: number): void {
    const streams = this.#streams;
    switch (kind) {
      case Frame.stream: {
        const stream = streams.get(id);
        if (stream === undefined || stream.aborted) return;
        stream.send.onLost(offset, length, fin);
        streams.reschedule(stream);
        return;
      }
      case Frame.crypto:
        path.crypto.send.onLost(offset, length, false);
        return;
      case Frame.attach:
        path.attachDue = path.state === PathState.attaching;
        return;
      case Frame.pathChallenge:
        path.ownChallengeDue = path.ownChallenge !== undefined;
        return;
      case Frame.settings:
        this.#core.control |= Control.settings;
        return;
      case Frame.maxData:
        if (offset === this.#flow.receiveMax) this.#core.control |= Control.maxData;
        return;
      case Frame.maxStreams:
        if (offset === streams.ourMaxStreams) this.#core.control |= Control.maxStreams;
        return;
      case Frame.ping:
        this.#side.onPingLost(id);
        return;
      case Frame.pong:
        this.#side.addPong(id, offset);
        return;
      case Frame.resolve:
        this.#side.onQuestionLost(id);
        return;
      case Frame.resolved:
        this.#side.onAnswerLost(id);
        return;
    }
    const bit = streamControlOf(kind);
    if (bit === 0) return;
    const stream = streams.get(id);
    if (stream === undefined || (stream.controlAcked & bit) !== 0) return;
    // Only the last limit counts, and an abandoned stream repeats nothing but its end.
    if (kind === Frame.maxStreamData && (offset !== stream.receiveLimit || stream.receive.finalSize >= 0)) return;
    if (stream.aborted && kind !== Frame.reset && kind !== Frame.stop) return;
    stream.control |= bit;
    streams.reschedule(stream);
  }
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
