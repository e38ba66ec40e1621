import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, beforeEach, test } from 'node:test';
import { request } from 'undici';
import { connectNyx, type NyxClient } from './index.ts';
import { startTestDaemon, type TestDaemon } from './test-daemon.ts';

const dir = mkdtempSync(join(tmpdir(), 'nyx-retry-'));
const socketPath = join(dir, 'api.sock');
/** What came: method and body. */
const seen: string[] = [];
/** So many requests get no answer, or half of one. */
let failures = 0;
let half = false;
const server = createServer((incoming, response) => {
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('end', () => {
    seen.push(`${incoming.method} ${Buffer.concat(chunks)}`);
    if (failures-- <= 0) {
      response.end('done');
      return;
    }
    if (half) response.writeHead(200, { 'content-length': '10' }).write('12345');
    setTimeout(() => incoming.socket.destroy(), half ? 50 : 0);
  });
});
let daemon: TestDaemon;
let client: NyxClient;
let url: string;

before(async () => {
  daemon = await startTestDaemon(socketPath);
  client = await connectNyx({ socketPath });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://local:${(server.address() as AddressInfo).port}/`;
});

after(async () => {
  client.close();
  server.closeAllConnections();
  server.close();
  await daemon.stop();
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(() => {
  seen.length = 0;
  failures = 0;
  half = false;
});

const dispatcher = () => client.dispatcher({}, { retry: { retries: 2, delayMs: 1 } });

test('what may be repeated is, with its body', async () => {
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE', 'PUT'] as const) {
    seen.length = 0;
    failures = 2;
    const body = method === 'PUT' ? 'content' : null;
    const agent = dispatcher();
    const { statusCode } = await request(url, { dispatcher: agent, method, body });
    assert.equal(statusCode, 200);
    assert.deepEqual(seen, Array(3).fill(`${method} ${body ?? ''}`));
    await agent.close();
  }
});

test('as often as the policy says, then the failure is told', async () => {
  failures = 3;
  const agent = dispatcher();
  await assert.rejects(request(url, { dispatcher: agent }));
  assert.equal(seen.length, 3);
  await agent.close();
});

test('POST and PATCH are not repeated, nor a body that has been read, nor anything without a policy', async () => {
  const agent = dispatcher();
  for (const method of ['POST', 'PATCH'] as const) {
    failures = 1;
    await assert.rejects(request(url, { dispatcher: agent, method, body: 'x' }));
  }
  failures = 1;
  await assert.rejects(request(url, { dispatcher: agent, method: 'PUT', body: Readable.from(['once']) }));
  const plain = client.dispatcher();
  failures = 1;
  await assert.rejects(request(url, { dispatcher: plain }));
  assert.equal(seen.length, 4);
  await Promise.all([agent.close(), plain.close()]);
});

test('once a part of the answer has been seen, nothing is repeated', async () => {
  failures = 1;
  half = true;
  const agent = dispatcher();
  const { body } = await request(url, { dispatcher: agent });
  await assert.rejects(body.text());
  assert.equal(seen.length, 1);
  await agent.close();
});

test('a target that refuses is asked once', async () => {
  const agent = dispatcher();
  await assert.rejects(request('http://local:1/', { dispatcher: agent }), (error: Error & { code?: string }) => {
    return error.code === 'CONNECTION_REFUSED';
  });
  await agent.close();
});

test('fetch repeats, too', async () => {
  failures = 1;
  const nyxFetch = client.fetcher({}, { retry: { delayMs: 1 } });
  assert.equal(await (await nyxFetch(url)).text(), 'done');
  assert.equal(seen.length, 2);
  await nyxFetch.close();
});

test('a policy out of range is refused', () => {
  assert.throws(() => client.dispatcher({}, { retry: { retries: 11 } }), RangeError);
  assert.throws(() => client.dispatcher({}, { retry: { delayMs: -1 } }), RangeError);
});
