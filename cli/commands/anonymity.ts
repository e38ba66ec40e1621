import type { GetAnonymityResponse } from '@nyx/proto/types.ts';
import type { Command } from 'commander';
import { parseRate } from '../arguments.ts';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

export function addAnonymityCommand(program: Command, io: Io): void {
  withApi(program.command('anonymity'))
    .description('what each class hides, in bits, as far as this node can know')
    .option('--assume-rate <cells>', 'suppose that so many cells a second pass each relay of a path', parseRate)
    .action(async (options: CommonOptions & { assumeRate?: number }) => {
      await withDaemon(options, io, async (client) => {
        const answer = await client.anonymity({ assumedCellsPerSecond: options.assumeRate, signal: io.signal });
        if (options.json) printJson(io, answer);
        else printLine(io, formatAnonymity(answer));
      });
    });
}

function formatAnonymity({ figures, alarm }: GetAnonymityResponse): string {
  const rows = figures.map(({ pathClass, observer, subject, bits, basis, note }) => [
    pathClass,
    observer,
    subject,
    bits === undefined ? '–' : bits.toFixed(2),
    basis,
    note,
  ]);
  const table = formatTable(['class', 'observer', 'about', 'bits', 'basis', ''], rows);
  if (alarm === '') return table;
  return `${table}\nALARM: ${alarm} — somebody drops or holds back cells; these figures do not hold against that`;
}
