/**
 * Keeps one of our mailboxes open at its node: a circuit of class mix of its own that ends there, over which it is proved to
 * be ours, its keys are published and packets come. When that breaks off, another one is built after a pause that grows.
 */
import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import {
  encodeRecord,
  MAILBOX_SERVICE,
  type MailboxRecord,
  RecordReader,
  refusedNames,
  signOpen,
} from '@nyx/core/messages/mailbox-records.ts';
import type { NodeContext } from '../actors/context.ts';
import type { PathBuilder } from '../actors/path-builder.ts';
import type { PumpPool } from '../actors/pump-pool.ts';
import type { PumpClient } from '../pump/pump-client.ts';
import type { RemoteStream } from '../pump/remote-stream.ts';
import type { OwnMailbox } from './address-book.ts';

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** The end of a visit takes a round trip. */
const LAST_WORDS_MS = 5000;
/** From asking for the service to its word that the mailbox is open. */
const OPEN_TIMEOUT_MS = 20_000;

export interface VisitHost {
  readonly context: NodeContext;
  readonly pool: Pick<PumpPool, 'choose'>;
  readonly paths: Pick<PathBuilder, 'select'>;
  readonly hops: number;
  onPacket(mailbox: string, packet: Uint8Array): void;
  onReply(replyId: Uint8Array, reply: Uint8Array): void;
  /** It opened, or broke off: then `failures` in a row. */
  onChange(visit: MailboxVisit, failures: number): void;
}

export type VisitState = 'connecting' | 'open' | 'waiting' | 'stopped';

export class MailboxVisit {
  readonly mailbox: OwnMailbox;
  readonly #host: VisitHost;
  state: VisitState = 'connecting';
  /** Why the last try failed; empty: it did not. */
  problem = '';
  /** Packets that found no room while we were away, as the node says. */
  refused = 0;
  #failures = 0;
  #stream: RemoteStream | undefined;
  #circuit: { readonly pump: PumpClient; readonly circuit: number } | undefined;
  #cancelTimer: () => void = () => {};

  constructor(mailbox: OwnMailbox, host: VisitHost) {
    this.mailbox = mailbox;
    this.#host = host;
    void this.#connect();
  }

  /** The newest keys, for whoever asks from now on. */
  publish(): void {
    if (this.state === 'open') this.#send({ type: 'keys', bundle: this.mailbox.bundle() });
  }

  /** Tries at once, if it waits. */
  hurry(): void {
    if (this.state === 'waiting') void this.#connect();
  }

  /**
   * Ends the visit; `remove`: the mailbox and what is in it as well, if its node can be told. Resolves when it is over, with
   * whether the node has heard of a removal: it has when it ends the stream in turn.
   */
  async stop(remove: boolean): Promise<boolean> {
    const tells = remove && this.state === 'open';
    if (tells) this.#send({ type: 'remove' });
    this.state = 'stopped';
    this.#cancelTimer();
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream === undefined) {
      this.#closeCircuit();
      return false;
    }
    const over = Promise.withResolvers<void>();
    // Last words take their time over the circuit.
    const cancel = this.#host.context.timers.after(LAST_WORDS_MS, over.resolve);
    let heard = false;
    stream.once('end', () => {
      heard = tells;
    });
    stream.once('close', over.resolve);
    stream.end();
    await over.promise;
    cancel();
    this.#closeCircuit();
    return heard;
  }

  get #stopped(): boolean {
    return this.state === 'stopped';
  }

  async #connect(): Promise<void> {
    this.#cancelTimer();
    this.state = 'connecting';
    const { paths, pool, hops } = this.#host;
    try {
      const lastHop = nodeIdHex(this.mailbox.nodeId);
      const constraints = { hops, class: 'mix' as const, needExit: undefined, lastHop };
      const contacts = paths.select(constraints);
      const { pump } = pool.choose();
      const { circuit } = await pump.build(constraints, contacts);
      if (this.#stopped) {
        pump.closeCircuit(circuit);
        return;
      }
      this.#circuit = { pump, circuit };
      this.#open(pump.openStream({ target: { kind: 'tcp', ...MAILBOX_SERVICE }, options: { circuit } }));
    } catch (error) {
      this.#brokeOff((error as Error).message);
    }
  }

  #open(stream: RemoteStream): void {
    this.#stream = stream;
    const reader = new RecordReader();
    const { timers } = this.#host.context;
    this.#cancelTimer = timers.after(OPEN_TIMEOUT_MS, () => stream.destroy(new Error('its node does not answer')));
    stream.on('data', (chunk: Buffer) => {
      if (stream !== this.#stream) return;
      if (!reader.push(new Uint8Array(chunk), (record) => this.#handle(record))) {
        stream.destroy(new Error('its node does not speak as a mailbox node does'));
      }
    });
    stream.on('error', () => {}); // 'close' tells
    stream.once('end', () => stream.end());
    stream.once('close', () => {
      if (stream !== this.#stream) return;
      this.#stream = undefined;
      this.#brokeOff(this.problem || (stream.errored?.message ?? 'its node ended the visit'));
    });
  }

  #handle(record: MailboxRecord): void {
    const { mailbox } = this;
    switch (record.type) {
      case 'challenge': {
        const signature = signOpen(mailbox.owner, mailbox.nodeId, record.nonce);
        this.#send({ type: 'open', ownerKey: mailbox.owner.publicKey, signature });
        this.#send({ type: 'keys', bundle: mailbox.bundle() });
        break;
      }
      case 'opened':
        this.#cancelTimer();
        this.state = 'open';
        this.problem = '';
        this.refused += record.refused;
        this.#failures = 0;
        this.#host.onChange(this, 0);
        break;
      case 'packet':
        this.#host.onPacket(mailbox.name, record.packet);
        this.#send({ type: 'taken', sequence: record.sequence });
        break;
      case 'reply':
        this.#host.onReply(record.replyId, record.reply);
        this.#send({ type: 'taken', sequence: record.sequence });
        break;
      case 'refused':
        this.problem = refusedNames[record.reason];
        break;
      default:
        this.#stream?.destroy(new Error('its node said what only owners say'));
    }
  }

  #send(record: MailboxRecord): void {
    this.#stream?.write(encodeRecord(record));
  }

  #brokeOff(problem: string): void {
    this.#closeCircuit();
    if (this.#stopped) return;
    this.#cancelTimer();
    this.problem = problem;
    this.state = 'waiting';
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#failures);
    this.#failures++;
    // So that not all clients of a node that restarts come back at once.
    const spread = new Uint8Array(1);
    this.#host.context.random.fill(spread);
    this.#cancelTimer = this.#host.context.timers.after(pauseMs * (0.5 + spread[0]! / 255), () => void this.#connect());
    this.#host.onChange(this, this.#failures);
  }

  #closeCircuit(): void {
    const built = this.#circuit;
    this.#circuit = undefined;
    built?.pump.closeCircuit(built.circuit);
  }
}
