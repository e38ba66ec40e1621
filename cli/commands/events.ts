import type { NyxEventKind } from '@nyx/sdk/client.ts';
import { type Command, InvalidArgumentError } from 'commander';
import { integerBetween } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import { type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

const kinds: readonly NyxEventKind[] = [
  'link',
  'circuit',
  'path',
  'session',
  'stream',
  'guard',
  'supervision',
  'directory',
  'keys',
  'p2p',
  'cover',
  'message',
  'cmix',
  'config',
  'node',
];

function parseKinds(text: string): NyxEventKind[] {
  return text.split(',').map((name) => {
    const kind = kinds.find((known) => known === name.trim());
    if (kind === undefined) throw new InvalidArgumentError(`Write some of ${kinds.join(', ')}, separated by commas.`);
    return kind;
  });
}

export function addEventsCommand(program: Command, io: Io): void {
  withApi(program.command('events'))
    .description('What happens in the daemon, as it happens, until Ctrl-C.')
    .option('--kinds <list>', kinds.join(','), parseKinds)
    .option('--count <n>', 'stop after so many', integerBetween(1, 1_000_000))
    .action(async (options: CommonOptions & { kinds?: NyxEventKind[]; count?: number }) => {
      await withDaemon(options, io, async (client) => {
        let left = options.count ?? Number.POSITIVE_INFINITY;
        for await (const event of client.events({ kinds: options.kinds, signal: io.signal })) {
          if (options.json) printJson(io, event);
          else {
            const time = new Date(event.timeUnixMs).toISOString().slice(11, 23);
            const facts = Object.entries(event.attributes).map(([name, value]) => `${name}=${value}`);
            const lost = event.lost > 0 ? ` (${event.lost} before it lost)` : '';
            printLine(io, [time, event.kind, event.name, event.subject, ...facts].join(' ') + lost);
          }
          left -= 1;
          if (left <= 0) return;
        }
      });
    });
}
