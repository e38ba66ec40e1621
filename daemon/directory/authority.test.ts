/** Three authorities with real HTTP between them, real link handshakes to nodes, real admission puzzles. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { noView, solveAdmission } from '@nyx/core/directory/admission.ts';
import { encodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { type ViewBundle, validSigners, verifyViewBundle, viewDigest } from '@nyx/core/directory/view.ts';
import { Authority, AuthorityError } from './authority.ts';
import { type DirectoryServer, startDirectoryServer } from './directory-server.ts';
import { postDescriptor } from './directory-source.ts';
import { createMemoryHard } from './memory-hard.ts';
import { Prober } from './prober.ts';
import { AnsweringNode, bytesOf, suite } from './testing.ts';

const EPOCH_SECONDS = 600;
const PUZZLE = { bits: 2, memoryKib: 64, passes: 1 };
const memoryHard = createMemoryHard();
const keys = [0, 1, 2].map((i) => suite.ed25519(bytesOf(`authority ${i}`, 32)));
const set = { threshold: 2, keys: keys.map((key) => key.publicKey) };
const folder = mkdtempSync(join(tmpdir(), 'nyx-authority-'));
const servers: DirectoryServer[] = [];
const running: (Running | undefined)[] = [];
let nodes: AnsweringNode[] = [];

interface Running {
  readonly authority: Authority;
  readonly view: Promise<ViewBundle>;
  readonly problems: string[];
}

const nowUnixSeconds = () => Math.floor(Date.now() / 1000);

function open(index: number): Running {
  mkdirSync(join(folder, `${index}`), { recursive: true });
  const first = Promise.withResolvers<ViewBundle>();
  const problems: string[] = [];
  const peers = servers.flatMap(({ address: { host, port } }, i) =>
    i === index ? [] : [{ key: nodeIdHex(set.keys[i]!), url: `http://${host}:${port}` }],
  );
  const authority = new Authority(
    {
      authorities: set,
      epochSeconds: EPOCH_SECONDS,
      phaseMs: 200,
      minNodes: 3,
      params: {
        'max-per-subnet': 0,
        'puzzle-bits': PUZZLE.bits,
        'puzzle-memory-kib': PUZZLE.memoryKib,
        'puzzle-passes': PUZZLE.passes,
      },
      peers,
      folder: join(folder, `${index}`),
    },
    {
      suite,
      key: keys[index]!,
      unixMs: Date.now,
      memoryHard,
      openProber: () =>
        new Prober({
          suite,
          random: createSeededRandom(`prober ${index} ${Date.now()}`),
          unixMs: Date.now,
          reaches: () => true,
        }),
      onView: first.resolve,
      onBehind: () => {},
      onEvidence: (kind) => problems.push(kind),
      onProblem: (message) => problems.push(message),
    },
  );
  return { authority, view: first.promise, problems };
}

const served = (index: number) => {
  const authority = () => {
    const found = running[index];
    if (found === undefined) throw new Error('not running');
    return found.authority;
  };
  return {
    get params() {
      return authority().params;
    },
    submit: async (bytes: Uint8Array) => await authority().submit(bytes),
    handleMessage: (bytes: Uint8Array) => authority().handleMessage(bytes),
    vote: (digest: string) => authority().vote(digest),
    descriptor: (digest: string) => authority().descriptor(digest),
  };
};

async function admitted(
  node: AnsweringNode,
  change: { readonly published?: number } = {},
  view: Uint8Array = noView,
): Promise<Uint8Array> {
  const now = nowUnixSeconds();
  const plain = node.describe(now, EPOCH_SECONDS);
  const epoch = plain.mixKeys.at(-1)!.epoch;
  const random = createSeededRandom('admission');
  const admission = await solveAdmission(plain.identity, epoch, view, PUZZLE, { suite, random, memoryHard });
  return encodeDescriptor(node.describe(now, EPOCH_SECONDS, { admission, ...change }));
}

before(async () => {
  nodes = await Promise.all(['a', 'b', 'c'].map((name) => AnsweringNode.start(name)));
  for (const index of [0, 1, 2]) {
    const host = { view: () => undefined, delta: async () => undefined, authority: served(index) };
    servers.push(await startDirectoryServer({ host: '127.0.0.1', port: 0 }, host));
  }
});

after(async () => {
  for (const each of running) await each?.authority.stop();
  for (const node of nodes) node.close();
  await Promise.all(servers.map((server) => server.close()));
  rmSync(folder, { recursive: true });
});

const urlOf = (index: number) => {
  const { host, port } = servers[index]!.address;
  return `http://${host}:${port}`;
};

test('three authorities agree on the nodes that answer; who has not paid or does not answer is left out', async () => {
  for (const index of [0, 1, 2]) {
    running[index] = open(index);
    running[index].authority.start((error) => assert.fail(String(error)));
  }
  const signal = AbortSignal.timeout(10_000);
  const silent = await AnsweringNode.start('silent');
  const silentDescriptor = await admitted(silent);
  silent.close();
  const unpaid = encodeDescriptor(nodes[0]!.describe(nowUnixSeconds(), EPOCH_SECONDS));
  await assert.rejects(postDescriptor(urlOf(0), unpaid, signal), /400: the admission puzzle .* 2 bits, 64 KiB/);
  for (const node of nodes) {
    const bytes = await admitted(node);
    for (const index of [0, 1, 2]) assert.ok(await postDescriptor(urlOf(index), bytes, signal));
  }
  for (const index of [0, 1, 2]) assert.ok(await postDescriptor(urlOf(index), silentDescriptor, signal));
  const views = await Promise.all(running.map((each) => each!.view));
  const digests = views.map((view) => nodeIdHex(viewDigest(view.body, suite)));
  assert.equal(new Set(digests).size, 1);
  const verified = verifyViewBundle(views[0]!, { authorities: set, suite, now: nowUnixSeconds() });
  assert.deepEqual([...verified.byId.keys()].sort(), nodes.map(({ contact }) => nodeIdHex(contact.nodeId)).sort());
  assert.ok(validSigners(views[0]!, set, suite).size >= 2);
  assert.ok(
    verified.statuses.every(({ flags }) => flags === 0),
    'nothing is measured, nobody is known for long',
  );
});

test('older descriptors and ones with keys from the future are refused with a reason', async () => {
  const { authority } = running[0]!;
  const [node] = nodes;
  const now = nowUnixSeconds();
  const old = await admitted(node!, { published: now - 100 });
  assert.throws(() => authority.submit(old), { name: 'AuthorityError', code: 'STALE' });
  const future = encodeDescriptor(
    node!.describe(now + 3 * EPOCH_SECONDS, EPOCH_SECONDS, { published: now, expires: now + 1000 }),
  );
  assert.throws(() => authority.submit(future), { name: 'AuthorityError', code: 'EARLY' });
  assert.throws(() => authority.submit(old.subarray(1)), { name: 'DirectoryError' });
  assert.ok(new AuthorityError('FULL', '') instanceof Error);
});

test('once there is a view, a puzzle has to be solved for a recent one', async () => {
  const signal = AbortSignal.timeout(10_000);
  await running[1]!.authority.stop();
  running[1] = open(1);
  const { bundle } = running[1].authority;
  const late = await AnsweringNode.start('late');
  const nowhere = await admitted(late);
  await assert.rejects(postDescriptor(urlOf(1), nowhere, signal), /must be solved for a recent view/);
  const foreign = await admitted(late, {}, bytesOf('another view', 32));
  await assert.rejects(postDescriptor(urlOf(1), foreign, signal), /must be solved for a recent view/);
  const good = await admitted(late, {}, viewDigest(bundle!.body, suite));
  assert.ok(await postDescriptor(urlOf(1), good, signal));
  assert.equal(running[1].authority.counters.descriptorsRefused.NOT_ADMITTED, 2);
  late.close();
});

test('an authority that starts again has its view, and has not forgotten what it signed', async () => {
  const before = running[0]!.authority;
  const { bundle } = before;
  await before.stop();
  running[0] = open(0);
  const again = running[0].authority;
  assert.deepEqual(again.bundle?.body, bundle?.body);
  assert.equal(again.size, 3);
  const signed = JSON.parse(readFileSync(join(folder, '0', 'authority-signed.json'), 'utf8'));
  assert.deepEqual(signed, { epoch: bundle!.view.epoch, digest: nodeIdHex(viewDigest(bundle!.body, suite)) });
});
