import type { ReloadConfigResponse } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { CliError, ExitCode } from '../exit-codes.ts';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

export function addConfigCommand(program: Command, io: Io): void {
  const config = program.command('config').description('The daemon’s configuration.');
  withApi(config.command('reload'))
    .description('has the daemon read its file again and go by it: all of it, or nothing')
    .option('--partial', 'leave what needs a restart as it is and apply the rest')
    .action(async (options: CommonOptions & { partial?: boolean }) => {
      await withDaemon(options, io, async (client) => {
        const report = await client.reloadConfig({ partial: options.partial ?? false, signal: io.signal });
        const refused = refusal(report);
        if (!options.json) printLine(io, formatReport(report));
        if (refused !== undefined) throw new CliError(ExitCode.failure, refused, report);
        if (options.json) printJson(io, { ok: true, ...report });
      });
    });
}

/** Undefined: it was not refused. */
function refusal({ outcome, file }: ReloadConfigResponse): string | undefined {
  if (outcome === 'invalid') return `${file} has mistakes; nothing has changed`;
  if (outcome === 'needs-restart')
    return `${file} changes what needs a restart; nothing has changed. Restart the daemon, or apply the rest with --partial`;
  return undefined;
}

function formatReport(report: ReloadConfigResponse): string {
  const { outcome, generation, file, changed, needRestart, issues, workersConfirmed, workersPending } = report;
  const where = (line: number, column: number) => (line === 0 ? file : `${file}:${line}:${column}`);
  if (outcome === 'invalid') {
    const rows = issues.map(({ line, column, key, message }) => [where(line, column), key, message]);
    return formatTable(['where', 'key', 'what is wrong'], rows);
  }
  const rows = [
    ...changed.map((at) => [at.key, 'applied', where(at.line, at.column)]),
    ...needRestart.map((at) => [at.key, 'needs a restart', where(at.line, at.column)]),
  ];
  const table = rows.length === 0 ? [] : [formatTable(['key', '', 'where'], rows)];
  if (outcome === 'needs-restart') return table.join('\n');
  const late = workersPending === 0 ? '' : `; ${workersPending} have not answered yet`;
  const said =
    outcome === 'applied'
      ? `generation ${generation} is in force; ${workersConfirmed} worker(s) go by it${late}`
      : `nothing to apply; generation ${generation} stays in force`;
  return [...table, said].join('\n');
}
