/** nyx-cli: every command in one table. `run` returns the exit code and never throws. */
import { Command, CommanderError } from 'commander';
import { addAnonymityCommand } from './commands/anonymity.ts';
import { addAuthorityCommand } from './commands/authority.ts';
import { addBenchCommand } from './commands/bench.ts';
import { addConfigCommand } from './commands/config.ts';
import { addConnectCommand } from './commands/connect.ts';
import { addDaemonCommand } from './commands/daemon.ts';
import { addEventsCommand } from './commands/events.ts';
import { addEvidenceCommand } from './commands/evidence.ts';
import { addKeysCommand } from './commands/keys.ts';
import { addMessageCommands } from './commands/messages.ts';
import { addNetworkCommand } from './commands/network.ts';
import { addPathsCommand } from './commands/paths.ts';
import { addPeersCommand } from './commands/peers.ts';
import { addStatusCommand } from './commands/status.ts';
import { addTopologyCommand } from './commands/topology.ts';
import { addUpCommand } from './commands/up.ts';
import { ExitCode, explainFailure } from './exit-codes.ts';
import { type Io, printJson } from './output.ts';

const help = `
The daemon is found through --api, $NYX_API_SOCKET, a local network that is up, ./nyx-data/api.sock,
$XDG_RUNTIME_DIR/nyx/api.sock or ~/.nyx/api.sock: the first that there is.

Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon not reachable, 4 no path or circuit failed, 5 target failed,
6 message not acknowledged in time.`;

export function buildProgram(io: Io): Command {
  const program = new Command('nyx-cli')
    .description('Talks to a Nyx daemon, or runs a whole network on this machine.')
    .version('0.1.0')
    .showHelpAfterError('(nyx-cli COMMAND --help shows what is possible)')
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
    })
    .exitOverride()
    .enablePositionalOptions()
    .addHelpText('after', help);
  for (const add of [
    addUpCommand,
    addDaemonCommand,
    addConnectCommand,
    addBenchCommand,
    addStatusCommand,
    addAnonymityCommand,
    addNetworkCommand,
    addPathsCommand,
    addTopologyCommand,
    addPeersCommand,
    addMessageCommands,
    addKeysCommand,
    addConfigCommand,
    addAuthorityCommand,
    addEventsCommand,
    addEvidenceCommand,
  ]) {
    add(program, io);
  }
  return program;
}

export async function run(argv: readonly string[], given?: Partial<Io>): Promise<ExitCode> {
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  const io: Io = {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signal: interrupt.signal,
    ...given,
  };
  if (!given?.signal) for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal);
  // A reader that has seen enough (`| head`) is no failure.
  io.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') interrupt.abort();
  });
  try {
    await buildProgram(io).parseAsync([...argv], { from: 'user' });
    return ExitCode.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage; // it has said why
    const failure = explainFailure(error);
    if (argv.includes('--json'))
      printJson(io, {
        ...failure.details,
        ok: false,
        code: failure.code,
        message: failure.message,
        next: failure.next,
      });
    io.stderr.write(`nyx-cli: ${failure.message}${failure.next ? `\n${failure.next}` : ''}\n`);
    return failure.exitCode;
  } finally {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, onSignal);
  }
}
