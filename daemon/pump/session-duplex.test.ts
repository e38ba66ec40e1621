import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { SessionError, type SessionHost, type SessionStream } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import type { PathHost } from '@nyx/core/stream/session-path.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { DialError } from './contract.ts';
import { SessionDuplex, type SessionDuplexOptions } from './session-duplex.ts';

/** Two real sessions on virtual time, a millisecond apart, without loss. */
class Pair {
  nowMs = 0;
  readonly client: Session;
  readonly server: Session;
  readonly accepted: SessionStream[] = [];
  readonly #payload = new Uint8Array(PAYLOAD_BYTES);
  #packet = 0;

  constructor() {
    const host: SessionHost & PathHost = { onCryptoMessage() {}, onWantSend() {}, onClose() {} };
    this.client = new Session({ role: 'client', streamWindowBytes: 128 * 1024 }, host, 0);
    this.server = new Session(
      { role: 'server', sendBufferBytes: 64 * 1024 },
      {
        ...host,
        onStream: (stream) => {
          stream.connected(4, '192.0.2.1', 1);
          this.accepted.push(stream);
        },
      },
      0,
    );
  }

  open(): SessionStream {
    const stream = this.client.openStream({ kind: 'tcp', host: 'a.test', port: 1 });
    assert.ok(stream);
    return stream;
  }

  /** Opens a stream and gives its two ends as duplexes. */
  async duplexes(options?: SessionDuplexOptions): Promise<{ near: SessionDuplex; far: SessionDuplex }> {
    const near = new SessionDuplex(this.open(), options);
    this.run(10);
    const far = new SessionDuplex(this.accepted.at(-1)!);
    for (const duplex of [near, far]) duplex.on('error', () => {});
    return { near, far };
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs++) {
      for (const session of [this.client, this.server]) {
        if (session.firstPath.nextTimeoutMs() <= this.nowMs) session.firstPath.handleTimeout(this.nowMs);
      }
      this.#exchange(this.client, this.server);
      this.#exchange(this.server, this.client);
    }
  }

  #exchange(from: Session, to: Session): void {
    for (let i = 0; i < 1000 && from.firstPath.pollPayload(this.#payload, this.#packet, this.nowMs); i++) {
      to.firstPath.handlePayload(this.#packet++, this.#payload, this.nowMs);
    }
  }

  /** Time passes between turns of the event loop until `promise` settles. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const done = () => {
      settled = true;
    };
    promise.then(done, done);
    for (let turns = 0; !settled; turns++) {
      assert.ok(turns < 3000, 'it never settled');
      this.run(1);
      await new Promise(setImmediate);
    }
    return promise;
  }
}

/** All that is read until the end. (Iterating over a duplex would destroy it at the end of reading.) */
function collect(duplex: SessionDuplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  duplex.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    duplex.once('end', () => resolve(Buffer.concat(chunks)));
    duplex.once('error', reject);
  });
}

function closed(duplex: SessionDuplex): Promise<void> {
  return new Promise((resolve) => {
    if (duplex.closed) resolve();
    else duplex.once('close', () => resolve());
  });
}

function pattern(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 13 + (i >> 8)) & 0xff));
}

test('bytes arrive in order, both ways at once, and both ends close', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  const up = pattern(700_000);
  const down = pattern(900_001);
  near.end(up);
  far.end(down);
  const [atFar, atNear] = await pair.until(Promise.all([collect(far), collect(near)]));
  assert.deepEqual(atFar, up);
  assert.deepEqual(atNear, down);
  await pair.until(closed(near));
  assert.equal(near.errored, null);
  assert.equal(pair.client.stats.streams, 0);
});

test('one direction may end long before the other', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  near.end('request');
  far.resume();
  await pair.until(once(far, 'end'));
  far.write('late ');
  pair.run(1000);
  far.end('answer');
  assert.equal((await pair.until(collect(near))).toString(), 'late answer');
});

test('what came in one batch is pushed in few large chunks', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  const sizes: number[] = [];
  far.on('data', (chunk: Buffer) => sizes.push(chunk.length));
  near.write(pattern(100_000));
  pair.run(200); // within one turn
  const arrived = pair.accepted[0]!.readableBytes;
  assert.ok(arrived >= 65_536, `${arrived} bytes are not enough to tell`);
  assert.equal(sizes.length, 0, 'nothing is pushed from within the session');
  await new Promise(setImmediate);
  assert.deepEqual(sizes, [65_536, ...(arrived > 65_536 ? [arrived - 65_536] : [])]);
});

test('a reader that does not read stops the writer, within bounds', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  let written = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const refill = () => {
    while (near.writableLength < near.writableHighWaterMark && written < 20e6) {
      written += chunk.length;
      near.write(chunk);
    }
  };
  near.on('drain', refill);
  refill();
  for (let i = 0; i < 300; i++) {
    pair.run(1);
    await new Promise(setImmediate);
  }
  const held = written;
  assert.ok(held < 12e6, `${held} bytes were taken without a reader`);
  far.resume();
  for (let i = 0; i < 300; i++) {
    pair.run(1);
    await new Promise(setImmediate);
  }
  assert.ok(written > held, 'a reader sets it going again');
});

test('destroy() tells the other end', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  far.resume();
  near.destroy();
  await pair.until(closed(far));
  assert.ok(far.errored instanceof DialError);
  assert.equal(far.errored.code, 'CANCELLED');
  assert.match(far.errored.message, /cancelled/);
});

test('a reset is an error with its code; what is being written then fails', async () => {
  const pair = new Pair();
  const { near } = await pair.duplexes();
  const written = new Promise((resolve) => near.write(Buffer.alloc(9_000_000), resolve));
  pair.accepted[0]!.reset(SessionError.connectRefused);
  const error = (await pair.until(written)) as DialError;
  assert.equal(error.code, 'CONNECTION_REFUSED');
});

test('a session that ends cleanly under a stream is an error, not an end of data', async () => {
  const pair = new Pair();
  const { near } = await pair.duplexes();
  near.resume();
  pair.server.close(SessionError.noError, 'bye');
  await pair.until(closed(near));
  assert.ok(near.errored instanceof DialError);
  assert.equal(near.readableEnded, false);
});

test('after both ends the last bytes still get through a destroyed duplex', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  far.end();
  near.resume();
  const data = pattern(200_000);
  near.end(data);
  await pair.until(closed(near));
  assert.deepEqual(await pair.until(collect(far)), data);
});

test('writes before attach() and a change of stream before confirm() lose and repeat nothing', async () => {
  const pair = new Pair();
  let ends = 0;
  const duplex: SessionDuplex = new SessionDuplex(undefined, {
    onUnconfirmedEnd: () => {
      ends++;
      return true;
    },
  });
  const data = pattern(150_000);
  duplex.end(data);
  duplex.attach(pair.open());
  pair.run(100);
  const [first] = pair.accepted;
  assert.equal(first!.readableBytes, 65_536, 'no more than can be repeated is sent ahead of the answer');
  first!.reset(SessionError.shutdown);
  pair.run(10);
  assert.equal(ends, 1);
  assert.equal(duplex.destroyed, false);
  duplex.attach(pair.open());
  duplex.confirm();
  pair.run(10);
  const far = new SessionDuplex(pair.accepted[1]!);
  assert.deepEqual(await pair.until(collect(far)), data);
  assert.equal(duplex.bufferedBytes, 0);
  far.end();
  assert.equal((await pair.until(collect(duplex))).length, 0);
});

test('after confirm() an end is final', async () => {
  const pair = new Pair();
  const duplex = new SessionDuplex(undefined, { onUnconfirmedEnd: () => assert.fail('not asked any more') });
  duplex.on('error', () => {});
  duplex.attach(pair.open());
  duplex.confirm();
  pair.run(10);
  pair.accepted[0]!.reset(SessionError.sessionLost);
  await pair.until(closed(duplex));
  assert.equal((duplex.errored as DialError).code, 'SESSION_LOST');
});

/** What a reader sees that says of each read whether it is done with the bytes, and pauses now and then. */
async function readLent(isTaken: (chunk: number) => boolean, pauses: boolean) {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  const sent = pattern(900_001);
  const kept: Buffer[] = [];
  const copies: Buffer[] = [];
  let taken = true;
  far.lendReads(() => taken);
  far.on('data', (chunk: Buffer) => {
    taken = isTaken(copies.length);
    if (!taken || chunk.length < 16 * 1024) kept.push(chunk);
    copies.push(Buffer.from(chunk));
    if (pauses && copies.length % 3 === 0) {
      far.pause();
      void turns(20).then(() => far.resume());
    }
  });
  near.end(sent);
  far.end();
  await pair.until(once(far, 'end'));
  assert.ok(sent.equals(Buffer.concat(copies)), 'what came is what was sent');
  return { kept, copies, sent };
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

test('memory of reads that were taken is used again, that of others never', async () => {
  for (const pauses of [false, true]) {
    await readLent(() => true, pauses);
    const { kept, sent } = await readLent(() => false, pauses);
    assert.ok(sent.equals(Buffer.concat(kept)), 'what the reader kept is as it came');
    const mixed = await readLent((chunk) => chunk % 2 === 0, pauses);
    const odd = mixed.copies.filter((copy, i) => i % 2 === 1 || copy.length < 16 * 1024);
    assert.ok(Buffer.concat(odd).equals(Buffer.concat(mixed.kept)));
  }
});

test('reads that are taken come in the same memory', async () => {
  const pair = new Pair();
  const { near, far } = await pair.duplexes();
  const memories = new Set<ArrayBufferLike>();
  far.lendReads(() => true);
  far.on('data', (chunk: Buffer) => {
    if (chunk.length >= 16 * 1024) memories.add(chunk.buffer);
  });
  near.end(pattern(900_001));
  far.end();
  await pair.until(once(far, 'end'));
  assert.ok(memories.size <= 2, `${memories.size} memories`); // the first read is asked for by the reader, and is buffered
});
