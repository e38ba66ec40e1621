/**
 * The network between hosts, on virtual time: a packet goes through the sender's line up, then the receiver's line down,
 * each with its impairments. Nothing here knows where packets come from; router-process.ts gives it those of TUN devices.
 */
import { DueQueue } from './due-queue.ts';
import { ImpairedLine, type Impairment, type LineCounts } from './impairment.ts';
import { addressBytes, addressHash, destinationHash, goesTo, isMulticast, versionOf } from './ip-packet.ts';
import { PortNat } from './port-nat.ts';
import { seededRandom } from './seeded-random.ts';

/** A packet is no longer than this: the MTU of the devices. */
export const PACKET_BYTES = 1500;

export interface PortOptions {
  readonly id: string;
  /** Where it can be reached, all versions together. */
  readonly addresses: readonly string[];
  /** Multicast goes to all others of the same site; without one nowhere. */
  readonly site?: string;
  /** A NAT in front: `addresses` are those outside, this is the one inside. */
  readonly natInside?: string;
  readonly up?: Impairment;
  readonly down?: Impairment;
}

export interface SwitchCounts {
  delivered: number;
  deliveredBytes: number;
  /** To an address that nobody has. */
  noRoute: number;
  /** Between two parts of a partitioned network. */
  partitioned: number;
  /** Not let through by a NAT. */
  nat: number;
  /** All buffers were in use: the figures of this run are not to be trusted. */
  noBuffer: number;
}

interface Port {
  readonly options: PortOptions;
  readonly addresses: readonly Uint8Array[];
  readonly up: ImpairedLine;
  readonly down: ImpairedLine;
  readonly nat: PortNat | undefined;
  part: number;
  firsts: FirstPackets;
}

/** When the first large packets passed since a port is there, or its NAT forgot, on the switch's clock; undefined = none yet. */
export interface FirstPackets {
  /** Sent by the host. */
  upMs: number | undefined;
  /** Handed to the host. */
  downMs: number | undefined;
}

/** Larger than control packets of the kernel, no larger than a datagram of ours. */
const LARGE_BYTES = 1280;

const Stage = { arrives: 0, leaves: 1 } as const;

export class PacketSwitch {
  readonly counts: SwitchCounts = { delivered: 0, deliveredBytes: 0, noRoute: 0, partitioned: 0, nat: 0, noBuffer: 0 };
  readonly #ports: Port[] = [];
  readonly #byHash = new Map<number, number[]>();
  readonly #deliver: (port: number, packet: Uint8Array, sizeBytes: number) => void;
  readonly #random: () => number;
  readonly #due: DueQueue;
  readonly #buffers: Uint8Array[];
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #size: Int32Array;
  readonly #to: Int32Array;
  readonly #stage: Uint8Array;
  /** What follows in time what: the switch's own clock while it works off what was due. */
  #nowMs = 0;

  /** `deliver` borrows the packet, which has the size given. */
  constructor(
    options: { readonly seed: number; readonly packets: number },
    deliver: (port: number, packet: Uint8Array, sizeBytes: number) => void,
  ) {
    const { packets } = options;
    this.#deliver = deliver;
    this.#random = seededRandom(options.seed);
    this.#due = new DueQueue(packets);
    this.#buffers = Array.from({ length: packets }, () => new Uint8Array(PACKET_BYTES));
    this.#free = Int32Array.from({ length: packets }, (_, index) => index);
    this.#freeCount = packets;
    this.#size = new Int32Array(packets);
    this.#to = new Int32Array(packets);
    this.#stage = new Uint8Array(packets);
  }

  /** Returns the port's number. Throws RangeError where an address is in use. */
  add(options: PortOptions): number {
    const addresses = options.addresses.map(addressBytes);
    for (const address of addresses) {
      if (this.#portAt(address) >= 0) throw new RangeError(`somebody has ${options.addresses.join(' or ')} already`);
    }
    const number = this.#ports.length;
    const nat = options.natInside === undefined ? undefined : new PortNat(options.natInside, options.addresses[0]!);
    const lineSeed = () => seededRandom(Math.floor(this.#random() * 2 ** 32));
    this.#ports.push({
      options,
      addresses,
      up: new ImpairedLine(options.up ?? {}, lineSeed()),
      down: new ImpairedLine(options.down ?? {}, lineSeed()),
      nat,
      part: 0,
      firsts: { upMs: undefined, downMs: undefined },
    });
    for (const address of addresses) {
      const hash = addressHash(address);
      this.#byHash.set(hash, [...(this.#byHash.get(hash) ?? []), number]);
    }
    return number;
  }

  impair(id: string, lines: { readonly up?: Impairment; readonly down?: Impairment }): void {
    const port = this.#named(id);
    if (lines.up !== undefined) port.up.change(lines.up);
    if (lines.down !== undefined) port.down.change(lines.down);
  }

  /** Who is in no part is in part 0; packets go only within a part. */
  partition(parts: Readonly<Record<string, number>>): void {
    for (const id of Object.keys(parts)) this.#named(id);
    for (const port of this.#ports) port.part = parts[port.options.id] ?? 0;
  }

  rebind(id: string): void {
    const port = this.#named(id);
    if (port.nat === undefined) throw new RangeError(`${id} has no NAT`);
    port.nat.rebind();
    port.firsts = { upMs: undefined, downMs: undefined };
  }

  firsts(id: string): FirstPackets {
    return this.#named(id).firsts;
  }

  counted(): { readonly network: SwitchCounts; readonly lines: Record<string, { up: LineCounts; down: LineCounts }> } {
    return {
      network: { ...this.counts },
      lines: Object.fromEntries(
        this.#ports.map(({ options, up, down }) => [options.id, { up: { ...up.counts }, down: { ...down.counts } }]),
      ),
    };
  }

  /** A buffer to read the next packet into; undefined = all in use. The same one until `receive`. */
  get buffer(): Uint8Array | undefined {
    return this.#freeCount === 0 ? undefined : this.#buffers[this.#free[this.#freeCount - 1]!];
  }

  /** The first `sizeBytes` of `buffer` are a packet from this port, at `nowMs` (which does not go back). */
  receive(from: number, sizeBytes: number, nowMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    const slot = this.#take();
    const packet = this.#buffers[slot]!;
    this.#size[slot] = sizeBytes;
    const version = versionOf(packet, sizeBytes);
    const port = this.#ports[from]!;
    if (version === 0) this.#drop(slot, 'noRoute');
    else if (isMulticast(packet, version)) this.#flood(slot, from);
    else if (port.nat !== undefined && (version === 6 || !port.nat.leave(packet, sizeBytes))) this.#drop(slot, 'nat');
    else {
      const to = this.#route(packet, version);
      if (to < 0) this.#drop(slot, 'noRoute');
      else this.#send(slot, from, to);
    }
  }

  /** When `run` wants to be called; Infinity = nothing is under way. */
  get nextMs(): number {
    return this.#due.nextMs;
  }

  /** Lets everything happen that was due up to `nowMs`, in order. */
  run(nowMs: number): void {
    while (this.#due.nextMs <= nowMs) {
      this.#nowMs = Math.max(this.#nowMs, this.#due.nextMs);
      const slot = this.#due.pop();
      if (this.#stage[slot] === Stage.arrives) this.#enterDown(slot);
      else this.#leave(slot);
    }
    this.#nowMs = Math.max(this.#nowMs, nowMs);
  }

  #send(slot: number, from: number, to: number): void {
    const port = this.#ports[from]!;
    if (port.part !== this.#ports[to]!.part) {
      this.#drop(slot, 'partitioned');
      return;
    }
    this.#to[slot] = to;
    if (this.#size[slot]! >= LARGE_BYTES) port.firsts.upMs ??= this.#nowMs;
    this.#pass(slot, port.up, Stage.arrives);
  }

  #enterDown(slot: number): void {
    const port = this.#ports[this.#to[slot]!]!;
    this.#pass(slot, port.down, Stage.leaves);
  }

  /** Through a line: what comes out is due then. */
  #pass(slot: number, line: ImpairedLine, stage: number): void {
    const copies = line.admit(this.#nowMs, this.#size[slot]!);
    if (copies === 0) {
      this.#give(slot);
      return;
    }
    const exitMs = line.exitMs[0]!;
    if (copies === 2) this.#later(this.#copy(slot), line.exitMs[1]!, stage);
    this.#later(slot, exitMs, stage);
  }

  #later(slot: number, atMs: number, stage: number): void {
    if (slot < 0) return;
    this.#stage[slot] = stage;
    if (!this.#due.push(atMs, slot)) this.#drop(slot, 'noBuffer');
  }

  #leave(slot: number): void {
    const to = this.#to[slot]!;
    const { nat, firsts } = this.#ports[to]!;
    const packet = this.#buffers[slot]!;
    const size = this.#size[slot]!;
    if (nat !== undefined && !nat.enter(packet, size)) {
      this.#drop(slot, 'nat');
      return;
    }
    if (size >= LARGE_BYTES) firsts.downMs ??= this.#nowMs;
    this.counts.delivered++;
    this.counts.deliveredBytes += size;
    this.#deliver(to, packet, size);
    this.#give(slot);
  }

  #flood(slot: number, from: number): void {
    const { site } = this.#ports[from]!.options;
    if (site !== undefined) {
      for (let to = 0; to < this.#ports.length; to++) {
        if (to === from || this.#ports[to]!.options.site !== site) continue;
        const copy = this.#copy(slot);
        if (copy >= 0) this.#send(copy, from, to);
      }
    }
    this.#give(slot);
  }

  #route(packet: Uint8Array, version: 4 | 6): number {
    const candidates = this.#byHash.get(destinationHash(packet, version));
    if (candidates === undefined) return -1;
    const length = version === 4 ? 4 : 16;
    for (const number of candidates) {
      for (const address of this.#ports[number]!.addresses) {
        if (address.length === length && goesTo(packet, address)) return number;
      }
    }
    return -1;
  }

  #portAt(address: Uint8Array): number {
    return this.#ports.findIndex(({ addresses }) =>
      addresses.some((other) => other.length === address.length && other.every((byte, i) => byte === address[i])),
    );
  }

  #named(id: string): Port {
    const port = this.#ports.find(({ options }) => options.id === id);
    if (port === undefined) throw new RangeError(`there is no ${id}`);
    return port;
  }

  #take(): number {
    return this.#free[--this.#freeCount]!;
  }

  #give(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  #drop(slot: number, reason: 'noRoute' | 'partitioned' | 'nat' | 'noBuffer'): void {
    this.counts[reason]++;
    this.#give(slot);
  }

  /** −1: no buffer is left. */
  #copy(slot: number): number {
    if (this.#freeCount === 0) {
      this.counts.noBuffer++;
      return -1;
    }
    const copy = this.#take();
    this.#buffers[copy]!.set(this.#buffers[slot]!.subarray(0, this.#size[slot]!));
    this.#size[copy] = this.#size[slot]!;
    this.#to[copy] = this.#to[slot]!;
    return copy;
  }
}
