/**
 * Packets sent, oldest first, in rings of typed arrays: what each carried (frames to repeat when it is lost) and what
 * the delivery-rate sampler needs (draft-cheng-iccrg-delivery-rate-estimation-02). Positions ("seq") count packets
 * from the session's start; a packet's seq and its packet number both rise, but packet numbers have gaps.
 */

/** Doubles per packet. */
const PACKET = 6;
const NUMBER = 0;
const SENT_MS = 1;
const DELIVERED = 2;
const DELIVERED_MS = 3;
const FIRST_SENT_MS = 4;
const FRAME_START = 5;
/** Doubles per frame: kind + flag · 2^8 + length · 2^16, id, offset. */
const FRAME = 3;

const ELICITING = 1;
const SETTLED = 2;
const LOST = 4;
const APP_LIMITED = 8;

const NO_DOUBLES = new Float64Array(0);
const NO_FLAGS = new Uint8Array(0);
const NO_JUMPS = new Uint32Array(0);

const MIN_PACKETS = 8;
const MIN_FRAMES = 16;
/** Packets remembered at most; a controller's window stays below it. */
export const MAX_SENT_PACKETS = 65_536;

export class SentPackets {
  /** Oldest remembered, and behind the newest. */
  head = 0;
  tail = 0;
  #capacity = 0;
  #packets = NO_DOUBLES;
  #flags = NO_FLAGS;
  /** Distance to a later seq that may be unsettled; 0 = look here. Makes walking over settled runs O(1) amortised. */
  #jump = NO_JUMPS;
  #frameHead = 0;
  #frameTail = 0;
  #frameCapacity = 0;
  #frames = NO_DOUBLES;
  #lastNumber = -1;

  get largestNumber(): number {
    return this.#lastNumber;
  }

  get full(): boolean {
    return this.tail - this.head >= MAX_SENT_PACKETS;
  }

  get memoryBytes(): number {
    return this.#packets.byteLength + this.#frames.byteLength + this.#flags.byteLength + this.#jump.byteLength;
  }

  /** Notes a frame of the packet that the next push() completes. `length` < 2^16. */
  addFrame(kind: number, flag: boolean, length: number, id: number, offset: number): void {
    if (this.#frameTail - this.#frameHead === this.#frameCapacity) {
      this.#resizeFrames(Math.max(MIN_FRAMES, this.#frameCapacity * 2));
    }
    const at = (this.#frameTail % this.#frameCapacity) * FRAME;
    this.#frames[at] = kind + (flag ? 0x100 : 0) + length * 0x1_0000;
    this.#frames[at + 1] = id;
    this.#frames[at + 2] = offset;
    this.#frameTail++;
  }

  /** Where the frames of the packet being written begin. */
  openStart = 0;

  push(
    packetNumber: number,
    sentMs: number,
    eliciting: boolean,
    appLimited: boolean,
    delivered: number,
    deliveredMs: number,
    firstSentMs: number,
  ): void {
    if (this.tail - this.head === this.#capacity) this.#resize(Math.max(MIN_PACKETS, this.#capacity * 2));
    const slot = this.tail & (this.#capacity - 1);
    const at = slot * PACKET;
    const packets = this.#packets;
    packets[at + NUMBER] = packetNumber;
    packets[at + SENT_MS] = sentMs;
    packets[at + DELIVERED] = delivered;
    packets[at + DELIVERED_MS] = deliveredMs;
    packets[at + FIRST_SENT_MS] = firstSentMs;
    packets[at + FRAME_START] = this.openStart;
    this.#flags[slot] = (eliciting ? ELICITING : 0) | (appLimited ? APP_LIMITED : 0);
    this.#jump[slot] = 0;
    this.openStart = this.#frameTail;
    this.#lastNumber = packetNumber;
    this.tail++;
  }

  numberAt(seq: number): number {
    return this.#packets[this.#at(seq) + NUMBER]!;
  }

  sentMsAt(seq: number): number {
    return this.#packets[this.#at(seq) + SENT_MS]!;
  }

  deliveredAt(seq: number): number {
    return this.#packets[this.#at(seq) + DELIVERED]!;
  }

  deliveredMsAt(seq: number): number {
    return this.#packets[this.#at(seq) + DELIVERED_MS]!;
  }

  firstSentMsAt(seq: number): number {
    return this.#packets[this.#at(seq) + FIRST_SENT_MS]!;
  }

  isEliciting(seq: number): boolean {
    return (this.#flags[seq & (this.#capacity - 1)]! & ELICITING) !== 0;
  }

  /** Acknowledged. */
  isSettled(seq: number): boolean {
    return (this.#flags[seq & (this.#capacity - 1)]! & SETTLED) !== 0;
  }

  isLost(seq: number): boolean {
    return (this.#flags[seq & (this.#capacity - 1)]! & LOST) !== 0;
  }

  isAppLimited(seq: number): boolean {
    return (this.#flags[seq & (this.#capacity - 1)]! & APP_LIMITED) !== 0;
  }

  /** Counts against the congestion window. */
  isInFlight(seq: number): boolean {
    return (this.#flags[seq & (this.#capacity - 1)]! & (ELICITING | SETTLED | LOST)) === ELICITING;
  }

  settle(seq: number): void {
    const slot = seq & (this.#capacity - 1);
    this.#flags[slot]! |= SETTLED;
    this.#jump[slot] = 1;
  }

  markLost(seq: number): void {
    this.#flags[seq & (this.#capacity - 1)]! |= LOST;
  }

  /** First seq from `seq` on that is not settled, or `tail`. */
  nextUnsettled(seq: number): number {
    const mask = this.#capacity - 1;
    const jump = this.#jump;
    let end = seq;
    while (end < this.tail && jump[end & mask] !== 0) end += jump[end & mask]!;
    // Path compression, as in union-find.
    let at = seq;
    while (at < end) {
      const next = at + jump[at & mask]!;
      jump[at & mask] = end - at;
      at = next;
    }
    return end;
  }

  /** First seq whose packet number is at least `packetNumber`, or `tail`. */
  lowerBound(packetNumber: number): number {
    if (this.head === this.tail || packetNumber > this.#lastNumber) return this.tail;
    const first = this.numberAt(this.head);
    if (packetNumber <= first) return this.head;
    // Numbers rise by at least one per packet, mostly by exactly one.
    let high = Math.min(this.tail - 1, this.head + (packetNumber - first));
    if (this.numberAt(high) === packetNumber) return high;
    let low = Math.max(this.head, this.tail - 1 - (this.#lastNumber - packetNumber));
    if (this.numberAt(low) >= packetNumber) low = this.head;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.numberAt(middle) >= packetNumber) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  frameStart(seq: number): number {
    return this.#packets[this.#at(seq) + FRAME_START]!;
  }

  frameEnd(seq: number): number {
    return seq + 1 < this.tail ? this.frameStart(seq + 1) : this.openStart;
  }

  frameKind(frame: number): number {
    return this.#frames[(frame % this.#frameCapacity) * FRAME]! & 0xff;
  }

  frameFlag(frame: number): boolean {
    return (this.#frames[(frame % this.#frameCapacity) * FRAME]! & 0x100) !== 0;
  }

  frameLength(frame: number): number {
    return this.#frames[(frame % this.#frameCapacity) * FRAME]! >>> 16;
  }

  frameId(frame: number): number {
    return this.#frames[(frame % this.#frameCapacity) * FRAME + 1]!;
  }

  frameOffset(frame: number): number {
    return this.#frames[(frame % this.#frameCapacity) * FRAME + 2]!;
  }

  /** Forgets the oldest packet. */
  dropHead(): void {
    this.#frameHead = this.frameEnd(this.head);
    this.head++;
  }

  get canTrim(): boolean {
    return this.tail === this.head && this.#frameTail === this.#frameHead && this.#capacity > 0;
  }

  /** Gives all memory back; it comes again with the next packet. */
  trim(): void {
    if (!this.canTrim) return;
    this.#capacity = 0;
    this.#packets = NO_DOUBLES;
    this.#flags = NO_FLAGS;
    this.#jump = NO_JUMPS;
    this.#frameCapacity = 0;
    this.#frames = NO_DOUBLES;
  }

  #at(seq: number): number {
    return (seq & (this.#capacity - 1)) * PACKET;
  }

  #resize(capacity: number): void {
    const packets = new Float64Array(capacity * PACKET);
    const flags = new Uint8Array(capacity);
    const jump = new Uint32Array(capacity);
    for (let seq = this.head; seq < this.tail; seq++) {
      const from = seq & (this.#capacity - 1);
      const to = seq & (capacity - 1);
      for (let i = 0; i < PACKET; i++) packets[to * PACKET + i] = this.#packets[from * PACKET + i]!;
      flags[to] = this.#flags[from]!;
      jump[to] = this.#jump[from]!;
    }
    this.#packets = packets;
    this.#flags = flags;
    this.#jump = jump;
    this.#capacity = capacity;
  }

  #resizeFrames(capacity: number): void {
    const frames = new Float64Array(capacity * FRAME);
    for (let frame = this.#frameHead; frame < this.#frameTail; frame++) {
      const from = (frame % this.#frameCapacity) * FRAME;
      const to = (frame % capacity) * FRAME;
      for (let i = 0; i < FRAME; i++) frames[to + i] = this.#frames[from + i]!;
    }
    this.#frames = frames;
    this.#frameCapacity = capacity;
  }
}
