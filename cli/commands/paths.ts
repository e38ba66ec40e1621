import type { Command } from 'commander';
import { integerBetween, parseDurationMs, parseHostPort, parseNodeIds } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import type { HostPort } from '../measure/socks.ts';
import { formatBytes, formatSeconds, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, type PathFlags, withApi, withPath } from './common.ts';

const number = (value: number | undefined, digits = 1) => (value === undefined ? '–' : value.toFixed(digits));

export function addPathsCommand(program: Command, io: Io): void {
  const paths = program.command('paths').description('Circuits of this client.');
  withApi(paths.command('list', { isDefault: true }))
    .description('the circuits, their hops and measured figures')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const list = await client.paths.list({ signal: io.signal });
        if (options.json) {
          printJson(io, { paths: list });
          return;
        }
        const rows = list.map((path) => [
          path.pathId,
          path.state,
          path.pathClass.replace('PATH_CLASS_', '').toLowerCase(),
          path.nodeIds.map(shortId).join(' → '),
          number(path.setupMs),
          number(path.rttMs),
          path.streams,
          formatBytes(path.bytesSent),
          formatBytes(path.bytesReceived),
          `${(path.lossRatio * 100).toFixed(2)} %`,
          `${(path.spuriousRatio * 100).toFixed(2)} %`,
          formatSeconds(path.ageSeconds),
        ]);
        const head = [
          'id',
          'state',
          'class',
          'hops',
          'set-up ms',
          'rtt ms',
          'streams',
          'sent',
          'received',
          'loss',
          'only late',
          'age',
        ];
        printLine(io, rows.length > 0 ? formatTable(head, rows) : 'no circuits; `nyx-cli paths build` builds one');
      });
    });
  withPath(withApi(paths.command('build')))
    .description('builds a circuit and waits until its last hop has proved itself')
    .option('--nodes <ids>', 'explicit path: NodeIDs separated by commas', parseNodeIds)
    .option('--exit-to <host:port>', 'choose an exit that allows this target', parseHostPort)
    .option('--timeout <time>', 'e.g. 10s', parseDurationMs)
    .action(async (options: CommonOptions & PathFlags & { nodes?: string[]; exitTo?: HostPort; timeout?: number }) => {
      await withDaemon(options, io, async (client) => {
        const built = await client.paths.build({
          hops: options.hops,
          class: options.class,
          nodeIds: options.nodes,
          exitTarget: options.exitTo,
          timeoutMs: options.timeout,
          signal: io.signal,
        });
        if (options.json) printJson(io, built);
        else
          printLine(io, `${built.pathId}  ${built.nodeIds.map(shortId).join(' → ')}  ${built.setupMs.toFixed(2)} ms`);
      });
    });
  withApi(paths.command('close'))
    .description('closes a circuit')
    .argument('<id>', 'from `nyx-cli paths`', integerBetween(1, Number.MAX_SAFE_INTEGER))
    .action(async (pathId: number, options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        await client.paths.close(pathId, { signal: io.signal });
        if (options.json) printJson(io, { ok: true, pathId });
        else printLine(io, `closed ${pathId}`);
      });
    });
  withApi(paths.command('nodes'))
    .description('the verified view of the network that paths are chosen from')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const { view, nodes } = await client.paths.nodes({ signal: io.signal });
        if (options.json) {
          printJson(io, { view, nodes });
          return;
        }
        const rows = nodes.map((node) => [
          shortId(node.nodeId),
          node.roles.join(','),
          node.addresses.join(' '),
          `${formatBytes(node.bandwidthBytesPerSecond)}/s`,
          [node.guard ? 'guard' : '', node.self ? 'this node' : ''].filter(Boolean).join(', '),
          node.exitPolicy.join(', '),
        ]);
        printLine(io, formatTable(['node', 'roles', 'addresses', 'bandwidth', '', 'exit policy'], rows));
      });
    });
}
