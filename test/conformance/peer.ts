/** A peer of the implementation under test: one UDP socket, handshakes, links and circuits of one hop, made of codec.ts. */
import { createSocket, type Socket } from 'node:dgram';
import {
  type Bytes,
  bytes,
  type Control,
  cellKeys,
  concat,
  controlPlaintext,
  DATAGRAM,
  type Dh,
  equal,
  FRAGMENT,
  freshChain,
  freshSecret,
  type HandshakeFields,
  HandshakeType,
  type Header,
  handshakeDatagram,
  handshakeHeader,
  type Init,
  type LinkKeys,
  makeInit,
  makeTrain,
  maskCell,
  nonceOf,
  number,
  open,
  openResponse,
  PAYLOAD,
  type ReadControl,
  random,
  readControl,
  readHandshake,
  readVarint,
  seal,
  type Train,
  tailOf,
  unmaskCell,
  varint,
} from './codec.ts';

/** What a peer knows of the target, from its descriptor. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly nodeId: Uint8Array;
  readonly linkX25519: Uint8Array;
  readonly linkKem: Uint8Array;
  readonly epoch: number;
  readonly mixX25519: Uint8Array;
  readonly mixKem: Uint8Array;
  /** Ed25519 key that its NodeID is the hash of. */
  readonly identity: Uint8Array;
  /** Set-ups a second that it takes without a puzzle; undefined: not told, then as our own. */
  readonly setupsPerSecond: number | undefined;
  /** What its descriptor claims; undefined: nothing. */
  readonly compliance: 'core' | 'plus' | 'full' | undefined;
  /** Class cmix: by its view's rules, and how long it lets the first cell of a batch wait for others. */
  readonly cmixCells: number;
  readonly cmixDelayMs: number;
  readonly cmixWaitMs: number;
}

/** Loopback answers within a millisecond or two; a busy machine may take its time. Nothing is found out by waiting in vain. */
export const patience = { ms: 10_000 };
/** Between two inits of one handshake. */
const REPEAT_MS = 500;
const zeroId = bytes(4);
/** A message type that nobody knows: it is taken and skipped. */
const NOTHING = 200;

export class Peer {
  readonly target: Target;
  readonly #socket: Socket;
  readonly #inboxes = new Map<number, Uint8Array[]>();
  /** Where it sends; a node of the suite's own answers there where it was asked from. */
  remote: { readonly host: string; readonly port: number };
  #waiting: (() => void) | undefined;

  private constructor(target: Target, socket: Socket) {
    this.target = target;
    this.#socket = socket;
    this.remote = target;
    socket.on('message', (datagram, { address, port }) => {
      if (datagram.readInt32BE(0) === 0) this.remote = { host: address, port };
      const inbox = this.#inboxes.get(datagram.readInt32BE(0));
      inbox?.push(new Uint8Array(datagram));
      this.#waiting?.();
    });
  }

  static async open(target: Target, port = 0): Promise<Peer> {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(port, '127.0.0.1', resolve));
    return new Peer(target, socket);
  }

  close(): void {
    this.#socket.close();
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Takes handshake datagrams, which come under id 0. */
  accept(): void {
    this.#inboxes.set(0, []);
  }

  /** A receive link id of ours; what comes under it is kept. */
  newId(): Bytes {
    const id = random(4);
    id[0]! |= 1;
    this.#inboxes.set(idNumber(id), []);
    return id;
  }

  forget(id: Uint8Array): void {
    this.#inboxes.delete(idNumber(id));
  }

  send(datagram: Uint8Array): void {
    this.#socket.send(datagram, this.remote.port, this.remote.host);
  }

  /** Takes what has come under one of the ids; undefined when nothing comes in time. */
  async next(ids: readonly Uint8Array[], patienceMs = patience.ms): Promise<Uint8Array | undefined> {
    const endMs = performance.now() + patienceMs;
    for (;;) {
      for (const id of ids) {
        const datagram = this.#inboxes.get(idNumber(id))?.shift();
        if (datagram !== undefined) return datagram;
      }
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#waiting = undefined;
    }
  }

  /** How much has come under this id and was not taken. */
  count(id: Uint8Array): number {
    return this.#inboxes.get(idNumber(id))?.length ?? 0;
  }

  /** The two datagrams of an init. */
  fragments(init: Uint8Array, handshakeId: Uint8Array, cookie?: Uint8Array): [Bytes, Bytes] {
    const padded = concat(init, random(2 * FRAGMENT - init.length));
    return [0, 1].map((index) =>
      handshakeDatagram(
        this.target.linkX25519,
        zeroId,
        handshakeHeader(HandshakeType.init, index, 2, handshakeId),
        padded.subarray(index * FRAGMENT, (index + 1) * FRAGMENT),
        cookie,
      ),
    ) as [Bytes, Bytes];
  }
}

export interface Attempt {
  readonly id: Bytes;
  readonly handshakeId: Bytes;
  readonly init: Init;
  readonly datagrams: readonly [Bytes, Bytes];
}

/** An init that is ready to go. */
export function attempt(peer: Peer, staticKey?: Dh): Attempt {
  const id = peer.newId();
  const handshakeId = concat(id, random(4));
  const init = makeInit(peer.target, {
    linkId: id,
    staticKey,
    nodeId: staticKey && random(32),
    timestampMs: Date.now(),
  });
  return { id, handshakeId, init, datagrams: peer.fragments(init.message, handshakeId) };
}

/** The answer to an init, unmasked; undefined when there is none in time. */
export async function answerTo(
  peer: Peer,
  { id, init }: Attempt,
  patienceMs = patience.ms,
): Promise<HandshakeFields | undefined> {
  const datagram = await peer.next([id], patienceMs);
  return datagram && readHandshake(init.e.publicKey, datagram);
}

/** What a link gives its circuit cells to. */
export interface CellTaker {
  take(header: Header, cell: Bytes): void;
}

/** Keeps the cells of one circuit's direction as they come. */
export class CellInbox implements CellTaker {
  readonly cells: { readonly header: Header; readonly cell: Bytes }[] = [];
  readonly #link: TestLink;
  readonly #cid: Uint8Array;

  constructor(link: TestLink, cid: Uint8Array) {
    this.#link = link;
    this.#cid = cid;
    link.circuits.add(this);
  }

  take(header: Header, cell: Bytes): void {
    if (equal(header.cid, this.#cid)) this.cells.push({ header, cell });
  }

  async next(patienceMs = patience.ms): Promise<{ readonly header: Header; readonly cell: Bytes } | undefined> {
    await this.#link.until(() => this.cells.length > 0, patienceMs);
    return this.cells.shift();
  }
}

export class TestLink {
  readonly peer: Peer;
  keys: LinkKeys;
  peerId: Uint8Array;
  /** Receive ids and the keys for each. */
  readonly receive: { id: Bytes; keys: LinkKeys }[];
  counter = 0;
  nextSeq = 0;
  /** Of the target's segments: next expected. */
  #expected = 0;
  readonly #early = new Map<number, Bytes>();
  #stream: Bytes = bytes(0);
  readonly messages: { type: number; body: Bytes }[] = [];
  readonly controls: (ReadControl & { readonly header: Header })[] = [];
  readonly circuits = new Set<CellTaker>();
  /** Whether each segment is acknowledged at once; else only what a case has waited for. */
  acks = false;
  /** Packets of the message lane that came. */
  readonly packets: Bytes[] = [];
  #messageCounter = 0;

  constructor(peer: Peer, id: Bytes, keys: LinkKeys, peerId: Uint8Array) {
    this.peer = peer;
    this.keys = keys;
    this.peerId = peerId;
    this.receive = [{ id, keys }];
  }

  static async open(peer: Peer, staticKey?: Dh): Promise<TestLink> {
    const tried = attempt(peer, staticKey);
    const endMs = performance.now() + patience.ms;
    let answer: HandshakeFields | undefined;
    // As initiators do: a datagram can be lost on a machine that is busy.
    while (answer === undefined && performance.now() < endMs) {
      for (const datagram of tried.datagrams) peer.send(datagram);
      answer = await answerTo(peer, tried, Math.min(REPEAT_MS, patience.ms));
    }
    if (answer === undefined) throw new Error('the handshake was not answered');
    const response = openResponse(tried.init, answer.fragment);
    if (response === undefined) throw new Error("the handshake's response does not open");
    const link = new TestLink(peer, tried.id, response.keys, response.peerLinkId);
    if ((await link.ping()) === undefined) throw new Error('the first ping on a link was not answered');
    return link;
  }

  /** A control cell, ready to be sent or spoilt. The counter is used up unless one is given. */
  cell(fields: Control, header: Partial<Header> = {}, keys = this.keys, peerId = this.peerId): Bytes {
    const { type = 1, path = 0, counter = this.counter++, cid = keys.out.cid } = header;
    const ad = Uint8Array.of(type, path);
    const plaintext = controlPlaintext({ cumulative: this.#expected, ...fields });
    return maskCell(
      keys.out.hp,
      peerId,
      { cid, counter, type, path },
      seal(keys.out.control, nonceOf(counter), ad, plaintext),
    );
  }

  /** A cell of the message lane, ready to be sent or spoilt. */
  messageCell(packet: Uint8Array, header: Partial<Header> = {}): Bytes {
    const { type = 4, path = 0, counter = this.#messageCounter++, cid = this.keys.out.messageCid } = header;
    const sealed = seal(this.keys.out.message, nonceOf(counter), Uint8Array.of(type, path), packet);
    return maskCell(this.keys.out.hp, this.peerId, { cid, counter, type, path }, sealed);
  }

  /** A cell of a circuit. */
  circuitCell(header: Header, cell: Uint8Array): Bytes {
    return maskCell(this.keys.out.hp, this.peerId, header, cell);
  }

  /** CLOSE: the target is to forget the link, with all that it still has to say on it. */
  close(): void {
    this.message(6, Uint8Array.of(0));
    for (const { id } of this.receive) this.peer.forget(id);
  }

  async nextPacket(patienceMs = patience.ms): Promise<Bytes | undefined> {
    await this.until(() => this.packets.length > 0, patienceMs);
    return this.packets.shift();
  }

  control(fields: Control, header: Partial<Header> = {}): void {
    this.peer.send(this.cell({ ...fields, flags: fields.flags | 4 }, header));
  }

  /** Sends a message in segments, and takes nothing in meanwhile. */
  message(type: number, body: Uint8Array): void {
    const stream = concat(Uint8Array.of(type), number(body.length, 3), body);
    for (let at = 0; at < stream.length; at += 1216) {
      this.control({ flags: 1, seq: this.nextSeq++, data: stream.subarray(at, at + 1216) });
    }
  }

  /**
   * A ping that brings the next segment along, and the ack that speaks of it: by then the target has dealt with every
   * cell sent before. Undefined when there is none.
   */
  async ping(patienceMs = patience.ms): Promise<ReadControl | undefined> {
    this.controls.length = 0;
    this.control({ flags: 3, seq: this.nextSeq++, data: concat(Uint8Array.of(NOTHING), bytes(3)) });
    return await this.ack(({ cumulative }) => cumulative === this.nextSeq, patienceMs);
  }

  /** An ack of which that holds. */
  async ack(holds: (control: ReadControl) => boolean, patienceMs = patience.ms): Promise<ReadControl | undefined> {
    const find = () => this.controls.find((control) => (control.flags & 4) !== 0 && holds(control));
    await this.until(() => find() !== undefined, patienceMs);
    return find();
  }

  /** Takes in datagrams until that is so; false when it does not become so in time. */
  async until(done: () => boolean, patienceMs = patience.ms): Promise<boolean> {
    const endMs = performance.now() + patienceMs;
    while (!done()) {
      const datagram = await this.peer.next(
        this.receive.map(({ id }) => id),
        Math.max(0, endMs - performance.now()),
      );
      if (datagram === undefined) return done();
      this.#take(datagram);
    }
    return true;
  }

  /** `begin`: a CID, or whatever else it begins with. */
  async nextMessage(type: number, begin?: Uint8Array, patienceMs = patience.ms): Promise<Bytes | undefined> {
    const begins = (body: Uint8Array) => begin === undefined || equal(body.subarray(0, begin.length), begin);
    const find = () => this.messages.findIndex((message) => message.type === type && begins(message.body));
    await this.until(() => find() >= 0, patienceMs);
    const at = find();
    if (at < 0) return undefined;
    // Says that it has come, or it would come again.
    this.control({ flags: 0 });
    return this.messages.splice(at, 1)[0]!.body;
  }

  #take(datagram: Uint8Array): void {
    if (datagram.length !== DATAGRAM) throw new Error(`a datagram of ${datagram.length} bytes came`);
    const slot = this.receive.find(({ id }) => equal(id, datagram.subarray(0, 4)))!;
    const { cell, ...header } = unmaskCell(slot.keys.in.hp, datagram);
    if (equal(header.cid, slot.keys.in.messageCid)) {
      const ad = Uint8Array.of(header.type, header.path);
      const packet = open(slot.keys.in.message, nonceOf(header.counter), ad, cell);
      if (packet === undefined || header.type !== 4)
        throw new Error('a cell of the message lane came that does not open');
      this.packets.push(packet);
      return;
    }
    if (!equal(header.cid, slot.keys.in.cid)) {
      for (const circuit of this.circuits) circuit.take(header, cell);
      return;
    }
    const plaintext = open(
      slot.keys.in.control,
      nonceOf(header.counter),
      Uint8Array.of(header.type, header.path),
      cell,
    );
    if (plaintext === undefined) throw new Error('a control cell came that does not open');
    const control = readControl(plaintext);
    this.controls.push({ ...control, header });
    if ((control.flags & 1) !== 0) this.#takeSegment(control);
    if (this.acks && (control.flags & 3) !== 0) this.control({ flags: 0 });
  }

  #takeSegment(control: ReadControl): void {
    if (control.seq >= this.#expected) this.#early.set(control.seq, control.data);
    for (let data = this.#early.get(this.#expected); data !== undefined; data = this.#early.get(this.#expected)) {
      this.#early.delete(this.#expected++);
      this.#stream = concat(this.#stream, data);
    }
    while (this.#stream.length >= 4) {
      const length = this.#stream[1]! * 65_536 + this.#stream[2]! * 256 + this.#stream[3]!;
      if (this.#stream.length < 4 + length) return;
      this.messages.push({ type: this.#stream[0]!, body: this.#stream.slice(4, 4 + length) });
      this.#stream = this.#stream.slice(4 + length);
    }
  }
}

/** What came back in one payload. */
export interface Frame {
  readonly type: number;
  readonly fields: readonly number[];
  readonly data: Uint8Array;
}

export interface CircuitOptions {
  readonly train: Train;
  readonly forwardStart: number;
  readonly backwardStart: number;
}

export class TestCircuit {
  readonly link: TestLink;
  readonly forwardCid = random(12);
  readonly backwardCid = random(12);
  readonly options: CircuitOptions;
  /** Forward and backward: present chains; `fresh` once the reply is in. */
  readonly chains: [Bytes, Bytes];
  fresh: [Bytes, Bytes] | undefined;
  /** Of the fresh exchange. */
  shared: Bytes | undefined;
  index = 0;
  reply: Uint8Array | undefined;
  readonly frames: Frame[] = [];
  readonly tails: boolean[] = [];
  readonly indices: number[] = [];

  constructor(link: TestLink, options: CircuitOptions) {
    this.link = link;
    this.options = options;
    this.chains = [...options.train.chains];
    link.circuits.add(this);
  }

  static build(link: TestLink, route: Uint8Array, starts = { forwardStart: 0, backwardStart: 0 }): TestCircuit {
    const circuit = new TestCircuit(link, { train: makeTrain(link.peer.target, route), ...starts });
    circuit.setUp();
    return circuit;
  }

  setUp(train: Uint8Array = this.options.train.train): void {
    this.link.message(1, concat(this.forwardCid, this.backwardCid, bytes(8), train));
  }

  async ready(): Promise<boolean> {
    return await this.link.until(() => this.reply !== undefined);
  }

  /** A forward cell, ready to be sent or spoilt. */
  cell(payload: Uint8Array, header: { index?: number; type?: number; path?: number; cid?: Uint8Array } = {}): Bytes {
    const { index = this.index++, type = 0, path = 0, cid = this.forwardCid } = header;
    const chain = this.fresh?.[0] ?? this.chains[0];
    const plaintext = concat(payload, bytes(PAYLOAD - payload.length), random(96));
    const sealed = seal(cellKeys(chain).aead, nonceOf(index), Uint8Array.of(type, path), plaintext);
    const counter = (index + this.options.forwardStart) % 2 ** 48;
    return maskCell(this.link.keys.out.hp, this.link.peerId, { cid, counter, type, path }, sealed);
  }

  send(payload: Uint8Array): void {
    this.link.peer.send(this.cell(payload));
  }

  /** With an ACK of what has come, or the other side would not know that this circuit lives. */
  sendAcked(payload: Uint8Array): void {
    this.send(concat(this.ackFrame(), payload));
  }

  /** PING (8 bytes) and its PONG; false when that does not come. */
  async ping(patienceMs = patience.ms): Promise<boolean> {
    const mark = random(8);
    this.send(concat(this.ackFrame(), pingFrame(mark)));
    return await this.pong(mark, patienceMs);
  }

  async pong(mark: Uint8Array, patienceMs = patience.ms): Promise<boolean> {
    return await this.link.until(() => this.hasPong(mark), patienceMs);
  }

  /** ACK of what has come, or the other side's window fills up. At most 20 ranges, the highest ones. */
  ackFrame(): Bytes {
    const indices = [...new Set(this.indices)].sort((a, b) => b - a);
    if (indices.length === 0) return bytes(0);
    const ranges: [number, number][] = [];
    for (const index of indices) {
      const last = ranges.at(-1);
      if (last !== undefined && last[0] === index + 1) last[0] = index;
      else ranges.push([index, index]);
    }
    const [first, ...others] = ranges.slice(0, 20) as [[number, number], ...[number, number][]];
    let low = first[0];
    const rest = others.flatMap(([from, to]) => {
      const gap = low - to - 2;
      low = from;
      return [gap, to - from];
    });
    return frame(2, first[1], 0, others.length, first[1] - first[0], ...rest);
  }

  hasPong(mark: Uint8Array): boolean {
    return this.frames.some(({ type, data }) => type === 0x32 && equal(data, mark));
  }

  /** A frame of that kind, which comes or has come. */
  async frame(type: number, holds: (frame: Frame) => boolean = () => true, patienceMs = patience.ms) {
    const find = () => this.frames.find((frame) => frame.type === type && holds(frame));
    await this.link.until(() => find() !== undefined, patienceMs);
    return find();
  }

  /** What a stream has brought, as far as it is without gaps. */
  streamBytes(id: number): Bytes {
    const parts = this.frames.filter(({ type, fields }) => type === 1 && fields[0] === id);
    parts.sort((a, b) => a.fields[1]! - b.fields[1]!);
    let all = bytes(0);
    for (const { fields, data } of parts) {
      if (fields[1]! <= all.length)
        all = concat(all.subarray(0, fields[1]), data, all.subarray(fields[1]! + data.length));
    }
    return all;
  }

  /** Bodies of the messages of a type that the CRYPTO stream has brought, as far as it is without gaps. */
  keyMessages(type: number): Bytes[] {
    const parts = this.frames.filter((frame) => frame.type === 0x10);
    parts.sort((a, b) => a.fields[0]! - b.fields[0]!);
    let all = bytes(0);
    for (const { fields, data } of parts) {
      if (fields[0]! <= all.length)
        all = concat(all.subarray(0, fields[0]), data, all.subarray(fields[0]! + data.length));
    }
    const found: Bytes[] = [];
    for (let at = 0; at + 3 <= all.length; ) {
      const length = all[at + 1]! * 256 + all[at + 2]!;
      if (at + 3 + length > all.length) break;
      if (all[at] === type) found.push(all.slice(at + 3, at + 3 + length));
      at += 3 + length;
    }
    return found;
  }

  async closeFrame(): Promise<Frame | undefined> {
    const find = () => this.frames.find(({ type }) => type === 0x3f);
    await this.link.until(() => find() !== undefined);
    return find();
  }

  take(header: Header, cell: Bytes): void {
    if (!equal(header.cid, this.backwardCid)) return;
    const n = (header.counter - this.options.backwardStart + 2 ** 48) % 2 ** 48;
    const ad = Uint8Array.of(header.type, header.path);
    for (const chain of [this.chains[1], ...(this.fresh === undefined ? [] : [this.fresh[1]])]) {
      const { aead, prg } = cellKeys(chain);
      const plaintext = open(aead, nonceOf(n), ad, cell);
      if (plaintext === undefined) continue;
      this.tails.push(equal(plaintext.subarray(PAYLOAD), tailOf(prg, n)));
      this.indices.push(n);
      this.#frames(plaintext.subarray(0, PAYLOAD));
      return;
    }
    throw new Error(`a backward cell of index ${n} came that does not open`);
  }

  #frames(payload: Uint8Array): void {
    for (const frame of readFrames(payload)) {
      this.frames.push(frame);
      // The reply is the first message of the CRYPTO stream; it may come in two pieces, of which the first begins it.
      if (frame.type === 0x10 && frame.fields[0] === 0) this.reply ??= frame.data;
    }
    const { reply, options, chains } = this;
    if (reply === undefined || reply.length < 1123 || this.fresh !== undefined) return;
    this.shared = freshSecret(options.train, reply.subarray(3, 1123));
    this.fresh = [freshChain(chains[0], this.shared, 0), freshChain(chains[1], this.shared, 1)];
  }
}

export const pingFrame = (mark: Uint8Array): Bytes => concat(Uint8Array.of(0x31), mark);

/** By frame: how many varints follow the id, and whether the last of them is the length of data; or a fixed size. */
const shapes: Readonly<Record<number, { varints: number; data?: true; fixed?: number }>> = {
  1: { varints: 4, data: true },
  3: { varints: 1 },
  4: { varints: 2 },
  5: { varints: 3 },
  6: { varints: 2 },
  9: { varints: 3, data: true },
  12: { varints: 1 },
  16: { varints: 2, data: true },
  49: { varints: 0, fixed: 8 },
  50: { varints: 0, fixed: 8 },
  51: { varints: 0, fixed: 8 },
  52: { varints: 0, fixed: 8 },
  54: { varints: 1, data: true },
  56: { varints: 0, fixed: 1 },
  63: { varints: 2, data: true },
  7: { varints: 2, data: true },
  15: { varints: 4, data: true },
};

export function readFrames(payload: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  let at = 0;
  const next = (): number => {
    const read = readVarint(payload, at);
    at = read.next;
    return read.value;
  };
  while (at < payload.length) {
    const type = next();
    if (type === 0) {
      if (payload.subarray(at).some((byte) => byte !== 0)) throw new Error('something follows PADDING');
      break;
    }
    let fields: number[];
    let data: Uint8Array = bytes(0);
    if (type === 2) {
      fields = [next(), next(), next(), next()];
      for (let i = 0; i < 2 * fields[2]!; i++) fields.push(next());
    } else if (type === 0x30) {
      fields = [next()];
      for (let i = 0; i < 2 * fields[0]!; i++) fields.push(next());
    } else if (type === 0x0b) {
      fields = [next(), next(), next()];
      const from = at;
      for (let i = 0; i < fields[2]!; i++) {
        next();
        at = next() + at;
        next();
      }
      data = payload.slice(from, at);
    } else if (type === 0x37) {
      fields = [next()];
      for (let i = 0; i < fields[0]!; i++) fields.push(next());
    } else {
      const shape = shapes[type];
      if (shape === undefined) throw new Error(`a frame of type ${type} came`);
      fields = Array.from({ length: shape.varints }, next);
      const length = shape.fixed ?? (shape.data ? fields.at(-1)! : 0);
      data = payload.slice(at, at + length);
      at += length;
      if (type === 9) fields.push(next());
    }
    frames.push({ type, fields, data });
  }
  return frames;
}

export const frame = (type: number, ...fields: readonly (number | Uint8Array)[]): Bytes =>
  concat(...[type, ...fields].map((field) => (typeof field === 'number' ? varint(field) : field)));

function idNumber(id: Uint8Array): number {
  return new DataView(id.buffer, id.byteOffset).getInt32(0);
}
