import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionApi, SessionHost } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import type { PathHost } from '@nyx/core/stream/session-path.ts';
import { MemoryGuard } from './memory-guard.ts';

/** Real sessions; `writes` bytes wait in each one's only stream, undefined = no stream. */
function sessions(...writes: (number | undefined)[]): SessionApi[] {
  const host: SessionHost & PathHost = { onCryptoMessage() {}, onWantSend() {}, onClose() {} };
  return writes.map((length) => {
    const session = new Session({ role: 'client' }, host, 0);
    if (length !== undefined) {
      session.openStream({ kind: 'tcp', host: 'a', port: 1 })!.write(new Uint8Array(length));
    }
    return session;
  });
}

/** A guard whose limit is `overBytes` less than what these sessions hold. */
function guardOf(
  held: readonly SessionApi[],
  overBytes: number,
  shedClient: () => number | undefined = () => undefined,
): MemoryGuard {
  const usedBytes = () => held.reduce((sum, session) => sum + session.stats.bufferedBytes, 0);
  const guard = new MemoryGuard({ limitBytes: usedBytes() - overBytes, usedBytes, shedClient });
  for (const [circuit, session] of held.entries()) guard.incomingBegan(circuit, session);
  return guard;
}

/** Which sessions were told to close: a CLOSE frame is waiting, or they are closed. */
function ended(held: readonly SessionApi[]): boolean[] {
  return held.map((session) => session.openStream({ kind: 'tcp', host: 'b', port: 1 }) === undefined);
}

test('within the limit nothing is shed', () => {
  const held = sessions(10, undefined);
  const guard = guardOf(held, 0);
  assert.equal(guard.check(), 0);
  assert.deepEqual(ended(held), [false, false]);
});

test('over it the oldest idle session goes first, and no more than has to', () => {
  const held = sessions(100_000, undefined, 200_000, undefined);
  const guard = guardOf(held, 900);
  assert.equal(guard.check(), 1);
  assert.deepEqual(ended(held), [false, true, false, false]);
});

test('then the one that holds most', () => {
  const held = sessions(100_000, 200_000, 150_000);
  const guard = guardOf(held, 150_000);
  assert.equal(guard.check(), 1);
  assert.deepEqual(ended(held), [false, true, false]);
  assert.equal(guard.shedTotal, 1);
});

test('a session that has ended is nobody to shed; then it is the clients’ turn, until there is none', () => {
  const held = sessions(100_000);
  let clients = 3;
  const guard = guardOf(held, 1e6, () => (clients-- > 0 ? 100 : undefined));
  guard.incomingEnded(0);
  assert.equal(guard.check(), 3);
  assert.deepEqual(ended(held), [false]);
});

test('one look ends a bounded number', () => {
  const guard = guardOf([], 1e9, () => 0);
  assert.equal(guard.check(), 16);
});
