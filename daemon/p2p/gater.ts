/** Who may connect: not the denied, not too many of one subnet, nobody at an address that this network does not use. */
import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';
import { isPublicHost, parseMultiaddr, subnetOf } from './multiaddr-text.ts';
import type { Penalties } from './penalties.ts';

export interface GaterOptions {
  readonly allowPrivate: boolean;
  readonly maxPerSubnet: number;
  /** Hosts of the connections that this node opened. */
  readonly dialledHosts: () => Iterable<string>;
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
  /** Incoming connections by subnet, from the moment they are accepted: those in the handshake count as well. */
  const incoming = new Map<string, number>();
  const admit = (subnet: string, connection: MultiaddrConnection): boolean => {
    let count = incoming.get(subnet) ?? 0;
    for (const host of options.dialledHosts()) if (subnetOf(host) === subnet) count++;
    if (count >= options.maxPerSubnet) return false;
    incoming.set(subnet, (incoming.get(subnet) ?? 0) + 1);
    connection.addEventListener('close', () => {
      const left = incoming.get(subnet)! - 1;
      if (left === 0) incoming.delete(subnet);
      else incoming.set(subnet, left);
    });
    return true;
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
      return (subnet === undefined || !admit(subnet, connection)) && refuse();
    },
    denyInboundEncryptedConnection: denyPeer,
    denyOutboundEncryptedConnection: denyPeer,
    filterMultiaddrForPeer: (_peer, address) => isUsable(address, options.allowPrivate),
  };
};

export const hostOf = (address: Multiaddr): string | undefined => parseMultiaddr(address.toString())?.host;
