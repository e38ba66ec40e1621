/**
 * A node's mailboxes (core/messages/mailboxes.ts) for all of its workers: what ends here of the message lane goes into them,
 * owners come over circuits that end here. Nothing of who, to whom and when is logged; what is held is on disk as well
 * (mailbox-journal.ts).
 */
import { RecordReader } from '@nyx/core/messages/mailbox-records.ts';
import type { MailboxSession } from '@nyx/core/messages/mailbox-session.ts';
import { Mailboxes } from '@nyx/core/messages/mailboxes.ts';
import { PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import { useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import type { Reloadable } from '../actors/config-reloader.ts';
import type { NodeContext } from '../actors/context.ts';
import type { Directory } from '../actors/directory.ts';
import type { SealedFiles } from '../directory/sealed-files.ts';
import type { PumpClient } from '../pump/pump-client.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { StoredMailboxes } from './mailbox-journal.ts';
import { openStore, tellDamage } from './open-store.ts';
import type { SealedStore } from './sealed-store.ts';

const HOUSEKEEPING_MS = 1000;
const SWEEP_MS = 60_000;
/** Whoever has not proved to own a mailbox by then is sent away. */
const OPEN_TIMEOUT_MS = 30_000;

interface Visit {
  readonly session: MailboxSession;
  readonly reader: RecordReader;
  readonly cancelTimeout: () => void;
}

export class MailboxHost {
  readonly mailboxes: Mailboxes;
  readonly #context: NodeContext;
  readonly #nodeId: Uint8Array;
  readonly #directory: Pick<Directory, 'contactOf'>;
  readonly #store: SealedStore;
  #sweptMs = 0;
  /** By the service's number, of each worker. */
  readonly #visits = new Map<PumpClient, Map<number, Visit>>();
  /** Answers whose reply block names a node that is not in the view, or that found no way out. */
  unsent = 0;

  /** Throws KeyStoreError. */
  constructor(context: NodeContext, files: SealedFiles, nodeId: Uint8Array, directory: Pick<Directory, 'contactOf'>) {
    this.#context = context;
    this.#nodeId = nodeId;
    this.#directory = directory;
    // A sender repeats what a loss of power has cost.
    this.#store = openStore({ name: 'mailboxes', durable: false }, context, files);
    const journal = new StoredMailboxes(this.#store, context);
    this.mailboxes = new Mailboxes(context.config.mailbox, context.suite, journal);
    journal.restore(this.mailboxes);
  }

  readonly reloadable: Reloadable =
    ({ mailbox }) =>
    () =>
      this.mailboxes.retune(mailbox);

  /** For the API and the metrics; what they mean is said in nyx.proto (Mailboxes). */
  get figures() {
    const { count, heldPackets, heldBytes, counters } = this.mailboxes;
    const { dropped, ...counts } = counters;
    return {
      mailboxes: count,
      heldPackets,
      heldBytes,
      ...counts,
      dropped: { ...dropped },
      storeProblem: this.#store.problem,
    };
  }

  /** A worker begins. */
  attach(pump: PumpClient): void {
    const visits = new Map<number, Visit>();
    this.#visits.set(pump, visits);
    pump.on('message-packet', ({ event }) => {
      if (event.kind === 'reply') this.mailboxes.handleReply(event.replyId, event.payload, this.#nowMs);
      else
        this.mailboxes.handlePayload(event.payload, this.#nowMs, (block, payload) => this.#reply(pump, block, payload));
    });
    pump.on('service-opened', ({ service }) => visits.set(service, this.#visit(pump, service)));
    pump.on('service-data', ({ service, data }) => {
      const visit = visits.get(service);
      if (visit === undefined) return;
      const known = visit.reader.push(data, (record) => visit.session.handle(record, this.#nowMs));
      if (known) pump.send({ type: 'service-credit', service, bytes: data.length });
      else visit.session.handleJunk(this.#nowMs);
    });
    pump.on('service-closed', ({ service }) => this.#leave(visits, service));
    pump.on('exit', () => {
      for (const service of [...visits.keys()]) this.#leave(visits, service);
      this.#visits.delete(pump);
    });
  }

  /** Housekeeping from its start to its stop; the mailboxes outlive a restart. */
  child(): ChildSpec {
    return {
      id: 'mailboxes',
      restart: 'permanent',
      shutdownMs: 1000,
      inboxLimit: 1,
      start: () => {
        let cancel = () => {};
        const next = () => {
          cancel = this.#context.timers.after(HOUSEKEEPING_MS, () => {
            this.#keepHouse();
            next();
          });
        };
        next();
        tellDamage(this.#store, this.#context);
        return {
          stop: () => {
            cancel();
            this.#store.commit();
          },
        };
      },
    };
  }

  get #nowMs(): number {
    return this.#context.timers.nowMs();
  }

  #keepHouse(): void {
    const nowMs = this.#nowMs;
    this.mailboxes.expire(nowMs);
    if (nowMs - this.#sweptMs < SWEEP_MS) return;
    this.#sweptMs = nowMs;
    this.#store.sweep();
  }

  #visit(pump: PumpClient, service: number): Visit {
    const { suite, random, timers, unixMs } = this.#context;
    const send = (data: Uint8Array, end: boolean) => pump.send({ type: 'service-data', service, data, end });
    const session = this.mailboxes.connect({
      nodeId: this.#nodeId,
      suite,
      random,
      send: (record) => send(record, false),
      close: () => send(new Uint8Array(0), true),
      unixSeconds: () => unixMs() / 1000,
    });
    const cancelTimeout = timers.after(OPEN_TIMEOUT_MS, () => {
      if (!session.isOpen) session.handleJunk(this.#nowMs);
    });
    return { session, reader: new RecordReader(), cancelTimeout };
  }

  #leave(visits: Map<number, Visit>, service: number): void {
    const visit = visits.get(service);
    if (visit === undefined) return;
    visits.delete(service);
    visit.cancelTimeout();
    visit.session.gone(this.#nowMs);
  }

  #reply(pump: PumpClient, block: Uint8Array, payload: Uint8Array): void {
    const packet = new Uint8Array(PACKET_BYTES);
    const first = useReplyBlock(this.#context.suite, block, payload, packet);
    const firstHop = first && this.#directory.contactOf(Buffer.from(first).toString('hex'));
    if (firstHop === undefined) {
      this.unsent++;
      return;
    }
    pump.sendPackets([{ firstHop, packet }]).then(
      ([drop]) => {
        if (drop !== 'none') this.unsent++;
      },
      () => {
        this.unsent++;
      },
    );
  }
}
