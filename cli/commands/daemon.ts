import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { CliError, ExitCode } from '../exit-codes.ts';
import type { Io } from '../output.ts';

export function addDaemonCommand(program: Command, io: Io): void {
  program
    .command('daemon')
    .description('Runs a daemon in the foreground. All arguments go to it; its first line on stdout is JSON.')
    .argument('[args...]', 'for the daemon, e.g. --config nyx.yaml')
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .action(async (args: string[]) => {
      const main = fileURLToPath(import.meta.resolve('@nyx/daemon/main.ts'));
      if (!existsSync(main)) throw new CliError(ExitCode.failure, `the daemon is not installed here: ${main}`);
      const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
      const onAbort = () => child.kill('SIGTERM');
      io.signal.addEventListener('abort', onAbort, { once: true });
      if (io.signal.aborted) onAbort();
      const code = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (exitCode, signal) => resolve(exitCode ?? (signal === 'SIGTERM' ? 0 : 1)));
      });
      io.signal.removeEventListener('abort', onAbort);
      if (code !== 0)
        throw new CliError(ExitCode.failure, `the daemon ended with code ${code}; its last lines say why`);
    });
}
