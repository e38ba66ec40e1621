/** The client against real directory servers: bundles, deltas, rollback, forks, restarts, TLS. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { decodeDescriptor } from '@nyx/core/directory/descriptor.ts';
import { makeDescriptor, makeViewNode, testNow } from '@nyx/core/directory/testing.ts';
import { buildView, encodeViewBundle, signView, type ViewBundle } from '@nyx/core/directory/view.ts';
import { encodeDeltaSteps } from '@nyx/core/directory/view-delta.ts';
import { DeltaStore } from './delta-store.ts';
import { DirectoryClient, type HeldView } from './directory-client.ts';
import { type DirectoryServer, startDirectoryServer } from './directory-server.ts';
import { EvidenceStore } from './evidence.ts';
import { runInSlices } from './slices.ts';
import { bytesOf, suite } from './testing.ts';

const keys = [0, 1, 2].map((i) => suite.ed25519(bytesOf(`signer ${i}`, 32)));
const authorities = { threshold: 2, keys: keys.map((key) => key.publicKey) };
const random = createSeededRandom('directory client');
const identities = Array.from({ length: 4 }, (_, i) => suite.ed25519(bytesOf(`node ${i}`, 32)));
const folder = mkdtempSync(join(tmpdir(), 'nyx-directory-client-'));
let counter = 0;
let now = testNow;

const epochStart = (i: number) => testNow + i * 3600;

/** The view of the i-th epoch: all nodes with new descriptors, less those of `without`. */
function viewOf(i: number, without: readonly number[] = [], signers: readonly number[] = [0, 1]): ViewBundle {
  const nodes = identities
    .filter((_, index) => !without.includes(index))
    .map((identity) =>
      makeViewNode(makeDescriptor(random, { published: epochStart(i), expires: epochStart(i + 3) }, identity)),
    );
  const dates = { validAfter: epochStart(i), freshUntil: epochStart(i + 1), validUntil: epochStart(i + 2) };
  return signers.reduce((bundle, signer) => signView(bundle, keys[signer]!), buildView(nodes, dates, suite));
}

interface Made {
  readonly client: DirectoryClient;
  readonly views: HeldView[];
  readonly problems: string[];
  readonly evidence: EvidenceStore;
  readonly deltas: DeltaStore;
  readonly folder: string;
}

function make(sources: readonly string[] = [], at = join(folder, `${counter++}`), makesDeltas = true): Made {
  const evidence = new EvidenceStore(join(at, 'evidence'));
  const deltas = new DeltaStore(join(at, 'deltas'), makesDeltas ? undefined : 1);
  const views: HeldView[] = [];
  const problems: string[] = [];
  const client = new DirectoryClient(
    { authorities, sources, viewFile: join(at, 'view.bin') },
    {
      suite,
      unixSeconds: () => now,
      deltas,
      makesDeltas,
      onView: (view) => views.push(view),
      onEvidence: (kind, epoch, id, content) => evidence.keep(kind, epoch, id, content, 1),
      onProblem: (message) => problems.push(message),
    },
  );
  return { client, views, problems, evidence, deltas, folder: at };
}

const open: DirectoryServer[] = [];

/** Serves what `made` holds; `requests` has what was asked. */
async function serve(made: Made): Promise<string> {
  const server = await startDirectoryServer(
    { host: '127.0.0.1', port: 0 },
    { view: () => made.client.held, delta: (from) => made.deltas.from(from), authority: undefined },
  );
  open.push(server);
  return `http://127.0.0.1:${server.address.port}`;
}

beforeEach(() => {
  now = testNow + 10;
});

after(async () => {
  await Promise.all(open.map((server) => server.close()));
  rmSync(folder, { recursive: true });
});

const signal = AbortSignal.timeout(60_000);
const refused = (code: string) => ({ name: 'DirectoryError', code });

describe('directory client', () => {
  test('fetches a bundle, then a delta for each epoch, and keeps one to serve', async () => {
    const source = make();
    await source.client.take(viewOf(0));
    const url = await serve(source);
    const client = make([url]);
    assert.equal(await client.client.refresh(signal), true);
    assert.equal(await client.client.refresh(signal), false, 'nothing newer');
    for (const i of [1, 2]) {
      now = epochStart(i) + 10;
      await source.client.take(viewOf(i, [i]));
    }
    assert.equal(readdirSync(join(source.folder, 'deltas')).length, 2);
    assert.equal(await client.client.refresh(signal), true);
    assert.deepEqual(client.problems, []);
    assert.ok(Buffer.compare(client.client.held!.bytes, source.client.held!.bytes) === 0);
    assert.equal(client.views.length, 2, 'the view between was only passed through');
    assert.equal(client.client.held!.verified.nodes.length, 3);
    assert.deepEqual(readdirSync(join(client.folder, 'deltas')).length, 1, 'and goes on to others as one step');
  });

  test('a delta that a peer gives leads to the view, is kept as it came, and serves the next peer', async () => {
    const source = make();
    await source.client.take(viewOf(0));
    const [a, b] = [make([], undefined, false), make([], undefined, false)];
    for (const { client } of [a, b]) await client.offer(source.client.held!.bytes);
    now = epochStart(1) + 10;
    const first = source.client.held!.verified.digest;
    await source.client.take(viewOf(1, [1]));
    const delta = (await source.client.deltaFrom(first))!;
    assert.ok(delta.length < source.client.held!.bytes.length);
    assert.equal(await a.client.offer(delta), true);
    assert.deepEqual(a.client.held!.bytes, source.client.held!.bytes);
    assert.equal(await a.client.offer(delta), false, 'it is held already');
    assert.deepEqual(await a.client.deltaFrom(first), delta);
    assert.equal(await b.client.offer((await a.client.deltaFrom(first))!), true);
    // One that leads to something else is refused, as is one that begins elsewhere.
    now = epochStart(2) + 10;
    await source.client.take(viewOf(2));
    const next = (await source.client.deltaFrom(a.client.held!.verified.digest))!;
    const broken = new Uint8Array(next);
    broken[broken.length - 100]! ^= 1;
    await assert.rejects(a.client.offer(broken), { name: 'DirectoryError' });
    await assert.rejects(make().client.offer(next), refused('INCOMPLETE'));
    assert.equal(await source.client.deltaFrom(first), undefined, 'it does not lead to the newest any more');
    assert.equal(await b.client.offer(source.client.held!.bytes), true);
    assert.equal(await b.client.deltaFrom(a.client.held!.verified.digest), undefined, 'none came, and none is made');
    assert.equal(await a.client.offer(next), true);
    assert.equal(readdirSync(join(a.folder, 'deltas')).length, 1, 'only the last step is kept');
  });

  test('a delta is smaller than the bundle, and a bad one is made up for by the bundle', async () => {
    const source = make();
    await source.client.take(viewOf(0));
    const url = await serve(source);
    const client = make([url]);
    await client.client.refresh(signal);
    now = epochStart(1) + 10;
    await source.client.take(viewOf(1));
    const [file] = readdirSync(join(source.folder, 'deltas'));
    const path = join(source.folder, 'deltas', file!);
    const delta = readFileSync(path);
    assert.ok(delta.length < source.client.held!.bytes.length);
    delta[delta.length - 100]! ^= 1;
    writeFileSync(path, delta);
    assert.equal(await client.client.refresh(signal), true);
    assert.equal(client.problems.length, 1);
    assert.ok(Buffer.compare(client.client.held!.bytes, source.client.held!.bytes) === 0);
  });

  test('refuses what rolls back, also after a restart and when the old view has ended', async () => {
    const made = make();
    now = epochStart(3) + 10;
    await made.client.take(viewOf(3));
    await assert.rejects(made.client.take(viewOf(2)), refused('ROLLBACK'));
    const again = make([], made.folder);
    await again.client.load();
    assert.equal(again.client.held!.verified.epoch, viewOf(3).view.epoch);
    await assert.rejects(again.client.take(viewOf(2)), refused('ROLLBACK'));
    now = epochStart(6);
    const later = make([], made.folder);
    await later.client.load();
    assert.equal(later.client.held, undefined, 'it has ended');
    assert.match(later.problems.join(), /was valid until/);
    now = epochStart(3) + 10;
    await assert.rejects(later.client.take(viewOf(2)), refused('ROLLBACK'));
    now = epochStart(6);
    await later.client.take(viewOf(6));
  });

  test('two signed views for one epoch: the first stays, the proof is on disk, through restarts', async () => {
    const made = make();
    const first = viewOf(0);
    await made.client.take(first);
    const second = viewOf(0, [1], [1, 2]);
    await assert.rejects(made.client.take(second), refused('FORK'));
    await assert.rejects(made.client.take(second), refused('FORK'));
    assert.deepEqual(made.client.held!.bundle.body, first.body);
    assert.equal(made.evidence.all.length, 1, 'once');
    const [alarm] = new EvidenceStore(join(made.folder, 'evidence')).all;
    assert.equal(alarm!.kind, 'fork');
    assert.equal(alarm!.epoch, first.view.epoch);
    const proof = readFileSync(alarm!.file);
    for (const view of [first, second]) {
      assert.ok(proof.includes(Buffer.from(view.body)));
      for (const { signature } of view.signatures) assert.ok(proof.includes(Buffer.from(signature)));
    }
    // One that too few signed proves nothing.
    await assert.rejects(made.client.take(viewOf(0, [2], [1])), refused('TOO_FEW_SIGNATURES'));
    assert.equal(made.evidence.all.length, 1);
  });

  test('the same view with more signatures replaces the one with fewer', async () => {
    const made = make();
    const view = viewOf(0);
    await made.client.take(view);
    await made.client.take(signView(view, keys[2]!));
    assert.equal(made.client.held!.signatures, 3);
    await made.client.take(view);
    assert.equal(made.client.held!.signatures, 3);
    assert.equal(made.views.length, 1, 'it is the same view');
    const again = make([], made.folder);
    await again.client.load();
    assert.equal(again.client.held!.signatures, 3);
  });

  test('a damaged file is told and does not stop anything', async () => {
    const made = make();
    await made.client.take(viewOf(0));
    const file = join(made.folder, 'view.bin');
    writeFileSync(file, readFileSync(file).subarray(0, 500));
    const again = make([], made.folder);
    await again.client.load();
    assert.match(again.problems.join(), /cannot be used/);
    await again.client.take(viewOf(0));
  });

  test('sources that fail are told; the next one is asked', async () => {
    const source = make();
    await source.client.take(viewOf(0));
    const good = await serve(source);
    const empty = await serve(make());
    const file = join(folder, 'view file');
    writeFileSync(file, encodeViewBundle(viewOf(0)));
    const client = make(['http://127.0.0.1:1', empty, good]);
    assert.equal(await client.client.refresh(signal), true);
    assert.match(client.problems.join('\n'), /ECONNREFUSED[\s\S]*503: no view yet/);
    assert.equal(await make([file]).client.refresh(signal), true);
  });

  test('https: a certificate that is trusted works, another one does not', async () => {
    const key = join(folder, 'key.pem');
    const cert = join(folder, 'cert.pem');
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'],
        ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
      ],
      { stdio: 'ignore' },
    );
    const bytes = encodeViewBundle(viewOf(0));
    const server = createHttpsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_request, response) =>
      response.end(bytes),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const client = make([url]);
    assert.equal(await client.client.refresh(signal), false);
    assert.match(client.problems.join(), /self-signed certificate/);
    const trusted = getCACertificates();
    setDefaultCACertificates([...trusted, readFileSync(cert, 'utf8')]);
    try {
      assert.equal(await client.client.refresh(signal), true);
    } finally {
      setDefaultCACertificates(trusted);
      server.close();
      server.closeAllConnections();
    }
  });
});

test('long work leaves the thread to others', async () => {
  const from = viewOf(0);
  const idOf = (entry: ViewBundle['entries'][number]) => decodeDescriptor(entry.descriptor, suite).nodeId;
  function* slow(): Generator<void, number> {
    let sum = 0;
    for (let i = 0; i < 2000; i++) {
      const endMs = performance.now() + 0.05;
      while (performance.now() < endMs) sum++;
      yield;
    }
    return sum;
  }
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  assert.ok((await runInSlices(slow())) > 0);
  clearInterval(timer);
  assert.ok(turns >= 5, `${turns} turns of others in 100 ms`);
  await assert.rejects(runInSlices(slow(), AbortSignal.abort(new Error('enough'))), /enough/);
  assert.ok((await runInSlices(encodeDeltaSteps(from, from, idOf, suite))).length > 100);
});
