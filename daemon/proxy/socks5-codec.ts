/**
 * SOCKS5 on the wire: RFC 1928 (greeting, request, reply, UDP header), RFC 1929 (username/password) and Tor's
 * RESOLVE extensions (0xF0, 0xF1). Pure: bytes in, values out. Parsers look at the start of what has arrived and say
 * 'more', a value with the bytes it took, or what is wrong; they never throw and never need more than
 * `maxMessageBytes`.
 */
import { isIPv4 } from 'node:net';
import ipaddr from 'ipaddr.js';

export const Socks5Reply = {
  succeeded: 0x00,
  generalFailure: 0x01,
  notAllowed: 0x02,
  networkUnreachable: 0x03,
  hostUnreachable: 0x04,
  connectionRefused: 0x05,
  ttlExpired: 0x06,
  commandNotSupported: 0x07,
  addressTypeNotSupported: 0x08,
} as const;
export type Socks5Reply = (typeof Socks5Reply)[keyof typeof Socks5Reply];

export const Socks5Method = { none: 0x00, userPassword: 0x02, noneAcceptable: 0xff } as const;
export type Socks5Method = (typeof Socks5Method)[keyof typeof Socks5Method];

export type Socks5Command = 'connect' | 'bind' | 'udp-associate' | 'resolve' | 'resolve-ptr';

const commands: ReadonlyMap<number, Socks5Command> = new Map([
  [0x01, 'connect'],
  [0x02, 'bind'],
  [0x03, 'udp-associate'],
  [0xf0, 'resolve'],
  [0xf1, 'resolve-ptr'],
]);

/** The longest message of the handshake: username and password of 255 bytes each. */
export const maxMessageBytes = 3 + 255 + 255;

export type Parsed<T> =
  | { readonly kind: 'more' }
  | { readonly kind: 'value'; readonly value: T; readonly sizeBytes: number }
  | { readonly kind: 'bad'; readonly reason: string; readonly reply: Socks5Reply };

export interface Socks5Credentials {
  readonly username: Uint8Array;
  readonly password: Uint8Array;
}

export interface Socks5Address {
  /** Name (ASCII) or literal IPv4 or IPv6 address. */
  readonly host: string;
  readonly port: number;
  readonly literal: boolean;
}

export interface Socks5Request extends Socks5Address {
  readonly command: Socks5Command;
}

export interface Socks5Datagram extends Socks5Address {
  /** 0 = stands alone. */
  readonly fragment: number;
  /** A view into the datagram. */
  readonly data: Uint8Array;
}

const more = { kind: 'more' } as const;
const bad = (reason: string, reply: Socks5Reply = Socks5Reply.generalFailure) =>
  ({ kind: 'bad', reason, reply }) as const;

/** `05 ‖ n ‖ n methods`: the methods offered. RFC 1928 §3. */
export function parseGreeting(bytes: Uint8Array): Parsed<ReadonlySet<number>> {
  if (bytes.length === 0) return more;
  if (bytes[0] !== 0x05) return bad(`version ${bytes[0]}, expected 5`);
  if (bytes.length < 2) return more;
  const sizeBytes = 2 + bytes[1]!;
  if (bytes.length < sizeBytes) return more;
  return { kind: 'value', value: new Set(bytes.subarray(2, sizeBytes)), sizeBytes };
}

/** `01 ‖ n ‖ username ‖ m ‖ password`, copied. Lengths of 0 pass, since clients send them. RFC 1929 §2. */
export function parseCredentials(bytes: Uint8Array): Parsed<Socks5Credentials> {
  if (bytes.length === 0) return more;
  if (bytes[0] !== 0x01) return bad(`authentication version ${bytes[0]}, expected 1`);
  if (bytes.length < 2) return more;
  const usernameEnd = 2 + bytes[1]!;
  if (bytes.length <= usernameEnd) return more;
  const sizeBytes = usernameEnd + 1 + bytes[usernameEnd]!;
  if (bytes.length < sizeBytes) return more;
  // Not slice(): a Buffer's does not copy.
  const username = new Uint8Array(bytes.subarray(2, usernameEnd));
  const password = new Uint8Array(bytes.subarray(usernameEnd + 1, sizeBytes));
  return { kind: 'value', value: { username, password }, sizeBytes };
}

/** `05 ‖ command ‖ 00 ‖ address type ‖ address ‖ port`. RFC 1928 §4. */
export function parseRequest(bytes: Uint8Array): Parsed<Socks5Request> {
  if (bytes.length === 0) return more;
  if (bytes[0] !== 0x05) return bad(`request version ${bytes[0]}, expected 5`);
  if (bytes.length < 2) return more;
  const command = commands.get(bytes[1]!);
  if (command === undefined) return bad(`unknown command ${bytes[1]}`, Socks5Reply.commandNotSupported);
  if (bytes.length < 3) return more;
  if (bytes[2] !== 0) return bad(`reserved byte is ${bytes[2]}, expected 0`);
  const address = parseAddress(bytes, 3);
  if (address.kind !== 'value') return address;
  const { host, port, literal } = address.value;
  return { kind: 'value', value: { command, host, port, literal }, sizeBytes: address.sizeBytes };
}

/** A datagram from the client: `00 00 ‖ fragment ‖ address ‖ data`. Undefined when malformed. RFC 1928 §7. */
export function parseDatagram(bytes: Uint8Array): Socks5Datagram | undefined {
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0) return undefined;
  const address = parseAddress(bytes, 3);
  if (address.kind !== 'value') return undefined;
  const { host, port, literal } = address.value;
  return { fragment: bytes[2]!, host, port, literal, data: bytes.subarray(address.sizeBytes) };
}

/** `05 ‖ method`. */
export function encodeMethod(method: Socks5Method): Uint8Array {
  return Uint8Array.of(0x05, method);
}

/** `01 ‖ status`, 0 = accepted. */
export function encodeAuthStatus(accepted: boolean): Uint8Array {
  return Uint8Array.of(0x01, accepted ? 0x00 : 0x01);
}

/** `05 ‖ reply ‖ 00 ‖ address`. Without an address `0.0.0.0:0`. RFC 1928 §6. */
export function encodeReply(reply: Socks5Reply, host = '0.0.0.0', port = 0): Uint8Array {
  return Buffer.concat([Uint8Array.of(0x05, reply, 0x00), encodeAddress(host, port)]);
}

/** `00 00 00 ‖ address ‖ data`. */
export function encodeDatagram(host: string, port: number, data: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(0, 0, 0), encodeAddress(host, port), data]);
}

/** Address type, address and port from `offset`; `sizeBytes` counts from the beginning of `bytes`. */
function parseAddress(bytes: Uint8Array, offset: number): Parsed<Socks5Address> {
  if (bytes.length <= offset) return more;
  const type = bytes[offset]!;
  const start = offset + (type === 0x03 ? 2 : 1);
  let length: number;
  if (type === 0x01) length = 4;
  else if (type === 0x04) length = 16;
  else if (type === 0x03) {
    if (bytes.length < start) return more;
    length = bytes[offset + 1]!;
    if (length === 0) return bad('empty name');
  } else return bad(`unknown address type ${type}`, Socks5Reply.addressTypeNotSupported);
  const end = start + length;
  const sizeBytes = end + 2;
  if (bytes.length < sizeBytes) return more;
  const raw = bytes.subarray(start, end);
  const port = (bytes[end]! << 8) | bytes[end + 1]!;
  if (type !== 0x03) {
    return { kind: 'value', value: { host: formatAddress(raw), port, literal: true }, sizeBytes };
  }
  const host = Buffer.from(raw).toString('latin1');
  if (!/^[\x21-\x7e]+$/.test(host)) return bad('name has bytes that no host name has');
  // Clients that know only names send literals as names; they mean the address.
  const literal = ipaddr.IPv4.isValidFourPartDecimal(host) || (host.includes(':') && ipaddr.IPv6.isValid(host));
  return { kind: 'value', value: { host, port, literal }, sizeBytes };
}

function formatAddress(raw: Uint8Array): string {
  return raw.length === 4 ? raw.join('.') : ipaddr.fromByteArray([...raw]).toString();
}

/** Address type ‖ address ‖ port, for a literal address or a name of 1…255 bytes. */
function encodeAddress(host: string, port: number): Uint8Array {
  if (!ipaddr.isValid(host) || (!host.includes(':') && !isIPv4(host))) {
    const name = Buffer.from(host, 'latin1');
    if (name.length === 0 || name.length > 255) throw new RangeError(`name of ${name.length} bytes, expected 1…255`);
    return Buffer.concat([Uint8Array.of(0x03, name.length), name, portBytes(port)]);
  }
  const raw = Uint8Array.from(ipaddr.parse(host).toByteArray());
  return Buffer.concat([Uint8Array.of(raw.length === 4 ? 0x01 : 0x04), raw, portBytes(port)]);
}

function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >>> 8, port & 0xff);
}
