import { readFileSync } from 'node:fs';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { cheatName, MAX_EVIDENCE_BYTES, verifyEvidence } from '@nyx/core/mix/batch-evidence.ts';
import { BatchRecords } from '@nyx/core/mix/batch-records.ts';
import { RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import type { Command } from 'commander';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

const meaning = {
  equivocation: 'it signed two different statements of one batch',
  delay: 'it signed a batch whose delay it had not computed, or made shorter than allowed',
  membership: 'it signed that cells were in a batch in which they are not',
  receipt: 'it signed a receipt for a cell, and then a batch without it',
  opening: 'it opened a batch otherwise than it had signed it',
  size: 'it signed a batch of more cells than a full one has',
  exchange: 'it took a cell into a batch and gave out another in its place',
} as const;

export function addEvidenceCommand(program: Command, io: Io): void {
  const evidence = program.command('evidence').description('Mixes of class cmix that were shown to cheat.');
  withApi(evidence.command('list', { isDefault: true }))
    .description('what the daemon has found or was told, and where the evidence is')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const cheats = (await client.status({ signal: io.signal })).cmix?.cheats ?? [];
        if (options.json) {
          printJson(io, cheats);
          return;
        }
        if (cheats.length === 0) {
          printLine(io, 'no mix is known to have cheated');
          return;
        }
        const rows = cheats.map(({ nodeId, kind, batch, file }) => [nodeId, kind, batch, file]);
        printLine(io, formatTable(['node', 'how', 'batch', 'evidence'], rows));
      });
    });
  withApi(evidence.command('share'))
    .argument('<file>', 'evidence, e.g. of a client that does not want to tell its own neighbours')
    .description('has the daemon check evidence from a file, keep it and tell its neighbours')
    .action(async (file: string, options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const cheat = await client.shareEvidence(readFileSync(file), { signal: io.signal });
        if (options.json) printJson(io, cheat);
        else printLine(io, `${cheat.nodeId} cheated (${cheat.kind}): the daemon's neighbours are told`);
      });
    });
  evidence
    .command('verify')
    .argument('<file>', 'evidence, e.g. from another node')
    .option('--json', 'print JSON')
    .description('checks evidence from a file, by itself: no daemon is asked')
    .action((file: string, options: { readonly json?: boolean }) => {
      const bytes = readFileSync(file);
      const records = new BatchRecords(createNobleSuite(), new RsaGroup());
      const cheat = bytes.length > MAX_EVIDENCE_BYTES ? undefined : verifyEvidence(records, bytes);
      if (cheat === undefined) throw new Error(`${file} shows nothing: it is not evidence, or was changed`);
      const kind = cheatName(cheat.kind);
      const nodeId = Buffer.from(cheat.nodeId).toString('hex');
      if (options.json) printJson(io, { nodeId, kind, batch: cheat.number });
      else printLine(io, `${nodeId} cheated: ${meaning[kind]} (batch ${cheat.number})`);
    });
}
