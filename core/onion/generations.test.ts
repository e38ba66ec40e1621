import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Drop } from '../drop-reason.ts';
import { GENERATION_CELLS, OLD_KEYS_MS } from './direction-keys.ts';
import { type LinkCell, TestCircuit } from './test-circuit.ts';

type Way = 'forward' | 'backward';

function seal(circuit: TestCircuit, way: Way, payload: Uint8Array): LinkCell {
  return way === 'forward' ? circuit.sealForward(payload) : circuit.sealBackward(payload);
}

function deliver(circuit: TestCircuit, way: Way, link: LinkCell): Uint8Array | Drop {
  return way === 'forward' ? circuit.deliverForward(link) : circuit.deliverBackward(link);
}

/** Uses indices up without sealing: gaps are allowed. */
function goTo(circuit: TestCircuit, way: Way, index: number): void {
  const sender = way === 'forward' ? circuit.client : circuit.last;
  while (sender.nextIndex < index) sender.allocateIndex();
}

function skip(circuit: TestCircuit, way: Way): void {
  (way === 'forward' ? circuit.client : circuit.last).skipToNextGeneration();
}

for (const way of ['forward', 'backward'] as const) {
  test(`${way}: cells of both generations arrive in any order around the boundary`, () => {
    const circuit = new TestCircuit(3, `boundary ${way}`);
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (order) => {
        const generation = Math.floor((way === 'forward' ? circuit.client : circuit.last).nextIndex / GENERATION_CELLS);
        goTo(circuit, way, (generation + 1) * GENERATION_CELLS - 5);
        const payloads = Array.from({ length: 10 }, () => circuit.payload());
        const cells = payloads.map((payload) => seal(circuit, way, payload));
        for (const i of order) assert.deepEqual(deliver(circuit, way, cells[i]!), payloads[i]);
        circuit.nowMs += 1000;
      }),
      { numRuns: 12, seed: 5 },
    );
  });

  test(`${way}: replaced keys live 10 s`, () => {
    const circuit = new TestCircuit(3, `old ${way}`);
    goTo(circuit, way, GENERATION_CELLS - 3);
    const late = [1, 2, 3].map(() => seal(circuit, way, circuit.payload()));
    const next = seal(circuit, way, circuit.payload());
    assert.equal(typeof deliver(circuit, way, next), 'object');
    assert.equal(typeof deliver(circuit, way, late[0]!), 'object');
    circuit.nowMs += OLD_KEYS_MS - 1;
    assert.equal(typeof deliver(circuit, way, late[1]!), 'object');
    circuit.nowMs += 1;
    assert.equal(deliver(circuit, way, late[2]!), Drop.tooOld);
  });

  test(`${way}: skipping a generation works four times, five ahead is refused`, () => {
    const circuit = new TestCircuit(3, `skip ${way}`);
    assert.equal(typeof deliver(circuit, way, seal(circuit, way, circuit.payload())), 'object');
    // Each generation is begun (or there would be nothing to skip), but what was sent in it is lost.
    for (let i = 0; i < 3; i++) {
      skip(circuit, way);
      seal(circuit, way, circuit.payload());
    }
    skip(circuit, way);
    const fourAhead = seal(circuit, way, circuit.payload());
    skip(circuit, way);
    const fiveAhead = seal(circuit, way, circuit.payload());
    assert.equal(deliver(circuit, way, fiveAhead), Drop.badCounter);
    assert.equal(typeof deliver(circuit, way, fourAhead), 'object');
    assert.equal(typeof deliver(circuit, way, fiveAhead), 'object');
  });

  test(`${way}: an unused generation is not skipped`, () => {
    const circuit = new TestCircuit(3, `unused ${way}`);
    const sender = way === 'forward' ? circuit.client : circuit.last;
    skip(circuit, way);
    assert.equal(sender.nextIndex, 0);
    seal(circuit, way, circuit.payload());
    skip(circuit, way);
    skip(circuit, way);
    assert.equal(sender.nextIndex, GENERATION_CELLS);
  });
}

test('counters of generations ahead that nobody sealed change nothing', () => {
  const circuit = new TestCircuit(3, 'forged ahead');
  const link = circuit.sealForward(circuit.payload());
  for (let ahead = 1; ahead <= 4; ahead++) {
    const counter = (link.counter + ahead * GENERATION_CELLS) % 2 ** 48;
    assert.equal(circuit.relayForward(0, { ...link, counter }), Drop.badTag);
  }
  const held = circuit.relays[0]!.memoryBytes;
  for (let i = 0; i < 100; i++) {
    const counter = (link.counter + (1 + (i % 4)) * GENERATION_CELLS) % 2 ** 48;
    assert.equal(circuit.relayForward(0, { ...link, counter }), Drop.badTag);
  }
  assert.equal(circuit.relays[0]!.memoryBytes, held);
  assert.equal(typeof circuit.deliverForward(link), 'object');
});

test('the fresh chain takes over whatever is lost or overtaken, also across a generation', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 3),
      fc.integer({ min: 0, max: 8 }),
      fc.integer({ min: 0, max: 8 }),
      fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 1 }),
      fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 1 }),
      fc.nat(1e6),
      (hops, installAt, skipAt, forwardOrder, backwardOrder, seed) => {
        const circuit = new TestCircuit(hops, seed);
        for (let exchange = 0; exchange < 2; exchange++) {
          const [atClient, atLast] = exchange === 0 ? circuit.exchange() : circuit.rekeyExchange();
          assert.deepEqual(atClient, atLast);
          circuit.last.installFresh(atLast);
          const forward: { payload: Uint8Array; link: LinkCell }[] = [];
          for (let i = 0; i < 10; i++) {
            if (i === installAt) circuit.client.installFresh(atClient);
            if (i === skipAt) circuit.client.skipToNextGeneration();
            const payload = circuit.payload();
            forward.push({ payload, link: circuit.sealForward(payload) });
          }
          // Backward cells sealed before and after the forward ones arrive are under different chains.
          const backward: { payload: Uint8Array; link: LinkCell }[] = [];
          const sealBack = () => {
            const payload = circuit.payload();
            backward.push({ payload, link: circuit.sealBackward(payload) });
          };
          for (let i = 0; i < 4; i++) sealBack();
          for (const i of forwardOrder) assert.deepEqual(circuit.deliverForward(forward[i]!.link), forward[i]!.payload);
          for (let i = 0; i < 2; i++) sealBack();
          circuit.last.skipToNextGeneration();
          for (let i = 0; i < 4; i++) sealBack();
          for (const i of backwardOrder) {
            assert.deepEqual(circuit.deliverBackward(backward[i]!.link), backward[i]!.payload);
          }
          // Both ends must have switched before the next exchange, as KEYS and REKEY travel on the new chain.
          const out = circuit.payload();
          assert.deepEqual(circuit.deliverForward(circuit.sealForward(out)), out);
          const back = circuit.payload();
          assert.deepEqual(circuit.deliverBackward(circuit.sealBackward(back)), back);
        }
      },
    ),
    { numRuns: 30, seed: 11 },
  );
});

test('after the switch the old chain opens nothing new once its 10 s are over', () => {
  const circuit = new TestCircuit(3, 'switch');
  const [atClient, atLast] = circuit.exchange();
  circuit.last.installFresh(atLast);
  const old = [circuit.sealForward(circuit.payload()), circuit.sealForward(circuit.payload())];
  circuit.client.installFresh(atClient);
  assert.equal(typeof circuit.deliverForward(circuit.sealForward(circuit.payload())), 'object');
  assert.equal(typeof circuit.deliverForward(old[0]!), 'object');
  circuit.nowMs += OLD_KEYS_MS;
  circuit.last.expireOld(circuit.nowMs);
  assert.equal(circuit.deliverForward(old[1]!), Drop.badTag);
});

test('an exchange that the other end does not share opens nothing', () => {
  const circuit = new TestCircuit(3, 'other secret');
  const [atClient, atLast] = circuit.exchange();
  atLast[63]! ^= 1;
  circuit.last.installFresh(atLast);
  circuit.client.installFresh(atClient);
  assert.equal(circuit.deliverForward(circuit.sealForward(circuit.payload())), Drop.badTag);
});
