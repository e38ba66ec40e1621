import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { decodeParams } from '@nyx/core/directory/params.ts';
import { type DirectoryServer, type DirectoryServerHost, startDirectoryServer } from './directory-server.ts';

const digest = 'ab'.repeat(32);
const other = 'cd'.repeat(32);
const submitted: Uint8Array[] = [];
const messages: Uint8Array[] = [];
const host: DirectoryServerHost = {
  view: () => ({ bytes: Uint8Array.of(1, 2, 3), digest }),
  delta: async (from) => (from === other ? Uint8Array.of(9) : undefined),
  authority: {
    submit: async (bytes) => {
      if (bytes[0] === 0) throw new Error('this one is bad');
      submitted.push(bytes);
    },
    params: { 'puzzle-bits': 3 },
    handleMessage: (bytes) => {
      if (bytes[0] === 0) throw new Error('no such message');
      messages.push(bytes);
    },
    vote: (asked) => (asked === digest ? Uint8Array.of(7, 7) : undefined),
    descriptor: (asked) => (asked === digest ? Uint8Array.of(5, 6) : undefined),
  },
};
let server: DirectoryServer;
let plain: DirectoryServer;

before(async () => {
  const at = { host: '127.0.0.1', port: 0 };
  server = await startDirectoryServer(at, host);
  plain = await startDirectoryServer(at, { ...host, view: () => undefined, authority: undefined });
});
after(async () => {
  await server.close();
  await plain.close();
});

const ask = (path: string, init: RequestInit = {}, of = server) =>
  fetch(`http://127.0.0.1:${of.address.port}${path}`, init);
const post = (path: string, body: Uint8Array, of = server) =>
  ask(path, { method: 'POST', body: new Uint8Array(body) }, of);
const bytesOf = async (response: Response) => [...new Uint8Array(await response.arrayBuffer())];

test('the view: whole, unchanged, or as a delta', async () => {
  const whole = await ask('/view');
  assert.equal(whole.headers.get('etag'), `"${digest}"`);
  assert.deepEqual(await bytesOf(whole), [1, 2, 3]);
  assert.equal((await ask('/view', { headers: { 'if-none-match': `"${digest}"` } })).status, 304);
  const delta = await ask(`/view?from=${other}`);
  assert.equal(delta.headers.get('etag'), null);
  assert.deepEqual(await bytesOf(delta), [9]);
  assert.deepEqual(await bytesOf(await ask(`/view?from=${'00'.repeat(32)}`)), [1, 2, 3]);
  assert.deepEqual(await bytesOf(await ask('/view?from=../../etc/passwd')), [1, 2, 3]);
  assert.deepEqual(await bytesOf(await ask('/view', { method: 'HEAD' })), []);
  assert.equal((await ask('/view', {}, plain)).status, 503);
});

test('descriptors and voting messages go to the authority; what it refuses is told', async () => {
  assert.equal((await post('/descriptor', Uint8Array.of(1))).status, 204);
  const bad = await post('/descriptor', Uint8Array.of(0));
  assert.deepEqual([bad.status, await bad.text()], [400, 'this one is bad\n']);
  assert.equal((await post('/authority/message', Uint8Array.of(4))).status, 204);
  assert.equal((await post('/authority/message', Uint8Array.of(0))).status, 400);
  assert.deepEqual([submitted.length, messages.length], [1, 1]);
  assert.deepEqual(decodeParams(new Uint8Array(await (await ask('/params')).arrayBuffer()), 'params'), {
    'puzzle-bits': 3,
  });
});

test('votes and descriptors are found by their digests', async () => {
  assert.deepEqual(await bytesOf(await ask(`/authority/vote/${digest}`)), [7, 7]);
  assert.equal((await ask(`/authority/vote/${other}`)).status, 404);
  const asked = Buffer.from(digest + other, 'hex');
  assert.deepEqual(await bytesOf(await post('/authority/descriptors', asked)), [0, 0, 0, 2, 5, 6]);
  assert.equal((await post('/authority/descriptors', asked.subarray(1))).status, 400);
});

test('bodies are bounded, methods and paths checked', async () => {
  for (const [path, limit] of [
    ['/descriptor', 16_384],
    ['/authority/message', 49_152],
    ['/authority/descriptors', 32_000],
  ] as const) {
    // The server may hang up before it has read everything.
    const outcome = await post(path, new Uint8Array(limit + 1).fill(1)).then(
      (response) => response.status,
      () => 413,
    );
    assert.equal(outcome, 413, path);
    assert.equal((await ask(path)).status, 405, path);
  }
  assert.equal(submitted.length, 1);
  assert.equal((await post('/view', Uint8Array.of(1))).status, 405);
  for (const path of ['/', '/authority/vote/x', '/authority/', '/views']) assert.equal((await ask(path)).status, 404);
});

test('a node that is no authority says so', async () => {
  assert.equal((await post('/descriptor', Uint8Array.of(1), plain)).status, 404);
  for (const path of ['/params', `/authority/vote/${digest}`]) assert.equal((await ask(path, {}, plain)).status, 404);
});
