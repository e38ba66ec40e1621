/** core/mix/circuit-pledge and exchange-evidence: what hops pledge of circuits, and what is shown of a mix by that. */
import { decodePledges } from '@nyx/core/engine/circuit-pledges.ts';
import { CheatKind, encodeEvidence, verifyEvidence } from '@nyx/core/mix/batch-evidence.ts';
import { cellDigest } from '@nyx/core/mix/batch-records.ts';
import { smallRecords, TEST_RULES, TEST_UNIX, testBytes, testCircuit, testMix } from '@nyx/core/mix/batch-testing.ts';
import {
  completePledge,
  openPledges,
  PLEDGE_TRAIN_BYTES,
  readPledge,
  signPledge,
} from '@nyx/core/mix/circuit-pledge.ts';
import { encodeShown, type ShownCell } from '@nyx/core/mix/exchange-evidence.ts';
import { CellKeys, cellAd, cellNonce, Direction, setCellContext } from '@nyx/core/onion/direction-keys.ts';
import { RelayHop } from '@nyx/core/onion/relay-hop.ts';
import { CellBuffer, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { suite } from './suite.ts';

const records = smallRecords(suite);
const mix = testMix(suite, 'fuzzed');
const { certificate, key } = mix.signer;
const circuit = testCircuit(suite, mix, 'fuzzed', false);
const { inward, outward, layerKeys, fields } = circuit.pledged;

/** A cell of either direction through an honest mix, what can be shown of them, and the batch that they were in. */
function honestBatch() {
  const keysOf = (chain: Uint8Array) => new CellKeys(suite, chain.slice(), 0, -1);
  const forward = keysOf(circuit.secrets.forwardChain);
  const backward = keysOf(circuit.secrets.backwardChain);
  const hop = new RelayHop(suite, circuit.secrets, circuit.route);
  const { forwardStart, backwardStart } = circuit.route;
  const buffers = () => new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  const [from, to] = [buffers(), buffers()];
  from.cell.set(testBytes('a cell', from.cell.length));
  setCellContext(0, 0, 0);
  suite.aeadSeal(from.ct, from.tag, from.ct, cellAd, cellNonce, forward.aeadKey);
  const cell = from.cell.slice();
  const there: ShownCell = { travel: Direction.forward, counter: forwardStart, type: 0, pathId: 0, cell };
  check(hop.openForward(forwardStart, 0, 0, from, to, 0) === 0, 'it opens');
  const inputs = [cellDigest(suite, inward, Direction.forward, forwardStart, 0, 0, cell)];
  const outputs = [cellDigest(suite, outward!, Direction.forward, hop.forwardCounterOut(forwardStart), 0, 0, to.cell)];
  const back: ShownCell = { ...there, travel: Direction.backward, counter: backwardStart };
  check(hop.sealBackward(backwardStart, 0, 0, from, to, 0) === 0, 'it is sealed');
  inputs.push(cellDigest(suite, outward!, Direction.backward, backwardStart, 0, 0, cell));
  outputs.push(cellDigest(suite, inward, Direction.backward, hop.backwardCounterOut(backwardStart), 0, 0, to.cell));
  const opening = records.encodeOpening(key.publicKey, 1, testBytes('salt', 16), inputs, outputs);
  const statement = records.encodeStatement(
    certificate,
    key,
    {
      number: 1,
      closedAt: TEST_UNIX,
      cells: 2,
      rules: TEST_RULES,
      squarings: 1,
      inputs: 4n,
      outputs: 9n,
      opening: records.openingHash(opening),
    },
    16n,
    25n,
  );
  const shown = [
    encodeShown(there, { aeadKey: forward.aeadKey, layerKeys }),
    encodeShown(back, { aeadKey: backward.aeadKey, layerKeys }),
  ];
  return { statement, opening, shown };
}

const { statement, opening, shown } = honestBatch();
const evidenceWith = (pledge: Uint8Array, what: Uint8Array) =>
  encodeEvidence(CheatKind.exchange, statement, opening, pledge, what);

/** The first byte says as what the rest is read. */
export const exchangeEvidence: FuzzTarget = {
  name: 'exchange-evidence',
  executions: 1500,
  seeds: () => [
    ...shown.map((one) => Buffer.concat([Uint8Array.of(0), one])),
    Buffer.concat([Uint8Array.of(1), fields]),
    Buffer.concat([Uint8Array.of(2), testBytes('pledges', 12 + PLEDGE_TRAIN_BYTES)]),
    Buffer.concat([Uint8Array.of(3), circuit.pledge]),
    Buffer.concat([Uint8Array.of(4), evidenceWith(circuit.pledge, shown[0]!)]),
  ],
  dictionary: ['NYXCHEAT1'],
  run(input) {
    const rest = input.subarray(1);
    switch (input[0]) {
      case 0: {
        if (rest.length > 0xffff) return;
        const evidence = evidenceWith(circuit.pledge, rest);
        check(verifyEvidence(records, evidence) === undefined, 'an honest mix is not accused, whatever is shown');
        return;
      }
      case 1: {
        // As if the mix had signed that.
        const slot = signPledge(certificate, key, rest);
        const pledge = completePledge(suite, mix.nodeId, rest, slot);
        check((pledge === undefined) === (rest.length !== fields.length), 'a pledge has one length');
        if (pledge !== undefined) verifyEvidence(records, evidenceWith(pledge, shown[0]!));
        return;
      }
      case 2: {
        const message = decodePledges(rest);
        if (message === undefined) return;
        const slots = openPledges(
          suite,
          [0, 1, 2].map(() => new Uint8Array(32).fill(7)),
          message.train,
        );
        check(
          slots.every((slot) => completePledge(suite, mix.nodeId, fields, slot) === undefined),
          'nobody pledges for a mix',
        );
        return;
      }
      case 3:
        check(
          readPledge(suite, rest) === undefined || Buffer.compare(rest, circuit.pledge) === 0,
          'a pledge is what was signed',
        );
        return;
      default:
        check(verifyEvidence(records, rest) === undefined, 'an honest mix is not accused');
    }
  },
};
