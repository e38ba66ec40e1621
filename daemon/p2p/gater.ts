/** Who may connect: not the denied, not too many of one subnet, nobody at an address that this network does not use. */
import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';
import { isPublicHost, parseMultiaddr, subnetOf } from './multiaddr-text.ts';
import type { Penalties } from './penalties.ts';

export interface GaterOptions {
  readonly allowPrivate: boolean;
  readonly maxPerSubnet: number;
  /** Hosts of the open connections. */
  readonly connectedHosts: () => Iterable<string>;
  readonly onRefused: () => void;
}

/** False for what this node neither dials nor remembers. */
export const isUsable = (address: Multiaddr, allowPrivate: boolean): boolean => {
  const parsed = parseMultiaddr(address.toString());
  return parsed !== undefined && parsed.port !== 0 && (allowPrivate || isPublicHost(parsed.host));
};

export const createGater = (penalties: Penalties, options: GaterOptions): ConnectionGater => {
  const refuse = (): boolean => {
    options.onRefused();
    return true;
  };
  const denyPeer = (peer: PeerId): boolean => penalties.isDenied(peer.toString()) && refuse();
  const isFull = (subnet: string): boolean => {
    let count = 0;
    for (const host of options.connectedHosts()) if (subnetOf(host) === subnet) count++;
    return count >= options.maxPerSubnet;
  };
  return {
    denyDialPeer: (peer) => penalties.isDenied(peer.toString()),
    denyDialMultiaddr: (address) => {
      const parsed = parseMultiaddr(address.toString());
      return !isUsable(address, options.allowPrivate) || penalties.isAddressDenied(parsed!.host);
    },
    denyInboundConnection: (connection: MultiaddrConnection) => {
      const host = hostOf(connection.remoteAddr);
      if (host === undefined || penalties.isAddressDenied(host)) return refuse();
      const subnet = subnetOf(host);
      return (subnet === undefined || isFull(subnet)) && refuse();
    },
    denyInboundEncryptedConnection: denyPeer,
    denyOutboundEncryptedConnection: denyPeer,
    filterMultiaddrForPeer: (_peer, address) => isUsable(address, options.allowPrivate),
  };
};

export const hostOf = (address: Multiaddr): string | undefined => parseMultiaddr(address.toString())?.host;
