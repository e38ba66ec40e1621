/**
 * Receiving, sending and waiting on UDP descriptors by direct calls, past node:dgram and the event loop: for a lone
 * datagram those cost more than all that a relay does with it (an object with the sender's address as text, a buffer of
 * 64 KiB, a request object for each). Linux on 64-bit processors, where Node has an FFI; null elsewhere, and then
 * node:dgram does everything. Nothing here blocks but DirectWait.wait, and that no longer than it is told.
 *
 * Structures as in recvmmsg(2), sendmmsg(2), poll(2), netinet/in.h; results are read from them, because a signature of
 * pointers alone is what Node calls fastest (docs/adr/0013-packet-crypto-by-ffi.md).
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness, networkInterfaces } from 'node:os';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import ipaddr from 'ipaddr.js';
import { type Address, type Ffi, pointers, requireFfi } from './ffi.ts';
import { AF_INET, encodeSocketAddress } from './socket-options.ts';

/** As much as one receive can bring (UDP_GRO), and one byte by which a longer one shows. */
const RECEIVE_BYTES = BATCH_DATAGRAMS * DATAGRAM_BYTES + 1;
/** Senders whose addresses are kept as text. */
const MAX_SENDERS = 4096;
const MAX_WAITS = 16;
const EPOLL_CTL_DEL = 2n;
/** What no receive brings. An empty datagram brings 0. */
const NOTHING = 0xffff_ffff;
const POLLIN = 1;
const MSG_DONTWAIT = 0x40n;

// Offsets in the block of memory that the calls work on: struct mmsghdr, what it points to, and pollfds with their time-out.
const HEADER_NAME = 0;
const HEADER_NAME_BYTES = 8;
const HEADER_PARTS = 16;
const HEADER_PART_COUNT = 24;
const HEADER_DONE_BYTES = 56;
const HEADER_BYTES = 64;
const RECEIVE = 0;
const SEND = RECEIVE + HEADER_BYTES;
const RECEIVE_PART = SEND + HEADER_BYTES;
const SEND_PART = RECEIVE_PART + 16;
const SENDER = SEND_PART + 16;
const SENDER_BYTES = 28;
const TIMEOUT = SENDER + 32;
const POLLS = TIMEOUT + 16;
const POLL_BYTES = 8;
const BLOCK_BYTES = POLLS + MAX_WAITS * POLL_BYTES;

type Call = (...pointers: Address[]) => void;

interface Name {
  /** Kept, or what `pointer` points to would go. */
  readonly bytes: Uint8Array;
  readonly pointer: Address;
}

/** One per thread: what it points to is used again with each call. */
class DirectCalls {
  readonly #ffi: Ffi;
  readonly #recvmmsg: Call;
  readonly #sendmmsg: Call;
  readonly #ppoll: Call;
  readonly #epollCtl: Call;
  readonly #memory = new DataView(new ArrayBuffer(BLOCK_BYTES));
  readonly #received = new Uint8Array(RECEIVE_BYTES);
  readonly #one = this.#received.subarray(0, DATAGRAM_BYTES);
  readonly #receive: Address;
  readonly #send: Address;
  readonly #polls: Address;
  readonly #timeout: Address;
  readonly #places = new WeakMap<Uint8Array, Address>();
  readonly #names = new WeakMap<PeerAddress, Name | null>();
  readonly #senders = new Map<number | string, PeerAddress>();

  constructor(ffi: Ffi) {
    this.#ffi = ffi;
    const { functions } = ffi.dlopen(null, {
      recvmmsg: pointers(5),
      sendmmsg: pointers(4),
      ppoll: pointers(4),
      epoll_ctl: pointers(4),
    });
    this.#recvmmsg = functions.recvmmsg as Call;
    this.#sendmmsg = functions.sendmmsg as Call;
    this.#ppoll = functions.ppoll as Call;
    this.#epollCtl = functions.epoll_ctl as Call;
    const memory = this.#memory;
    const start = ffi.getRawPointer(new Uint8Array(memory.buffer));
    const at = (offset: number) => start + BigInt(offset);
    this.#receive = at(RECEIVE);
    this.#send = at(SEND);
    this.#polls = at(POLLS);
    this.#timeout = at(TIMEOUT);
    memory.setBigUint64(RECEIVE + HEADER_NAME, at(SENDER), true);
    memory.setBigUint64(RECEIVE + HEADER_PARTS, at(RECEIVE_PART), true);
    memory.setBigUint64(RECEIVE + HEADER_PART_COUNT, 1n, true);
    memory.setBigUint64(RECEIVE_PART, ffi.getRawPointer(this.#received), true);
    memory.setBigUint64(RECEIVE_PART + 8, BigInt(RECEIVE_BYTES), true);
    memory.setBigUint64(SEND + HEADER_PARTS, at(SEND_PART), true);
    memory.setBigUint64(SEND + HEADER_PART_COUNT, 1n, true);
  }

  /** One buffer of 1…51 datagrams, to be used until the next call; undefined = there is none. */
  receive(fd: Address): Uint8Array | undefined {
    const memory = this.#memory;
    memory.setUint32(RECEIVE + HEADER_NAME_BYTES, SENDER_BYTES, true);
    memory.setUint32(RECEIVE + HEADER_DONE_BYTES, NOTHING, true);
    this.#recvmmsg(fd, this.#receive, 1n, MSG_DONTWAIT, 0n);
    const bytes = memory.getUint32(RECEIVE + HEADER_DONE_BYTES, true);
    if (bytes === NOTHING) return undefined;
    return bytes === DATAGRAM_BYTES ? this.#one : this.#received.subarray(0, bytes);
  }

  /** Where what was received last came from. The same object for the same address, as long as it is known. */
  sender(): PeerAddress {
    const memory = this.#memory;
    const isV4 = memory.getUint16(SENDER, true) === AF_INET;
    const key = isV4
      ? memory.getUint32(SENDER + 4, false) * 65_536 + memory.getUint16(SENDER + 2, false)
      : this.#senderBytes().toString('latin1');
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      if (this.#senders.size >= MAX_SENDERS) this.#senders.clear();
      sender = { address: this.#senderText(isV4), port: memory.getUint16(SENDER + 2, false) };
      this.#senders.set(key, sender);
    }
    return sender;
  }

  /** False: the kernel did not take it, or it is no address. */
  send(fd: Address, to: PeerAddress, batch: Uint8Array, length: number): boolean {
    const memory = this.#memory;
    let place = this.#places.get(batch);
    if (place === undefined) {
      place = this.#ffi.getRawPointer(batch);
      this.#places.set(batch, place);
    }
    let name = this.#names.get(to);
    if (name === undefined) {
      name = this.#nameOf(to);
      this.#names.set(to, name);
    }
    if (name === null) return false;
    memory.setBigUint64(SEND + HEADER_NAME, name.pointer, true);
    memory.setUint32(SEND + HEADER_NAME_BYTES, name.bytes.length, true);
    memory.setBigUint64(SEND_PART, place, true);
    memory.setUint32(SEND_PART + 8, length, true);
    memory.setUint32(SEND + HEADER_DONE_BYTES, 0, true);
    this.#sendmmsg(fd, this.#send, 1n, MSG_DONTWAIT);
    return memory.getUint32(SEND + HEADER_DONE_BYTES, true) === length;
  }

  /** Nothing, if the epoll does not watch it. */
  unwatch(epoll: number, fd: number): void {
    this.#epollCtl(BigInt(epoll), EPOLL_CTL_DEL, BigInt(fd), 0n);
  }

  /** Blocks this thread until one of them can be read, or the time is up. `readable` gets what can be read. */
  wait(fds: readonly number[], readable: boolean[], waitMs: number): void {
    const memory = this.#memory;
    for (let i = 0; i < fds.length; i++) {
      const at = POLLS + i * POLL_BYTES;
      memory.setInt32(at, fds[i]!, true);
      memory.setUint16(at + 4, POLLIN, true);
      memory.setUint16(at + 6, 0, true);
    }
    memory.setUint32(TIMEOUT, 0, true);
    memory.setUint32(TIMEOUT + 8, Math.max(0, Math.min(999_999_999, waitMs * 1e6)), true);
    this.#ppoll(this.#polls, BigInt(fds.length), this.#timeout, 0n);
    for (let i = 0; i < fds.length; i++) readable[i] = memory.getUint16(POLLS + i * POLL_BYTES + 6, true) !== 0;
  }

  /** Null: no address of a host, or one with a zone. */
  #nameOf({ address, port }: PeerAddress): Name | null {
    if (!ipaddr.isValid(address) || address.includes('%')) return null;
    const bytes = encodeSocketAddress(address, port);
    return { bytes, pointer: this.#ffi.getRawPointer(bytes) };
  }

  #senderBytes(): Buffer {
    return Buffer.from(this.#memory.buffer, SENDER, SENDER_BYTES);
  }

  /** As node:dgram writes it. */
  #senderText(isV4: boolean): string {
    const bytes = this.#senderBytes();
    if (isV4) return bytes.subarray(4, 8).join('.');
    const text = new ipaddr.IPv6([...bytes.subarray(8, 24)]).toRFC5952String();
    const zone = bytes.readUInt32LE(24);
    return zone === 0 ? text : `${text}%${interfaceName(zone)}`;
  }
}

function interfaceName(index: number): string {
  for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
    if (addresses.some((address) => address.family === 'IPv6' && address.scopeid === index)) return name;
  }
  return String(index);
}

/** Undefined = not tried yet. */
let loaded: DirectCalls | null | undefined;

function directCalls(): DirectCalls | null {
  if (loaded === undefined) {
    loaded = null;
    const is64Bit = process.arch === 'x64' || process.arch === 'arm64';
    if (process.platform === 'linux' && is64Bit && endianness() === 'LE') {
      try {
        loaded = new DirectCalls(requireFfi());
      } catch {
        // No such module, a refusal (--permission) or a missing symbol: all mean the same.
      }
    }
  }
  return loaded;
}

/** A non-blocking UDP descriptor that somebody else owns; not to be used once that has closed it. */
export class DirectUdp {
  readonly fd: number;
  readonly #calls: DirectCalls;
  readonly #pointer: Address;

  private constructor(fd: number, calls: DirectCalls) {
    this.fd = fd;
    this.#calls = calls;
    this.#pointer = BigInt(fd);
  }

  /** Null where there are no direct calls. */
  static on(fd: number): DirectUdp | null {
    const calls = directCalls();
    return calls && new DirectUdp(fd, calls);
  }

  /** One buffer of 1…51 datagrams, to be used until the next call; undefined = there is none now. */
  receive(): Uint8Array | undefined {
    return this.#calls.receive(this.#pointer);
  }

  /** Where what was received last, on whichever descriptor, came from. */
  sender(): PeerAddress {
    return this.#calls.sender();
  }

  /** Sends all of it, or nothing and gives false. */
  send(to: PeerAddress, batch: Uint8Array, length: number): boolean {
    return this.#calls.send(this.#pointer, to, batch, length);
  }
}

/** Waits for descriptors, and for whatever else the thread's event loop would wake for. */
export class DirectWait {
  readonly #calls: DirectCalls;
  readonly #fds: readonly number[];
  readonly #readable: boolean[];

  private constructor(calls: DirectCalls, fds: readonly number[]) {
    this.#calls = calls;
    this.#fds = fds;
    this.#readable = fds.map(() => false);
  }

  /** Null where there are no direct calls, too many descriptors, or none of them is watched by this thread's event loop. */
  static on(fds: readonly number[]): DirectWait | null {
    const calls = directCalls();
    if (calls === null || fds.length === 0 || fds.length >= MAX_WAITS) return null;
    const loop = watcherOf(fds);
    return loop === undefined ? null : new DirectWait(calls, [...fds, loop]);
  }

  /**
   * Takes a descriptor, by its order, out of the event loop's epoll. The loop leaves it alone by now, but has it watched until it is readable
   * next, which would look as if the loop had something to do. Only if the loop waits for nothing else of it (to be writable): it takes
   * what it waits for as watched. Told to read it again, it has it watched anew.
   */
  unwatch(i: number): void {
    this.#calls.unwatch(this.#fds.at(-1)!, this.#fds[i]!);
  }

  /** Blocks for up to `waitMs` (below 1000; 0 = only looks). */
  wait(waitMs: number): void {
    this.#calls.wait(this.#fds, this.#readable, waitMs);
  }

  /** By the order of the descriptors: it could be read when the last wait ended. */
  isReadable(i: number): boolean {
    return this.#readable[i]!;
  }

  /** The event loop had something to do when the last wait ended. */
  get isLoopReady(): boolean {
    return this.#readable[this.#fds.length - 1]!;
  }
}

/** Of this thread's event loop, once it is known. */
let loopDescriptor: number | undefined;

/** The epoll descriptor of this thread's event loop: the one that watches `fds`. It is itself readable when one of its own is. */
function watcherOf(fds: readonly number[]): number | undefined {
  if (loopDescriptor !== undefined) return loopDescriptor;
  for (const name of openDescriptors()) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`) !== 'anon_inode:[eventpoll]') continue;
      const watches = new RegExp(`^tfd:\\s*(${fds.join('|')})\\b`, 'm');
      if (watches.test(readFileSync(`/proc/self/fdinfo/${name}`, 'latin1'))) loopDescriptor = Number(name);
    } catch {
      // Closed meanwhile, as the descriptor of the listing itself is.
    }
  }
  return loopDescriptor;
}

/** None where there is no /proc, or no descriptor left to read it with. */
function openDescriptors(): string[] {
  try {
    return readdirSync('/proc/self/fd');
  } catch {
    return [];
  }
}
