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
    .option('--hops <n>', 'relays on a path by default, 3–7', integerBetween(3, 7), 3)
    .option('--json', 'machine-readable output: one line when it is up')
    .action(async (options: UpOptions) => {
      if (options.mixes + options.exits < options.hops) {
        throw new CliError(
          ExitCode.usage,
          `${options.hops} hops need as many relays; use --mixes ${options.hops - options.exits} or more`,
        );
      }
      await runLocalNetwork(options, io);
    });
}
