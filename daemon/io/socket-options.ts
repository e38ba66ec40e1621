/**
 * A bound UDP file descriptor with the options that Node has no call for: UDP_SEGMENT and UDP_GRO (Linux ≥ 5.0,
 * udp(7)) and buffer sizes beyond the soft limit. The descriptor is made through libc and then handed to Node by
 * `socket.bind({ fd })`, which owns and closes it from then on.
 */
import { createRequire } from 'node:module';
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Linux, the same on x64 and arm64. */
export const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM_CLOEXEC_NONBLOCK = 2 | 0o2000000 | 0o4000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

export interface UdpDescriptorOptions {
  /** Literal address. */
  readonly host: string;
  /** 0 = any. */
  readonly port: number;
  readonly reusePort: boolean;
  /** Size at which the kernel cuts sends, and glues receives. */
  readonly segmentBytes: number;
  readonly bufferBytes: number;
}

/** Which call failed and the errno it failed with. */
export class SocketCallError extends Error {
  readonly call: string;
  readonly errno: number;
  /** The name as Node knows it (`EADDRINUSE`), or `errno N`. */
  readonly code: string;
  constructor(call: string, errno: number, code: string) {
    super(`${call}: ${code}`);
    this.name = 'SocketCallError';
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  close(fd: number): number;
  fail(call: string): SocketCallError;
}

let loaded: Libc | undefined;

/** Throws when there is no FFI or no such libc here. */
function libc(): Libc {
  if (loaded !== undefined) return loaded;
  if (process.platform !== 'linux') throw new Error(`UDP segmentation offload is for Linux, not ${process.platform}`);
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const library = koffi.load(null); // the process itself: whichever libc it runs on
  const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value as number, name]));
  loaded = {
    socket: library.func('int socket(int, int, int)') as unknown as Libc['socket'],
    setsockopt: library.func('int setsockopt(int, int, int, void *, uint)') as unknown as Libc['setsockopt'],
    bind: library.func('int bind(int, void *, uint)') as unknown as Libc['bind'],
    close: library.func('int close(int)') as unknown as Libc['close'],
    fail(call) {
      const errno = koffi.errno();
      return new SocketCallError(call, errno, names.get(errno) ?? `errno ${errno}`);
    },
  };
  return loaded;
}

/** Makes and binds the descriptor. Throws SocketCallError (or whatever kept the FFI from loading); leaks nothing. */
export function bindUdpDescriptor(options: UdpDescriptorOptions): number {
  const c = libc();
  const v6 = isIPv6(options.host);
  const fd = c.socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM_CLOEXEC_NONBLOCK, 0);
  if (fd < 0) throw c.fail('socket');
  try {
    if (options.reusePort) setOption(c, fd, SOL_SOCKET, SO_REUSEPORT, 1, 'SO_REUSEPORT');
    if (v6) setOption(c, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, 'IPV6_V6ONLY');
    // Beyond the soft limit where we may, else up to it: the kernel caps the plain options silently.
    if (!tryOption(c, fd, SOL_SOCKET, SO_RCVBUFFORCE, options.bufferBytes)) {
      setOption(c, fd, SOL_SOCKET, SO_RCVBUF, options.bufferBytes, 'SO_RCVBUF');
    }
    if (!tryOption(c, fd, SOL_SOCKET, SO_SNDBUFFORCE, options.bufferBytes)) {
      setOption(c, fd, SOL_SOCKET, SO_SNDBUF, options.bufferBytes, 'SO_SNDBUF');
    }
    setOption(c, fd, SOL_UDP, UDP_SEGMENT, options.segmentBytes, 'UDP_SEGMENT');
    setOption(c, fd, SOL_UDP, UDP_GRO, 1, 'UDP_GRO');
    const address = encodeSocketAddress(options.host, options.port);
    if (c.bind(fd, address, address.length) !== 0) throw c.fail('bind');
    return fd;
  } catch (error) {
    c.close(fd);
    throw error;
  }
}

/** Sets the size at which the kernel cuts sends; 0 = not at all. False when refused. */
export function setSegmentBytes(fd: number, segmentBytes: number): boolean {
  return tryOption(libc(), fd, SOL_UDP, UDP_SEGMENT, segmentBytes);
}

/** Closes a descriptor that Node did not take. */
export function closeDescriptor(fd: number): void {
  libc().close(fd);
}

function tryOption(c: Libc, fd: number, level: number, option: number, value: number): boolean {
  const bytes = new Uint8Array(Int32Array.of(value).buffer); // native byte order, as an int in C
  return c.setsockopt(fd, level, option, bytes, 4) === 0;
}

function setOption(c: Libc, fd: number, level: number, option: number, value: number, name: string): void {
  if (!tryOption(c, fd, level, option, value)) throw c.fail(`setsockopt ${name}`);
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28): family in native order, port and address in network order. */
export function encodeSocketAddress(host: string, port: number): Uint8Array {
  const parsed = ipaddr.parse(host);
  const bytes = parsed.toByteArray();
  const v6 = bytes.length === 16;
  const out = new Uint8Array(v6 ? 28 : 16);
  new Uint16Array(out.buffer, 0, 1)[0] = v6 ? AF_INET6 : AF_INET;
  out[2] = port >>> 8;
  out[3] = port & 0xff;
  out.set(bytes, v6 ? 8 : 4);
  return out;
}
