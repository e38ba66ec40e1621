import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { mailboxIdOf } from '@nyx/core/messages/address.ts';
import { MessageState } from '@nyx/core/messages/answer-seal.ts';
import { openKeyBundle, signKeyBundle } from '@nyx/core/messages/key-bundle.ts';
import { decodeKeysPart, encodeDeliver, encodeFetch, SEALED_PACKET_BYTES } from '@nyx/core/messages/lane.ts';
import { type MailboxRecord, RecordReader, signOpen } from '@nyx/core/messages/mailbox-records.ts';
import { Mailboxes, type MailboxOptions } from '@nyx/core/messages/mailboxes.ts';
import type { KeptEntry } from '@nyx/core/messages/messenger-journal.ts';
import { openMessage, sealMessage } from '@nyx/core/messages/seal.ts';
import { KeyStoreError, SealedFiles } from '../directory/sealed-files.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { AddressBook } from './address-book.ts';
import { Inbox, storedId } from './inbox.ts';
import { StoredMailboxes } from './mailbox-journal.ts';
import { StoredMessenger } from './messenger-journal.ts';
import { SealedStore } from './sealed-store.ts';

const suite = createNativeSuite();
const random = createSeededRandom('message stores');
const now = 1_800_000_000;
const day = 86_400;

const folderOf = (context: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-messages-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};
const cheap = { opslimit: 1, memlimitBytes: 8192 };
const open = (folder: string) => new SealedFiles(folder, Buffer.from('a passphrase'), cheap);
const nodeId = new Uint8Array(32).fill(9);

test('addresses survive a restart with their keys, encrypted; deleted ones are gone', (context) => {
  const folder = folderOf(context);
  const book = new AddressBook(open(folder), suite, random);
  const [kept, gone] = [book.create(nodeId, 'kept', now), book.create(nodeId, 'gone', now)];
  assert.notEqual(kept.name, gone.name);
  const { name } = kept;
  const messageId = new Uint8Array(16);
  const [secrets] = kept.secrets;
  const to = { mailboxId: kept.mailboxId, x25519: secrets!.dh.publicKey, kem: secrets!.kem.publicKey };
  const sealed = sealMessage(suite, random, to, messageId, Uint8Array.of(1))!;
  assert.ok(book.remove(gone.name));
  assert.ok(!book.remove(gone.name));
  assert.ok(!readFileSync(join(folder, 'messages.key')).includes('ownerSeed'), 'encrypted at rest');

  const again = new AddressBook(open(folder), suite, random);
  assert.deepEqual(
    again.list().map((mailbox) => [mailbox.name, mailbox.label, mailbox.createdAt]),
    [[name, 'kept', now]],
  );
  const mailbox = again.get(name)!;
  assert.deepEqual(openMessage(suite, mailbox.secrets[0]!, messageId, sealed), Uint8Array.of(1));
  assert.ok(openKeyBundle(mailbox.bundle(), mailbox.mailboxId, now, suite));
});

test('keys are renewed after half a week, kept while something sealed to them may be under way, then erased', (context) => {
  const folder = folderOf(context);
  const book = new AddressBook(open(folder), suite, random);
  const mailbox = book.create(nodeId, '', now);
  const first = mailbox.secrets[0]!.dh.publicKey.slice();
  const has = (key: Uint8Array) => mailbox.secrets.some(({ dh }) => Buffer.compare(dh.publicKey, key) === 0);
  assert.deepEqual(book.renew(now + 3 * day), []);
  assert.deepEqual(book.renew(now + 4 * day), [mailbox]);
  assert.deepEqual([mailbox.secrets.length, has(first)], [2, true]);
  const bundle = openKeyBundle(mailbox.bundle(), mailbox.mailboxId, now + 4 * day, suite)!;
  assert.notDeepEqual(bundle.x25519, first, 'the newest are published');
  book.renew(now + 8 * day);
  assert.ok(has(first), 'messages of the last day may still lie in the mailbox');
  book.renew(now + 9 * day);
  assert.ok(!has(first));
  assert.ok(mailbox.secrets.length <= 4);
  const onDisk = new AddressBook(open(folder), suite, random).get(mailbox.name)!;
  assert.deepEqual(
    onDisk.secrets.map(({ dh }) => dh.publicKey),
    mailbox.secrets.map(({ dh }) => dh.publicKey),
  );
});

test('a file of addresses that is not one stops the node with what to do', (context) => {
  const folder = folderOf(context);
  const files = open(folder);
  for (const content of ['{', '{"version":2,"mailboxes":[]}', '{"version":1,"mailboxes":[{"nodeId":"00"}]}']) {
    files.write('messages.key', Buffer.from(content));
    assert.throws(
      () => new AddressBook(files, suite, random),
      (error) => error instanceof KeyStoreError && /messages\.key.*restore it/.test(error.message),
      content,
    );
  }
});

const problems: string[] = [];
/** Nothing is written before commit(): that is what a crash leaves. */
const storeIn = (folder: string, name: 'messages' | 'mailboxes' = 'messages'): SealedStore =>
  new SealedStore(
    { name, durable: false },
    { files: open(folder), suite, random, after: () => {}, onProblem: (problem) => problems.push(problem) },
  );
const inboxIn = (store: SealedStore, maxBytes: number) => new Inbox(store, store.load(), maxBytes);
const message = (n: number, length = 10) => ({
  id: storedId('ab'.repeat(32), n.toString(16).padStart(32, '0')),
  mailbox: 'ab'.repeat(32),
  replyBlock: undefined,
  receivedUnixMs: 1_800_000_000_000 + n,
  content: new Uint8Array(length).fill(n),
});

test('messages wait on disk in order, over a crash, until they are acknowledged; each once', (context) => {
  const folder = folderOf(context);
  const inbox = inboxIn(storeIn(folder), 1_000_000);
  for (let n = 1; n <= 12; n++) assert.ok(inbox.store(message(n)));
  assert.ok(inbox.store(message(5)), 'it is there already');
  assert.equal(inbox.size, 12);
  assert.ok(inbox.acknowledge(message(2).id));
  assert.ok(!inbox.acknowledge(message(2).id));
  assert.ok(inbox.store(message(13)), 'with this the disk hears of the acknowledgement');

  const store = storeIn(folder);
  const again = inboxIn(store, 1_000_000);
  assert.deepEqual(
    again.ids(),
    [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13].map((n) => message(n).id),
  );
  assert.deepEqual(again.read(message(3).id), message(3));
  assert.deepEqual([...again.known()][1], { mailbox: 'ab'.repeat(32), id: '3'.padStart(32, '0') });
  assert.ok(again.store({ ...message(14), mailbox: undefined, replyBlock: 'cd' }));
  assert.equal(again.read(message(14).id)?.replyBlock, 'cd');
  for (const id of again.ids()) again.acknowledge(id);
  assert.deepEqual([again.size, again.bytes], [0, 0]);
  store.close();
  assert.deepEqual(storeIn(folder).load(), [], 'nothing is left on disk');
});

test('an inbox is bounded in bytes, and has one reader at a time, who is told of what comes', (context) => {
  const inbox = inboxIn(storeIn(folderOf(context)), 1000);
  let told = 0;
  const stop = inbox.watch(() => told++)!;
  assert.equal(
    inbox.watch(() => {}),
    undefined,
  );
  assert.ok(inbox.store(message(1, 500)));
  assert.ok(!inbox.store(message(2, 500)), 'no room');
  assert.ok(inbox.acknowledge(message(1).id));
  assert.ok(inbox.store(message(2, 500)));
  assert.equal(told, 3, 'two that came, and room that was made');
  stop();
  assert.ok(inbox.watch(() => {}));
});

test('what is stored can be read nowhere in the folder, and is erased from it', (context) => {
  const folder = folderOf(context);
  const store = storeIn(folder);
  const secret = Buffer.from('nobody but the recipient reads this');
  store.put('a name that tells something', secret);
  store.commit();
  const everything = () => Buffer.concat(readdirSync(folder).map((file) => readFileSync(join(folder, file))));
  assert.ok(!everything().includes(secret));
  assert.ok(!everything().includes('a name that tells'));
  assert.deepEqual(store.get('a name that tells something'), new Uint8Array(secret));
  const reader = new DatabaseSync(join(folder, 'messages.db'));
  const row = Buffer.from(reader.prepare('SELECT sealed FROM entries').get()!.sealed as Uint8Array);
  reader.close();
  assert.ok(everything().includes(row));
  store.remove('a name that tells something');
  store.sweep();
  assert.ok(!everything().includes(row.subarray(-32)), 'overwritten, in the file and in its log');
  store.close();
  for (const file of readdirSync(folder)) assert.equal(statSync(join(folder, file)).mode & 0o077, 0, file);
});

test('what is put and removed within a moment is never written; what is committed survives without close', (context) => {
  const folder = folderOf(context);
  const store = storeIn(folder);
  store.put('kept', Uint8Array.of(1));
  store.put('gone', Uint8Array.of(2));
  store.remove('gone');
  assert.deepEqual([store.get('kept'), store.get('gone')], [Uint8Array.of(1), undefined]);
  assert.deepEqual(storeIn(folder).load(), [], 'a crash now loses it');
  assert.ok(store.commit());
  store.put('kept', Uint8Array.of(3));
  store.commit();
  assert.deepEqual(storeIn(folder).load(), [{ name: 'kept', content: Uint8Array.of(3) }]);
});

test('a file that is none, entries that are changed and another key are said, and cost what they hold and no more', (context) => {
  const folder = folderOf(context);
  const fill = () => {
    const store = storeIn(folder);
    for (let i = 0; i < 3; i++) store.put(`entry ${i}`, new Uint8Array(100).fill(i));
    store.close();
  };
  const reopened = () => {
    problems.length = 0;
    const store = storeIn(folder);
    const names = store.load().map(({ name }) => name);
    const { problem } = store;
    store.put('new', Uint8Array.of(1));
    assert.ok(store.commit(), 'it goes on');
    store.remove('new');
    store.close();
    return { names: names.sort(), problem };
  };
  const file = join(folder, 'messages.db');
  fill();
  writeFileSync(file, 'this is no database at all, whatever somebody thought it was'.repeat(200));
  let { names, problem } = reopened();
  assert.deepEqual(names, []);
  assert.match(problem, /messages\.db can't be read .*messages\.db\.damaged/);
  assert.equal(problems.length, 1);
  assert.deepEqual(reopened(), { names: [], problem: '' }, 'once');

  fill();
  const bytes = readFileSync(file);
  bytes.fill(0x55, 4096, 8192);
  writeFileSync(file, bytes);
  ({ names, problem } = reopened());
  assert.deepEqual(names, []);
  assert.match(problem, /can't be read/);

  fill();
  const database = new DatabaseSync(file);
  const [one, other] = database.prepare('SELECT name, sealed FROM entries').all() as {
    name: Uint8Array;
    sealed: Uint8Array;
  }[];
  // Under the name of another one, and with a changed bit.
  database.prepare('UPDATE entries SET sealed = ? WHERE name = ?').run(one!.sealed, other!.name);
  one!.sealed[60]! ^= 1;
  database.prepare('UPDATE entries SET sealed = ? WHERE name = ?').run(one!.sealed, one!.name);
  database.close();
  ({ names, problem } = reopened());
  assert.equal(names.length, 1);
  assert.match(problem, /^2 of 3 stored entries do not open/);

  fill();
  rmSync(join(folder, 'messages-store.key'));
  ({ names, problem } = reopened());
  assert.deepEqual(names, []);
  assert.match(problem, /3 of 3/);
  writeFileSync(join(folder, 'messages-store.key'), 'NYXS', { mode: 0o600 });
  assert.match(reopened().problem, /messages-store\.key/);
});

test('mailboxes are there again after a crash, with the keys and packets of the last commit and no older ones', (context) => {
  const folder = folderOf(context);
  const clock = { ms: 5000, unixMs: now * 1000 };
  const timers = { nowMs: () => clock.ms, after: () => () => {} };
  const start = (options: Partial<MailboxOptions> = {}) => {
    const store = storeIn(folder, 'mailboxes');
    const journal = new StoredMailboxes(store, { timers, unixMs: () => clock.unixMs });
    const limits = { maxMailboxes: 4, packetsPerMailbox: 8, memoryBytes: 100_000, holdSeconds: 3600, ...options };
    const mailboxes = new Mailboxes(limits, suite, journal);
    journal.restore(mailboxes);
    return { mailboxes, store };
  };
  const pass = (seconds: number) => {
    clock.ms += 1000 * seconds;
    clock.unixMs += 1000 * seconds;
  };
  /** Another process: its clock begins anew. */
  const restart = (options?: Partial<MailboxOptions>) => {
    clock.ms = 17;
    return start(options);
  };
  const seal = (n: number) => new Uint8Array(SEALED_PACKET_BYTES).fill(n);
  const nobody = () => assert.fail('no reply is due');

  const owner = suite.ed25519(new Uint8Array(32).fill(1));
  const id = mailboxIdOf(owner.publicKey, suite);
  const keys = { x25519: new Uint8Array(32).fill(2), kem: new Uint8Array(1184), from: now - 60, until: now + day };
  const bundle = signKeyBundle(keys, owner);
  const visit = (mailboxes: Mailboxes) => {
    const got: MailboxRecord[] = [];
    const reader = new RecordReader();
    const session = mailboxes.connect({
      nodeId,
      suite,
      random,
      send: (record) => assert.ok(reader.push(record, (decoded) => got.push(structuredClone(decoded)))),
      close: () => {},
      unixSeconds: () => clock.unixMs / 1000,
    });
    const { nonce } = got.shift() as MailboxRecord & { type: 'challenge' };
    session.handle({ type: 'open', ownerKey: owner.publicKey, signature: signOpen(owner, nodeId, nonce) }, clock.ms);
    session.handle({ type: 'keys', bundle }, clock.ms);
    return { got, session, take: (sequence: number) => session.handle({ type: 'taken', sequence }, clock.ms) };
  };

  const first = start();
  const there = visit(first.mailboxes);
  first.mailboxes.handlePayload(encodeDeliver(id, seal(1)), clock.ms, nobody);
  there.take(1);
  there.session.gone(clock.ms);
  for (const n of [2, 3]) first.mailboxes.handlePayload(encodeDeliver(id, seal(n)), clock.ms, nobody);
  pass(1800);
  for (const n of [4, 5]) first.mailboxes.handlePayload(encodeDeliver(id, seal(n)), clock.ms, nobody);
  first.store.commit();
  first.mailboxes.handlePayload(encodeDeliver(id, seal(6)), clock.ms, nobody);

  const { mailboxes, store } = restart();
  assert.deepEqual([mailboxes.count, mailboxes.heldPackets], [1, 4], 'the sixth was not written yet');
  const parts: unknown[] = [];
  mailboxes.handlePayload(encodeFetch(id, 0, new Uint8Array(504)), clock.ms, (_block, payload) =>
    parts.push(decodeKeysPart(payload)),
  );
  assert.deepEqual(parts, [{ part: 0, data: bundle.slice(0, 781) }], 'who writes still gets the keys');
  const back = visit(mailboxes);
  assert.deepEqual(
    back.got.flatMap((record) => (record.type === 'packet' ? [[record.sequence, record.packet[0]]] : [])),
    [
      [2, 2],
      [3, 3],
      [4, 4],
      [5, 5],
    ],
  );
  back.session.gone(clock.ms);
  store.commit();

  assert.equal(restart({ packetsPerMailbox: 3 }).mailboxes.heldPackets, 3, 'limits that were lowered hold');
  pass(1900);
  const late = restart();
  assert.deepEqual([late.mailboxes.count, late.mailboxes.heldPackets], [1, 2], 'the first two are too old');
  late.store.commit();
  pass(3600);
  const over = restart();
  assert.deepEqual([over.mailboxes.count, over.mailboxes.heldPackets], [0, 0]);
  over.store.commit();
  assert.deepEqual(storeIn(folder, 'mailboxes').load(), [], 'and are erased');
});

test('the journal of a messenger comes back as it was, times on the new clock, what came in order', (context) => {
  const folder = folderOf(context);
  const clock = { ms: 5000, unixMs: now * 1000 };
  const journalIn = (store: SealedStore) =>
    new StoredMessenger(store, {
      timers: { nowMs: () => clock.ms, after: () => () => {} },
      unixMs: () => clock.unixMs,
    });
  const bytes = (n: number, length: number) => new Uint8Array(length).fill(n);
  const entries: KeptEntry[] = [
    { kind: 'waiting', name: 'aa', nodeId, mailboxId: bytes(1, 32), deadlineMs: 65_000, content: bytes(2, 300) },
    {
      kind: 'outgoing',
      name: 'bb',
      nodeId,
      mailboxId: bytes(3, 32),
      x25519: bytes(4, 32),
      deadlineMs: 65_000,
      blob: bytes(5, 70_000),
    },
    { kind: 'sent', name: 'bb' },
    { kind: 'answer', name: 'cc:1', payload: bytes(6, 784), last: true },
    { kind: 'used', name: 'dd', expires: now + 100 },
    { kind: 'finished', name: 'ee:ff', state: MessageState.notOpened },
    { kind: 'finished', name: 'ee:00', state: MessageState.stored },
  ];
  const store = storeIn(folder);
  const journal = journalIn(store);
  for (const entry of entries) {
    journal.keep(entry);
    clock.unixMs++;
  }
  journal.keep({ kind: 'used', name: 'gone', expires: now });
  journal.forget('used', 'gone');
  store.commit();
  // Half a minute later in another process.
  clock.unixMs = now * 1000 + 30_000;
  clock.ms = 20;
  const again = storeIn(folder);
  const read = journalIn(again).read(again.load());
  assert.deepEqual(
    read.map((entry) =>
      'deadlineMs' in entry ? { ...entry, deadlineMs: Math.round((entry.deadlineMs - 30_020) / 100) } : entry,
    ),
    entries.map((entry) => ('deadlineMs' in entry ? { ...entry, deadlineMs: 0 } : entry)),
  );
});
