import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { parseDurationMs, parseHostPort } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import type { HostPort } from '../measure/socks.ts';
import { type Io, printJson, shortId } from '../output.ts';
import {
  type CommonOptions,
  type FecFlags,
  type MultipathFlags,
  type PathFlags,
  withApi,
  withFec,
  withMultipath,
  withPath,
} from './common.ts';

export function addConnectCommand(program: Command, io: Io): void {
  withFec(withMultipath(withPath(withApi(program.command('connect')))))
    .description('Connects stdin and stdout to a target through the network, like nc; the end of stdin half-closes.')
    .argument('<host:port>', 'resolved at the exit', parseHostPort)
    .option('--isolation <key>', 'streams with different keys never share a circuit')
    .option('--timeout <time>', 'for reaching the target', parseDurationMs, 30_000)
    .option('-v, --verbose', 'says on stderr over which hops')
    .addHelpText('after', '\nWith --json a summary goes to stderr at the end; stdout is the target’s.')
    .action(
      async (
        target: HostPort,
        options: CommonOptions &
          PathFlags &
          MultipathFlags &
          FecFlags & { isolation?: string; timeout: number; verbose?: boolean },
      ) => {
        await withDaemon(options, io, async (client) => {
          const socket = await client.connect({
            ...target,
            hops: options.hops,
            class: options.class,
            paths: options.paths,
            strategy: options.strategy,
            fec: options.fec,
            isolation: options.isolation,
            timeoutMs: options.timeout,
            allowHalfOpen: true,
            signal: io.signal,
          });
          const addedMs = socket.expectedAddedLatencyMs ?? 0;
          if (options.verbose) {
            const mixing = addedMs > 0 ? `; mixing adds ${addedMs} ms each way on average` : '';
            io.stderr.write(`connected over ${socket.nodeIds.map(shortId).join(' → ')}${mixing}\n`);
          }
          // The target's end ends the command, whether or not stdin has ended: as nc does.
          const done = new AbortController();
          const sending = pipeline(io.stdin, socket, { signal: done.signal, end: true }).catch((error: unknown) => {
            if (!done.signal.aborted) throw error;
          });
          await Promise.all([pipeline(socket, io.stdout, { end: false }).finally(() => done.abort()), sending]);
          if (options.json) {
            const { bytesRead, bytesWritten, nodeIds, pathId } = socket;
            const summary = { ok: true, bytesRead, bytesWritten, pathId, nodeIds, expectedAddedLatencyMs: addedMs };
            printJson({ ...io, stdout: io.stderr }, summary);
          }
        });
      },
    );
}
