/** Cases of class cmix, the target being the mix (docs/protocol.md §7.1): its batches, and what it signs for its neighbours. */
import {
  account,
  atClient,
  atNext,
  attempts,
  batched,
  type Ended,
  ended,
  gaveBack,
  give,
  leave,
  names,
  openingFor,
  said,
  sharedWhole,
  take,
  takeDown,
  taken,
  type Whole,
  whole,
} from './batch-traffic.ts';
import {
  About,
  beginOf,
  circuitTag,
  endOf,
  has,
  isCertificateOf,
  isPledgeOf,
  isSigned,
  leafOf,
  openingHash,
  openPledges,
  PLEDGES,
  pledgeFields,
  readOpening,
  Side,
  STATEMENT,
  sameParts,
} from './batches.ts';
import { backward, forward } from './cases-relay.ts';
import { type Bytes, bytes, concat, encodeRoute, equal, random } from './codec.ts';
import { type Case, type Context, check, flipped } from './context.ts';
import { accumulate, areMembers, wasDelayed } from './group.ts';
import { TestCircuit, type TestLink } from './peer.ts';

const full = 'Full' as const;
const SECTION = '7.1';
const LONGEST_DELAY_US = 2 ** 32 - 1;

type Run = (context: Context) => Promise<void>;
const caseOf = (id: string, rule: string, run: Run): Case => ({
  id: `cmix.${id}`,
  section: SECTION,
  level: full,
  rule,
  run,
});

/** What neighbours are told of a batch that has nothing in it but cells of ours. */
function recordCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (batch: Whole, context: Context) => void) =>
    cases.push(caseOf(id, rule, async (context) => run(await sharedWhole(context), context)));

  of('receipt.cells', 'a receipt names the cells that were given, and no others', ({ receipt, given }) =>
    check(sameParts(receipt.digests, given), `${receipt.digests.length} digests for ${given.length} cells`),
  );
  of('receipt.signed', 'a receipt is signed by the batch key', ({ receipt }) =>
    check(isSigned('receipt', receipt.bytes, receipt.certificate.key), 'the signature does not hold'),
  );
  of('receipt.inputs', 'who only gets cells of a batch has no receipt of it', ({ far, receipt }) =>
    check(!said(far.link, About.receipt).some((other) => equal(other, receipt.bytes)), 'it has the receipt of another'),
  );
  of('receipt.number', 'receipt and statement have the same number and certificate', ({ receipt, proofIn }) => {
    check(receipt.number === proofIn.statement.number, 'another number');
    check(equal(receipt.certificate.bytes, proofIn.statement.certificate.bytes), 'another certificate');
  });
  of('certificate', "a batch key is certified by the node's identity", ({ receipt }, { peer }) =>
    check(isCertificateOf(receipt.certificate, peer.target.nodeId), "another's, or not signed"),
  );
  of('certificate.time', 'a batch closes while its certificate is valid, and now', ({ proofIn }) => {
    const { closedAt, certificate } = proofIn.statement;
    check(certificate.from <= closedAt && closedAt <= certificate.until, 'not while the certificate is valid');
    check(Math.abs(closedAt - Date.now() / 1000) < 120, `closed at ${closedAt}`);
  });
  of('tag.same', 'a receipt and the proof of the same cells have one tag', ({ receipt, proofIn }) =>
    check(equal(receipt.tag, proofIn.tag), 'two tags'),
  );
  of('tag.sides', 'each neighbour and side has a tag of its own', ({ proofIn, proofOut }) =>
    check(!equal(proofIn.tag, proofOut.tag), 'one tag'),
  );
  of('proof.in.cells', 'a proof of side in names the cells that were given', ({ proofIn, given }) =>
    check(sameParts(proofIn.digests, given), 'others'),
  );
  of('proof.out.cells', 'a proof of side out names the cells that were sent', ({ proofOut, got }) =>
    check(sameParts(proofOut.digests, got), 'others'),
  );
  of('proof.signed', 'proofs are signed by the batch key', ({ proofIn, proofOut }) => {
    for (const { bytes: proof, statement } of [proofIn, proofOut])
      check(isSigned('proof', proof, statement.certificate.key), 'a signature does not hold');
  });
  of('proof.in.members', 'the cells given are in the accumulator of inputs: Q^ℓ · W^(P mod ℓ) = A', ({ proofIn }) =>
    check(areMembers(proofIn.statement.inputs, proofIn.digests, proofIn.membership), 'the proof does not hold'),
  );
  of('proof.out.members', 'the cells sent are in the accumulator of outputs', ({ proofOut }) =>
    check(areMembers(proofOut.statement.outputs, proofOut.digests, proofOut.membership), 'the proof does not hold'),
  );
  of('statement.signed', 'a statement is signed by the batch key', ({ proofIn: { statement } }) =>
    check(isSigned('statement', statement.bytes, statement.certificate.key), 'the signature does not hold'),
  );
  of('statement.one', 'all neighbours have the same statement of a batch', ({ proofIn, proofOut }) =>
    check(equal(proofIn.statement.bytes, proofOut.statement.bytes), 'two statements'),
  );
  of('statement.cells', 'a statement counts the cells of the batch', ({ proofIn, given }) =>
    check(proofIn.statement.cells === given.length, `${proofIn.statement.cells} for ${given.length}`),
  );
  of('statement.rules', "a statement names the view's rules", ({ proofIn }, { peer: { target } }) => {
    const { cells, delayMs } = proofIn.statement.rules;
    check(cells === target.cmixCells && delayMs === target.cmixDelayMs, `${cells} cells, ${delayMs} ms`);
  });
  of('statement.squarings', 'T is 100 for each millisecond of the delay at least', ({ proofIn: { statement } }) =>
    check(statement.squarings >= 100 * statement.rules.delayMs, `${statement.squarings}`),
  );
  of('statement.delay', 'the delay was computed: π^ℓ · x^(2^T mod ℓ) = y', ({ proofIn: { statement } }) =>
    check(wasDelayed(statement.head, statement.squarings, statement.delay), 'it was not'),
  );
  of('statement.inputs', 'A_in accumulates all cells given, and nothing else', ({ proofIn, given }) =>
    check(accumulate(given) === proofIn.statement.inputs, 'it does not'),
  );
  of('statement.outputs', 'A_out accumulates all cells sent, and nothing else', ({ proofIn, got }) =>
    check(accumulate(got) === proofIn.statement.outputs, 'it does not'),
  );
  of('opening.hash', "a statement has its opening's hash", ({ near, proofIn: { statement } }) =>
    check(equal(openingHash(openingFor(near.link, statement).bytes), statement.opening), 'another hash'),
  );
  of('opening.one', 'all neighbours have the same opening of a batch', ({ near, far, proofIn: { statement } }) =>
    check(equal(openingFor(near.link, statement).bytes, openingFor(far.link, statement).bytes), 'two openings'),
  );
  of('opening.cells', 'an opening has as many cells as its statement', ({ near, proofIn: { statement } }) =>
    check(openingFor(near.link, statement).cells === statement.cells, 'another count'),
  );
  for (const [side, name] of [
    [Side.in, 'in'],
    [Side.out, 'out'],
  ] as const) {
    of(`opening.${name}`, 'an opening has a leaf for each cell, and as many in as out', (batch) => {
      const { statement } = batch.proofIn;
      const digests = side === Side.in ? batch.given : batch.got;
      const { key, number: batchNumber, salt, leaves } = openingFor(batch.near.link, statement);
      const expected = digests.map((digest) => leafOf(key, batchNumber, salt, side, digest));
      check(sameParts(leaves[side], expected), 'others');
    });
  }
  of('opening.ahead', 'an opening comes ahead of the proofs that are checked with it', ({ near, far, proofIn }) => {
    for (const { link, proofsIn, proofsOut } of [near, far]) {
      const at = (record: Uint8Array) => link.messages.findIndex(({ body }) => equal(body.subarray(1), record));
      const opening = at(openingFor(link, proofIn.statement).bytes);
      for (const { bytes: proof } of [...proofsIn, ...proofsOut]) check(opening < at(proof), 'it came behind');
    }
  });
  return cases;
}

/** What happens to cells. */
function cellCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) => cases.push(caseOf(id, rule, run));

  of('cells.content', 'cells come out as their layer has them', async (context) => {
    const { cells, plaintexts } = await sharedWhole(context);
    const inside = cells.map((cell) => cell.subarray(0, 1240));
    check(sameParts(inside, plaintexts), 'something else came out');
  });
  of('cells.once', 'each cell comes out once', async (context) => {
    const { circuit, given } = await whole(context);
    check((await circuit.far.ping()) !== undefined, 'the link died of it');
    check(circuit.atNext.cells.length === 0, `more than the ${given.length} cells that were given came out`);
  });
  of('batch.full', 'a batch closes with as many cells as the view says', async (context) => {
    const { cmixCells } = context.peer.target;
    await attempts(async () => {
      const circuit = await batched(context);
      const { given } = give(circuit, 2 * cmixCells);
      await take(circuit.atNext, 2 * cmixCells);
      const { proofsIn } = await account(circuit.near, given, []);
      takeDown(circuit);
      const sizes = proofsIn.map(({ statement }) => statement.cells);
      check(!sizes.some((size) => size > cmixCells), `a batch of ${Math.max(...sizes)} cells`);
      return proofsIn.length === 2;
    }, 'twice as many cells were not two batches');
  });
  of('batch.wait', 'a batch that does not fill up closes a set time after its first cell', async (context) => {
    const { cmixCells, cmixWaitMs } = context.peer.target;
    const { tookMs, given, got } = await whole(context, cmixCells - 1);
    check(given.length === got.length, 'cells are missing');
    check(tookMs >= cmixWaitMs, `it waited no longer than ${tookMs} ms for others`);
  });
  of('batch.order', 'cells of a batch leave in an order drawn at random', async (context) => {
    // As they came, by chance: once in 24^6 with batches of four.
    for (let i = 0; i < 6; i++) {
      const { cells, plaintexts } = await whole(context);
      if (cells.some((cell, at) => !equal(cell.subarray(0, 1240), plaintexts[at]!))) return;
    }
    throw new Error('they left in the order in which they came');
  });
  of('batch.both', 'one batch takes cells of both directions', async (context) => {
    const { cmixCells } = context.peer.target;
    await attempts(async () => {
      const circuit = await batched(context);
      const { given } = give(circuit, cmixCells - 1);
      const back = random(1256);
      circuit.far.peer.send(backward(circuit, back, 0));
      const [gotFar, gotNear] = [await take(circuit.atNext, cmixCells - 1), await take(circuit.atClient, 1)];
      const cameBack = gotNear.map((one) => atClient(circuit, one));
      const near = await account(circuit.near, given, cameBack);
      const cameOut = gotFar.map((one) => atNext(circuit, one));
      const far = await account(circuit.far, [gaveBack(circuit, 0, back)], cameOut);
      takeDown(circuit);
      const all = [...near.proofsIn, ...near.proofsOut, ...far.proofsIn, ...far.proofsOut];
      return all.every(({ statement }) => equal(statement.bytes, all[0]!.statement.bytes));
    }, 'cells of two directions were two batches');
  });
  of('batch.circuits', 'one batch takes cells of all circuits', async (context) => {
    await attempts(async () => {
      const [one, other] = [await batched(context), await batched(context)];
      const { given } = give(one, 1);
      const { given: givenToo } = give(other, 1);
      await take(one.atNext, 1);
      await take(other.atNext, 1);
      const [first, second] = [await account(one.near, given, []), await account(other.near, givenToo, [])];
      takeDown(one);
      takeDown(other);
      const [a, b] = [first.proofsIn[0]!, second.proofsIn[0]!];
      check(!equal(a.tag, b.tag), 'two neighbours have one tag');
      return equal(a.statement.bytes, b.statement.bytes);
    }, 'cells of two circuits were two batches');
  });
  of('batch.number', 'numbers of batches count', async (context) => {
    const [first, second] = [await whole(context), await whole(context)];
    check(first.receipt.number < second.receipt.number, `${second.receipt.number} behind ${first.receipt.number}`);
    check(!equal(first.receipt.tag, second.receipt.tag), 'two batches have one tag');
  });
  of('cells.same', 'a cell is named by its circuit: the same bytes on two circuits are two cells', async (context) => {
    const [one, other] = [await batched(context), await batched(context)];
    const same = random(1256);
    // A relay cannot know a backward cell: the next hop may send the same one on two circuits.
    one.far.peer.send(backward(one, same, 0));
    other.far.peer.send(backward(other, same, 0));
    const [[first], [second]] = [await take(one.atClient, 1), await take(other.atClient, 1)];
    await account(one.near, [], [atClient(one, first!)]);
    await account(other.near, [], [atClient(other, second!)]);
    await account(one.far, [gaveBack(one, 0, same), gaveBack(other, 0, same)], []);
    takeDown(one);
    takeDown(other);
  });
  of('cells.fallen', 'what falls off a backward cell has no part in its name', async (context) => {
    const circuit = await batched(context);
    const cell = random(1256);
    circuit.far.peer.send(backward(circuit, cell, 0));
    await take(circuit.atClient, 1);
    cell.fill(0, 1240);
    await account(circuit.far, [gaveBack(circuit, 0, cell)], []);
    takeDown(circuit);
  });
  of('cells.replayed', 'an index is taken once', async (context) => {
    const circuit = await batched(context);
    const cell = forward(circuit, random(1240));
    for (let i = 0; i < 3; i++) circuit.near.peer.send(cell);
    const { given } = give(circuit, 1);
    const got = await take(circuit.atNext, 2);
    const { receipts } = await account(circuit.near, given, []);
    const cameOut = got.map((one) => atNext(circuit, one));
    await account(circuit.far, [], cameOut);
    check((await circuit.far.ping()) !== undefined, 'the link died of it');
    check(circuit.atNext.cells.length === 0, 'it came out again');
    check(
      receipts.every(({ digests }) => digests.length <= 2),
      'there is a receipt for it',
    );
    takeDown(circuit);
  });
  of('cells.altered', 'a cell whose tag does not hold is in no batch', async (context) => {
    const circuit = await batched(context);
    circuit.near.peer.send(flipped(forward(circuit, random(1240)), 700));
    const { given } = give(circuit, 1);
    await take(circuit.atNext, 1);
    const { receipts } = await account(circuit.near, given, []);
    check(receipts[0]!.digests.length === 1, 'there is a receipt for it');
    takeDown(circuit);
  });
  of('cells.ended', 'a cell whose circuit has ended meanwhile is dropped', async (context) => {
    await attempts(async () => {
      const circuit = await batched(context);
      const { near, far, nearCids, farCids, atNext } = circuit;
      const { given } = give(circuit, 1);
      near.message(2, concat(nearCids[0], Uint8Array.of(0, 0)));
      check((await far.nextMessage(2, farCids[0])) !== undefined, 'no DESTROY came to the next hop');
      const late = atNext.cells.length > 0;
      await account(near, given, []);
      check((await far.ping()) !== undefined, 'the link died of it');
      const out = atNext.cells.length > 0;
      takeDown(circuit);
      check(late || !out, 'it came out');
      // Else it had left before its circuit ended.
      return !late;
    }, 'a cell left before its circuit could end');
  });
  of('delay.ignored', "a route's delay mean says nothing", async (context) => {
    const circuit = await batched(context, { delayUs: LONGEST_DELAY_US });
    give(circuit, 1);
    await take(circuit.atNext, 1);
    takeDown(circuit);
  });
  of('setup.prompt', 'SETUP is in no batch', async (context) => {
    const circuit = await batched(context);
    check((await circuit.near.ping()) !== undefined, 'the link died of it');
    check(said(circuit.near, About.receipt).length === 0, 'there is a receipt');
    takeDown(circuit);
  });
  return cases;
}

const sharedEnded = (context: Context): Promise<Ended> => context.shared('ended', () => ended(context));

/** Circuits that end at the target. */
function endCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (circuit: Ended, context: Context) => void) =>
    cases.push(
      caseOf(id, rule, async (context) => {
        run(await sharedEnded(context), context);
      }),
    );
  of('end.taken', 'a circuit of the class is taken, and answered', ({ ponged, circuit }) => {
    check(ponged, 'PING was not answered');
    check(
      circuit.tails.every((tail) => tail),
      'another tail',
    );
  });
  of('end.leaf', 'a cell that ends here comes out as its end', ({ link, asked, account: { proofsIn } }) => {
    const opening = openingFor(link, proofsIn[0]!.statement);
    check(has(opening, Side.in, asked), 'no leaf on side in');
    check(has(opening, Side.out, endOf(asked)), 'no leaf on side out');
  });
  of('begin.leaf', 'a cell that begins here goes in as its beginning', ({ link, replied, account: { proofsOut } }) => {
    const opening = openingFor(link, proofsOut[0]!.statement);
    check(has(opening, Side.out, replied), 'no leaf on side out');
    check(has(opening, Side.in, beginOf(replied)), 'no leaf on side in');
  });
  of('begin.receipt', 'nobody has a receipt for a cell that begins here', ({ link, replied }) =>
    check(
      !said(link, About.receipt).some((receipt) => names([receipt.subarray(162, 194)], beginOf(replied))),
      'he has',
    ),
  );
  return cases;
}

/** AUDIT and OPENED, within a circuit. */
function auditCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (circuit: Ended, context: Context) => Promise<void>) =>
    cases.push(
      caseOf(`audit.${id}`, rule, async (context) => {
        const circuit = await ended(context);
        await run(circuit, context);
        leave(circuit);
      }),
    );
  const AUDIT = 5;
  const audit = ({ circuit }: Pick<Ended, 'circuit'>, body: Uint8Array, offset = 0) => {
    const message = concat(Uint8Array.of(AUDIT, 0, body.length), body);
    circuit.sendAcked(concat(Uint8Array.of(0x10, offset, message.length), message));
  };
  const question = (travel: number, digest: Uint8Array) => concat(Uint8Array.of(travel), digest);
  const opened = async ({ circuit }: Pick<Ended, 'circuit'>, count: number) => {
    await circuit.link.until(() => circuit.keyMessages(6).length >= count);
    return circuit.keyMessages(6);
  };
  const answers = async (circuit: Pick<Ended, 'circuit'>, asked: Uint8Array) => {
    const [before, last] = await opened(circuit, 2);
    check(before !== undefined && last !== undefined, 'there were no two answers');
    for (const answer of [before, last]) check(equal(answer.subarray(0, 33), asked), 'an answer to another question');
    check(before[33] === 0 && last[33] === 1, 'not of the hop before, and then of the last');
    return { before: before.subarray(34), last: last.subarray(34) };
  };
  const isOpen = (answer: Uint8Array, side: Side, digest: Uint8Array) => {
    check(answer.length > STATEMENT, 'the batch was not opened');
    const opening = readOpening(answer.subarray(STATEMENT));
    check(has(opening, side, digest), 'the cell is not in it');
  };
  cases.push(
    caseOf('audit.forward', 'the last hop opens the batch with a cell that came', async (context) => {
      const circuit = await sharedEnded(context);
      audit(circuit, question(0, circuit.asked));
      const { before, last } = await answers(circuit, question(0, circuit.asked));
      isOpen(last, Side.in, circuit.asked);
      check(before.length === 0, 'the hop before has opened nothing');
    }),
  );
  cases.push(
    caseOf('audit.backward', 'the last hop opens the batch with a cell that it sent', async (context) => {
      const circuit = await taken(context);
      await account(circuit.link, [], [circuit.replied]);
      audit(circuit, question(1, circuit.replied));
      isOpen((await answers(circuit, question(1, circuit.replied))).last, Side.out, circuit.replied);
      leave(circuit);
    }),
    caseOf('audit.unknown', 'of a cell that is not known there is nothing to open', async (context) => {
      const circuit = await taken(context);
      const unknown = random(32);
      audit(circuit, question(0, unknown));
      const { before, last } = await answers(circuit, question(0, unknown));
      check(before.length === 0 && last.length === 0, 'a batch was opened');
      leave(circuit);
    }),
  );
  of('often', 'audits are answered every 2 s at most', async (circuit) => {
    const asked = question(0, circuit.asked);
    audit(circuit, asked);
    audit(circuit, question(1, circuit.replied), 3 + asked.length);
    await answers(circuit, asked);
    check(await circuit.circuit.ping(), 'the circuit died of it');
    check((await opened(circuit, 2)).length === 2, 'the second one was answered');
  });
  for (const [name, body] of [
    ['length', bytes(34)],
    ['travel', question(2, bytes(32))],
  ] as const) {
    const rule = 'AUDIT is travel (0, 1) ‖ digest (32), or the protocol is broken';
    cases.push(
      caseOf(`audit.${name}`, rule, async (context) => {
        const circuit = await taken(context);
        audit(circuit, body);
        const close = await circuit.circuit.closeFrame();
        check(close?.fields[0] === 1, 'the session went on, or ended with another code');
      }),
    );
  }
  cases.push(
    caseOf('audit.class', 'AUDIT on a circuit of another class breaks the protocol', async (context) => {
      const circuit = TestCircuit.build(await context.newLink(), encodeRoute({}));
      check(await circuit.ready(), 'a good set-up was not answered');
      audit({ circuit }, question(0, bytes(32)));
      const close = await circuit.closeFrame();
      check(close?.fields[0] === 1, 'the session went on, or ended with another code');
    }),
  );
  return cases;
}

/** What the hops of a circuit have signed of it, on the way back. */
function pledgeCases(): Case[] {
  const MESSAGE = 10;
  const came = async (link: TestLink, cid: Uint8Array): Promise<Bytes> => {
    const find = () =>
      link.messages.find(({ type, body }) => type === MESSAGE && equal(body.subarray(0, 12), cid))?.body.slice(12);
    await link.until(() => find() !== undefined);
    const pledges = find();
    check(pledges !== undefined, 'no pledges came');
    check(pledges.length === PLEDGES, `they have ${pledges.length} bytes`);
    return pledges;
  };
  return [
    caseOf('pledge.relay', 'a relay puts its pledge in front of those of later hops', async (context) => {
      const circuit = await batched(context);
      const { near, far, nearCids, farCids, train, body, route } = circuit;
      const later = random(PLEDGES);
      far.message(MESSAGE, concat(farCids[1], later));
      const { slot, later: passed } = openPledges(train.binding, await came(near, nearCids[1]));
      const fields = pledgeFields({
        inward: circuitTag(train.train),
        outward: circuitTag(body.subarray(32)),
        counters: [route.forwardStart, route.forwardOffset, route.backwardStart, route.backwardOffset],
        chains: train.chains,
      });
      check(isPledgeOf(slot, context.peer.target.nodeId, fields), 'not a pledge of that circuit');
      check(equal(passed, later.subarray(0, passed.length)), 'what later hops said has changed');
      takeDown(circuit);
    }),
    caseOf('pledge.once', 'a relay passes pledges on once', async (context) => {
      const circuit = await batched(context);
      const { near, far, nearCids, farCids } = circuit;
      for (let i = 0; i < 2; i++) far.message(MESSAGE, concat(farCids[1], random(PLEDGES)));
      await came(near, nearCids[1]);
      check((await far.ping()) !== undefined && (await near.ping()) !== undefined, 'a link died of it');
      check(near.messages.filter(({ type }) => type === MESSAGE).length === 1, 'it passed on others too');
      takeDown(circuit);
    }),
    caseOf('pledge.last', 'the last hop pledges that the circuit ends there', async (context) => {
      const { link, circuit } = await taken(context);
      const { train } = circuit.options;
      const { slot } = openPledges(train.binding, await came(link, circuit.backwardCid));
      const fields = pledgeFields({ inward: circuitTag(train.train), counters: [0, 0, 0, 0], chains: train.chains });
      check(isPledgeOf(slot, context.peer.target.nodeId, fields), 'not a pledge of that circuit');
      leave({ link, circuit });
    }),
  ];
}

export const cmixCases = (): Case[] => [
  ...recordCases(),
  ...cellCases(),
  ...endCases(),
  ...auditCases(),
  ...pledgeCases(),
];
