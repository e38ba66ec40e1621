import type { Command } from 'commander';
import { withDaemon } from '../find-daemon.ts';
import { formatBytes, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

const ms = (value: number | undefined) => (value === undefined ? '–' : value.toFixed(1));

export function addTopologyCommand(program: Command, io: Io): void {
  withApi(program.command('topology'))
    .description('what this client knows of the network: nodes, guards and the hops its circuits join, as measured')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const topology = await client.paths.topology({ signal: io.signal });
        if (options.json) {
          printJson(io, topology);
          return;
        }
        const total = topology.nodes.reduce((sum, { weight }) => sum + weight, 0);
        const nodes = topology.nodes.map((node) => [
          shortId(node.nodeId),
          node.roles.join(','),
          [...node.countries, ...node.asns.map((asn) => `AS${asn}`)].join(' ') || '–',
          total > 0 ? `${((node.weight / total) * 100).toFixed(2)} %` : '–',
          ms(node.linkRttMs),
          ms(node.latencyMs),
          `${node.setupSuccesses.toFixed(1)} / ${node.setupFailures.toFixed(1)}`,
          [node.guard ? 'guard' : '', node.self ? 'this node' : ''].filter(Boolean).join(', '),
        ]);
        const head = ['node', 'roles', 'where', 'weight', 'link ms', 'share ms', 'set-ups ok / failed', ''];
        printLine(io, formatTable(head, nodes));
        const guards = topology.guards.map((guard) => [
          shortId(guard.nodeId),
          guard.dropped ? 'dropped' : guard.primary ? 'primary' : 'sampled',
          guard.confirmedUnixSeconds === undefined ? '–' : new Date(guard.confirmedUnixSeconds * 1000).toISOString(),
          guard.failures,
          `${guard.built.toFixed(0)} of ${guard.setups.toFixed(0)}`,
          `${guard.held.toFixed(0)} of ${guard.used.toFixed(0)}`,
          guard.verdict,
        ]);
        if (guards.length > 0) {
          printLine(io, formatTable(['guard', 'state', 'confirmed', 'failures', 'built', 'held', 'verdict'], guards));
        }
        const edges = topology.edges.map((edge) => [
          edge.from === '' ? 'this client' : shortId(edge.from),
          shortId(edge.to),
          edge.paths,
          edge.streams,
          formatBytes(edge.bytesSent),
          formatBytes(edge.bytesReceived),
        ]);
        if (edges.length > 0) {
          printLine(io, formatTable(['from', 'to', 'paths', 'streams', 'sent', 'received'], edges));
        }
        const { entropy } = topology;
        if (entropy) {
          printLine(
            io,
            `paths by default: ${entropy.pathBits.toFixed(2)} bits (${entropy.positionBits.map((bits) => bits.toFixed(2)).join(' + ')} by hop, guard kept), ${entropy.costBits.toFixed(2)} less than by weight alone`,
          );
        }
      });
    });
}
