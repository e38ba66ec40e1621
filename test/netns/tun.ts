/** TUN devices and waiting for them: the few Linux calls that Node has none for. Linux x64 and arm64. */
import { closeSync, constants, openSync } from 'node:fs';
import { createRequire } from 'node:module';

/** linux/if_tun.h, sys/epoll.h. */
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFREQ_BYTES = 40;
const NAME_BYTES = 16;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 0x1;
const EPOLLERR = 0x8;
const EPOLLHUP = 0x10;
const MAX_EVENTS = 64;
/** Packed on x64 (12 bytes), naturally aligned elsewhere (16). */
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA = process.arch === 'x64' ? 4 : 8;

interface Calls {
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  read(fd: number, into: Uint8Array, length: number): number;
  write(fd: number, from: Uint8Array, length: number): number;
  epollCreate(flags: number): number;
  epollCtl(epoll: number, operation: number, fd: number, event: Uint8Array): number;
  epollWait(epoll: number, events: Uint8Array, max: number, timeout: BigInt64Array | null, mask: null): number;
  errno(): number;
}

let bound: Calls | undefined;

function calls(): Calls {
  if (bound !== undefined) return bound;
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const libc = koffi.load(null);
  const bind = <T>(declaration: string) => libc.func(declaration) as unknown as T;
  bound = {
    ioctl: bind('int ioctl(int, ulong, void *)'),
    read: bind('int64 read(int, void *, size_t)'),
    write: bind('int64 write(int, void *, size_t)'),
    epollCreate: bind('int epoll_create1(int)'),
    epollCtl: bind('int epoll_ctl(int, int, int, void *)'),
    epollWait: bind('int epoll_pwait2(int, void *, int, void *, void *)'),
    errno: () => koffi.errno(),
  };
  return bound;
}

/** A new TUN device in the namespace of this process; it is gone when the descriptor is closed. */
export function openTun(name: string): number {
  if (Buffer.byteLength(name) >= NAME_BYTES) throw new RangeError(`"${name}" is too long for a device`);
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(Buffer.from(name));
  new Uint16Array(request.buffer, NAME_BYTES, 1)[0] = IFF_TUN | IFF_NO_PI;
  if (calls().ioctl(fd, TUNSETIFF, request) !== 0) {
    const errno = calls().errno();
    closeSync(fd);
    throw new Error(`TUNSETIFF ${name}: errno ${errno}`);
  }
  return fd;
}

/** Bytes read; negative when there is nothing now, or an error. */
export function readPacket(fd: number, into: Uint8Array): number {
  return calls().read(fd, into, into.length);
}

/** False: the device is down, or its queue full. */
export function writePacket(fd: number, packet: Uint8Array, sizeBytes: number): boolean {
  return calls().write(fd, packet, sizeBytes) === sizeBytes;
}

/** Which descriptors can be read. Waiting blocks the thread. */
export class ReadyDescriptors {
  readonly #epoll: number;
  readonly #events = new Uint8Array(EVENT_BYTES * MAX_EVENTS);
  readonly #view = new DataView(this.#events.buffer);
  readonly #timeout = new BigInt64Array(2);
  /** The first `wait()` of them. */
  readonly ready = new Int32Array(MAX_EVENTS);
  /** Of these: 1 where the other side is gone and nothing will come any more. */
  readonly gone = new Uint8Array(MAX_EVENTS);

  constructor() {
    this.#epoll = calls().epollCreate(0);
    if (this.#epoll < 0) throw new Error(`epoll_create1: errno ${calls().errno()}`);
  }

  add(fd: number): void {
    const event = new Uint8Array(16);
    const view = new DataView(event.buffer);
    view.setUint32(0, EPOLLIN, true);
    view.setInt32(EVENT_DATA, fd, true);
    if (calls().epollCtl(this.#epoll, EPOLL_CTL_ADD, fd, event) !== 0) {
      throw new Error(`epoll_ctl: errno ${calls().errno()}`);
    }
  }

  remove(fd: number): void {
    calls().epollCtl(this.#epoll, EPOLL_CTL_DEL, fd, new Uint8Array(16));
  }

  /** Waits for up to `timeoutMs` (fractions count, Infinity = for ever). Returns how many are ready. */
  wait(timeoutMs: number): number {
    let timeout: BigInt64Array | null = null;
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      const wholeSeconds = Math.floor(timeoutMs / 1000);
      this.#timeout[0] = BigInt(wholeSeconds);
      this.#timeout[1] = BigInt(Math.floor((timeoutMs - wholeSeconds * 1000) * 1e6));
      timeout = this.#timeout;
    }
    const count = calls().epollWait(this.#epoll, this.#events, MAX_EVENTS, timeout, null);
    for (let i = 0; i < count; i++) {
      const flags = this.#view.getUint32(i * EVENT_BYTES, true);
      this.ready[i] = this.#view.getInt32(i * EVENT_BYTES + EVENT_DATA, true);
      this.gone[i] = (flags & (EPOLLERR | EPOLLHUP)) !== 0 && (flags & EPOLLIN) === 0 ? 1 : 0;
    }
    return Math.max(count, 0);
  }
}
