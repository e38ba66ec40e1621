/** core/onion and core/engine/messages: routes, set-up trains (also behind their AEAD) and the set-up messages. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { MixSecrets, NodeContact } from '@nyx/core/engine/contract.ts';
import { decodeRekey } from '@nyx/core/engine/crypto-messages.ts';
import { decodeDestroy, decodeRefused, decodeSetup } from '@nyx/core/engine/messages.ts';
import { decodeRoute, encodeRoute, type HopRoute, ROUTE_BYTES } from '@nyx/core/onion/hop-route.ts';
import { buildTrain, MixKeyRing, processTrain, TRAIN_BYTES } from '@nyx/core/onion/setup-train.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { fixedBytes, suite } from './suite.ts';

const route: HopRoute = {
  nextNodeId: undefined,
  action: 'exit',
  class: 'fast',
  delayMeanUs: 0,
  forwardStart: 5,
  forwardOffset: 0,
  backwardStart: 2 ** 48 - 1,
  backwardOffset: 0,
  maxCellsLog2: 20,
  expiry: 2_000_000_000,
  nextPuzzleSolution: new Uint8Array(8),
};

const encodedRoute = (change: Partial<HopRoute> = {}): Uint8Array => {
  const bytes = new Uint8Array(ROUTE_BYTES);
  encodeRoute({ ...route, ...change }, bytes);
  return bytes;
};

const routes = (): Uint8Array[] => [
  encodedRoute(),
  encodedRoute({
    nextNodeId: fixedBytes('next', 32),
    action: 'relay',
    class: 'mix',
    delayMeanUs: 20_000,
    forwardOffset: 77,
  }),
  encodedRoute({
    nextNodeId: fixedBytes('next', 32),
    action: 'relay',
    class: 'cmix',
    maxCellsLog2: 48,
    expiry: Number.MAX_SAFE_INTEGER,
  }),
];

function checkRoute(decoded: HopRoute, bytes: Uint8Array): void {
  const again = new Uint8Array(ROUTE_BYTES);
  encodeRoute(decoded, again);
  check(Buffer.compare(again, bytes.subarray(0, ROUTE_BYTES)) === 0, 'encode(decode(x)) is x');
  check((decoded.nextNodeId === undefined) === (decoded.action === 'exit'), 'the last hop exits');
  check(Number.isSafeInteger(decoded.expiry) && decoded.maxCellsLog2 <= 48, 'numbers in their ranges');
}

export const hopRoute: FuzzTarget = {
  name: 'hop-route',
  dictionary: [new Uint8Array(32), Uint8Array.of(1), Uint8Array.of(49), Uint8Array.of(0, 0x20, 0, 0, 0, 0, 0, 0)],
  maxBytes: ROUTE_BYTES,
  executions: 6000,
  seeds: routes,
  run(input) {
    const bytes = new Uint8Array(ROUTE_BYTES);
    bytes.set(input.subarray(0, ROUTE_BYTES));
    const decoded = decodeRoute(bytes);
    if (decoded !== undefined) checkRoute(decoded, bytes);
  },
};

const mix: MixSecrets = { epoch: 7, x25519Secret: fixedBytes('mix dh', 32), kemSeed: fixedBytes('mix kem', 64) };
const nodeId = fixedBytes('node id', 32);
const ringOf = (): MixKeyRing => new MixKeyRing(suite, nodeId, [mix]);

const contact = (): NodeContact => {
  const [keys] = ringOf().keys;
  const mixKeys = [{ epoch: 7, x25519: keys!.dh.publicKey, kem: keys!.kem.publicKey }];
  return { nodeId, addresses: [], linkX25519: new Uint8Array(32), linkKem: new Uint8Array(1184), mixKeys };
};

const options = { class: 'fast', delayMeanUs: 0, expiry: 2_000_000_000 } as const;
/** A train for one hop whose key to the inside is known. */
const template = buildTrain(suite, createSeededRandom('fuzz train'), [contact()], options);
const bodyAt = TRAIN_BYTES - (TRAIN_BYTES - 32 - 1088 - 16);

/** First byte 0: the bytes of a train as they come. Else: `route ‖ rest`, sealed for the node as a real client would. */
export const setupTrain: FuzzTarget = {
  name: 'setup-train',
  dictionary: [Uint8Array.of(1), ...routes()],
  maxBytes: 10_100,
  executions: 400,
  seeds: () => [
    Uint8Array.of(0, ...template.train),
    Uint8Array.of(0, ...template.train.subarray(0, 2000)),
    ...routes().map((bytes) => Uint8Array.of(1, ...bytes, 1, 2, 3)),
  ],
  run(input) {
    let train: Uint8Array = input.slice(1);
    if (input.length > 0 && input[0] !== 0) {
      train = template.train.slice();
      const body = new Uint8Array(TRAIN_BYTES - bodyAt);
      body.set(input.subarray(1, 1 + body.length));
      const key = template.secrets[0]!.setupKey;
      suite.aeadSeal(
        train.subarray(bodyAt),
        train.subarray(bodyAt - 16, bodyAt),
        body,
        new Uint8Array(0),
        new Uint8Array(12),
        key,
      );
    }
    const ring = ringOf();
    const result = processTrain(suite, ring, train.slice());
    const second = processTrain(suite, ring, train.slice());
    if (result.drop !== Drop.none) {
      check(second.drop === result.drop, 'refused twice for the same reason');
      return;
    }
    check(second.drop === Drop.setupReplayed, 'a replay is dropped');
    const relays = result.route.nextNodeId !== undefined;
    check(result.next.length === (relays ? TRAIN_BYTES : 0), 'the next train is as long as this one');
    check((result.clientFresh === undefined) === relays, 'fresh keys are for the last hop');
    const bytes = new Uint8Array(ROUTE_BYTES);
    encodeRoute(result.route, bytes);
    checkRoute(result.route, bytes);
    ring.wipe();
  },
};

/** First byte: which message. Lengths are exact, so bodies are also cut or padded to what the message has. */
export const setupMessages: FuzzTarget = {
  name: 'setup-messages',
  dictionary: [Uint8Array.of(0), Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(11)],
  maxBytes: 10_200,
  executions: 3000,
  seeds: () => [
    Uint8Array.of(0, ...fixedBytes('cids', 24), ...new Uint8Array(8), ...template.train.subarray(0, 1000)),
    Uint8Array.of(1, ...fixedBytes('cid', 12), 0, 5),
    Uint8Array.of(1, ...fixedBytes('cid', 12), 1, 200),
    Uint8Array.of(2, ...fixedBytes('cid', 12), 4, ...nodeId, 12, ...fixedBytes('challenge', 16)),
    Uint8Array.of(3, ...fixedBytes('rekey', 32), ...new Uint8Array(1184)),
  ],
  run(input) {
    const kind = (input[0] ?? 0) & 3;
    const length = [2 * 12 + 8 + TRAIN_BYTES, 14, 12 + 1 + 32 + 1 + 16, 32 + 1184][kind]!;
    const exact = new Uint8Array(length);
    exact.set(input.subarray(1, 1 + length));
    for (const body of [input.subarray(1), exact]) {
      const fits = body.length === length;
      if (kind === 0) {
        const setup = decodeSetup(body);
        check((setup !== undefined) === fits, 'SETUP has one length');
        if (setup !== undefined)
          check(setup.train.length === TRAIN_BYTES && setup.puzzleSolution.length === 8, 'parts');
      } else if (kind === 1) {
        const destroy = decodeDestroy(body);
        check((destroy !== undefined) === (fits && body[12]! <= 1), 'DESTROY has one length and two directions');
        if (destroy !== undefined) check(destroy.reason >= 0 && destroy.reason <= 10, 'a known reason');
      } else if (kind === 2) {
        const refused = decodeRefused(body);
        check((refused !== undefined) === fits, 'SETUP_REFUSED has one length');
        if (refused !== undefined) check(refused.reason <= 10 && refused.challenge.length === 16, 'a known reason');
      } else check((decodeRekey(body) !== undefined) === fits, 'REKEY has one length');
    }
  },
};
