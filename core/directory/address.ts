/** Literal IP addresses: parsing, canonical form, special ranges, and the subnets that paths must not share. */
import ipaddr from 'ipaddr.js';

export type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;

/**
 * Parses a literal: IPv4 as four decimal numbers, IPv6 without a zone. Undefined for anything else, the many other
 * spellings of IPv4 (`0x7f.1`, `010.0.0.1`, `127.1`) among them.
 */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.length > 45) return undefined;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined;
  return ipaddr.IPv6.parse(text);
}

/** Parses and takes IPv4 out of ::ffff:0:0/96, because that is where the operating system would connect. */
export function parseTarget(text: string): IpAddress | undefined {
  const address = parseAddress(text);
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

/** True when `text` is written as this project writes addresses (IPv6: RFC 5952). */
export function isCanonicalAddress(text: string): boolean {
  return parseAddress(text)?.toString() === text;
}

/** In ::ffff:0:0/96: IPv4 written as IPv6. */
export function isMappedAddress(text: string): boolean {
  const address = text.includes(':') ? parseAddress(text) : undefined;
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
}

/**
 * Undefined for an address of the public Internet, else the name of its special range: loopback, private, link-local,
 * shared (CGNAT), multicast, documentation, and every IPv6 range that embeds or translates IPv4 (mapped, 6to4, Teredo,
 * NAT64). IPv6 counts as public only inside 2000::/3.
 */
export function specialRange(address: IpAddress): string | undefined {
  const range = address.range();
  if (range !== 'unicast') return range;
  if (address instanceof ipaddr.IPv6 && (address.parts[0]! & 0xe000) !== 0x2000) return 'not global unicast';
  return undefined;
}

/**
 * Ways to an address, as bits. Loopback addresses are ways of their own: they lead to this machine alone, and a machine
 * that IPv6 does not lead out of has ::1 nevertheless.
 */
export const Reach = { ipv4: 1, ipv6: 2, loopback4: 4, loopback6: 8 } as const;
export const REACH_IPV4 = Reach.ipv4 | Reach.loopback4;
export const REACH_IPV6 = Reach.ipv6 | Reach.loopback6;
export const REACH_ALL = REACH_IPV4 | REACH_IPV6;

/** The way to a literal address in canonical form: one bit of Reach. */
export function reachOf(address: string): number {
  if (address.includes(':')) return address === '::1' ? Reach.loopback6 : Reach.ipv6;
  return address.startsWith('127.') ? Reach.loopback4 : Reach.ipv4;
}

/** The network that two hops of a path must not have in common: /16 for IPv4, /32 for IPv6. A key for maps. */
export function subnetKey(address: IpAddress): string {
  if (address instanceof ipaddr.IPv4) return `4:${address.octets[0]}.${address.octets[1]}`;
  return `6:${address.parts[0]!.toString(16)}:${address.parts[1]!.toString(16)}`;
}
