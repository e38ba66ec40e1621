import { resolve } from 'node:path';
import { ConfigError } from '@nyx/daemon/config/config-error.ts';
import type { ReloadConfigResponse } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { CliError, ExitCode } from '../exit-codes.ts';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

export function addConfigCommand(program: Command, io: Io): void {
  const config = program.command('config').description('The daemon’s configuration.');
  config
    .command('check')
    .description('reads a configuration as the daemon would: says that it is good, or where each mistake is')
    .argument('<file>', 'e.g. nyx.yaml')
    .option('--json', 'machine-readable output')
    .action(async (file: string, options: { json?: boolean }) => {
      const issues = await mistakesOf(resolve(io.cwd, file));
      const report = { file, issues };
      if (issues.length === 0) {
        if (options.json) printJson(io, { ok: true, ...report });
        else printLine(io, `${file}: ok`);
        return;
      }
      if (!options.json) printLine(io, formatIssues(file, issues));
      const count = issues.length === 1 ? 'a mistake' : `${issues.length} mistakes`;
      throw new CliError(ExitCode.failure, `${file} has ${count}`, report);
    });
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

/** Line 0: the file as a whole. */
interface Issue {
  readonly line: number;
  readonly column: number;
  readonly key: string;
  readonly message: string;
}

/** Without a daemon. Files that the configuration names are not opened. */
async function mistakesOf(file: string): Promise<Issue[]> {
  // Schema and YAML are loaded only where they are used: every command would wait for them.
  const { loadConfig } = await import('@nyx/daemon/config/load.ts');
  try {
    loadConfig(file);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.issues.map(({ line, column, path: key, message }) => ({ line, column, key, message }));
  }
}

function formatIssues(file: string, issues: readonly Issue[]): string {
  const rows = issues.map(({ line, column, key, message }) => [
    line === 0 ? file : `${file}:${line}:${column}`,
    key,
    message,
  ]);
  return formatTable(['where', 'key', 'what is wrong'], rows);
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
  if (outcome === 'invalid') return formatIssues(file, issues);
  const where = (line: number, column: number) => (line === 0 ? file : `${file}:${line}:${column}`);
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
