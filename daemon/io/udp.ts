/**
 * A UDP socket for batches of datagrams. Mode `gso`: one call sends up to 51 datagrams, cut up by the kernel, and one
 * event receives up to 51, glued together (Linux). Mode `plain`: node:dgram with one call per datagram, everywhere
 * else or where the kernel refuses. Measured with bench/udp.ts.
 *
 * Way of a batch out: send → (bounded bytes in flight, else dropped and counted) → kernel → release. Nothing that
 * the network or a peer does makes it throw: failed sends are counted by their code.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { DirectUdp } from './direct-udp.ts';
import { bindUdpDescriptor, closeDescriptor, SocketCallError, setSegmentBytes } from './socket-options.ts';

/** Kernel buffers per direction: a relay that is away for 50 ms at 1 Gbit/s loses nothing. */
const KERNEL_BUFFER_BYTES = 8 * 1024 * 1024;
/** Sends that the kernel has not taken yet; beyond it a batch is dropped. */
const MAX_SEND_QUEUE_BYTES = 4 * 1024 * 1024;
/** What the kernel says when this path cannot segment (no checksum offload, a tunnel, a filter). */
const segmentationErrors: ReadonlySet<string> = new Set(['EIO', 'EINVAL', 'EOPNOTSUPP', 'ENOPROTOOPT']);

export type UdpMode = 'gso' | 'plain';

export interface UdpOptions {
  /** Literal address to bind. */
  readonly host: string;
  /** 0 = any. */
  readonly port: number;
  /** `auto` takes gso where it works. `gso` fails where it does not. */
  readonly mode: 'auto' | UdpMode;
  /** Several sockets on one address, the kernel spreads peers over them. */
  readonly reusePort: boolean;
  /** Bound on bytes handed to the kernel and not yet taken by it. Default 4 MiB. */
  readonly maxSendQueueBytes?: number;
  /** A received buffer (1…51 datagrams in mode gso), to be used until this returns. */
  readonly onDatagrams: (buffer: Uint8Array, from: PeerAddress) => void;
  /** The socket itself failed; it is closed. */
  readonly onError: (error: Error) => void;
}

export interface UdpCounters {
  datagramsSent: number;
  buffersReceived: number;
  bytesReceived: number;
  /** Datagrams not sent because the queue was full. */
  sendQueueFull: number;
  /** Datagrams that the kernel refused. */
  sendErrors: number;
  /** The same by error code. */
  readonly sendErrorCodes: Map<string, number>;
}

/** Opens and binds. Rejects when the address cannot be bound (error.code as Node's), or gso was demanded and refused. */
export async function openUdp(options: UdpOptions): Promise<UdpSocket> {
  if (options.mode === 'plain') return openPlain(options, undefined);
  let fd: number;
  try {
    fd = bindUdpDescriptor({
      host: options.host,
      port: options.port,
      reusePort: options.reusePort,
      segmentBytes: DATAGRAM_BYTES,
      bufferBytes: KERNEL_BUFFER_BYTES,
    });
  } catch (error) {
    if (options.mode === 'gso') throw error;
    if (error instanceof SocketCallError && error.call === 'bind') throw error; // plain would fail the same way
    return openPlain(options, error instanceof Error ? error.message : String(error));
  }
  const socket = createUdpSocket(options);
  try {
    await bound(socket, () => socket.bind({ fd, exclusive: true }));
  } catch (error) {
    socket.close();
    closeDescriptor(fd);
    throw error;
  }
  return new UdpSocket(socket, options, { fd });
}

async function openPlain(options: UdpOptions, whyPlain: string | undefined): Promise<UdpSocket> {
  const socket = createUdpSocket(options);
  try {
    await bound(socket, () => socket.bind({ address: options.host, port: options.port, exclusive: true }));
  } catch (error) {
    socket.close();
    throw error;
  }
  return new UdpSocket(socket, options, { whyPlain });
}

function createUdpSocket(options: UdpOptions): Socket {
  const v6 = isIPv6(options.host);
  return createSocket({
    type: v6 ? 'udp6' : 'udp4',
    ipv6Only: v6,
    reusePort: options.reusePort && options.mode !== 'gso',
    lookup: literalLookup as never,
  });
}

/** Addresses are literals here: nothing is ever looked up. */
function literalLookup(
  host: string,
  family: number | { readonly family?: number },
  done: (error: null, address: string, family: number) => void,
): void {
  done(null, host, typeof family === 'number' ? family : (family.family ?? 4));
}

function bound(socket: Socket, bind: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('listening', () => {
      socket.off('error', reject);
      resolve();
    });
    bind();
  });
}

/** Made by openUdp. With a descriptor that segments it begins in mode gso, else in plain. */
export class UdpSocket {
  readonly address: { readonly address: string; readonly port: number };
  readonly counters: UdpCounters = {
    datagramsSent: 0,
    buffersReceived: 0,
    bytesReceived: 0,
    sendQueueFull: 0,
    sendErrors: 0,
    sendErrorCodes: new Map(),
  };
  /** Why `auto` came out as plain, for the log. */
  readonly whyPlain: string | undefined;
  #mode: UdpMode;
  readonly #fd: number | undefined;
  readonly #socket: Socket;
  readonly #maxSendQueueBytes: number;
  #closed = false;
  /** A whole batch has gone through. */
  #segments = false;
  /** Past node:dgram, where that can be. */
  readonly #direct: DirectUdp | null;
  readonly #receiving: Receiving | undefined;
  readonly #onDatagrams: UdpOptions['onDatagrams'];
  /** Sends that node:dgram has taken and not told the end of. */
  #pendingSends = 0;
  /** Sends given to the kernel whose callbacks are due: reused, so that a batch costs no closure of ours. */
  readonly #idleSends: PendingSend[] = [];

  constructor(socket: Socket, options: UdpOptions, how: { readonly fd?: number; readonly whyPlain?: string }) {
    this.#socket = socket;
    this.#fd = how.fd;
    this.#mode = how.fd === undefined ? 'plain' : 'gso';
    this.whyPlain = how.whyPlain;
    this.#maxSendQueueBytes = options.maxSendQueueBytes ?? MAX_SEND_QUEUE_BYTES;
    this.address = socket.address();
    if (how.fd === undefined) growBuffers(socket);
    this.#direct = how.fd === undefined ? null : DirectUdp.on(how.fd);
    this.#receiving = this.#direct === null ? undefined : receivingOf(socket);
    this.#onDatagrams = options.onDatagrams;
    socket.on('message', (buffer: Uint8Array, from: RemoteInfo) => {
      this.#take(buffer, from);
      freeNow(buffer);
    });
    socket.on('error', (error) => {
      if (this.#closed) return;
      this.#closed = true;
      socket.close();
      options.onError(error);
    });
  }

  /** May fall from gso to plain when a path turns out unable to segment. */
  get mode(): UdpMode {
    return this.#mode;
  }

  /** The descriptor, if this socket can be read by `receive`. */
  get descriptor(): number | undefined {
    return this.#closed || this.#receiving === undefined ? undefined : this.#direct?.fd;
  }

  /** On: the event loop leaves this socket alone, `receive` reads it. Off: as at first. Only with a descriptor. */
  attend(on: boolean): void {
    if (this.#closed) return;
    if (on) this.#receiving?.recvStop();
    else this.#receiving?.recvStart();
  }

  /** The event loop holds sends of this socket. */
  get isSending(): boolean {
    return this.#pendingSends > 0;
  }

  /** Hands out what has come, up to `maxBuffers`. Gives how many. Does not wait. */
  receive(maxBuffers: number): number {
    const direct = this.#direct;
    let buffers = 0;
    while (!this.#closed && direct !== null && buffers < maxBuffers) {
      const buffer = direct.receive();
      if (buffer === undefined) break;
      buffers++;
      this.#take(buffer, direct.sender());
    }
    return buffers;
  }

  #take(buffer: Uint8Array, from: PeerAddress): void {
    this.counters.buffersReceived++;
    this.counters.bytesReceived += buffer.length;
    this.#onDatagrams(buffer, from);
  }

  /** Bytes handed over and not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#closed || this.#pendingSends === 0 ? 0 : this.#socket.getSendQueueSize();
  }

  /**
   * Sends `length` bytes of `batch`, cut into datagrams of 1280 (the last may be shorter). Keeps `batch` until it
   * calls `release`, which it does exactly once, often before it returns. False: dropped, and counted.
   */
  send(to: PeerAddress, batch: Uint8Array, length: number, release: () => void): boolean {
    const datagrams = Math.ceil(length / DATAGRAM_BYTES);
    if (this.#closed || length === 0 || datagrams > BATCH_DATAGRAMS) {
      this.#countError('ENOTCONN', datagrams);
      release();
      return false;
    }
    if (this.queuedBytes + length > this.#maxSendQueueBytes) {
      this.counters.sendQueueFull += datagrams;
      release();
      return false;
    }
    // While node:dgram holds others, this one goes behind them.
    if (this.#pendingSends === 0 && this.#mode === 'gso' && this.#direct?.send(to, batch, length)) {
      this.counters.datagramsSent += datagrams;
      if (datagrams > 1) this.#segments = true;
      release();
      return true;
    }
    const pending = this.#idleSends.pop() ?? new PendingSend(this.#onSent);
    this.#pendingSends++;
    pending.begin(to, batch, length, release);
    if (this.#mode === 'gso' || datagrams === 1) this.#sendWhole(pending);
    else this.#sendSliced(pending);
    return true;
  }

  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    return new Promise((resolve) => this.#socket.close(resolve));
  }

  #sendWhole(pending: PendingSend): void {
    pending.waiting = 1;
    try {
      this.#socket.send(pending.batch, 0, pending.length, pending.port, pending.address, pending.done);
    } catch (error) {
      pending.done(error as NodeJS.ErrnoException);
      return;
    }
    // The kernel has copied it already: the owner may use the batch again while it is warm in the cache. As long as
    // segmentation has not worked once, it is kept: it may have to be sent once more (a refusal is told later).
    if ((this.#segments || pending.length <= DATAGRAM_BYTES) && this.#socket.getSendQueueCount() === 0) {
      pending.releaseNow();
    }
  }

  #sendSliced(pending: PendingSend): void {
    const { batch, length, port, address, done } = pending;
    pending.sliced = true;
    pending.waiting = Math.ceil(length / DATAGRAM_BYTES);
    for (let offset = 0; offset < length; offset += DATAGRAM_BYTES) {
      try {
        this.#socket.send(batch, offset, Math.min(DATAGRAM_BYTES, length - offset), port, address, done);
      } catch (error) {
        done(error as NodeJS.ErrnoException);
      }
    }
  }

  readonly #onSent = (pending: PendingSend, error: NodeJS.ErrnoException | null | undefined): void => {
    const datagrams = pending.sliced ? 1 : Math.ceil(pending.length / DATAGRAM_BYTES);
    if (!error) {
      this.counters.datagramsSent += datagrams;
      if (pending.sliced) pending.slicesSent++;
      else if (datagrams > 1) this.#segments = true;
    } else if (!pending.sliced && datagrams > 1 && this.#stopSegmenting(pending, error)) {
      this.#sendSliced(pending);
      return;
    } else {
      this.#countError(error.code ?? 'UNKNOWN', datagrams);
    }
    if (--pending.waiting > 0) return;
    if (pending.refusedWhole && pending.slicesSent === 0) this.#resumeSegmenting();
    this.#pendingSends--;
    pending.releaseNow();
    this.#idleSends.push(pending);
  };

  /**
   * The kernel refused a whole batch. It would refuse single datagrams too as long as the option is set
   * (udp_send_skb), so the option goes; it comes back if the slices fail as well, for then it was the destination.
   */
  #stopSegmenting(pending: PendingSend, error: NodeJS.ErrnoException): boolean {
    if (this.#closed || this.#fd === undefined || !segmentationErrors.has(error.code ?? '')) return false;
    this.#segments = false;
    if (pending.released) return false; // the next one is kept and tells
    if (this.#mode === 'gso' && !setSegmentBytes(this.#fd, 0)) return false;
    this.#mode = 'plain';
    pending.refusedWhole = true;
    return true;
  }

  #resumeSegmenting(): void {
    if (this.#closed || this.#fd === undefined) return;
    if (setSegmentBytes(this.#fd, DATAGRAM_BYTES)) this.#mode = 'gso';
  }

  #countError(code: string, datagrams: number): void {
    this.counters.sendErrors += datagrams;
    this.counters.sendErrorCodes.set(code, (this.counters.sendErrorCodes.get(code) ?? 0) + datagrams);
  }
}

/** One batch on its way into the kernel. */
class PendingSend {
  batch: Uint8Array = new Uint8Array(0);
  length = 0;
  port = 0;
  address = '';
  /** Callbacks still to come. */
  waiting = 0;
  sliced = false;
  refusedWhole = false;
  slicesSent = 0;
  #release: (() => void) | undefined;
  /** Node's send callback, made once. */
  readonly done: (error: NodeJS.ErrnoException | null | undefined) => void;

  constructor(onSent: (pending: PendingSend, error: NodeJS.ErrnoException | null | undefined) => void) {
    this.done = (error) => onSent(this, error);
  }

  begin(to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void {
    this.batch = batch;
    this.length = length;
    this.port = to.port;
    this.address = to.address;
    this.sliced = false;
    this.refusedWhole = false;
    this.slicesSent = 0;
    this.#release = release;
  }

  get released(): boolean {
    return this.#release === undefined;
  }

  releaseNow(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}

export interface Receiving {
  recvStart(): void;
  recvStop(): void;
}

/** What node:dgram reads with: it has no public way to pause. Undefined where it is made otherwise. */
export function receivingOf(socket: Socket): Receiving | undefined {
  for (const symbol of Object.getOwnPropertySymbols(socket)) {
    const { handle } = (socket as unknown as Record<symbol, { handle?: Partial<Receiving> } | undefined>)[symbol] ?? {};
    if (typeof handle?.recvStart === 'function' && typeof handle.recvStop === 'function') return handle as Receiving;
  }
  return undefined;
}

/**
 * Gives the memory of a received buffer back at once. Left to the collector, the 64 KiB that Node makes for every
 * receive would set off a full collection every thousand receives.
 */
function freeNow(buffer: Uint8Array): void {
  const whole = buffer.buffer as ArrayBuffer;
  if (whole.byteLength > DATAGRAM_BYTES) whole.transfer(0);
}

/** Best effort: beyond the limits of the system the kernel caps it, and some platforms refuse. */
function growBuffers(socket: Socket): void {
  for (let bytes = KERNEL_BUFFER_BYTES; bytes >= 256 * 1024; bytes /= 2) {
    try {
      socket.setRecvBufferSize(bytes);
      socket.setSendBufferSize(bytes);
      return;
    } catch {
      // Refused at this size (macOS and Windows do): half as much.
    }
  }
}
