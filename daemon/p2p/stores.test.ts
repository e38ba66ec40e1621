import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Libp2pRecord } from '@libp2p/record';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { randomBytes, testNow } from '@nyx/core/directory/testing.ts';
import { Key } from 'interface-datastore';
import { Refusal, RefusedError } from './contract.ts';
import { P2pDatabase } from './database.ts';
import { PeerDatastore } from './peer-datastore.ts';
import { RecordDatastore } from './record-datastore.ts';
import { RecordRules, recordKey } from './record-rules.ts';
import { serviceRecordKind } from './service-record.ts';
import { signRecord } from './signed-record.ts';

const suite = createNobleSuite();
const random = createSeededRandom('stores');
let folder: string;
let files = 0;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'nyx-stores-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));
const newFile = () => join(folder, `${files++}.sqlite`);
const noDamage = (problem: string) => assert.fail(problem);

describe('the file', () => {
  it('is private, keeps what it was given, and is made anew when it is damaged', () => {
    const file = newFile();
    let database = new P2pDatabase(file, noDamage);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    new PeerDatastore(database, 100, () => 1).put(new Key('/peers/a'), Uint8Array.of(7));
    database.close();
    database = new P2pDatabase(file, noDamage);
    assert.deepEqual(new PeerDatastore(database, 100, () => 1).get(new Key('/peers/a')), Uint8Array.of(7));
    database.close();
    writeFileSync(file, Buffer.alloc(8192, 'not a database '));
    const problems: string[] = [];
    database = new P2pDatabase(file, (problem) => void problems.push(problem));
    assert.equal(problems.length, 1);
    assert.equal(new PeerDatastore(database, 100, () => 1).count, 0);
    database.close();
  });
});

describe('stored peers', () => {
  it('are bounded: those heard of longest ago are forgotten', async () => {
    const database = new P2pDatabase(newFile(), noDamage);
    let nowMs = 0;
    const store = new PeerDatastore(database, 50, () => nowMs);
    const name = (i: number) => new Key(`/peers/${String(i).padStart(4, '0')}`);
    for (let i = 0; i < 500; i++) {
      nowMs = i;
      store.put(name(i), Uint8Array.of(1));
      store.put(name(0), Uint8Array.of(2));
      assert.ok(store.count <= 50);
    }
    assert.ok(store.has(name(0)) && store.has(name(499)) && !store.has(name(300)));
    assert.throws(() => store.get(name(300)), { name: 'NotFoundError' });
    const keys: string[] = [];
    for await (const { key } of store.query({ prefix: '/peers' })) keys.push(key.toString());
    assert.equal(keys.length, store.count);
    store.delete(name(0));
    store.delete(name(0));
    assert.equal(store.count, keys.length - 1);
    assert.throws(() => store.put(name(1), new Uint8Array(40_000)), RangeError);
    database.close();
  });
});

describe('stored records', () => {
  const self = randomBytes(random, 38);
  let nowSeconds = testNow;
  const make = (maxRecords: number) => {
    const database = new P2pDatabase(newFile(), noDamage);
    const rules = new RecordRules(suite, () => nowSeconds * 1000);
    const refusals: Refusal[] = [];
    const store = new RecordDatastore(database, rules, {
      maxRecords,
      self,
      unixMs: () => nowSeconds * 1000,
      onRefused: (reason) => void refusals.push(reason),
    });
    return { database, store, refusals };
  };
  const record = (seed: number, revision = 1, expires = testNow + 600) => {
    const owner = suite.ed25519(createHash('sha256').update(`owner ${seed}`).digest());
    const content = Uint8Array.of(seed);
    const value = signRecord(
      serviceRecordKind,
      { key: owner.publicKey, revision, content, published: testNow, expires },
      owner,
    );
    const key = recordKey('service', Buffer.from(suite.blake3(owner.publicKey)).toString('hex'));
    return {
      key,
      value,
      row: new Key(`/dht/record/${Buffer.from(key).toString('hex')}`),
      stored: new Libp2pRecord(key, value, new Date(testNow * 1000)).serialize(),
    };
  };

  it('a newer one replaces an older one and never the other way; the same may come again', () => {
    const { database, store, refusals } = make(10);
    const older = record(1, 1);
    const newer = record(1, 2);
    store.put(older.row, older.stored);
    store.put(newer.row, newer.stored);
    assert.throws(
      () => store.put(older.row, older.stored),
      (error: unknown) => error instanceof RefusedError && error.reason === Refusal.replayed,
    );
    store.put(newer.row, newer.stored);
    assert.deepEqual(Libp2pRecord.deserialize(store.get(newer.row)).value, newer.value);
    assert.deepEqual(refusals, [Refusal.replayed]);
    assert.equal(store.count, 1);
    database.close();
  });

  it('what has expired is neither given nor kept, and no longer stands against an older revision', () => {
    const { database, store } = make(10);
    const short = record(2, 5, testNow + 10);
    const long = record(2, 4, testNow + 600);
    store.put(short.row, short.stored);
    assert.ok(store.has(short.row));
    nowSeconds = testNow + 10;
    assert.ok(!store.has(short.row));
    assert.throws(() => store.get(short.row), { name: 'NotFoundError' });
    store.put(long.row, long.stored);
    assert.ok(store.has(long.row));
    nowSeconds = testNow + 600;
    store.dropExpired();
    assert.equal(store.count, 0);
    nowSeconds = testNow;
    database.close();
  });

  it('at the limit, the farthest from this peer go', () => {
    const { database, store } = make(8);
    const records = Array.from({ length: 40 }, (_, i) => record(i));
    for (const { row, stored } of records) {
      store.put(row, stored);
      assert.ok(store.count <= 8);
    }
    const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
    const own = sha256(self);
    const distance = (key: Uint8Array) => Buffer.from(sha256(key).map((byte, i) => byte ^ own[i]!)).toString('hex');
    const nearest = [...records].sort((a, b) => (distance(a.key) < distance(b.key) ? -1 : 1)).slice(0, 8);
    for (const { row } of nearest) assert.ok(store.has(row));
    database.close();
  });

  it('provider entries and other strangers are refused and counted', () => {
    const { database, store, refusals } = make(8);
    assert.throws(() => store.put(new Key('/dht/provider/x/y'), Uint8Array.of(1)), RefusedError);
    assert.deepEqual(refusals, [Refusal.provider]);
    database.close();
  });
});
