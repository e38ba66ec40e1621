import type { Path, PathChoice } from '@nyx/proto/types.ts';
import type { NyxClient, PathStrategyName } from '@nyx/sdk/client.ts';
import { type Command, Option } from 'commander';
import { integerBetween, parseDurationMs, parseHostPort, parseList, parseNodeIds, parseShare } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import type { HostPort } from '../measure/socks.ts';
import { formatBytes, formatSeconds, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, type PathFlags, withApi, withPath } from './common.ts';

const number = (value: number | undefined, digits = 1) => (value === undefined ? '–' : value.toFixed(digits));

interface ChoiceFlags extends PathFlags {
  readonly nodes?: string[];
  readonly exitTo?: HostPort;
  readonly strategy?: PathStrategyName;
  readonly bias?: number;
  readonly excludeCountry?: string[];
  readonly onlyCountry?: string[];
  readonly excludeFamily?: string[];
  readonly onlyFamily?: string[];
  readonly excludeNode?: string[];
  readonly onlyNode?: string[];
}

function withChoice(command: Command): Command {
  return withPath(command)
    .option('--nodes <ids>', 'explicit path: NodeIDs separated by commas', parseNodeIds)
    .option('--exit-to <host:port>', 'choose an exit that allows this target', parseHostPort)
    .addOption(
      new Option('--strategy <how>', 'how hops are weighed (default: the daemon’s)').choices([
        'uniform',
        'bandwidth',
        'latency',
        'service',
      ]),
    )
    .option('--bias <0–1>', 'of latency: 0 = as bandwidth, 1 = fastest', parseShare)
    .option('--exclude-country <codes>', 'no node there, e.g. SE,NO', parseList)
    .option('--only-country <codes>', 'only nodes known to be there', parseList)
    .option('--exclude-family <names>', 'no node of these families', parseList)
    .option('--only-family <names>', 'only nodes of these families', parseList)
    .option('--exclude-node <ids>', 'not these NodeIDs', parseList)
    .option('--only-node <ids>', 'only these NodeIDs', parseList);
}

function choiceOf(options: ChoiceFlags) {
  return {
    hops: options.hops,
    class: options.class,
    nodeIds: options.nodes,
    exitTarget: options.exitTo,
    strategy: options.strategy,
    latencyBias: options.bias,
    filter: {
      excludeCountries: options.excludeCountry,
      includeCountries: options.onlyCountry,
      excludeFamilies: options.excludeFamily,
      includeFamilies: options.onlyFamily,
      excludeNodes: options.excludeNode,
      includeNodes: options.onlyNode,
    },
  };
}

function printChoice(io: Io, { hops, strategy, relaxed, entropy }: PathChoice): void {
  const rows = hops.map((hop, i) => [
    i + 1,
    shortId(hop.nodeId),
    [...hop.countries, ...hop.asns.map((asn) => `AS${asn}`)].join(' ') || '–',
    `${(hop.share * 100).toFixed(2)} % of ${hop.candidates}`,
    (entropy?.positionBits[i] ?? 0).toFixed(2),
    hop.reasons.join('; '),
  ]);
  printLine(io, formatTable(['hop', 'node', 'where', 'share', 'bits', 'why'], rows));
  if (entropy) {
    const given = relaxed.length > 0 ? `; could not be kept: ${relaxed.join(', ')}` : '';
    printLine(
      io,
      `strategy ${strategy}: ${entropy.pathBits.toFixed(2)} bits, ${entropy.costBits.toFixed(2)} less than by weight alone${given}`,
    );
  }
}

/** On a terminal one table that is drawn again, elsewhere one after the other. */
async function watchPaths(
  client: NyxClient,
  options: CommonOptions & { interval: number; count?: number },
  io: Io,
): Promise<void> {
  let left = options.count ?? Number.POSITIVE_INFINITY;
  const intervalMs = Math.min(60_000, Math.max(100, options.interval));
  for await (const { pathList } of client.statistics({ intervalMs, details: true, signal: io.signal })) {
    if (options.json) printJson(io, { paths: pathList });
    else {
      if (io.stdout.isTTY) io.stdout.write('\u001b[H\u001b[2J');
      printLine(io, sessionTable(pathList));
      if (!io.stdout.isTTY) printLine(io);
    }
    left -= 1;
    if (left <= 0) return;
  }
}

function sessionTable(list: readonly Path[]): string {
  const rows = list.flatMap((path) =>
    path.circuits.map((circuit, i) => [
      i === 0 ? path.pathId : '',
      i === 0 ? path.strategy.replace('MULTIPATH_STRATEGY_', '').toLowerCase() : '',
      i === 0 ? `${path.circuits.filter(({ state }) => state === 'usable').length}/${path.wantedPaths}` : '',
      i === 0 ? path.streams : '',
      i === 0 ? fecText(path.fec) : '',
      circuit.circuitId,
      circuit.state,
      circuit.nodeIds.map(shortId).join(' → '),
      number(circuit.rttMs),
      number(circuit.jitterMs),
      `${(circuit.lossRatio * 100).toFixed(2)} %`,
      `${circuit.packetsInFlight}/${circuit.windowPackets}`,
      `${formatBytes(circuit.deliveryRateBytesPerSecond)}/s`,
      formatSeconds(circuit.ageSeconds),
    ]),
  );
  const head = ['id', 'strategy', 'paths', 'streams', 'fec', 'circuit', 'state', 'hops', 'rtt ms', 'jitter', 'loss'];
  return rows.length > 0 ? formatTable([...head, 'in flight', 'rate', 'age'], rows) : 'no circuits';
}

/** How much is added now, and how many packets it has brought back both ways. */
function fecText(fec: Path['fec']): string {
  if (fec == null) return 'none';
  const policy = Number.isNaN(Number(fec.policy)) ? fec.policy : 'fixed';
  if (fec.codecs.length === 0) return `${policy}, not at the exit`;
  return `${policy} ${(fec.ratio * 100).toFixed(0)} %, ${fec.packetsRecovered + fec.recoveredByPeer} back`;
}

export function addPathsCommand(program: Command, io: Io): void {
  const paths = program.command('paths').description('Circuits of this client.');
  withApi(paths.command('list', { isDefault: true }))
    .description('the circuits, their hops and measured figures')
    .option('--watch', 'every circuit under every session, as it changes, until Ctrl-C')
    .option('--interval <time>', 'of --watch', parseDurationMs, 1000)
    .option('--count <n>', 'of --watch: stop after so many tables', integerBetween(1, 1_000_000))
    .action(async (options: CommonOptions & { watch?: boolean; interval: number; count?: number }) => {
      await withDaemon(options, io, async (client) => {
        if (options.watch) {
          await watchPaths(client, options, io);
          return;
        }
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
  withChoice(withApi(paths.command('build')))
    .description('builds a circuit and waits until its last hop has proved itself')
    .option('--timeout <time>', 'e.g. 10s', parseDurationMs)
    .action(async (options: CommonOptions & ChoiceFlags & { timeout?: number }) => {
      await withDaemon(options, io, async (client) => {
        const built = await client.paths.build({
          ...choiceOf(options),
          timeoutMs: options.timeout,
          signal: io.signal,
        });
        if (options.json) printJson(io, built);
        else {
          printLine(io, `${built.pathId}  ${built.nodeIds.map(shortId).join(' → ')}  ${built.setupMs.toFixed(2)} ms`);
          if (built.choice) printChoice(io, built.choice);
        }
      });
    });
  withChoice(withApi(paths.command('choose')))
    .description('shows paths that `build` could come to, and why, without building them')
    .option('--count <n>', 'so many paths without a common node', integerBetween(1, 8))
    .action(async (options: CommonOptions & ChoiceFlags & { count?: number }) => {
      await withDaemon(options, io, async (client) => {
        const chosen = await client.paths.choose({ ...choiceOf(options), count: options.count, signal: io.signal });
        if (options.json) printJson(io, { paths: chosen });
        else for (const choice of chosen) printChoice(io, choice);
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
