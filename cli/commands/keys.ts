import type { Command } from 'commander';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

const when = (unixSeconds: number) => new Date(unixSeconds * 1000).toISOString().replace('.000Z', 'Z');

export function addKeysCommand(program: Command, io: Io): void {
  const keys = program.command('keys').description('The daemon’s own keys; public parts only.');
  withApi(keys.command('list', { isDefault: true }))
    .description('identity, link and mix keys')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const list = await client.keys.list({ signal: io.signal });
        if (options.json) {
          printJson(io, list);
          return;
        }
        printLine(io, `node       ${list.nodeId}`);
        printLine(io, `identity   ${list.identityPublicKey}`);
        printLine(io, `link       x25519 ${list.linkX25519PublicKey}`);
        printLine(io, `           ml-kem ${list.linkKemPublicKeySha256} (SHA-256)`);
        printLine(io, `at rest    ${list.encrypted ? 'encrypted with a passphrase' : 'not encrypted'}`);
        printLine(io);
        const rows = list.mixKeys.map((key) => [
          key.epoch,
          key.x25519PublicKey.slice(0, 16),
          when(key.notBeforeUnixSeconds),
          when(key.erasedAfterUnixSeconds),
        ]);
        printLine(io, formatTable(['epoch', 'mix key', 'from', 'erased after'], rows));
      });
    });
  withApi(keys.command('rotate'))
    .description('fresh mix keys for the next epoch; those of the previous one are erased')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const mixKeys = await client.keys.rotate({ signal: io.signal });
        if (options.json) printJson(io, { mixKeys });
        else printLine(io, `rotated; mix keys of epochs ${mixKeys.map(({ epoch }) => epoch).join(', ')} are valid`);
      });
    });
}
