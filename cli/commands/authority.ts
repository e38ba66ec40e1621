/**
 * `nyx-cli authority key`: what others have to put into directory.authorities.keys. `nyx-cli family key`: a family's name. Both
 * work on the key's file; no daemon is asked.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CliError, ExitCode } from '../exit-codes.ts';
import { type Io, printJson, printLine } from '../output.ts';

interface KeyOptions {
  readonly file: string;
  readonly create?: boolean;
  readonly json?: boolean;
}

export function addAuthorityCommand(program: Command, io: Io): void {
  addKeyCommand(
    program.command('authority').description('Keys of a directory authority.'),
    'prints the public key that belongs to an authority’s key file',
    'the file that authority.keyFile names',
    io,
  );
  addKeyCommand(
    program.command('family').description('Keys of families: all nodes of one operator have the same.'),
    'prints the public key that belongs to a family’s key file: the name of the family',
    'the file that familyKeyFiles names, the same on all nodes of the family',
    io,
  );
}

function addKeyCommand(parent: Command, description: string, fileMeaning: string, io: Io): void {
  parent
    .command('key')
    .description(description)
    .requiredOption('--file <file>', fileMeaning)
    .option('--create', 'make a new key if there is no such file')
    .option('--json', 'one JSON object')
    .action(async (options: KeyOptions) => {
      const file = resolve(io.cwd, options.file);
      if (!options.create && !existsSync(file)) {
        throw new CliError(ExitCode.usage, `--file: there is no ${file}; make a new key there with --create`);
      }
      const { createNativeSuite } = await import('@nyx/daemon/io/native-suite.ts');
      const { loadOrMakeSeedKey } = await import('@nyx/daemon/directory/seed-file.ts');
      const key = loadOrMakeSeedKey(file, createNativeSuite());
      const publicKey = Buffer.from(key.publicKey).toString('hex');
      key.wipe();
      if (options.json) printJson(io, { publicKey });
      else printLine(io, publicKey);
    });
}
