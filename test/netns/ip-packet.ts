/** What a router needs of IP packets: where they go, and rewriting one end of IPv4 (RFC 791, 8200, 768, 9293). */
import ipaddr from 'ipaddr.js';

export const Protocol = { tcp: 6, udp: 17 } as const;

/** 4 or 16 bytes. Throws for anything that is no address. */
export function addressBytes(text: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/** 4, 6, or 0 for what is neither, or too short to be one. */
export function versionOf(packet: Uint8Array, sizeBytes: number): 0 | 4 | 6 {
  const version = packet[0]! >> 4;
  if (version === 4 && sizeBytes >= 20) return 4;
  return version === 6 && sizeBytes >= 40 ? 6 : 0;
}

export function isMulticast(packet: Uint8Array, version: 4 | 6): boolean {
  return version === 4 ? packet[16]! >> 4 === 14 : packet[24] === 0xff;
}

/** Whether the packet goes to `address`, which has as many bytes as the packet's version has. */
export function goesTo(packet: Uint8Array, address: Uint8Array): boolean {
  const at = address.length === 4 ? 16 : 24;
  for (let i = 0; i < address.length; i++) if (packet[at + i] !== address[i]) return false;
  return true;
}

/** The last four bytes of the destination: of a small network's addresses, enough to look up and then compare. */
export function destinationHash(packet: Uint8Array, version: 4 | 6): number {
  const at = version === 4 ? 16 : 36;
  return ((packet[at]! << 24) | (packet[at + 1]! << 16) | (packet[at + 2]! << 8) | packet[at + 3]!) >>> 0;
}

export function addressHash(address: Uint8Array): number {
  const at = address.length - 4;
  return ((address[at]! << 24) | (address[at + 1]! << 16) | (address[at + 2]! << 8) | address[at + 3]!) >>> 0;
}

/** Of IPv4 with TCP or UDP, not a later fragment: where the transport header begins; otherwise 0. */
export function transportAt(packet: Uint8Array, sizeBytes: number): number {
  const protocol = packet[9];
  if (protocol !== Protocol.tcp && protocol !== Protocol.udp) return 0;
  if ((packet[6]! & 0x1f) !== 0 || packet[7] !== 0) return 0;
  const at = (packet[0]! & 15) * 4;
  return sizeBytes >= at + (protocol === Protocol.tcp ? 20 : 8) ? at : 0;
}

export const PacketEnd = { source: 0, destination: 1 } as const;
export type PacketEnd = (typeof PacketEnd)[keyof typeof PacketEnd];

export function portOf(packet: Uint8Array, transport: number, end: PacketEnd): number {
  const at = transport + 2 * end;
  return (packet[at]! << 8) | packet[at + 1]!;
}

/** Another address and port at one end of an IPv4 packet; checksums follow (RFC 1624). In place. */
export function rewriteEnd(
  packet: Uint8Array,
  transport: number,
  end: PacketEnd,
  address: Uint8Array,
  port: number,
): void {
  const checksumAt = packet[9] === Protocol.tcp ? transport + 16 : transport + 6;
  const hasChecksum = packet[9] === Protocol.tcp || word(packet, checksumAt) !== 0;
  const addressAt = 12 + 4 * end;
  const portAt = transport + 2 * end;
  let header = ~word(packet, 10) & 0xffff;
  let body = ~word(packet, checksumAt) & 0xffff;
  for (let i = 0; i < 4; i += 2) {
    const change = (~word(packet, addressAt + i) & 0xffff) + word(address, i);
    header += change;
    body += change;
    packet[addressAt + i] = address[i]!;
    packet[addressAt + i + 1] = address[i + 1]!;
  }
  body += (~word(packet, portAt) & 0xffff) + port;
  setWord(packet, portAt, port);
  setWord(packet, 10, ~fold(header) & 0xffff);
  if (!hasChecksum) return;
  const sum = ~fold(body) & 0xffff;
  setWord(packet, checksumAt, sum === 0 && packet[9] === Protocol.udp ? 0xffff : sum);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
