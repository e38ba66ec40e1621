/** For tests: a whole circuit, set up by a real train, whose cells are passed on by hand. */
import assert from 'node:assert/strict';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { MixSecrets, NodeContact } from '../engine/contract.ts';
import type { Random } from '../ports.ts';
import { CellBuffer, DATAGRAM_BYTES, LayeredCell, PAYLOAD_BYTES } from '../wire/datagram.ts';
import { ClientOnion } from './client-onion.ts';
import type { HopSecrets } from './hop-secrets.ts';
import { LastHop } from './last-hop.ts';
import { RelayHop } from './relay-hop.ts';
import {
  buildTrain,
  type ClientFresh,
  createFreshKeys,
  finishReply,
  type HopRoute,
  lastHopReply,
  MixKeyRing,
  processTrain,
  type Train,
  type TrainOptions,
} from './setup-train.ts';

const noble = createNobleSuite();

/** What a failed open leaves in `out` is unspecified: here it is destroyed, as a native suite does. */
export const suite: CryptoSuite = {
  ...noble,
  aeadOpen(out, tag, ciphertext, ad, nonce, key) {
    const opened = noble.aeadOpen(out, tag, ciphertext, ad, nonce, key);
    if (!opened) out.fill(0);
    return opened;
  },
};

/** A cell as it lies on one link: with the counter that its header would carry. */
export interface LinkCell {
  readonly cell: CellBuffer;
  readonly counter: number;
  readonly type: number;
  readonly pathId: number;
}

export interface TestNode {
  readonly mix: MixSecrets;
  readonly ring: MixKeyRing;
  readonly contact: NodeContact;
}

export const trainOptions: TrainOptions = { class: 'fast', delayMeanUs: 0, expiry: 2_000_000_000 };

export function randomBytes(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  random.fill(bytes);
  return bytes;
}

export function createNode(random: Random, epoch = 7): TestNode {
  const nodeId = randomBytes(random, 32);
  const mix = { epoch, x25519Secret: randomBytes(random, 32), kemSeed: randomBytes(random, 64) };
  const ring = new MixKeyRing(suite, nodeId, [mix]);
  return { mix, ring, contact: contactOf(ring) };
}

export function contactOf(ring: MixKeyRing): NodeContact {
  return {
    nodeId: ring.nodeId,
    addresses: [],
    linkX25519: new Uint8Array(32),
    linkKem: new Uint8Array(1184),
    mixKeys: ring.keys.toReversed().map(({ epoch, dh, kem }) => ({ epoch, x25519: dh.publicKey, kem: kem.publicKey })),
  };
}

export function newCell(): CellBuffer {
  return new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
}

export function copyOf(link: LinkCell): LinkCell {
  const cell = newCell();
  cell.bytes.set(link.cell.bytes);
  return { ...link, cell };
}

export class TestCircuit {
  readonly hops: number;
  readonly random: Random;
  readonly client: ClientOnion;
  readonly relays: RelayHop[] = [];
  readonly last: LastHop;
  readonly clientFresh: ClientFresh;
  readonly built: Train;
  /** Copies, by hop, since the onion erases its own. */
  readonly secrets: HopSecrets[];
  readonly routes: readonly HopRoute[];
  nowMs = 1000;

  constructor(hops: number, seed: number | string, options: TrainOptions = trainOptions) {
    this.hops = hops;
    this.random = createSeededRandom(seed);
    const nodes = Array.from({ length: hops }, () => createNode(this.random));
    this.built = buildTrain(
      suite,
      this.random,
      nodes.map((node) => node.contact),
      options,
    );
    let { train } = this.built;
    let last: { hop: LastHop; fresh: ClientFresh } | undefined;
    for (const node of nodes) {
      const result = processTrain(suite, node.ring, train);
      assert.equal(result.drop, Drop.none);
      if (result.clientFresh !== undefined) {
        last = { hop: new LastHop(suite, result.secrets, result.route), fresh: result.clientFresh };
      } else {
        this.relays.push(new RelayHop(suite, result.secrets, result.route));
        train = result.next;
      }
    }
    this.last = last!.hop;
    this.clientFresh = last!.fresh;
    this.routes = this.built.routes;
    this.secrets = this.built.secrets.map((secret) => structuredClone(secret));
    this.client = new ClientOnion(suite, this.built.secrets, this.routes);
  }

  payload(): Uint8Array {
    return randomBytes(this.random, PAYLOAD_BYTES);
  }

  /** The cell on the link from the client to the first hop. */
  sealForward(payload: Uint8Array, type = 0, pathId = 0): LinkCell {
    const scratch = new LayeredCell();
    scratch.layerPayloads[this.hops - 1]!.set(payload);
    const index = this.client.allocateIndex();
    this.client.sealForward(index, type, pathId, scratch);
    const cell = newCell();
    cell.cell.set(scratch.cell);
    return { cell, counter: this.client.forwardCounter(index), type, pathId };
  }

  /** Through relay `hop` (0 = first), away from the client. Leaves `input` as it is. */
  relayForward(hop: number, input: LinkCell): LinkCell | Drop {
    const cell = newCell();
    const relay = this.relays[hop]!;
    const drop = relay.openForward(input.counter, input.type, input.pathId, input.cell, cell, this.nowMs);
    return drop === Drop.none ? { ...input, cell, counter: relay.forwardCounterOut(input.counter) } : drop;
  }

  /** At the last hop: the payload. */
  openLast(input: LinkCell): Uint8Array | Drop {
    const { cell } = copyOf(input);
    const drop = this.last.openForward(input.counter, input.type, input.pathId, cell, this.nowMs);
    return drop === Drop.none ? cell.payload.slice() : drop;
  }

  /** From the link into hop `from` to the last hop's payload. */
  deliverForward(input: LinkCell, from = 0): Uint8Array | Drop {
    let link = input;
    for (let hop = from; hop < this.hops - 1; hop++) {
      const next = this.relayForward(hop, link);
      if (typeof next === 'number') return next;
      link = next;
    }
    return this.openLast(link);
  }

  /** The cell on the link from the last hop. */
  sealBackward(payload: Uint8Array, type = 0, pathId = 0): LinkCell {
    const cell = newCell();
    cell.payload.set(payload);
    const index = this.last.allocateIndex();
    this.last.sealBackward(type, pathId, cell, index);
    return { cell, counter: this.last.counterFor(index), type, pathId };
  }

  relayBackward(hop: number, input: LinkCell): LinkCell | Drop {
    const cell = newCell();
    const relay = this.relays[hop]!;
    const drop = relay.sealBackward(input.counter, input.type, input.pathId, input.cell, cell, this.nowMs);
    return drop === Drop.none ? { ...input, cell, counter: relay.backwardCounterOut(input.counter) } : drop;
  }

  openClient(input: LinkCell): Uint8Array | Drop {
    const scratch = new LayeredCell();
    scratch.cell.set(input.cell.cell);
    const drop = this.client.openBackward(input.counter, input.type, input.pathId, scratch, this.nowMs);
    return drop === Drop.none ? scratch.layerPayloads[this.hops - 1]!.slice() : drop;
  }

  /** From the link into relay `from` to the client. */
  deliverBackward(input: LinkCell, from = this.hops - 2): Uint8Array | Drop {
    let link = input;
    for (let hop = from; hop >= 0; hop--) {
      const next = this.relayBackward(hop, link);
      if (typeof next === 'number') return next;
      link = next;
    }
    return this.openClient(link);
  }

  /** Both ends' result of the exchange in the train: [client's, last hop's]. */
  exchange(): [Uint8Array, Uint8Array] {
    const reply = lastHopReply(suite, this.random, this.clientFresh)!;
    return [finishReply(suite, this.built.fresh, reply.message)!, reply.shared];
  }

  /** One more exchange, as REKEY and REKEY_KEYS carry it. */
  rekeyExchange(): [Uint8Array, Uint8Array] {
    const fresh = createFreshKeys(suite, this.random);
    const reply = lastHopReply(suite, this.random, { x25519: fresh.dh.publicKey, kem: fresh.kem.publicKey })!;
    return [finishReply(suite, fresh, reply.message)!, reply.shared];
  }
}
