/**
 * Two sessions on a virtual network in virtual time: delay, jitter (which reorders), random and bursty loss,
 * partitions and a bottleneck with a queue. One seed is one run. As under a circuit, nothing is ever duplicated.
 */
import type { SessionHost, SessionOptions } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import type { PathHost, SessionPath } from '@nyx/core/stream/session-path.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';

/** Deterministic numbers in [0, 1): mulberry32. For tests only. */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  /** Integer in [low, high]. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }
}

export interface WayOptions {
  readonly delayMs: number;
  /** Every packet takes up to this much longer, each on its own: they overtake each other. */
  readonly jitterMs?: number;
  /** Every packet takes the sum of so many exponential times of this mean longer, as over mixes. */
  readonly mix?: { readonly hops: number; readonly meanMs: number };
  readonly lossRatio?: number;
  /** Share of packets that begin a burst of losses, up to `burstMs` long. */
  readonly burstRatio?: number;
  readonly burstMs?: number;
  /** Gilbert–Elliott in continuous time: that share of the time nothing gets through, for so long at a time on average. */
  readonly gilbert?: { readonly lossRatio: number; readonly meanMs: number };
  /** Nothing arrives that was sent in between. */
  readonly partition?: { readonly fromMs: number; readonly toMs: number };
  readonly bottleneck?: Bottleneck;
}

/** A link of limited rate with a tail-drop queue; several paths may share one. */
export class Bottleneck {
  readonly packetMs: number;
  readonly queuePackets: number;
  dropped = 0;
  carried = 0;
  /** Sum of the waiting times of all packets carried. */
  waitedMs = 0;
  #freeAtMs = 0;

  constructor(megabitsPerSecond: number, queuePackets: number) {
    this.packetMs = (1280 * 8) / (megabitsPerSecond * 1000);
    this.queuePackets = queuePackets;
  }

  /** When a packet that comes now is through; undefined = dropped. */
  pass(nowMs: number): number | undefined {
    const start = Math.max(nowMs, this.#freeAtMs);
    if (start - nowMs > this.queuePackets * this.packetMs) {
      this.dropped++;
      return undefined;
    }
    this.carried++;
    this.waitedMs += start - nowMs;
    this.#freeAtMs = start + this.packetMs;
    return this.#freeAtMs;
  }
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** Virtual time: runs what is due in order of time, then of scheduling. */
export class VirtualClock {
  nowMs = 0;
  readonly #heap: Event[] = [];
  #order = 0;

  at(atMs: number, run: () => void): void {
    const heap = this.#heap;
    const event = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, run };
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if (!before(event, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = event;
  }

  /** Runs until `untilMs` or until `done`; returns whether it was done. */
  run(untilMs: number, done: () => boolean): boolean {
    while (!done()) {
      const event = this.#heap[0];
      if (event === undefined || event.atMs > untilMs) {
        this.nowMs = untilMs;
        return done();
      }
      this.#pop();
      this.nowMs = event.atMs;
      event.run();
    }
    return true;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
  }
}

function before(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** One end of a circuit: a path of a session, its packet counter, and the way its packets take. Wakes by timers of 1 ms. */
export class PathEnd implements PathHost {
  /** Set by whoever makes the path. */
  path!: SessionPath;
  peer: PathEnd | undefined;
  lost = 0;
  sent = 0;
  refused = 0;
  /** Nothing leaves and nothing comes in: a relay of the circuit is dead. */
  cut = false;
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly #way: WayOptions;
  #nextNumber: number;
  #timerMs = Number.POSITIVE_INFINITY;
  #wakePending = false;
  #burstUntilMs = 0;
  #bad = false;
  #stateMs = 0;

  constructor(clock: VirtualClock, random: SeededRandom, way: WayOptions) {
    this.clock = clock;
    this.random = random;
    this.#way = way;
    this.#nextNumber = random.integer(0, 3);
  }

  onCryptoMessage(): void {}

  onWantSend(): void {
    this.wake();
  }

  onRefused(): void {
    this.refused++;
    this.path.lost(this.clock.nowMs);
  }

  /** Flushes soon, once. */
  wake(): void {
    if (this.#wakePending) return;
    this.#wakePending = true;
    this.clock.at(this.clock.nowMs, () => {
      this.#wakePending = false;
      this.flush();
    });
  }

  flush(): void {
    const { path } = this;
    const now = this.clock.nowMs;
    if (path.nextTimeoutMs() <= now) path.handleTimeout(now);
    for (;;) {
      // As circuits do it: who has nothing to send is not polled.
      if (!path.wantsSend(now)) break;
      const payload = new Uint8Array(PAYLOAD_BYTES).fill(0xee);
      if (!path.pollPayload(payload, this.#nextNumber, now)) {
        if (path.session.closed) break;
        throw new Error('wantsSend, but pollPayload had nothing');
      }
      const packetNumber = this.#nextNumber;
      this.#nextNumber += this.random.chance(0.01) ? this.random.integer(2, 1000) : 1;
      this.#transmit(packetNumber, payload);
    }
    this.#arm();
  }

  #arm(): void {
    const next = this.path.nextTimeoutMs();
    const now = this.clock.nowMs;
    if (next === Number.POSITIVE_INFINITY) return;
    // Timers have whole milliseconds and are never early.
    const at = Math.max(Math.ceil(next), Math.floor(now) + 1);
    if (at >= this.#timerMs && this.#timerMs > now) return;
    this.#timerMs = at;
    this.clock.at(at, () => {
      if (this.#timerMs === at) this.flush();
    });
  }

  #transmit(packetNumber: number, payload: Uint8Array): void {
    const way = this.#way;
    const now = this.clock.nowMs;
    this.sent++;
    let leaveMs: number | undefined = now;
    if (way.bottleneck !== undefined) leaveMs = way.bottleneck.pass(now);
    if (leaveMs === undefined || this.cut || this.#isLost(now)) {
      this.lost++;
      return;
    }
    let arriveMs = leaveMs + way.delayMs + (way.jitterMs ?? 0) * this.random.next();
    const { hops, meanMs } = way.mix ?? { hops: 0, meanMs: 0 };
    for (let i = 0; i < hops; i++) arriveMs -= meanMs * Math.log(1 - this.random.next());
    this.clock.at(arriveMs, () => this.peer?.receive(packetNumber, payload));
  }

  #isLost(nowMs: number): boolean {
    const { partition, lossRatio, burstRatio, burstMs, gilbert } = this.#way;
    if (gilbert !== undefined) {
      const { lossRatio: ratio, meanMs } = gilbert;
      // What the state is after so long, given what it was (two-state Markov process).
      const memory = Math.exp(-(nowMs - this.#stateMs) / (meanMs * (1 - ratio)));
      this.#bad = this.random.chance(ratio + ((this.#bad ? 1 : 0) - ratio) * memory);
      this.#stateMs = nowMs;
      if (this.#bad) return true;
    }
    if (partition !== undefined && nowMs >= partition.fromMs && nowMs < partition.toMs) return true;
    if (burstRatio !== undefined && this.random.chance(burstRatio)) {
      this.#burstUntilMs = nowMs + (burstMs ?? 10) * this.random.next();
    }
    if (nowMs < this.#burstUntilMs) return true;
    return lossRatio !== undefined && this.random.chance(lossRatio);
  }

  receive(packetNumber: number, payload: Uint8Array): void {
    if (this.cut) return;
    this.path.handlePayload(packetNumber, payload, this.clock.nowMs);
    this.wake();
  }
}

/** One end of a session that begins on this path. */
export class Endpoint extends PathEnd {
  readonly session: Session;
  readonly closes: { code: number; reason: string; remote: boolean }[] = [];

  constructor(
    clock: VirtualClock,
    random: SeededRandom,
    way: WayOptions,
    options: Partial<SessionOptions>,
    host: Partial<SessionHost>,
  ) {
    super(clock, random, way);
    this.session = new Session(
      options,
      {
        ...host,
        onCryptoMessage: () => this.onCryptoMessage(),
        onWantSend: () => this.onWantSend(),
        onClose: (code, reason, remote) => {
          this.closes.push({ code, reason, remote });
          host.onClose?.(code, reason, remote);
        },
      },
      clock.nowMs,
    );
    this.path = this.session.firstPath;
    if (options.role === 'server') this.path.sendCryptoMessage(2, new Uint8Array(1120));
    this.wake();
  }
}

export interface PairOptions {
  readonly seed: number;
  readonly up: WayOptions;
  readonly down: WayOptions;
  readonly client?: Partial<SessionOptions>;
  readonly server?: Partial<SessionOptions>;
  readonly clientHost?: Partial<SessionHost>;
  readonly serverHost?: Partial<SessionHost>;
}

/** Client and server, connected; `clock` may be shared with other pairs. */
export class SessionPair {
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly client: Endpoint;
  readonly server: Endpoint;

  constructor(options: PairOptions, clock = new VirtualClock()) {
    this.clock = clock;
    this.random = new SeededRandom(options.seed);
    const { clientHost = {}, serverHost = {} } = options;
    this.client = new Endpoint(clock, this.random, options.up, { ...options.client, role: 'client' }, clientHost);
    this.server = new Endpoint(clock, this.random, options.down, { ...options.server, role: 'server' }, serverHost);
    this.client.peer = this.server;
    this.server.peer = this.client;
  }
}

/** The byte at `offset` of the direction `salt`: misplaced bytes show. */
export function patternByte(salt: number, offset: number): number {
  return (Math.imul(offset, 31) + Math.imul(offset >>> 8, 17) + Math.imul(offset >>> 16, 101) + salt * 7) & 0xff;
}

/** Fills `into` with the pattern from `offset` on. */
export function fillPattern(into: Uint8Array, salt: number, offset: number): void {
  for (let i = 0; i < into.length; i++) into[i] = patternByte(salt, offset + i);
}

/** First index at which `bytes` is not the pattern; −1 = all right. */
export function firstMismatch(bytes: Uint8Array, length: number, salt: number, offset: number): number {
  for (let i = 0; i < length; i++) if (bytes[i] !== patternByte(salt, offset + i)) return i;
  return -1;
}
