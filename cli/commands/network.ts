import type { View, Voting } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { withDaemon } from '../find-daemon.ts';
import { formatBytes, formatSeconds, formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

export function addNetworkCommand(program: Command, io: Io): void {
  withApi(program.command('network'))
    .description('The verified view of the network: epoch, age, who signed it, its parameters and its nodes.')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const { view, nodes } = await client.paths.nodes({ signal: io.signal });
        if (options.json) {
          printJson(io, { view, nodes });
          return;
        }
        if (view) printLine(io, formatView(view, Date.now() / 1000));
        if (nodes.length === 0) return;
        const total = nodes.reduce((sum, { weight }) => sum + weight, 0);
        const rows = nodes.map((node) => [
          shortId(node.nodeId),
          node.roles.join(','),
          node.compliance,
          node.addresses.join(' '),
          `${formatBytes(node.viewBandwidthBytesPerSecond)}/s`,
          total > 0 ? `${((node.weight / total) * 100).toFixed(2)} %` : '–',
          view?.epoch === undefined ? '–' : view.epoch - node.firstEpoch,
          [...node.flags, node.self ? 'this node' : ''].filter(Boolean).join(', '),
        ]);
        printLine(io, '');
        printLine(
          io,
          formatTable(['node', 'roles', 'level', 'addresses', 'bandwidth', 'weight', 'epochs known', ''], rows),
        );
      });
    });
}

/** Epoch, age, signatures by authority, parameters and alarms of a view. */
export function formatView(view: View, nowUnixSeconds: number): string {
  const lines = formatAlarms(view);
  if (view.epoch === undefined) lines.push('view         none verified yet');
  else {
    const left = view.validUntilUnixSeconds - nowUnixSeconds;
    const ends = left > 0 ? `good for ${formatSeconds(left)} more` : 'ended: a newer one is looked for';
    lines.push(
      `view         epoch ${view.epoch}, ${formatSeconds(view.ageSeconds ?? 0)} old, ${ends}`,
      `nodes        ${view.nodes}: ${view.mixes} mixes, ${view.exits} exits`,
      `digest       ${view.digest}`,
    );
  }
  lines.push(`signatures   ${view.signatures}; ${view.threshold} of ${view.authorities.length} authorities are needed`);
  for (const { key, signed } of view.authorities) lines.push(`  ${shortId(key)}  ${signed ? 'signed' : 'missing'}`);
  if (view.authorities.length > 1) {
    lines.push(
      `forks        two views of one epoch take ${view.forkNeeds} lying authorities or more; ${forks(view)} seen`,
    );
  }
  const useless = view.deltasRefused === 0 ? '' : `, of no use: ${view.deltasRefused}`;
  lines.push(
    `updates      views taken: ${view.viewsAccepted}; deltas that led to them: ${view.deltasAccepted}${useless}`,
  );
  const refused = counts(view.refused);
  if (refused !== '') lines.push(`refused      views that came: ${refused}`);
  if (view.voting) lines.push(...formatVoting(view.voting));
  const params = Object.entries(view.params).sort(([a], [b]) => (a < b ? -1 : 1));
  if (params.length > 0) lines.push(`parameters   ${params.map(([name, value]) => `${name} ${value}`).join(', ')}`);
  return lines.join('\n');
}

/** What the node's own authority does. */
function formatVoting(voting: Voting): string[] {
  const { nodes, reachable, measured, descriptorsRefused, measuredBytes } = voting;
  const refused = counts(descriptorsRefused);
  return [
    `authority    ${nodes} nodes have published, ${reachable} answer, ${measured} measured (${formatBytes(measuredBytes)} sent)`,
    `votes        ${voting.votes} cast, ${voting.views} views, ${voting.roundsFailed} rounds failed, ${voting.badVotes} bad votes, ${voting.equivocations} double votes`,
    `descriptors  ${voting.descriptorsTaken} taken${refused === '' ? '' : `, refused: ${refused}`}`,
  ];
}

const counts = (byReason: Record<string, number>): string =>
  Object.entries(byReason)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ');

const forks = ({ alarms }: Pick<View, 'alarms'>): number => alarms.filter(({ kind }) => kind === 'fork').length;

/** What authorities did that they must not do, one a line. */
export function formatAlarms(view: Pick<View, 'alarms'>): string[] {
  const meanings: Record<string, string> = {
    fork: 'two signed views for one epoch',
    equivocation: 'an authority sent two votes in one round',
  };
  return view.alarms.map(
    ({ kind, epoch, file }) => `ALARM        epoch ${epoch}: ${meanings[kind] ?? kind}; the proof is in ${file}`,
  );
}
