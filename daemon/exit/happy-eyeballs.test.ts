import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type ResolvedAddress, SessionError } from '@nyx/core/stream/contract.ts';
import type { ExitError } from './exit-error.ts';
import { attemptDelayMs, ConnectRace, interleave } from './happy-eyeballs.ts';

const address = (text: string): ResolvedAddress => ({
  family: text.includes(':') ? 6 : 4,
  address: text,
  ttlSeconds: 60,
});

/** What the race sees of a socket, moved by the test. */
class Attempt extends EventEmitter {
  destroyed = false;

  destroy(): void {
    this.destroyed = true;
  }

  fail(code: string): void {
    this.emit('error', Object.assign(new Error(code), { code }));
  }
}

interface Race {
  readonly race: ConnectRace;
  readonly attempts: Map<string, Attempt>;
  readonly outcome: { socket?: unknown; error?: ExitError };
}

/** A race on virtual time. */
function start(context: TestContext, addresses: readonly string[], timeoutMs = 10_000): Race {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const attempts = new Map<string, Attempt>();
  const outcome: Race['outcome'] = {};
  const race = new ConnectRace(addresses.map(address), {
    timeoutMs,
    open: (to) => {
      const attempt = new Attempt();
      attempts.set(to.address, attempt);
      return attempt as unknown as Socket;
    },
    onConnected: (socket) => {
      assert.deepEqual(outcome, {});
      outcome.socket = socket;
    },
    onFailed: (error) => {
      assert.deepEqual(outcome, {});
      outcome.error = error;
    },
  });
  return { race, attempts, outcome };
}

function codeOf({ error }: Race['outcome']): number | undefined {
  return error?.code;
}

test('families take turns, beginning with the first address', () => {
  const order = (...list: string[]) => interleave(list.map(address)).map((each) => each.address);
  assert.deepEqual(order('::1', '::2', '::3', '1.0.0.1', '1.0.0.2'), ['::1', '1.0.0.1', '::2', '1.0.0.2', '::3']);
  assert.deepEqual(order('1.0.0.1', '::1', '::2'), ['1.0.0.1', '::1', '::2']);
  assert.deepEqual(order('1.0.0.1'), ['1.0.0.1']);
});

test('the next attempt starts after the delay, the first to connect wins, the others are destroyed', (context) => {
  const { attempts, outcome } = start(context, ['::1', '1.0.0.1', '::2']);
  context.mock.timers.tick(attemptDelayMs - 1);
  assert.deepEqual([...attempts.keys()], ['::1']);
  context.mock.timers.tick(1);
  assert.deepEqual([...attempts.keys()], ['::1', '1.0.0.1']);
  attempts.get('1.0.0.1')!.emit('connect');
  assert.equal(outcome.socket, attempts.get('1.0.0.1'));
  assert.ok(attempts.get('::1')!.destroyed);
  assert.ok(!attempts.get('1.0.0.1')!.destroyed);
  context.mock.timers.tick(60_000);
  attempts.get('::1')!.emit('connect');
  attempts.get('1.0.0.1')!.fail('ECONNRESET');
  assert.equal(attempts.size, 2);
});

test('a failed attempt starts the next at once; all failed says the most telling reason', (context) => {
  const { attempts, outcome } = start(context, ['::1', '1.0.0.1', '1.0.0.2']);
  attempts.get('::1')!.fail('ENETUNREACH');
  attempts.get('1.0.0.1')!.fail('ECONNREFUSED');
  assert.equal(codeOf(outcome), undefined);
  attempts.get('1.0.0.2')!.fail('ETIMEDOUT');
  assert.equal(codeOf(outcome), SessionError.connectRefused);
  context.mock.timers.tick(60_000);
});

test('one time limit for all attempts', (context) => {
  const { attempts, outcome } = start(context, ['::1', '1.0.0.1'], 1000);
  context.mock.timers.tick(999);
  assert.equal(codeOf(outcome), undefined);
  context.mock.timers.tick(1);
  assert.equal(codeOf(outcome), SessionError.connectTimeout);
  assert.ok([...attempts.values()].every(({ destroyed }) => destroyed));
});

test('a name with very many addresses gets few attempts; cancel() ends all of them silently', (context) => {
  const many = Array.from({ length: 100 }, (_, i) => `1.0.0.${i}`);
  const { race, attempts, outcome } = start(context, many);
  for (let i = 0; i < 20; i++) context.mock.timers.tick(attemptDelayMs);
  assert.equal(attempts.size, 8);
  race.cancel();
  assert.ok([...attempts.values()].every(({ destroyed }) => destroyed));
  context.mock.timers.tick(60_000);
  assert.deepEqual(outcome, {});
});
