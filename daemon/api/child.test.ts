import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { startApiSocket } from './child.ts';
import type { ApiConnections } from './server.ts';

let folder = '';
let path = '';
const unexpected = (error: unknown) => assert.fail(String(error));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nyx-api-'));
  path = join(folder, 'api.sock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Sends back what comes, and counts how often it was loaded. */
function echo() {
  const counts = { loaded: 0, served: 0, closed: 0 };
  const sockets: Socket[] = [];
  const load = async (): Promise<ApiConnections> => {
    counts.loaded++;
    await new Promise(setImmediate);
    return {
      serve: (socket) => {
        counts.served++;
        sockets.push(socket);
        socket.on('data', (bytes: Buffer) => socket.write(bytes));
      },
      close: async () => {
        counts.closed++;
        for (const socket of sockets) socket.destroy();
      },
    };
  };
  return { counts, load };
}

const answerTo = (words: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(words));
    socket.on('error', reject).once('data', (bytes: Buffer) => {
      resolve(bytes.toString());
      socket.destroy();
    });
  });

describe('the socket of the API', () => {
  test('nothing is loaded until somebody speaks, and then once', async () => {
    const { counts, load } = echo();
    const server = await startApiSocket(path, load, false, unexpected);
    assert.equal(server.address, `unix:${path}`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    // As another daemon that looks whether this one lives.
    await new Promise<void>((resolve) => {
      const socket = connect(path, () => socket.end());
      socket.on('close', () => resolve());
      socket.resume();
    });
    assert.deepEqual(counts, { loaded: 0, served: 0, closed: 0 });
    assert.deepEqual(await Promise.all(['one', 'two', 'three'].map(answerTo)), ['one', 'two', 'three']);
    assert.deepEqual(counts, { loaded: 1, served: 3, closed: 0 });
    await server.close();
    assert.equal(counts.closed, 1);
    assert.equal(existsSync(path), false);
  });

  test('closed before anybody spoke it has loaded nothing, with a silent connection open', async () => {
    const { counts, load } = echo();
    const server = await startApiSocket(path, load, false, unexpected);
    const socket = connect(path);
    await new Promise((resolve) => socket.once('connect', resolve));
    const ended = new Promise((resolve) => socket.once('close', resolve));
    await server.close();
    await ended;
    assert.deepEqual(counts, { loaded: 0, served: 0, closed: 0 });
  });

  test('eager: it is there before the socket is', async () => {
    const { counts, load } = echo();
    const server = await startApiSocket(path, load, true, unexpected);
    assert.equal(counts.loaded, 1);
    await server.close();
  });

  test('what can not be loaded is told, and the connection waits for the restart to end it', async () => {
    const told = Promise.withResolvers<unknown>();
    const failure = new Error('no such module');
    const server = await startApiSocket(path, () => Promise.reject(failure), false, told.resolve);
    const socket = connect(path, () => socket.write('x'));
    const ended = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve));
    assert.equal(await told.promise, failure);
    await server.close();
    await ended;
  });

  test('a live socket is not taken away, a dead one is, a file is left alone', async () => {
    const { load } = echo();
    const first = await startApiSocket(path, load, false, unexpected);
    await assert.rejects(startApiSocket(path, load, false, unexpected), /another daemon answers/);
    assert.equal(await answerTo('still'), 'still');
    await first.close();
    writeFileSync(path, '');
    await assert.rejects(startApiSocket(path, load, false, unexpected), /is not a socket/);
    assert.ok(existsSync(path));
  });
});
