import type { ControlPlane, Peer } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { withDaemon } from '../find-daemon.ts';
import { formatBytes, formatSeconds, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

export function addPeersCommand(program: Command, io: Io): void {
  withApi(program.command('peers'))
    .description('Peers of the control plane and links to other nodes, with measured figures.')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const call = { signal: io.signal };
        const [controlPlane, links] = await Promise.all([client.controlPlane(call), client.peers(call)]);
        if (options.json) printJson(io, { controlPlane: controlPlane ?? null, links });
        else printLine(io, [formatControlPlane(controlPlane), formatLinks(links)].join('\n\n'));
      });
    });
}

export function formatControlPlane(plane: ControlPlane | undefined): string {
  if (plane === undefined) return 'no control plane; p2p.enabled: true in the configuration of the daemon gives it one';
  const { addresses, peers, refusals } = plane;
  const lines = [
    `peer id     ${plane.peerId}`,
    `listening   ${addresses.length > 0 ? addresses.map(withoutPeer).join(' ') : 'nowhere: only this node opens connections'}`,
    `known       ${plane.routingPeers} in the routing table, ${plane.storedPeers} stored, ${plane.deniedPeers} denied now; ${plane.records} records held`,
    `descriptors ${plane.descriptorsReceived} received, ${plane.descriptorsRelayed} passed on, ${plane.descriptorsDelivered} delivered`,
    `views       ${plane.viewsServed} served (${formatBytes(plane.viewBytesServed)}), ${plane.viewsFetched} fetched (${formatBytes(plane.viewBytesFetched)})`,
  ];
  const refused = Object.entries(refusals).map(([reason, count]) => `${reason} ${count}`);
  if (refused.length > 0 || plane.connectionsRefused > 0) {
    refused.push(`connections ${plane.connectionsRefused}`);
    lines.push(`refused     ${refused.join(', ')}; ${plane.peersDenied} peers denied so far`);
  }
  if (peers.length === 0) return [...lines, 'no peers'].join('\n');
  const rows = peers.map((peer) => [
    peer.peerId,
    peer.nodeId === undefined ? '–' : shortId(peer.nodeId),
    peer.inbound ? 'in' : 'out',
    peer.address,
    peer.rttMs === undefined ? '–' : peer.rttMs.toFixed(0),
    formatSeconds(peer.connectedSeconds),
    [...peer.protocols.filter((name) => name.startsWith('/nyx/')).map((name) => name.split('/')[2]!)].join(' '),
    peer.authority ? 'authority' : '',
  ]);
  return [...lines, '', formatTable(['peer', 'node', '', 'address', 'rtt ms', 'up', 'protocols', ''], rows)].join('\n');
}

function formatLinks(links: readonly Peer[]): string {
  if (links.length === 0) return 'no links';
  const rows = links.map((link) => [
    link.linkId,
    link.nodeId === undefined ? 'anonymous' : shortId(link.nodeId),
    link.initiator ? 'out' : 'in',
    link.address,
    link.rttMs === undefined ? '–' : link.rttMs.toFixed(2),
    link.lossRatio === undefined ? '–' : `${(link.lossRatio * 100).toFixed(2)} %`,
    formatBytes(link.bytesIn),
    formatBytes(link.bytesOut),
    formatSeconds(link.upSeconds),
  ]);
  return formatTable(['link', 'node', '', 'address', 'rtt ms', 'loss', 'in', 'out', 'up'], rows);
}

const withoutPeer = (address: string): string => address.replace(/\/p2p\/.*$/, '');
