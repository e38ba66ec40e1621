import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createNativeSuite } from '../io/native-suite.ts';
import { KeyStore } from './key-store.ts';
import { readPassphrase } from './passphrase.ts';
import { KeyStoreError, SealedFiles, writeAtomically } from './sealed-files.ts';

const suite = createNativeSuite();
/** The cheapest that libsodium takes: what is tested here is not the cost. */
const cost = { opslimit: 1, memlimitBytes: 8192 };

const inFolder = (title: string, body: (folder: string) => void): void => {
  test(title, () => {
    const parent = mkdtempSync(join(tmpdir(), 'nyx-keys-'));
    try {
      body(join(parent, 'data'));
    } finally {
      rmSync(parent, { recursive: true });
    }
  });
};

const code = (expected: string) => (error: unknown) => error instanceof KeyStoreError && error.code === expected;

inFolder('keys are made once and are the same after a restart', (folder) => {
  const first = new KeyStore(new SealedFiles(folder), suite);
  first.holdEpochs([7, 8]);
  const second = new KeyStore(new SealedFiles(folder), suite);
  assert.deepEqual(second.nodeId, first.nodeId);
  assert.deepEqual(second.linkKem, first.linkKem);
  assert.deepEqual(second.mixPublicKeys(), first.mixPublicKeys());
  assert.deepEqual(second.nodeSecrets(8), first.nodeSecrets(8));
});

inFolder('folder and files are private, and nothing temporary is left', (folder) => {
  new KeyStore(new SealedFiles(folder), suite).holdEpochs([1]);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  const names = readdirSync(folder).sort();
  assert.deepEqual(names, ['epochs.key', 'identity.key', 'keystore.json']);
  for (const name of names) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
});

inFolder('too open permissions are refused, with the cure', (folder) => {
  new KeyStore(new SealedFiles(folder), suite);
  chmodSync(join(folder, 'identity.key'), 0o640);
  assert.throws(
    () => new KeyStore(new SealedFiles(folder), suite),
    (error) => {
      assert.ok(code('PERMISSIONS')(error));
      assert.match((error as Error).message, /identity\.key has mode 0640.*chmod go-rwx/);
      return true;
    },
  );
  chmodSync(join(folder, 'identity.key'), 0o600);
  chmodSync(folder, 0o755);
  assert.throws(() => new SealedFiles(folder), code('PERMISSIONS'));
  chmodSync(folder, 0o700);
});

inFolder('with a passphrase nothing secret is on disk in the clear, and only it opens the store', (folder) => {
  const keys = new KeyStore(new SealedFiles(folder, Buffer.from('correct horse'), cost), suite);
  keys.holdEpochs([5]);
  assert.equal(keys.files.encrypted, true);
  const { linkX25519Secret, mix } = keys.nodeSecrets(5);
  for (const name of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, name));
    for (const secret of [linkX25519Secret, mix[0]!.x25519Secret, mix[0]!.kemSeed]) {
      assert.equal(bytes.indexOf(secret), -1, name);
    }
  }
  const again = new KeyStore(new SealedFiles(folder, Buffer.from('correct horse')), suite);
  assert.deepEqual(again.nodeId, keys.nodeId);
  assert.throws(() => new SealedFiles(folder, Buffer.from('wrong')), code('PASSPHRASE'));
  assert.throws(() => new SealedFiles(folder), code('PASSPHRASE'));
});

inFolder('a passphrase for a store that is not encrypted is refused rather than ignored', (folder) => {
  new SealedFiles(folder);
  assert.throws(() => new SealedFiles(folder, Buffer.from('x'), cost), code('PASSPHRASE'));
});

inFolder('a file of one name does not pass for another, nor a changed one for itself', (folder) => {
  const files = new SealedFiles(folder, Buffer.from('p'), cost);
  files.write('a', Buffer.from('content'));
  writeFileSync(join(folder, 'b'), readFileSync(join(folder, 'a')), { mode: 0o600 });
  assert.throws(() => files.read('b'), code('CORRUPT'));
  const bytes = readFileSync(join(folder, 'a'));
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(join(folder, 'a'), bytes);
  assert.throws(() => files.read('a'), code('CORRUPT'));
  assert.equal(files.read('c'), undefined);
});

inFolder('the passphrase is wiped from the buffer it came in', (folder) => {
  const passphrase = Buffer.from('secret');
  new SealedFiles(folder, passphrase, cost);
  assert.deepEqual(passphrase, Buffer.alloc(6));
});

inFolder('damaged files are said to be damaged', (folder) => {
  new KeyStore(new SealedFiles(folder), suite);
  writeFileSync(join(folder, 'identity.key'), 'NYXSshort');
  assert.throws(() => new KeyStore(new SealedFiles(folder), suite), code('CORRUPT'));
  writeFileSync(join(folder, 'keystore.json'), '{');
  assert.throws(() => new SealedFiles(folder), code('CORRUPT'));
});

inFolder('epochs: kept keys stay, old ones are erased from memory and disk, renewed ones change', (folder) => {
  const keys = new KeyStore(new SealedFiles(folder), suite);
  assert.equal(keys.holdEpochs([1, 2]), true);
  assert.equal(keys.holdEpochs([2, 1]), false);
  const [, two] = keys.mixPublicKeys();
  const oldSecret = keys.nodeSecrets(1).mix[0]!.x25519Secret;
  assert.equal(keys.holdEpochs([2, 3]), true);
  assert.deepEqual(keys.mixPublicKeys()[0], two);
  assert.equal(readFileSync(join(folder, 'epochs.key')).indexOf(oldSecret), -1);
  const three = keys.mixPublicKeys()[1]!;
  assert.equal(keys.holdEpochs([2, 3], [3]), true);
  assert.notDeepEqual(keys.mixPublicKeys()[1], three);
  assert.deepEqual(
    keys.mixSecrets(2).map((entry) => entry.epoch),
    [2],
  );
});

inFolder('a write that fails leaves the old file and nothing else', (folder) => {
  const files = new SealedFiles(folder);
  files.write('a', Buffer.from('old'));
  assert.throws(() => writeAtomically(join(folder, 'no', 'such'), Buffer.from('x')));
  chmodSync(folder, 0o500);
  try {
    if (process.getuid?.() !== 0) assert.throws(() => files.write('a', Buffer.from('new')));
  } finally {
    chmodSync(folder, 0o700);
  }
  assert.ok(['old', 'new'].includes(files.read('a')!.toString()));
  assert.deepEqual(readdirSync(folder).sort(), ['a', 'keystore.json']);
});

inFolder('passphrases come from a private file or the environment, which then forgets them', (folder) => {
  const { folder: made } = new SealedFiles(folder);
  const path = join(made, 'pass');
  writeFileSync(path, 'from file\n', { mode: 0o600 });
  assert.equal(readPassphrase({ passphraseFile: path })!.toString(), 'from file');
  chmodSync(path, 0o644);
  assert.throws(() => readPassphrase({ passphraseFile: path }), code('PERMISSIONS'));
  const environment: NodeJS.ProcessEnv = { P: 'from env' };
  assert.equal(readPassphrase({ passphraseEnv: 'P' }, environment)!.toString(), 'from env');
  assert.equal(environment.P, undefined);
  assert.throws(() => readPassphrase({ passphraseEnv: 'P' }, environment), code('PASSPHRASE'));
  assert.equal(readPassphrase({}), undefined);
});
