import type { Command } from 'commander';
import { integerBetween } from '../arguments.ts';
import { CliError, ExitCode } from '../exit-codes.ts';
import { runLocalNetwork, type UpOptions } from '../local-network.ts';
import type { Io } from '../output.ts';

export function addUpCommand(program: Command, io: Io): void {
  program
    .command('up')
    .description('Brings up a whole network on this machine, each node a process of its own, until Ctrl-C.')
    .option('--mixes <n>', 'relays', integerBetween(2, 32), 5)
    .option('--exits <n>', 'exits', integerBetween(1, 8), 1)
    .option(
      '--nodes <n>',
      'relays and exits together, one exit in six; instead of the two above',
      integerBetween(3, 200),
    )
    .option('--authorities <n>', 'relays that are directory authorities as well', integerBetween(1, 15), 1)
    .option('--hops <n>', 'relays on a path by default, 3–7', integerBetween(3, 7), 3)
    .option('--json', 'machine-readable output: one line when it is up')
    .action(async (given: UpOptions & { nodes?: number }, command: Command) => {
      const options = withNodes(given, command);
      if (options.mixes + options.exits < options.hops) {
        throw new CliError(
          ExitCode.usage,
          `${options.hops} hops need as many relays; use --mixes ${options.hops - options.exits} or more`,
        );
      }
      if (options.authorities > options.mixes + options.exits) {
        throw new CliError(ExitCode.usage, `${options.authorities} authorities need as many relays; use --nodes`);
      }
      await runLocalNetwork(options, io);
    });
}

/** What `--nodes` means. Throws CliError beside the options it replaces. */
function withNodes({ nodes, ...options }: UpOptions & { nodes?: number }, command: Command): UpOptions {
  if (nodes === undefined) return options;
  if (['mixes', 'exits'].some((name) => command.getOptionValueSource(name) === 'cli')) {
    throw new CliError(
      ExitCode.usage,
      '--nodes says how many relays and exits there are; leave --mixes and --exits out',
    );
  }
  const exits = Math.max(1, Math.round(nodes / 6));
  return { ...options, mixes: nodes - exits, exits };
}
