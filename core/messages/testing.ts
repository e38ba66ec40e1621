/**
 * A message lane on virtual time for tests: real messengers and mailboxes, a network between them that loses, repeats,
 * delays and reorders, and reply blocks over no hops. Sphinx itself is tested in core/sphinx.
 */
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { Random, TimeMs } from '../ports.ts';
import { DELTA_AT } from '../sphinx/layout.ts';
import { PACKET_BYTES } from '../sphinx/packet.ts';
import { REPLY_BLOCK_BYTES, useReplyBlock } from '../sphinx/reply-block.ts';
import { type MessageAddress, mailboxIdOf } from './address.ts';
import { signKeyBundle } from './key-bundle.ts';
import { encodeRecord, RecordReader, signOpen } from './mailbox-records.ts';
import { type HeldPacket, type KeptMailbox, Mailboxes, type MailboxJournal, type MailboxOptions } from './mailboxes.ts';
import { Messenger, type MessengerHost, type MessengerOptions } from './messenger.ts';
import type { KeptEntry, MessengerJournal } from './messenger-journal.ts';
import type { OutboxEvent } from './outbox.ts';
import type { IncomingMessage } from './receiver.ts';
import type { SealSecrets } from './seal.ts';

export const testNowSeconds = 1_800_000_000;
const noble = createNobleSuite();

/**
 * Noble's suite without its public-key arithmetic: for thousands of runs that are about order and time. A "secret" here is
 * the hash of both public halves; nothing that a test of secrecy could use.
 */
export const quickSuite: CryptoSuite = {
  ...noble,
  sha256: (...parts) => noble.sha256(...parts),
  x25519: (secret) => {
    const publicKey = new Uint8Array(secret);
    return {
      publicKey,
      agree: (peer) => publicKey.map((byte, i) => byte ^ peer[i]!),
      wipe: () => {},
    };
  },
  mlkem768Encapsulate: (publicKey, coins) => {
    const ciphertext = new Uint8Array(1088);
    ciphertext.set(coins);
    return { ciphertext, sharedSecret: noble.sha256(publicKey, coins) };
  },
  mlkem768: (seed) => {
    const publicKey = new Uint8Array(1184);
    publicKey.set(seed);
    return {
      publicKey,
      decapsulate: (ciphertext) => noble.sha256(publicKey, ciphertext.subarray(0, 32)),
      wipe: () => {},
    };
  },
  ed25519: (seed) => {
    const publicKey = new Uint8Array(seed);
    return {
      publicKey,
      sign: (message) => {
        const half = noble.sha256(publicKey, message);
        const signature = new Uint8Array(64);
        signature.set(half);
        return signature;
      },
      wipe: () => {},
    };
  },
  ed25519Verify: (publicKey, message, signature) =>
    noble.equal(noble.sha256(publicKey, message), signature.subarray(0, 32)),
};

export interface LaneFaults {
  readonly loss: number;
  readonly duplicate: number;
  /** Mean of an exponential delay, each packet on its own: so they overtake each other. */
  readonly delayMs: number;
}

export interface TestClient {
  readonly name: string;
  messenger: Messenger;
  readonly disk: MemoryJournal;
  readonly address: MessageAddress;
  readonly received: IncomingMessage[];
  readonly answers: { readonly token: string; readonly content: Uint8Array }[];
  readonly events: OutboxEvent[];
  /** What loops said, e.g. `loss raised`. */
  readonly alarms: string[];
  /** When a packet of any kind left. */
  readonly sentAtMs: TimeMs[];
  /** When a reply came. */
  readonly repliedAtMs: TimeMs[];
  /** Of payloads that left: what a mailbox node sees. */
  readonly payloads: Uint8Array[];
  online: boolean;
  /** Answers get lost. */
  deaf: boolean;
  /** Refuses to store. */
  full: boolean;
}

/** A disk that has everything at once. */
class MemoryJournal implements MessengerJournal {
  readonly entries = new Map<string, KeptEntry>();

  keep(entry: KeptEntry): void {
    this.entries.set(`${entry.kind}:${entry.name}`, entry);
  }

  forget(kind: string, name: string): void {
    this.entries.delete(`${kind}:${name}`);
  }
}

class MemoryMailboxes implements MailboxJournal {
  readonly mailboxes = new Map<string, KeptMailbox>();
  readonly packets = new Map<string, HeldPacket[]>();

  keepMailbox({ id, name, bundle, refused, seenMs }: KeptMailbox): void {
    this.mailboxes.set(name, { id, name, bundle, refused, seenMs });
  }

  keepPacket(mailbox: string, packet: HeldPacket): void {
    this.packets.set(mailbox, [...(this.packets.get(mailbox) ?? []), packet]);
  }

  forgetPacket(mailbox: string, sequence: number): void {
    const held = this.packets.get(mailbox) ?? [];
    this.packets.set(
      mailbox,
      held.filter((packet) => packet.sequence !== sequence),
    );
  }

  forgetMailbox(mailbox: string): void {
    this.mailboxes.delete(mailbox);
  }
}

interface Scheduled {
  readonly atMs: TimeMs;
  readonly order: number;
  readonly run: () => void;
}

export const testMessengerOptions: MessengerOptions = {
  packetsPerSecond: 10,
  cover: 'active',
  loopMs: 100,
  outbox: { maxMessages: 64, maxBytes: 1 << 20, askAgainMs: 3000 },
  reassembly: { maxMessages: 64, maxBytes: 4 << 20, maxAgeMs: 600_000 },
  maxReplyBlocks: 1024,
};

export const testMailboxOptions: MailboxOptions = {
  maxMailboxes: 16,
  packetsPerMailbox: 1024,
  memoryBytes: 16 << 20,
  holdSeconds: 3600,
};

export class TestLane {
  readonly random: Random;
  readonly suite: CryptoSuite;
  readonly nodeId = new Uint8Array(32).fill(7);
  mailboxes: Mailboxes;
  readonly #mailboxOptions: MailboxOptions;
  readonly #disk = new MemoryMailboxes();
  readonly clients: TestClient[] = [];
  nowMs: TimeMs = 0;
  /** Nothing is heard of the network. */
  silent = false;
  faults: LaneFaults;
  readonly #queue: Scheduled[] = [];
  #order = 0;
  readonly #sessions = new Map<TestClient, { send(bytes: Uint8Array): void; close(): void }>();
  readonly #makeMessenger = new Map<TestClient, () => Messenger>();
  readonly #owners = new Map<TestClient, { owner: SignKeyPair; secrets: SealSecrets; bundle: Uint8Array }>();

  constructor(seed: number | string, faults: LaneFaults, suite = quickSuite, options = testMailboxOptions) {
    this.random = createSeededRandom(seed);
    this.suite = suite;
    this.faults = faults;
    this.#mailboxOptions = options;
    this.mailboxes = new Mailboxes(options, suite, this.#disk);
  }

  /** The mailbox node dies and comes back with what is on its disk. */
  restartNode(): void {
    const open = this.clients.filter(({ online }) => online);
    this.#sessions.clear();
    this.mailboxes = new Mailboxes(this.#mailboxOptions, this.suite, this.#disk);
    for (const [name, mailbox] of [...this.#disk.mailboxes]) {
      this.mailboxes.restore(mailbox, this.#disk.packets.get(name) ?? [], this.nowMs);
    }
    for (const client of open) this.goOnline(client);
  }

  /** A client dies and comes back with what is on its disk. */
  restart(client: TestClient): void {
    client.messenger = this.#makeMessenger.get(client)!();
    client.messenger.restore([...client.disk.entries.values()], this.nowMs);
    if (client.online) this.goOnline(client);
  }

  get unixSeconds(): number {
    return testNowSeconds + this.nowMs / 1000;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.random.fill(bytes);
    return bytes;
  }

  /** A client with a mailbox that it has opened. */
  join(name: string, options: Partial<MessengerOptions> = {}): TestClient {
    const { suite } = this;
    const owner = suite.ed25519(this.bytes(32));
    const mailboxId = mailboxIdOf(owner.publicKey, suite);
    const secrets = { mailboxId, dh: suite.x25519(this.bytes(32)), kem: suite.mlkem768(this.bytes(64)) };
    const bundle = signKeyBundle(
      {
        x25519: secrets.dh.publicKey,
        kem: secrets.kem.publicKey,
        from: testNowSeconds - 60,
        until: testNowSeconds + 7 * 86_400,
      },
      owner,
    );
    const disk = new MemoryJournal();
    const host: MessengerHost = {
      sendPayload: (_nodeId, payload) => {
        client.sentAtMs.push(this.nowMs);
        client.payloads.push(payload);
        this.#carry(() => this.#arrive(payload));
        return true;
      },
      anyMailboxNode: () => this.nodeId,
      sendDrop: () => {
        client.sentAtMs.push(this.nowMs);
        return true;
      },
      replyMailbox: () => ({ ...client.address, x25519: secrets.dh.publicKey }),
      makeReplyBlock: (_nodeId, replyId) => {
        const block = this.bytes(REPLY_BLOCK_BYTES);
        block.set(replyId);
        return { block, keys: { bytes: block.slice(-32) }, expires: this.unixSeconds + 3600 };
      },
      store: (message) => {
        if (client.full) return false;
        client.received.push(message);
        return true;
      },
      storeAnswer: (token, content) => client.answers.push({ token, content }) > 0,
      onMessage: (event) => client.events.push(event),
      onLoop: ({ changed, alarm }) => changed && client.alarms.push(`${alarm} ${changed}`),
      heardMs: () => (this.silent ? 0 : this.nowMs),
      unixSeconds: () => this.unixSeconds,
      journal: disk,
    };
    const make = () => {
      const made = new Messenger({ ...testMessengerOptions, ...options }, { suite, random: this.random, host });
      made.receiver.setSecrets(nodeIdHex(mailboxId), [secrets]);
      made.restore([], this.nowMs);
      return made;
    };
    const client: TestClient = {
      name,
      messenger: make(),
      disk,
      address: { nodeId: this.nodeId, mailboxId },
      received: [],
      answers: [],
      events: [],
      alarms: [],
      sentAtMs: [],
      repliedAtMs: [],
      payloads: [],
      online: false,
      deaf: false,
      full: false,
    };
    this.clients.push(client);
    this.#makeMessenger.set(client, make);
    this.#owners.set(client, { owner, secrets, bundle });
    this.goOnline(client);
    return client;
  }

  /** Opens the client's mailbox. */
  goOnline(client: TestClient): void {
    const { owner, bundle } = this.#owners.get(client)!;
    const toOwner = new RecordReader();
    const toNode = new RecordReader();
    const outgoing: Uint8Array[] = [];
    const session = this.mailboxes.connect({
      nodeId: this.nodeId,
      suite: this.suite,
      random: this.random,
      send: (record) => outgoing.push(record),
      close: () => {},
      unixSeconds: () => this.unixSeconds,
    });
    const send = (record: Uint8Array) => toNode.push(record, (decoded) => session.handle(decoded, this.nowMs));
    const read = () => {
      for (let record = outgoing.shift(); record !== undefined; record = outgoing.shift()) {
        toOwner.push(record, (decoded) => {
          if (decoded.type === 'challenge') {
            const signature = signOpen(owner, this.nodeId, decoded.nonce);
            send(encodeRecord({ type: 'open', ownerKey: owner.publicKey, signature }));
            send(encodeRecord({ type: 'keys', bundle }));
          } else if (decoded.type === 'packet' || decoded.type === 'reply') {
            const { sequence } = decoded;
            if (decoded.type === 'packet') {
              client.messenger.handlePacket(nodeIdHex(client.address.mailboxId), decoded.packet, this.nowMs);
            } else if (!client.deaf) {
              client.repliedAtMs.push(this.nowMs);
              client.messenger.handleReply(decoded.replyId, decoded.reply, this.nowMs);
            }
            send(encodeRecord({ type: 'taken', sequence }));
          }
        });
      }
    };
    client.online = true;
    this.#sessions.set(client, { send: read as () => void, close: () => session.gone(this.nowMs) });
    read();
  }

  goOffline(client: TestClient): void {
    client.online = false;
    this.#sessions.get(client)?.close();
    this.#sessions.delete(client);
  }

  /** Runs until `done`, or until this time. */
  run(untilMs: TimeMs, done: () => boolean = () => false): void {
    while (!done()) {
      let nextMs = Math.min(untilMs, this.#queue[0]?.atMs ?? Number.POSITIVE_INFINITY);
      for (const { messenger } of this.clients) nextMs = Math.min(nextMs, messenger.nextTimeoutMs());
      this.nowMs = Math.max(this.nowMs, nextMs);
      while (this.#queue.length > 0 && this.#queue[0]!.atMs <= this.nowMs) this.#queue.shift()!.run();
      for (const { messenger } of this.clients) messenger.poll(this.nowMs);
      this.mailboxes.expire(this.nowMs);
      for (const session of this.#sessions.values()) session.send(new Uint8Array(0));
      if (this.nowMs >= untilMs) return;
    }
  }

  /** Brings a payload to the mailbox node, as it is. */
  deliver(payload: Uint8Array): void {
    this.#arrive(payload);
  }

  chance(): number {
    const [a, b, c] = this.bytes(3) as unknown as [number, number, number];
    return (a * 65_536 + b * 256 + c) / 2 ** 24;
  }

  #arrive(payload: Uint8Array): void {
    this.mailboxes.handlePayload(payload, this.nowMs, (block, answer) => this.#reply(block, answer));
  }

  #reply(block: Uint8Array, payload: Uint8Array): void {
    const packet = new Uint8Array(PACKET_BYTES);
    if (useReplyBlock(this.suite, block, payload, packet) === undefined) return;
    const replyId = block.slice(0, 16);
    this.#carry(() => this.mailboxes.handleReply(replyId, packet.subarray(DELTA_AT), this.nowMs));
  }

  #carry(arrive: () => void): void {
    const { loss, duplicate, delayMs } = this.faults;
    if (this.chance() < loss) return;
    const copies = this.chance() < duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.#schedule(this.nowMs + 10 - delayMs * Math.log(1 - this.chance()), arrive);
    }
  }

  #schedule(atMs: TimeMs, run: () => void): void {
    const entry = { atMs, order: this.#order++, run };
    let at = this.#queue.length;
    while (at > 0 && this.#queue[at - 1]!.atMs > atMs) at--;
    this.#queue.splice(at, 0, entry);
  }
}
