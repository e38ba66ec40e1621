/** The multiaddrs that this network uses, as text: /ip4|ip6/ADDRESS/tcp/PORT[/ws][/p2p/PEERID]. Names are not resolved. */
import { isIPv4, isIPv6 } from 'node:net';
import { parseTarget, specialRange, subnetKey } from '@nyx/core/directory/address.ts';

export interface ParsedMultiaddr {
  readonly host: string;
  readonly port: number;
  readonly webSocket: boolean;
  readonly peerId: string | undefined;
}

const pattern = /^\/(ip4|ip6)\/([0-9a-fA-F:.]{2,45})\/tcp\/(\d{1,5})(\/ws)?(?:\/p2p\/([1-9A-HJ-NP-Za-km-z]{40,64}))?$/;

/** Undefined for everything else. */
export const parseMultiaddr = (text: string): ParsedMultiaddr | undefined => {
  const match = text.length > 200 ? null : pattern.exec(text);
  if (match === null) return undefined;
  const host = match[2]!;
  const port = Number(match[3]);
  if (port > 65_535 || !(match[1] === 'ip4' ? isIPv4(host) : isIPv6(host))) return undefined;
  return { host, port, webSocket: match[4] !== undefined, peerId: match[5] };
};

export const isMultiaddr = (text: string): boolean => parseMultiaddr(text) !== undefined;

/** True for an address of the public Internet. */
export const isPublicHost = (host: string): boolean => {
  const address = parseTarget(host);
  return address !== undefined && specialRange(address) === undefined;
};

/** The subnet that connection limits count by; undefined when `host` is no literal address. */
export const subnetOf = (host: string): string | undefined => {
  const address = parseTarget(host);
  return address === undefined ? undefined : subnetKey(address);
};
