/**
 * What one cell costs at each place of a circuit, beside one bare AEAD call of the same size. Prints JSON; times are
 * µs per cell, the best of several runs, on one core.
 */
import assert from 'node:assert/strict';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { ClientOnion } from '@nyx/core/onion/client-onion.ts';
import { LastHop } from '@nyx/core/onion/last-hop.ts';
import { RelayHop } from '@nyx/core/onion/relay-hop.ts';
import { buildTrain, MixKeyRing, processTrain } from '@nyx/core/onion/setup-train.ts';
import { CellBuffer, DATAGRAM_BYTES, LayeredCell } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

const HOPS = 3;
/** Five full batches: they stay in the cache, as on a busy relay. */
const CELLS = 255;
const RUNS = 300;

const suite = createNativeSuite();
const random = createSeededRandom('bench onion');

interface LinkCells {
  readonly cells: CellBuffer[];
  readonly counters: number[];
}

function makeCells(): CellBuffer[] {
  return Array.from({ length: CELLS }, () => new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0));
}

function bytes(length: number): Uint8Array {
  const out = new Uint8Array(length);
  random.fill(out);
  return out;
}

class Timer {
  #best = Number.POSITIVE_INFINITY;
  run(work: () => void): void {
    const start = process.hrtime.bigint();
    work();
    this.#best = Math.min(this.#best, Number(process.hrtime.bigint() - start) / 1000 / CELLS);
  }
  get us(): number {
    return Number(this.#best.toFixed(3));
  }
}

const nodes = Array.from({ length: HOPS }, () => {
  const nodeId = bytes(32);
  const ring = new MixKeyRing(suite, nodeId, [{ epoch: 1, x25519Secret: bytes(32), kemSeed: bytes(64) }]);
  const { dh, kem } = ring.keys[0]!;
  const contact: NodeContact = {
    nodeId,
    addresses: [],
    linkX25519: new Uint8Array(32),
    linkKem: new Uint8Array(1184),
    mixKeys: [{ epoch: 1, x25519: dh.publicKey, kem: kem.publicKey }],
  };
  return { ring, contact };
});

const setupStart = process.hrtime.bigint();
const built = buildTrain(
  suite,
  random,
  nodes.map((node) => node.contact),
  { class: 'fast', delayMeanUs: 0, expiry: 2_000_000_000 },
);
const buildUs = Number(process.hrtime.bigint() - setupStart) / 1000;
const relays: RelayHop[] = [];
let last: LastHop | undefined;
let { train } = built;
const processStart = process.hrtime.bigint();
for (const node of nodes) {
  const result = processTrain(suite, node.ring, train);
  assert.ok(result.drop === 0);
  if (result.route.nextNodeId === undefined) last = new LastHop(suite, result.secrets, result.route);
  else relays.push(new RelayHop(suite, result.secrets, result.route));
  train = result.next;
}
const processUs = Number(process.hrtime.bigint() - processStart) / 1000 / HOPS;
assert.ok(last !== undefined);
const lastHop = last;
const client = new ClientOnion(suite, built.secrets, built.routes);

const timers = {
  aeadOpen: new Timer(),
  aeadSeal: new Timer(),
  clientSealForward: new Timer(),
  relayOpenForward: new Timer(),
  lastOpenForward: new Timer(),
  lastSealBackward: new Timer(),
  relaySealBackward: new Timer(),
  clientOpenBackward: new Timer(),
};

const plain = makeCells();
const key = bytes(32);
const nonce = new Uint8Array(12);
const ad = new Uint8Array(2);
const scratch = new LayeredCell();
const links: LinkCells[] = Array.from({ length: HOPS }, () => ({
  cells: makeCells(),
  counters: new Array(CELLS).fill(0),
}));
let failures = 0;

for (let run = 0; run < RUNS; run++) {
  timers.aeadSeal.run(() => {
    for (const cell of plain) suite.aeadSeal(cell.ct, cell.tag, cell.ct, ad, nonce, key);
  });
  // As a relay does it: from one datagram's buffer into another's.
  timers.aeadOpen.run(() => {
    for (let i = 0; i < CELLS; i++) {
      const cell = plain[i]!;
      if (!suite.aeadOpen(links[0]!.cells[i]!.cellHead, cell.tag, cell.ct, ad, nonce, key)) failures++;
    }
  });
  timers.clientSealForward.run(() => {
    for (let i = 0; i < CELLS; i++) {
      const index = client.allocateIndex();
      client.sealForward(index, 0, 0, scratch);
      links[0]!.cells[i]!.cell.set(scratch.cell);
      links[0]!.counters[i] = client.forwardCounter(index);
    }
  });
  for (let hop = 0; hop < HOPS - 1; hop++) {
    const [from, to, relay] = [links[hop]!, links[hop + 1]!, relays[hop]!];
    timers.relayOpenForward.run(() => {
      for (let i = 0; i < CELLS; i++) {
        const counter = from.counters[i]!;
        if (relay.openForward(counter, 0, 0, from.cells[i]!, to.cells[i]!, run) !== 0) failures++;
        to.counters[i] = relay.forwardCounterOut(counter);
      }
    });
  }
  const end = links[HOPS - 1]!;
  timers.lastOpenForward.run(() => {
    for (let i = 0; i < CELLS; i++) {
      if (lastHop.openForward(end.counters[i]!, 0, 0, end.cells[i]!, run) !== 0) failures++;
    }
  });
  timers.lastSealBackward.run(() => {
    for (let i = 0; i < CELLS; i++) {
      const index = lastHop.allocateIndex();
      lastHop.sealBackward(0, 0, end.cells[i]!, index);
      end.counters[i] = lastHop.counterFor(index);
    }
  });
  for (let hop = HOPS - 2; hop >= 0; hop--) {
    const [from, to, relay] = [links[hop + 1]!, links[hop]!, relays[hop]!];
    timers.relaySealBackward.run(() => {
      for (let i = 0; i < CELLS; i++) {
        const counter = from.counters[i]!;
        if (relay.sealBackward(counter, 0, 0, from.cells[i]!, to.cells[i]!, run) !== 0) failures++;
        to.counters[i] = relay.backwardCounterOut(counter);
      }
    });
  }
  const first = links[0]!;
  timers.clientOpenBackward.run(() => {
    for (let i = 0; i < CELLS; i++) {
      scratch.cell.set(first.cells[i]!.cell);
      if (client.openBackward(first.counters[i]!, 0, 0, scratch, run) !== 0) failures++;
    }
  });
}
assert.equal(failures, 0, 'every cell of the measurement must have passed');

const us = Object.fromEntries(Object.entries(timers).map(([name, timer]) => [name, timer.us]));
const ratio = (name: keyof typeof timers, base: keyof typeof timers, calls = 1) =>
  Number((timers[name].us / timers[base].us / calls).toFixed(2));
console.log(
  JSON.stringify(
    {
      bench: 'onion',
      suite: suite.name,
      hops: HOPS,
      usPerCell: us,
      ratios: {
        relayOpenForwardToOpen: ratio('relayOpenForward', 'aeadOpen'),
        relaySealBackwardToSeal: ratio('relaySealBackward', 'aeadSeal'),
        lastOpenForwardToOpen: ratio('lastOpenForward', 'aeadOpen'),
        lastSealBackwardToSeal: ratio('lastSealBackward', 'aeadSeal'),
        clientSealForwardToSeals: ratio('clientSealForward', 'aeadSeal', HOPS),
        clientOpenBackwardToOpens: ratio('clientOpenBackward', 'aeadOpen', HOPS),
      },
      setupUs: { buildTrain: Math.round(buildUs), processTrainPerHop: Math.round(processUs) },
      memoryBytes: { relayHop: relays[0]!.memoryBytes, lastHop: lastHop.memoryBytes, client: client.memoryBytes },
    },
    undefined,
    2,
  ),
);
