import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { openKeyBundle } from '@nyx/core/messages/key-bundle.ts';
import { openMessage, sealMessage } from '@nyx/core/messages/seal.ts';
import { KeyStoreError, SealedFiles } from '../directory/sealed-files.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { AddressBook } from './address-book.ts';
import { Inbox, storedId } from './inbox.ts';

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

const message = (n: number, length = 10) => ({
  id: storedId('ab'.repeat(32), n.toString(16).padStart(32, '0')),
  mailbox: 'ab'.repeat(32),
  replyBlock: undefined,
  receivedUnixMs: 1_800_000_000_000 + n,
  content: new Uint8Array(length).fill(n),
});

test('messages wait on disk in order, over a restart, until they are acknowledged; each once', (context) => {
  const folder = folderOf(context);
  const inbox = new Inbox(open(folder), 1_000_000);
  for (let n = 1; n <= 12; n++) assert.ok(inbox.store(message(n)));
  assert.ok(inbox.store(message(5)), 'it is there already');
  assert.equal(inbox.size, 12);
  assert.ok(inbox.acknowledge(message(2).id));
  assert.ok(!inbox.acknowledge(message(2).id));

  const again = new Inbox(open(folder), 1_000_000);
  assert.deepEqual(
    again.ids(),
    [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map((n) => message(n).id),
  );
  assert.deepEqual(again.read(message(3).id), message(3));
  assert.deepEqual([...again.known()][1], { mailbox: 'ab'.repeat(32), id: '3'.padStart(32, '0') });
  assert.ok(again.store({ ...message(13), mailbox: undefined, replyBlock: 'cd' }));
  assert.equal(again.read(message(13).id)?.replyBlock, 'cd');
  for (const id of again.ids()) again.acknowledge(id);
  assert.deepEqual([again.size, again.bytes], [0, 0]);
  assert.deepEqual(readdirSync(folder), ['keystore.json'], 'nothing is left on disk');
});

test('an inbox is bounded in bytes, and has one reader at a time, who is told of what comes', (context) => {
  const inbox = new Inbox(open(folderOf(context)), 1000);
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
