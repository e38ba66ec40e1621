import type { Configuration, GetNodeInfoResponse, Loops, Supervisor } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { parseDurationMs } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import { formatBytes, formatSeconds, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';
import { formatAlarms } from './network.ts';

export function addStatusCommand(program: Command, io: Io): void {
  withApi(program.command('status'))
    .description('The daemon’s state: traffic, links, circuits, streams, supervision.')
    .option('--watch', 'again and again until Ctrl-C')
    .option('--interval <time>', 'between two looks with --watch', parseDurationMs, 1_000)
    .action(async (options: CommonOptions & { watch?: boolean; interval: number }) => {
      await withDaemon(options, io, async (client) => {
        for (;;) {
          const info = await client.status({ signal: io.signal });
          if (options.json) printJson(io, info);
          else {
            if (options.watch && io.stdout.isTTY) io.stdout.write('\x1b[H\x1b[2J');
            printLine(io, formatStatus(info));
          }
          if (!options.watch || (await interrupted(options.interval, io.signal))) return;
        }
      });
    });
}

function interrupted(delayMs: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve(signal.aborted);
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted) done();
  });
}

export function formatStatus(info: GetNodeInfoResponse): string {
  const { traffic, process, addresses, view } = info;
  const lines = [
    `node        ${info.nodeId}`,
    `state       ${info.state} since ${formatSeconds(info.uptimeSeconds)}, version ${info.version}, pid ${info.pid}`,
    `roles       ${info.roles.join(', ')}; ${info.workers} worker(s), UDP ${info.udpMode}, ${info.defaultHops} hops by default`,
  ];
  if (addresses) {
    const given = Object.entries({
      link: addresses.links.length > 0 ? addresses.links.join(' ') : addresses.link,
      SOCKS5: addresses.socks,
      'HTTP CONNECT': addresses.httpConnect,
      API: addresses.api,
      metrics: addresses.metrics,
      directory: addresses.directory,
      p2p: addresses.p2p,
    }).filter(([, address]) => address !== '');
    lines.push(`addresses   ${given.map(([name, address]) => `${name} ${address}`).join(', ')}`);
  }
  if (view) {
    const age = view.ageSeconds === undefined ? '' : `, signed ${formatSeconds(view.ageSeconds)} ago`;
    lines.push(
      view.epoch === undefined
        ? 'view        none verified yet'
        : `view        epoch ${view.epoch}: ${view.nodes} nodes, ${view.mixes} mixes, ${view.exits} exits; ${view.signatures} of ${view.threshold} needed signatures${age}`,
    );
  }
  if (info.controlPlane) {
    const { peers, peerId, serving, routingPeers, storedPeers, records, deniedPeers } = info.controlPlane;
    const nodes = new Set(peers.map(({ nodeId }) => nodeId).filter((id) => id !== undefined)).size;
    lines.push(
      `p2p         ${peerId}: ${peers.length} peers (${nodes} nodes), ${routingPeers} in the routing table, ${storedPeers} stored, ${deniedPeers} denied; ${serving ? `${records} records` : 'serves no records'}`,
    );
  }
  if (view) lines.push(...formatAlarms(view));
  if (traffic) {
    const rate = (bytesPerSecond: number) => `${((bytesPerSecond * 8) / 1e6).toFixed(1)} Mbit/s`;
    lines.push(
      `traffic     in ${formatBytes(traffic.bytesIn)} (${rate(traffic.bytesInPerSecond)}), out ${formatBytes(traffic.bytesOut)} (${rate(traffic.bytesOutPerSecond)})`,
      `cells       forward ${traffic.cellsForward}, backward ${traffic.cellsBackward}, delivered ${traffic.cellsDelivered}, originated ${traffic.cellsOriginated}, set-ups ${traffic.setups}`,
    );
    const drops = Object.entries(traffic.drops).filter(([, count]) => count > 0);
    if (drops.length > 0) lines.push(`drops       ${drops.map(([reason, count]) => `${reason} ${count}`).join(', ')}`);
  }
  lines.push(`relaying    ${info.relayCircuits} circuits of others, ${info.exitStreams} exit streams`);
  if (info.mixing && info.mixing.releasedCells > 0) {
    const { waitingCells, releasedCells, meanDelayMs = 0, cellsPerSecond, bits } = info.mixing;
    const now =
      cellsPerSecond === undefined || bits === undefined
        ? 'too few now for a figure of anonymity'
        : `${cellsPerSecond.toFixed(1)} a second now: ${bits.toFixed(2)} bits each`;
    lines.push(
      `mixing      ${waitingCells} cells wait, ${releasedCells} have waited ${meanDelayMs.toFixed(1)} ms on average; ${now}`,
    );
  }
  if (info.cmix && info.cmix.batches > 0) {
    const { batches, cells, smallestRecent = 0, delayMs = 0, waitingCells } = info.cmix;
    const mean = (cells / batches).toFixed(1);
    lines.push(
      `batches     ${batches} of ${mean} cells on average, the smallest lately of ${smallestRecent}; delay ${delayMs.toFixed(0)} ms; ${waitingCells} cells wait`,
    );
  }
  if (info.cmix && info.cmix.proved + info.cmix.lost + info.cmix.withheld + info.cmix.unproved > 0) {
    const { proved, lost, withheld, unproved } = info.cmix;
    lines.push(`proofs      ${proved} cells proved, ${lost} lost, ${withheld} withheld, ${unproved} unproved`);
  }
  for (const nodeId of info.cmix?.exchangers ?? []) {
    lines.push(`exchanged   ${nodeId} took cells of ours and gave out others`);
  }
  for (const { nodeId, kind, file } of info.cmix?.cheats ?? []) {
    lines.push(`CHEAT       ${nodeId} (${kind}); evidence: ${file}`);
  }
  if (process) {
    lines.push(
      `process     ${formatBytes(process.rssBytes)} resident, ${process.cpuSeconds.toFixed(1)} CPU seconds (${(process.cpuRatio * 100).toFixed(0)} % of a core now)`,
    );
  }
  lines.push(...formatCover(info), ...formatMessages(info));
  if (info.configuration) lines.push(...formatConfiguration(info.configuration));
  lines.push(`keys        ${info.keysEncrypted ? 'encrypted at rest' : 'not encrypted at rest'}`, '');
  const links = info.peers.map((peer) => [
    peer.linkId,
    peer.nodeId === undefined ? 'anonymous' : shortId(peer.nodeId),
    peer.initiator ? 'out' : 'in',
    peer.state,
    peer.rttMs === undefined ? '–' : peer.rttMs.toFixed(2),
    peer.lossRatio === undefined ? '–' : `${(peer.lossRatio * 100).toFixed(2)} %`,
    formatBytes(peer.bytesIn),
    formatBytes(peer.bytesOut),
    formatSeconds(peer.upSeconds),
  ]);
  if (links.length > 0) {
    lines.push(formatTable(['link', 'node', '', 'state', 'rtt ms', 'loss', 'in', 'out', 'up'], links), '');
  }
  const circuits = info.paths.map((path) => [
    path.pathId,
    path.state,
    path.pathClass.replace('PATH_CLASS_', '').toLowerCase(),
    path.nodeIds.map(shortId).join(' → '),
    path.setupMs === undefined ? '–' : path.setupMs.toFixed(2),
    path.streams,
    formatBytes(path.bytesSent),
    formatBytes(path.bytesReceived),
  ]);
  if (circuits.length > 0) {
    lines.push(
      formatTable(['circuit', 'state', 'class', 'hops', 'set-up ms', 'streams', 'sent', 'received'], circuits),
      '',
    );
  }
  if (info.supervision) lines.push(...formatTree(info.supervision));
  return lines.join('\n');
}

function formatConfiguration(configuration: Configuration): string[] {
  const { generation, appliedUnixMs, lastOutcome, lastReloadUnixMs = 0, lastError, workerGenerations } = configuration;
  const when = (unixMs: number) => new Date(unixMs).toISOString();
  const behind = workerGenerations.filter((worker) => worker < generation).length;
  const late = behind === 0 ? '' : `, ${behind} worker(s) still go by an earlier one`;
  const lines = [`config      generation ${generation} since ${when(appliedUnixMs)}${late}`];
  if (lastOutcome !== undefined) lines.push(`reload      ${lastOutcome} at ${when(lastReloadUnixMs)}`);
  for (const problem of lastError?.split('\n') ?? []) lines.push(`            ${problem}`);
  if (configuration.needRestart.length > 0) lines.push(`restart     for ${configuration.needRestart.join(', ')}`);
  return lines;
}

function formatMessages({ messages, mailboxes }: GetNodeInfoResponse): string[] {
  const lines: string[] = [];
  if (messages && (messages.addresses > 0 || messages.slots > 0)) {
    const { addresses, openMailboxes, outgoing, waiting, sentPackets, coverPackets } = messages;
    lines.push(
      `messages    ${addresses} address(es), ${openMailboxes} mailbox(es) open; ${outgoing} on their way, ${waiting} wait to be received; ${sentPackets} packets and ${coverPackets} of cover sent`,
      ...formatLoops('            loops: ', messages.loops, 'messages'),
    );
  }
  if (mailboxes) {
    const { heldPackets, heldBytes, dropped } = mailboxes;
    const refused = Object.values(dropped).reduce((sum, count) => sum + count, 0);
    lines.push(
      `mailboxes   ${mailboxes.mailboxes} kept; ${heldPackets} packets held (${formatBytes(heldBytes)}), ${mailboxes.delivered} delivered, ${refused} not taken`,
    );
  }
  for (const problem of new Set([messages?.storeProblem, mailboxes?.storeProblem])) {
    if (problem) lines.push(`            PROBLEM: ${problem}`);
  }
  return lines;
}

function formatCover({ cover, coverRatio }: GetNodeInfoResponse): string[] {
  const share = coverRatio === undefined ? '' : `${(coverRatio * 100).toFixed(0)} % of datagrams sent`;
  if (!cover) return [`cover       ${share === '' ? 'none' : `off; ${share}, at clients’ wish`}`];
  const { mode, links, cellsPerSecond } = cover;
  const rate = `${mode}, ${cellsPerSecond.toFixed(1)} cells/s on ${links} link(s)`;
  const back = mode === 'constant' ? `, ${cover.constantBack} of them constant both ways` : '';
  const lines = [`cover       ${rate}${back}${share === '' ? '' : `; ${share}`}`];
  lines.push(...formatLoops('loops       ', cover.loops, 'cells'));
  return lines;
}

function formatLoops(head: string, loops: Loops | null | undefined, what: 'cells' | 'messages'): string[] {
  if (!loops || loops.sent === 0) return [];
  const rtt = loops.meanRttMs === undefined ? '' : `, ${loops.meanRttMs.toFixed(0)} ms on average`;
  const alarm = loops.alarm === '' ? '' : `  ALARM: ${loops.alarm} — somebody drops or holds back ${what}`;
  return [`${head}${loops.sent} sent, ${loops.lost} lost${rtt}${alarm}`];
}

/** The supervision tree, one child a line: what it is, how it is, and how often it had to be restarted. */
export function formatTree(supervisor: Supervisor, indent = ''): string[] {
  const lines = [`${indent}${supervisor.id} (${supervisor.strategy})`];
  for (const child of supervisor.children) {
    const restarts = child.restarts > 0 ? `, restarted ${child.restarts}×` : '';
    const crash = child.lastError === undefined ? '' : `, last error: ${child.lastError}`;
    const machine = child.machineState === undefined ? '' : ` [${child.machineState}]`;
    const inbox = child.inboxLimit > 0 ? `, inbox ${child.inboxLength}/${child.inboxLimit}` : '';
    const lost = child.inboxDropped > 0 ? ` (${child.inboxDropped} lost)` : '';
    lines.push(`${indent}  ${child.id}: ${child.status}${machine}, ${child.restart}${restarts}${inbox}${lost}${crash}`);
    if (child.supervisor) lines.push(...formatTree(child.supervisor, `${indent}    `));
  }
  return lines;
}
