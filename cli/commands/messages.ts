import { readFile } from 'node:fs/promises';
import type { NyxClient } from '@nyx/sdk/client.ts';
import type { MessageAddress, ReceivedMessage, SendUntil } from '@nyx/sdk/messages.ts';
import { type Command, InvalidArgumentError } from 'commander';
import { integerBetween, parseDurationMs } from '../arguments.ts';
import { CliError, ExitCode } from '../exit-codes.ts';
import { withDaemon } from '../find-daemon.ts';
import { formatTable, type Io, printJson, printLine, shortId } from '../output.ts';
import { type CommonOptions, withApi } from './common.ts';

const MAX_MESSAGE_BYTES = 65_536;

export function addMessageCommands(program: Command, io: Io): void {
  addSend(program, io);
  addReceive(program, io);
  addAddress(program, io);
  addReplyBlock(program, io);
}

interface SendFlags extends CommonOptions {
  readonly file?: string;
  readonly until?: SendUntil;
  readonly timeout: number;
}

function addSend(program: Command, io: Io): void {
  withApi(program.command('send'))
    .description('Sends a message of up to 64 KiB to an address, or an anonymous reply over a reply block.')
    .argument('<to>', 'nyx-msg:… or nyx-reply:…')
    .argument('[text...]', 'what to send; without it and without --file: stdin')
    .option('--file <file>', 'sends what is in the file')
    .option('--until <state>', 'queued, sent or acknowledged (default: acknowledged; replies: sent)', parseUntil)
    .option('--timeout <time>', 'for the acknowledgement', parseDurationMs, 120_000)
    .addHelpText('after', '\nExit code 6: not acknowledged in time; it may have arrived or not.')
    .action(async (to: string, words: string[], options: SendFlags) => {
      const content = await contentOf(words, options.file, io);
      await withDaemon(options, io, async (client) => {
        const startedMs = performance.now();
        const progress = new Progress(io);
        const result = await client.messages
          .send(to, content, {
            until: options.until,
            timeoutMs: options.timeout,
            signal: io.signal,
            onProgress: ({ packetsSent, packetsTotal }) => progress.show(packetsSent, packetsTotal),
          })
          .finally(() => progress.end());
        const seconds = (performance.now() - startedMs) / 1000;
        if (options.json) printJson(io, { ok: true, ...result, bytes: content.length, seconds });
        else
          printLine(
            io,
            `${result.state} after ${seconds.toFixed(1)} s (${content.length} bytes${result.packetsSent > 0 ? `, ${result.packetsSent} packets` : ''})`,
          );
      });
    });
}

function addReceive(program: Command, io: Io): void {
  withApi(program.command('receive'))
    .description(
      'Prints messages as they come, until Ctrl-C. Without an address yet it makes one. What is printed is acknowledged.',
    )
    .option('--count <n>', 'stop after so many', integerBetween(1, 1_000_000))
    .action(async (options: CommonOptions & { count?: number }) => {
      await withDaemon(options, io, async (client) => {
        for (const address of await addressesOf(client, io)) io.stderr.write(`${describe(address)}\n`);
        let left = options.count ?? Number.POSITIVE_INFINITY;
        for await (const message of client.messages.receive({ signal: io.signal })) {
          print(message, options.json ?? false, io);
          await message.acknowledge();
          left -= 1;
          if (left <= 0) return;
        }
      });
    });
}

function addAddress(program: Command, io: Io): void {
  const address = program.command('address').description('Addresses that messages can be sent to.');
  withApi(address.command('create'))
    .description('a new address with a mailbox and keys of its own; printed on stdout')
    .option('--label <text>', 'for your own eyes')
    .option('--node <id>', 'NodeID of the node that is to keep the mailbox (see `nyx-cli paths nodes`)')
    .action(async (options: CommonOptions & { label?: string; node?: string }) => {
      await withDaemon(options, io, async (client) => {
        const made = await client.messages.createAddress({
          label: options.label,
          nodeId: options.node,
          signal: io.signal,
        });
        if (options.json) printJson(io, made);
        else printLine(io, made.address);
        if (made.state !== 'open') io.stderr.write(`its mailbox is not open yet: ${made.problem || made.state}\n`);
      });
    });
  withApi(address.command('list', { isDefault: true }))
    .description('the addresses, and whether their mailboxes are open')
    .action(async (options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const addresses = await client.messages.addresses({ signal: io.signal });
        if (options.json) {
          printJson(io, { addresses });
          return;
        }
        const rows = addresses.map(({ address, label, nodeId, state, problem, refusedPackets }) => [
          address,
          label,
          shortId(nodeId),
          problem === '' ? state : `${state}: ${problem}`,
          refusedPackets,
        ]);
        printLine(io, formatTable(['address', 'label', 'mailbox at', 'state', 'packets refused'], rows));
      });
    });
  withApi(address.command('delete'))
    .description('erases an address with its keys; what is on its way to it can’t be read any more')
    .argument('<address>')
    .action(async (text: string, options: CommonOptions) => {
      await withDaemon(options, io, async (client) => {
        const { erasedAtNode } = await client.messages.deleteAddress(text, { signal: io.signal });
        if (options.json) printJson(io, { ok: true, erasedAtNode });
        else if (erasedAtNode) printLine(io, 'erased');
        else
          printLine(
            io,
            'erased here; its node could not be told and keeps what is in it, unreadable, until it expires',
          );
      });
    });
}

function addReplyBlock(program: Command, io: Io): void {
  withApi(program.command('reply-block'))
    .description('A token with which whoever you give it to can send you one anonymous reply; printed on stdout.')
    .option('--packets <n>', 'how long the reply may be, 1–16 packets', integerBetween(1, 16), 1)
    .action(async (options: CommonOptions & { packets: number }) => {
      await withDaemon(options, io, async (client) => {
        const made = await client.messages.createReplyBlock({ packets: options.packets, signal: io.signal });
        if (options.json) {
          printJson(io, { ...made, expiresAt: made.expiresAt.toISOString() });
          return;
        }
        printLine(io, made.replyBlock);
        io.stderr.write(`for one reply of up to ${made.maxReplyBytes} bytes until ${made.expiresAt.toISOString()}\n`);
      });
    });
}

function parseUntil(text: string): SendUntil {
  if (text === 'queued' || text === 'sent' || text === 'acknowledged') return text;
  throw new InvalidArgumentError('Write queued, sent or acknowledged.');
}

async function contentOf(words: readonly string[], file: string | undefined, io: Io): Promise<Buffer> {
  if (file !== undefined && words.length > 0) throw new CliError(ExitCode.usage, 'give the text or --file, not both');
  if (words.length > 0) return Buffer.from(words.join(' '));
  if (file !== undefined) {
    try {
      return await readFile(file);
    } catch (error) {
      throw new CliError(ExitCode.usage, `--file: ${(error as Error).message}`);
    }
  }
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of io.stdin) {
    chunks.push(Buffer.from(chunk as Uint8Array));
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_MESSAGE_BYTES) {
      throw new CliError(ExitCode.usage, `a message has at most ${MAX_MESSAGE_BYTES} bytes; stdin has more`);
    }
  }
  return Buffer.concat(chunks);
}

async function addressesOf(client: NyxClient, io: Io): Promise<MessageAddress[]> {
  const addresses = await client.messages.addresses({ signal: io.signal });
  return addresses.length > 0 ? addresses : [await client.messages.createAddress({ signal: io.signal })];
}

function describe({ address, label, state, problem }: MessageAddress): string {
  const notes = [label, state === 'open' ? '' : problem || state].filter((note) => note !== '');
  return notes.length === 0 ? address : `${address}  (${notes.join('; ')})`;
}

function print(message: ReceivedMessage, json: boolean, io: Io): void {
  const { id, content, address, replyBlockId, receivedAt } = message;
  if (json) {
    // Text where it is text: bytes can always be had back from base64.
    const text = asText(content);
    const body = text === undefined ? { base64: content.toString('base64') } : { text };
    printJson(io, { id, address, replyBlockId, receivedAt: receivedAt.toISOString(), ...body });
    return;
  }
  const from = replyBlockId === undefined ? `to ${address?.slice(0, 20)}…` : `reply over ${replyBlockId.slice(0, 10)}…`;
  io.stderr.write(`--- ${receivedAt.toISOString()}, ${content.length} bytes, ${from}\n`);
  io.stdout.write(content);
  if (content.at(-1) !== 0x0a) io.stdout.write('\n');
}

function asText(content: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch {
    return undefined;
  }
}

/** One line on a terminal, rewritten. */
class Progress {
  readonly #io: Io;
  #shown = false;

  constructor(io: Io) {
    this.#io = io;
  }

  show(sent: number, total: number): void {
    if (this.#io.stderr.isTTY !== true || total <= 1) return;
    this.#shown = true;
    this.#io.stderr.write(`\r${Math.min(sent, total)} of ${total} packets`);
  }

  end(): void {
    if (this.#shown) this.#io.stderr.write('\n');
  }
}
