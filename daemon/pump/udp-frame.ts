/**
 * What a DATAGRAM frame of a UDP association carries (docs/protocol.md §5, CONNECT kind 1): the remote address, then
 * the payload. Client → exit it is the target, exit → client the sender.
 *
 *   family (1: 4 IPv4, 6 IPv6, 3 name) ‖ length (1) ‖ address (4, 16, or 1…255 bytes of UTF-8) ‖ port (2) ‖ data
 */
import { isIP } from 'node:net';
import { PROTECTED_BYTES } from '@nyx/core/stream/session-fec.ts';
import { timedDatagramHeaderSize } from '@nyx/core/wire/frames.ts';
import ipaddr from 'ipaddr.js';

const FAMILY_NAME = 3;
const FAMILY_IPV4 = 4;
const FAMILY_IPV6 = 6;
const MAX_NAME_BYTES = 255;

const HEADER_BYTES = 4;
/** Stream ids, milliseconds of a session and deadlines as long as they ever get. */
const LONGEST_HEADER_BYTES = timedDatagramHeaderSize(2 ** 30 - 1, 2 ** 40, 60_000);

/**
 * What address and data together may have, so that any datagram fits into one cell, with a deadline and with repair
 * symbols for it. An IPv4 address counts 4 bytes, an IPv6 address 16, a name as many as it has.
 */
export const MAX_UDP_BYTES = PROTECTED_BYTES - LONGEST_HEADER_BYTES - HEADER_BYTES;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export interface UdpFrame {
  /** Literal IPv4 or IPv6 address, or a name. */
  readonly host: string;
  readonly port: number;
  /** A view into the bytes given to decodeUdpFrame. */
  readonly data: Uint8Array;
}

/** Bytes of the header in front of the data, for a given host; undefined when the host cannot be encoded. */
function addressBytes(host: string): { family: number; bytes: Uint8Array } | undefined {
  const version = isIP(host);
  if (version !== 0) {
    if (host.includes('%')) return undefined; // zone ids mean nothing at another node
    return {
      family: version === 4 ? FAMILY_IPV4 : FAMILY_IPV6,
      bytes: Uint8Array.from(ipaddr.parse(host).toByteArray()),
    };
  }
  const bytes = encoder.encode(host);
  if (bytes.length === 0 || bytes.length > MAX_NAME_BYTES) return undefined;
  return { family: FAMILY_NAME, bytes };
}

/** What a host counts towards MAX_UDP_BYTES; undefined: no frame can carry it. */
export function udpAddressBytes(host: string): number | undefined {
  return addressBytes(host)?.bytes.length;
}

/** Copies `data`. Throws RangeError for an empty or too long host and for a port outside 0…65535. */
export function encodeUdpFrame(host: string, port: number, data: Uint8Array): Uint8Array {
  const address = addressBytes(host);
  if (address === undefined)
    throw new RangeError(`host must be a literal address or a name of 1…${MAX_NAME_BYTES} bytes`);
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw new RangeError(`port must be 0…65535, not ${port}`);
  const { family, bytes } = address;
  const frame = new Uint8Array(4 + bytes.length + data.length);
  frame[0] = family;
  frame[1] = bytes.length;
  frame.set(bytes, 2);
  frame[2 + bytes.length] = port >>> 8;
  frame[3 + bytes.length] = port & 0xff;
  frame.set(data, 4 + bytes.length);
  return frame;
}

/** Undefined for anything that is not such a frame. Borrows: `data` is a view into `bytes`. */
export function decodeUdpFrame(bytes: Uint8Array): UdpFrame | undefined {
  if (bytes.length < 2) return undefined;
  const family = bytes[0]!;
  const length = bytes[1]!;
  if (length === 0 || bytes.length < 4 + length) return undefined;
  const host = decodeHost(family, bytes.subarray(2, 2 + length));
  if (host === undefined) return undefined;
  const port = (bytes[2 + length]! << 8) | bytes[3 + length]!;
  return { host, port, data: bytes.subarray(4 + length) };
}

function decodeHost(family: number, address: Uint8Array): string | undefined {
  if (family === FAMILY_IPV4 && address.length === 4) return address.join('.');
  if (family === FAMILY_IPV6 && address.length === 16) return ipaddr.fromByteArray([...address]).toString();
  if (family !== FAMILY_NAME) return undefined;
  try {
    const name = decoder.decode(address);
    // A literal sent as a name would slip past whoever checks only literal addresses.
    return isIP(name) === 0 && !/[\p{Cc}\s]/u.test(name) ? name : undefined;
  } catch {
    return undefined; // not UTF-8
  }
}
