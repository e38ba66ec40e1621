/** What a session sends beside streams: datagrams, PING and PONG, questions for names and their answers. */
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import {
  connectSize,
  datagramHeaderSize,
  Frame,
  OPAQUE_FRAME_BYTES,
  type ResolvedEntry,
  resolvedSize,
  timedDatagramHeaderSize,
  writeDatagramHeader,
  writeOpaqueFrame,
  writeResolve,
  writeResolved,
  writeTimedDatagramHeader,
} from '../wire/frames.ts';
import type { SessionApi } from './contract.ts';
import { DatagramQueue, MAX_SENT_MS } from './datagram-queue.ts';
import { Answers, Questions } from './resolver.ts';
import { Control, type SessionCore } from './session-core.ts';

const MAX_PINGS = 16;
const MAX_PONGS = 8;

interface Ping {
  id: number;
  sentAtMs: number;
  readonly onPong: ((rttMs: number) => void) | undefined;
}

export class SideQueues {
  readonly #core: SessionCore;
  /** Not sent, or not delivered, because their time had passed. */
  datagramsExpired = 0;
  readonly #datagrams: DatagramQueue;
  readonly #pings: Ping[] = [];
  readonly #pingQueue: number[] = [];
  #nextPingId = 1;
  /** Pairs of high and low words. */
  readonly #pongs: number[] = [];
  #questions: Questions | undefined;
  #answers: Answers | undefined;

  constructor(core: SessionCore) {
    this.#core = core;
    this.#datagrams = new DatagramQueue((flowId) => {
      this.datagramsExpired++;
      core.host.onDatagramExpired?.(flowId, true);
    });
  }

  // ---- Datagrams

  get hasDatagrams(): boolean {
    this.#datagrams.expire(this.#core.nowMs, this.#core.sessionMs);
    return this.#datagrams.next !== undefined;
  }

  /** What the next datagram takes of a payload; 0 = there is none. */
  get nextDatagramBytes(): number {
    const { next } = this.#datagrams;
    return next === undefined ? 0 : this.#headerSize(next.flowId, next.lifetimeMs, next.sentMs) + next.data.length;
  }

  get datagramBytes(): number {
    return this.#datagrams.bytes;
  }

  /** Copies `data`; false when the queue is full, or has enough of this flow, or no payload could hold it. */
  addDatagram(flowId: number, data: Uint8Array, lifetimeMs: number): boolean {
    if (!this.#datagrams.hasRoom(flowId)) return false;
    if (this.#headerSize(flowId, lifetimeMs, MAX_SENT_MS) + data.length > PAYLOAD_BYTES) return false;
    this.#datagrams.add(flowId, data, lifetimeMs);
    this.#core.wakeAll();
    return true;
  }

  #headerSize(flowId: number, lifetimeMs: number, sentMs: number): number {
    return this.#isTimed(lifetimeMs) ? timedDatagramHeaderSize(flowId, sentMs, lifetimeMs) : datagramHeaderSize(flowId);
  }

  #isTimed(lifetimeMs: number): boolean {
    return lifetimeMs > 0 && this.#core.fec?.takesTimed === true;
  }

  writeDatagrams(out: Uint8Array, at: number): number {
    let pos = at;
    // Looked at before each one: who may wait long can stand in front of one whose time is over.
    while (this.hasDatagrams) {
      const { flowId, data, lifetimeMs, sentMs } = this.#datagrams.next!;
      if (this.#core.payloadEnd - pos < this.nextDatagramBytes) break;
      pos = this.#isTimed(lifetimeMs)
        ? writeTimedDatagramHeader(out, pos, flowId, sentMs, lifetimeMs, data.length)
        : writeDatagramHeader(out, pos, flowId, data.length);
      out.set(data, pos);
      pos += data.length;
      this.#datagrams.taken();
      this.#core.path.recovery.sent.addFrame(Frame.datagram, false, 0, flowId, 0);
    }
    return pos;
  }

  // ---- PING and PONG

  /** The id of a PING that nobody waits for. */
  takePingId(): number {
    return this.#nextPingId++ >>> 0;
  }

  addPing(onPong: (rttMs: number) => void): void {
    const id = this.takePingId();
    if (this.#pings.length >= MAX_PINGS) this.#pings.shift();
    this.#pings.push({ id, sentAtMs: -1, onPong });
    this.#pingQueue.push(id);
    this.#core.want(Control.ping);
  }

  /** A lost PING goes again under a new id, so that its time starts anew. */
  onPingLost(id: number): void {
    const ping = this.#pings.find((candidate) => candidate.id === id);
    if (ping === undefined) return;
    ping.id = this.takePingId();
    ping.sentAtMs = -1;
    this.#pingQueue.push(ping.id);
    this.#core.control |= Control.ping;
  }

  addPong(high: number, low: number): void {
    if (this.#pongs.length >= 2 * MAX_PONGS) this.#pongs.splice(0, 2);
    this.#pongs.push(high, low);
    this.#core.control |= Control.pong;
  }

  onPong(high: number, low: number): void {
    if (high !== 0) return;
    const index = this.#pings.findIndex((ping) => ping.id === low && ping.sentAtMs >= 0);
    if (index < 0) return;
    const [ping] = this.#pings.splice(index, 1);
    ping?.onPong?.(this.#core.nowMs - ping.sentAtMs);
  }

  writePings(out: Uint8Array, at: number): number {
    let pos = at;
    const { sent } = this.#core.path.recovery;
    while (this.#pongs.length > 0 && this.#core.payloadEnd - pos >= OPAQUE_FRAME_BYTES) {
      const high = this.#pongs.shift()!;
      const low = this.#pongs.shift()!;
      pos = writeOpaqueFrame(out, pos, Frame.pong, high, low);
      sent.addFrame(Frame.pong, false, 0, high, low);
    }
    while (this.#pingQueue.length > 0 && this.#core.payloadEnd - pos >= OPAQUE_FRAME_BYTES) {
      const id = this.#pingQueue.shift()!;
      const ping = this.#pings.find((candidate) => candidate.id === id);
      if (ping !== undefined) ping.sentAtMs = this.#core.nowMs;
      pos = writeOpaqueFrame(out, pos, Frame.ping, 0, id);
      sent.addFrame(Frame.ping, false, 0, id, 0);
    }
    if (this.#pongs.length === 0) this.#core.control &= ~Control.pong;
    if (this.#pingQueue.length === 0) this.#core.control &= ~Control.ping;
    return pos;
  }

  // ---- Names

  /** Client: false when too many questions are open. */
  ask(kind: number, value: string, onResult: Parameters<SessionApi['resolve']>[2]): boolean {
    this.#questions ??= new Questions();
    if (!this.#questions.ask(kind, value, onResult)) return false;
    this.#core.want(Control.resolve);
    return true;
  }

  /** Client: the peer's answer; false = nobody asked, a broken peer. */
  onAnswer(id: number, status: number, entries: readonly ResolvedEntry[]): boolean {
    if (this.#questions === undefined || this.#questions.neverAsked(id)) return false;
    this.#questions.answer(id, status, entries);
    return true;
  }

  /** Server: the peer asks; as Answers.onQuestion. */
  onQuestion(id: number): 'new' | 'known' | 'tooMany' {
    this.#answers ??= new Answers();
    return this.#answers.onQuestion(id);
  }

  /** Server: unknown and answered ids are ignored. */
  answer(id: number, status: number, entries: ResolvedEntry[]): void {
    if (this.#answers?.answer(id, status, entries)) this.#core.want(Control.resolved);
  }

  onAnswerAcked(id: number): void {
    this.#answers?.onAcked(id);
  }

  onQuestionLost(id: number): void {
    this.#questions?.onLost(id);
    this.#core.control |= Control.resolve;
  }

  onAnswerLost(id: number): void {
    this.#answers?.onLost(id);
    this.#core.control |= Control.resolved;
  }

  writeNames(out: Uint8Array, at: number): number {
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
        if (this.#core.payloadEnd - pos < connectSize(question.value.length)) return pos;
        pos = writeResolve(out, pos, id, question.kind, question.value);
        this.#core.path.recovery.sent.addFrame(Frame.resolve, false, 0, id, 0);
      }
      queue.shift();
    }
    this.#core.control &= ~Control.resolve;
    return pos;
  }

  #writeAnswers(out: Uint8Array, at: number, answers: Answers): number {
    let pos = at;
    const { queue } = answers;
    while (queue.length > 0) {
      const id = queue[0]!;
      const answer = answers.get(id);
      if (answer !== undefined) {
        if (this.#core.payloadEnd - pos < resolvedSize(answer.entries)) return pos;
        pos = writeResolved(out, pos, id, answer.status, answer.entries);
        this.#core.path.recovery.sent.addFrame(Frame.resolved, false, 0, id, 0);
      }
      queue.shift();
    }
    this.#core.control &= ~Control.resolved;
    return pos;
  }

  // ---- The end

  /** The session is over; questions are told by failQuestions. */
  clear(): void {
    this.#datagrams.clear();
    this.#pings.length = 0;
    this.#answers?.clear();
  }

  failQuestions(code: number): void {
    this.#questions?.failAll(code);
  }
}
