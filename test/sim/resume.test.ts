/** Whole engines: a session outlives its circuits. What the application wrote arrives once, whichever relay dies. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CircuitEnd } from '@nyx/core/engine/contract.ts';
import { attachBody, deriveTicket, provesTicket } from '@nyx/core/engine/session-ticket.ts';
import type { SessionApi, SessionStream } from '@nyx/core/stream/contract.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { PatternReader, sendPattern, TARGET } from './pattern-transfer.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const wire = { latencyMs: 10, jitterMs: 1, lossRatio: 0, duplicateRatio: 0 };
const DOWN_BYTES = 3_000_000;
const UP_BYTES = 500_000;

/** A client with `spare` paths to one exit; it brings its session onto the next one when a circuit is lost. */
class Resuming {
  readonly network: VirtualNetwork;
  readonly client: SimNode;
  readonly exit: SimNode;
  readonly middles: SimNode[];
  readonly session: SessionApi;
  readonly stream: SessionStream;
  readonly down: PatternReader;
  up: PatternReader | undefined;
  detached = 0;
  stalled = 0;
  readonly closes: number[] = [];
  readonly ended: { circuit: number; session: SessionApi; reason: CircuitEnd }[] = [];
  #next = 0;

  constructor(
    seed: number,
    options: { readonly resumes?: boolean; readonly eager?: boolean; readonly exitMemoryBytes?: number } = {},
  ) {
    this.network = new VirtualNetwork(suite, seed, wire);
    const { network } = this;
    const now = () => network.nowMs;
    this.client = network.add('client', { relay: false });
    this.exit = network.add('exit', {
      exit: true,
      ...(options.exitMemoryBytes === undefined ? {} : { memoryBytes: options.exitMemoryBytes }),
      serve: () => ({
        onStream: (stream) => {
          this.up = new PatternReader(stream, 1, now);
          sendPattern(stream, 2, DOWN_BYTES);
        },
        onClose() {},
      }),
      host: { onIncomingSessionEnd: (session, circuit, reason) => void this.ended.push({ session, circuit, reason }) },
    });
    this.middles = [1, 2, 3, 4].map((n) => network.add(`middle ${n}`));
    this.guards = [1, 2, 3, 4].map((n) => network.add(`guard ${n}`));
    const { session } = this.client.engine.buildCircuit(
      this.#circuit(),
      {
        onClose: (code) => void this.closes.push(code),
        ...(options.resumes === false
          ? {}
          : {
              onDetached: () => {
                this.detached++;
                this.attach();
              },
              ...(options.eager === true
                ? {
                    onStalled: () => {
                      this.stalled++;
                      this.attach();
                    },
                  }
                : {}),
            }),
      },
      network.nowMs,
    );
    this.session = session;
    this.stream = session.openStream(TARGET)!;
    this.down = new PatternReader(this.stream, 2, now);
    sendPattern(this.stream, 1, UP_BYTES);
  }

  readonly guards: SimNode[];

  #circuit() {
    const at = this.#next++ % this.middles.length;
    const hops = [this.guards[at]!, this.middles[at]!, this.exit].map((node) => node.contact);
    return { hops, class: 'fast', delayMeanUs: 0, expiry: this.network.unixSeconds + 3600 } as const;
  }

  attach(): number | undefined {
    return this.client.engine.attachCircuit(this.session, this.#circuit(), this.network.nowMs);
  }

  readonly done = () =>
    this.down.ended && this.down.bytes === DOWN_BYTES && this.up?.ended === true && this.up.bytes === UP_BYTES;
}

describe('a session whose circuit dies', () => {
  for (const [name, victim] of [
    ['guard', (run: Resuming) => run.guards[0]!],
    ['middle relay', (run: Resuming) => run.middles[0]!],
  ] as const) {
    test(`(${name}) goes on over another one: every byte once, no error, nothing left behind`, () => {
      const run = new Resuming(1);
      const { network } = run;
      network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
      victim(run).down = true;
      assert.ok(network.run(network.nowMs + 30_000, run.done), `${run.down.bytes} bytes down, ${run.up?.bytes} up`);
      assert.equal(run.detached, 1);
      assert.deepEqual(run.closes, []);
      // The exit has seen one session: the newcomer's own, which was never used, is over.
      assert.equal(run.ended.length, 1);
      run.session.close(SessionError.noError, 'done');
      network.run(network.nowMs + 5000);
      assert.equal(run.ended.length, 2);
      assert.equal(run.exit.engine.relayCircuits, 0);
    });
  }

  test('asks for another one as soon as it is silent: the stall is under two seconds', () => {
    const run = new Resuming(7, { eager: true });
    const { network } = run;
    network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
    run.middles[0]!.down = true;
    assert.ok(network.run(network.nowMs + 30_000, run.done), `${run.down.bytes} bytes down, ${run.up?.bytes} up`);
    assert.equal(run.stalled, 1);
    assert.equal(run.detached, 0, 'the new circuit came before the old one was given up');
    assert.ok(run.down.longestStallMs < 2000, `${run.down.longestStallMs} ms`);
  });

  test('a round trip that was long for a while, as with a full queue, does not make the stall long', () => {
    const run = new Resuming(8, { eager: true });
    const { network } = run;
    network.run(network.nowMs + 20_000, () => run.down.bytes > 0);
    network.wire = { ...wire, latencyMs: 60 };
    network.run(network.nowMs + 60_000, () => run.down.bytes > DOWN_BYTES / 2);
    const [path] = run.session.stats.paths;
    assert.ok(path!.smoothedRttMs! > 300, `${path!.smoothedRttMs} ms`);
    network.wire = wire;
    run.middles[0]!.down = true;
    assert.ok(network.run(network.nowMs + 30_000, run.done), `${run.down.bytes} bytes down, ${run.up?.bytes} up`);
    assert.equal(run.detached, 0, 'the new circuit came before the old one was given up');
    assert.ok(run.down.longestStallMs < 2000, `${run.down.longestStallMs} ms`);
  });

  test('again and again: four relays in turn', () => {
    const run = new Resuming(2);
    const { network } = run;
    for (let i = 0; i < 3; i++) {
      network.run(network.nowMs + 20_000, () => run.down.bytes > (DOWN_BYTES / 5) * (i + 1));
      run.middles[i]!.down = true;
    }
    assert.ok(network.run(network.nowMs + 60_000, run.done), `${run.down.bytes} bytes down, ${run.up?.bytes} up`);
    assert.equal(run.detached, 3);
    assert.deepEqual(run.closes, []);
  });

  test('with two circuits it does not even wait', () => {
    const run = new Resuming(3);
    const { network } = run;
    network.run(network.nowMs + 200);
    assert.notEqual(run.attach(), undefined);
    network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
    assert.equal(run.session.stats.paths.length, 2);
    run.middles[0]!.down = true;
    assert.ok(network.run(network.nowMs + 30_000, run.done));
    assert.equal(run.detached, 0);
    assert.ok(run.down.longestStallMs <= 500, `${run.down.longestStallMs} ms`);
  });

  test('ends with an error when its owner does not bring it back, and the exit forgets it after 15 s', () => {
    const run = new Resuming(4, { resumes: false });
    const { network } = run;
    network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
    run.middles[0]!.down = true;
    assert.ok(network.run(network.nowMs + 5000, () => run.closes.length > 0));
    assert.deepEqual(run.closes, [SessionError.sessionLost]);
    assert.equal(run.down.code, SessionError.sessionLost);
    assert.equal(run.ended.length, 0, 'the exit waits');
    assert.ok(run.exit.engine.bufferedBytes > 100_000);
    network.run(network.nowMs + 20_000);
    assert.equal(run.ended.length, 1);
    assert.equal(run.attach(), undefined, 'it is over');
  });

  test('is lost with its last hop: streams fail, nothing hangs', () => {
    const run = new Resuming(5);
    const { network } = run;
    network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
    run.exit.down = true;
    network.run(network.nowMs + 2000);
    run.exit.restart();
    assert.ok(network.run(network.nowMs + 30_000, () => run.closes.length > 0));
    assert.deepEqual(run.closes, [SessionError.sessionLost]);
    assert.equal(run.down.code, SessionError.sessionLost);
  });

  test('waiting sessions go first when the exit runs out of memory', () => {
    const memoryBytes = 4_700_000;
    const run = new Resuming(6, { resumes: false, exitMemoryBytes: memoryBytes });
    const { network, exit } = run;
    network.run(network.nowMs + 20_000, () => run.down.bytes > DOWN_BYTES / 4);
    run.middles[0]!.down = true;
    network.run(network.nowMs + 5000, () => run.closes.length > 0);
    network.run(network.nowMs + 1500);
    assert.equal(run.ended.length, 0, 'it waits, with what it has not sent');
    const waitingBytes = exit.engine.bufferedBytes;
    assert.ok(waitingBytes > 1_000_000 && waitingBytes < 0.75 * memoryBytes, `${waitingBytes}`);

    // Others come and read slowly: what the exit holds for them does not fit beside it.
    const other = network.add('other client', { relay: false });
    const closes: number[] = [];
    const hops = [run.guards[1]!, run.middles[1]!, exit].map((node) => node.contact);
    const { session } = other.engine.buildCircuit(
      { hops, class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
      { onClose: (code) => void closes.push(code) },
      network.nowMs,
    );
    const streams = [session.openStream(TARGET)!];
    assert.ok(network.run(network.nowMs + 10_000, () => run.ended.length > 0));
    assert.deepEqual(
      run.ended.map(({ reason }) => reason),
      [CircuitEnd.memory],
    );
    assert.equal(exit.engine.counters.shed, 1, 'the one that waited, and nobody who is there');
    assert.ok(exit.engine.bufferedBytes <= memoryBytes, `${exit.engine.bufferedBytes}`);
    const readers = streams.map((stream) => new PatternReader(stream, 2, () => network.nowMs));
    for (const stream of streams) stream.end();
    assert.ok(network.run(network.nowMs + 60_000, () => readers.every(({ bytes }) => bytes === DOWN_BYTES)));
    assert.deepEqual(closes, []);
  });
});

test('a proof holds for its own circuit and its own session only', () => {
  const bytes = (fill: number, length: number) => new Uint8Array(length).fill(fill);
  const ticket = deriveTicket(suite, bytes(1, 64));
  const other = deriveTicket(suite, bytes(2, 64));
  const body = attachBody(suite, ticket, bytes(3, 32));
  const proof = body.slice(16);
  assert.deepEqual(body.slice(0, 16), ticket.id);
  assert.ok(provesTicket(suite, ticket, bytes(3, 32), proof));
  assert.ok(!provesTicket(suite, ticket, bytes(4, 32), proof), 'shown again on another circuit');
  assert.ok(!provesTicket(suite, other, bytes(3, 32), proof));
  for (let bit = 0; bit < 128; bit++) {
    const changed = proof.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assert.ok(!provesTicket(suite, ticket, bytes(3, 32), changed));
  }
});
