/**
 * Cases of class cmix, the suite's own node being the mix (docs/protocol.md §7.1): what the target makes of receipts, proofs and openings,
 * good ones and others, whom it tells of a cheat, and what it opens to clients that ask.
 */
import { account, atNext, batched, give, hear, names, said, say, take, takeDown } from './batch-traffic.ts';
import {
  About,
  anyDigests,
  anyTag,
  type BatchRules,
  Cheat,
  digestOf,
  encodeEvidence,
  endOf,
  type Flaws,
  heardOf,
  LONGEST_OPENING,
  Mix,
  noBatch,
  pledgeFields,
  readStatement,
  Side,
  STATEMENT,
} from './batches.ts';
import type { Relayed } from './cases-relay.ts';
import { ascii, type Bytes, bytes, concat, equal, newSigner, number, random } from './codec.ts';
import { type Case, type Context, check, flipped } from './context.ts';
import { anyElement } from './group.ts';
import type { TestLink } from './peer.ts';

const full = 'Full' as const;
const EVIDENCE_A_MINUTE = 4;

type Run = (context: Context) => Promise<void>;
const caseOf = (id: string, rule: string, run: Run): Case => ({
  id: `cmix.${id}`,
  section: '7.1',
  level: full,
  rule,
  run,
});

const rulesOf = ({ peer: { target } }: Context): BatchRules => ({
  cells: target.cmixCells,
  delayMs: target.cmixDelayMs,
});

/** A client over whose link a cell of the class went, and the next hop, to which it goes on. */
async function neighbours(context: Context): Promise<Relayed> {
  const circuit = await batched(context);
  give(circuit, 1);
  // What the next hop says may come in ahead of the cell, on another socket.
  check((await circuit.near.ping()) !== undefined, 'the link died of it');
  return circuit;
}

/** Likewise, when all that there is to say of that cell has been said. */
const sharedNeighbours = (context: Context): Promise<Relayed> =>
  context.shared('neighbours', async () => {
    const circuit = await batched(context);
    const { given } = give(circuit, 1);
    await take(circuit.atNext, 1);
    await account(circuit.near, given, []);
    return circuit;
  });

/** A batch of a mix of the suite's own, which ended there. */
class OwnBatch {
  readonly mix: Mix;
  readonly number = Math.floor(Math.random() * 1000);
  readonly tag = anyTag();
  readonly inputs: readonly Bytes[];
  readonly outputs: readonly Bytes[];
  readonly flaws: Flaws;
  readonly statement: Bytes;
  readonly opening: Bytes;

  /** @param mix by default the suite's node, with a batch key of this batch's own. */
  constructor(context: Context, flaws: Flaws = {}, inputs = anyDigests(2), mix = new Mix(context.node.keys.identity)) {
    this.mix = mix;
    this.inputs = inputs;
    this.outputs = inputs.map(endOf);
    this.flaws = flaws;
    this.statement = this.another(rulesOf(context), flaws);
    this.opening = this.mix.opening(this.number, this.inputs, this.outputs, flaws);
  }

  another(rules: BatchRules, flaws: Flaws): Bytes {
    return this.mix.statement(this.number, this.inputs, this.outputs, rules, flaws);
  }

  receipt(digests = this.inputs): Bytes {
    return this.mix.receipt(this.number, this.tag, digests);
  }

  proof(digests: readonly Bytes[] = this.inputs, statement = this.statement): Bytes {
    return this.mix.proof(statement, Side.in, this.tag, digests, this.inputs);
  }

  /** Of cells that are not in it. */
  get falseProof(): Bytes {
    const membership = { witness: anyElement(), quotient: anyElement() };
    return this.mix.proof(this.statement, Side.in, this.tag, anyDigests(1), this.inputs, membership);
  }
}

// --- cheats

interface Shown {
  readonly evidence: Bytes;
  /** What the target was told, as (what it is about, record), so that it finds out by itself. */
  readonly told: readonly (readonly [number, Bytes])[];
}

const cheats: Readonly<Record<Exclude<keyof typeof Cheat, 'exchange'>, (context: Context) => Shown>> = {
  equivocation: (context) => {
    const batch = new OwnBatch(context);
    const other = batch.another(rulesOf(context), { closedAt: Math.floor(Date.now() / 1000) - 5 });
    return {
      evidence: encodeEvidence(Cheat.equivocation, batch.statement, other),
      told: [
        [About.opening, batch.opening],
        [About.proof, batch.proof()],
        [About.proof, batch.proof(undefined, other)],
      ],
    };
  },
  delay: (context) => {
    const batch = new OwnBatch(context, { delay: { output: anyElement(), proof: anyElement() } });
    return { evidence: encodeEvidence(Cheat.delay, batch.statement), told: [[About.proof, batch.proof()]] };
  },
  membership: (context) => {
    const proof = new OwnBatch(context).falseProof;
    return { evidence: encodeEvidence(Cheat.membership, proof), told: [[About.proof, proof]] };
  },
  receipt: (context) => {
    const batch = new OwnBatch(context);
    const [receipt, proof] = [batch.receipt(), batch.proof(batch.inputs.slice(1))];
    return {
      evidence: encodeEvidence(Cheat.receipt, receipt, proof),
      told: [
        [About.receipt, receipt],
        [About.proof, proof],
      ],
    };
  },
  opening: (context) => {
    const inputs = anyDigests(2);
    const batch = new OwnBatch(context, { opened: [[inputs[0]!, random(32)], inputs.map(endOf)] }, inputs);
    const proof = batch.proof();
    return {
      evidence: encodeEvidence(Cheat.opening, proof, batch.opening),
      told: [
        [About.opening, batch.opening],
        [About.proof, proof],
      ],
    };
  },
  size: (context) => {
    const inputs = anyDigests(rulesOf(context).cells + 1);
    const batch = new OwnBatch(context, {}, inputs);
    return { evidence: encodeEvidence(Cheat.size, batch.statement), told: [[About.proof, batch.proof()]] };
  },
};

/** A batch that took a cell of a circuit that ends at its mix, and gave `output`; the cell's digest. */
function exchanged(context: Context, output: Bytes): { readonly evidence: Bytes; readonly digest: Bytes } {
  const mix = new Mix(context.node.keys.identity);
  const tag = new Uint8Array(32).fill(7);
  const cell = new Uint8Array(1256).fill(9);
  const digest = digestOf(tag, 0, { counter: 5 }, cell);
  const inputs = [digest, ...anyDigests(1)];
  const outputs = [output, ...anyDigests(1)];
  const statement = mix.statement(3, inputs, outputs, rulesOf(context));
  const fields = pledgeFields({ inward: tag, counters: [5, 0, 0, 0], chains: [bytes(32), bytes(32)] });
  const shown = concat(bytes(1), number(5, 6), bytes(2), cell);
  const opening = mix.opening(3, inputs, outputs);
  return { evidence: encodeEvidence(Cheat.exchange, statement, opening, mix.pledge(fields), shown), digest };
}

/** One that takes little time to make: to know that what was said before has been dealt with. */
const marker = (context: Context): Shown => cheats.delay(context);

const isEvidence = (evidence: Uint8Array) => (record: Uint8Array) => equal(record, evidence);

/** Evidence that is none must not be passed on; what follows it must. */
async function notPassedOn(context: Context, evidence: readonly Uint8Array[]): Promise<void> {
  const circuit = await neighbours(context);
  const { near, far } = circuit;
  for (const some of evidence) say(near, About.evidence, some);
  const good = marker(context).evidence;
  say(near, About.evidence, good);
  check((await hear(far, About.evidence, isEvidence(good))) !== undefined, 'evidence was not passed on');
  takeDown(circuit);
  const passed = said(far, About.evidence);
  check(!evidence.some((some) => names(passed, some)), 'it was passed on');
}

function evidenceCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) => cases.push(caseOf(`evidence.${id}`, rule, run));
  for (const [name, make] of Object.entries(cheats)) {
    of(`heard.${name}`, 'evidence is checked, and told to the other neighbours as it is', async (context) => {
      const circuit = await neighbours(context);
      const { near, far } = circuit;
      const { evidence } = make(context);
      say(near, About.evidence, evidence);
      check((await hear(far, About.evidence, isEvidence(evidence))) !== undefined, 'the next hop was not told');
      check((await near.ping()) !== undefined, 'the link died of it');
      check(!names(said(near, About.evidence), evidence), 'it was told to who told it');
      takeDown(circuit);
    });
    of(`found.${name}`, 'a cheat that is found is told to all neighbours, with evidence', async (context) => {
      const { near, far } = await sharedNeighbours(context);
      const { evidence, told } = make(context);
      for (const [about, record] of told) say(far, about, record);
      check((await hear(near, About.evidence, isEvidence(evidence))) !== undefined, 'the client was not told');
    });
  }
  of('heard.exchange', 'evidence of an exchange is checked, and told to the other neighbours', async (context) => {
    const circuit = await neighbours(context);
    const { evidence } = exchanged(context, anyDigests(1)[0]!);
    say(circuit.near, About.evidence, evidence);
    check((await hear(circuit.far, About.evidence, isEvidence(evidence))) !== undefined, 'the next hop was not told');
    takeDown(circuit);
  });
  of('none.exchange', 'a cell that came out as what it had to become is no evidence', async (context) => {
    const { digest } = exchanged(context, anyDigests(1)[0]!);
    await notPassedOn(context, [exchanged(context, endOf(digest)).evidence]);
  });
  of('once', 'a cheat is told once', async (context) => {
    const circuit = await neighbours(context);
    const { near, far } = circuit;
    const { evidence } = marker(context);
    say(near, About.evidence, evidence);
    say(near, About.evidence, evidence);
    const { evidence: behind } = marker(context);
    say(near, About.evidence, behind);
    check((await hear(far, About.evidence, isEvidence(behind))) !== undefined, 'the next hop was not told');
    check(said(far, About.evidence).filter(isEvidence(evidence)).length === 1, 'it was told again');
    takeDown(circuit);
  });
  of('often', `evidence is taken ${EVIDENCE_A_MINUTE} times a minute from each`, async (context) => {
    const circuit = await neighbours(context);
    const { near, far } = circuit;
    for (let i = 0; i < EVIDENCE_A_MINUTE; i++) say(near, About.evidence, encodeEvidence(Cheat.delay, random(100)));
    const { evidence } = marker(context);
    say(near, About.evidence, evidence);
    check((await near.ping()) !== undefined, 'the link died of it');
    await notPassedOn(context, []);
    check(!names(said(far, About.evidence), evidence), 'the fifth was passed on');
    takeDown(circuit);
  });
  of('none.equivocation', 'two statements are evidence if they are of one batch and differ', async (context) => {
    const mix = new Mix(context.node.keys.identity);
    const [one, other] = [new OwnBatch(context, {}, undefined, mix), new OwnBatch(context)];
    await notPassedOn(context, [
      encodeEvidence(Cheat.equivocation, one.statement, one.statement),
      encodeEvidence(Cheat.equivocation, one.statement, other.statement),
    ]);
  });
  of('none.delay', 'a delay that was computed is no evidence, nor are proofs that hold', async (context) => {
    const batch = new OwnBatch(context);
    await notPassedOn(context, [
      encodeEvidence(Cheat.delay, batch.statement),
      encodeEvidence(Cheat.membership, batch.proof()),
      encodeEvidence(Cheat.receipt, batch.receipt(), batch.proof()),
    ]);
  });
  of('none.opening', 'an opening that fits is no evidence, nor is a batch that is not too large', async (context) => {
    const [batch, other] = [new OwnBatch(context), new OwnBatch(context)];
    await notPassedOn(context, [
      encodeEvidence(Cheat.opening, batch.proof(), batch.opening),
      encodeEvidence(Cheat.opening, batch.proof(), other.opening),
      encodeEvidence(Cheat.size, batch.statement),
    ]);
  });
  of('none.signature', 'evidence whose signatures do not hold is none', async (context) => {
    const { statement } = new OwnBatch(context, {}, anyDigests(rulesOf(context).cells + 1));
    const receipt = cheats.receipt(context).evidence;
    await notPassedOn(context, [
      encodeEvidence(Cheat.size, flipped(statement, STATEMENT - 1)),
      encodeEvidence(Cheat.size, flipped(statement, 100)),
      // In the receipt's tag.
      flipped(receipt, 12 + 144 + 8),
    ]);
  });
  of('none.form', 'evidence has its magic, its kinds and whole parts', async (context) => {
    const { evidence } = cheats.size(context);
    await notPassedOn(context, [
      concat(ascii('NYXCHEAT2'), evidence.subarray(9)),
      concat(evidence.subarray(0, 9), Uint8Array.of(7), evidence.subarray(10)),
      evidence.subarray(0, -1),
    ]);
    await notPassedOn(context, [
      concat(evidence, bytes(1)),
      concat(evidence, number(0, 2)),
      concat(evidence.subarray(0, 9), Uint8Array.of(0), evidence.subarray(10)),
    ]);
  });
  of('none.link', 'messages about batches are taken over links over which cells of the class went', async (context) => {
    const { far } = await sharedNeighbours(context);
    const stranger = await context.newLink();
    const { evidence } = marker(context);
    say(stranger, About.evidence, evidence);
    check((await stranger.ping()) !== undefined, 'the link died of it');
    await notPassedOn(context, []);
    check(!names(said(far, About.evidence), evidence), 'a stranger was heard');
    stranger.close();
  });
  return cases;
}

/** What is not the neighbour's, or no record at all. */
function refusedCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) => cases.push(caseOf(id, rule, run));
  const lives = (id: string, rule: string, body: (context: Context) => Uint8Array) =>
    of(`refused.${id}`, rule, async (context) => {
      const { near } = await sharedNeighbours(context);
      const answers = () => [About.heard, About.statement, About.next].map((about) => said(near, about).length).join();
      const before = answers();
      near.message(9, body(context));
      check((await near.ping()) !== undefined, 'the link died of it');
      check(answers() === before, 'it was answered');
    });
  const unknown = 'a message about batches that is not known is dropped, and the link lives on';
  lives('empty', unknown, () => bytes(0));
  for (const about of [0, 9, 128, 255])
    lives(`about.${about}`, unknown, () => concat(Uint8Array.of(about), random(72)));
  const malformed = 'a record of another form is dropped, and the link lives on';
  for (const [name, about, lengths] of [
    ['receipt', About.receipt, [0, 143, 258]],
    ['proof', About.proof, [0, 151, STATEMENT, 4000]],
    ['heard', About.heard, [0, 71, 73]],
    ['statement', About.statement, [0, STATEMENT - 1, STATEMENT]],
    ['evidence', About.evidence, [0]],
    ['opening', About.opening, [0, 39, LONGEST_OPENING + 1, 16_000]],
    ['ask', About.ask, [0, 44, 46]],
    ['next', About.next, [0, 32, 32 + noBatch.length]],
  ] as const) {
    for (const length of lengths)
      lives(`${name}.${length}`, malformed, () => concat(Uint8Array.of(about), random(length)));
  }
  lives('statement.unasked', 'a statement that nobody asked for is dropped', (context) =>
    concat(Uint8Array.of(About.statement), new OwnBatch(context).statement),
  );

  /** A proof that would be a cheat, if it were taken; one that is follows. */
  const notTaken = (id: string, rule: string, proof: (context: Context) => Bytes, from: 'near' | 'far') =>
    of(`refused.${id}`, rule, async (context) => {
      const links = await sharedNeighbours(context);
      const record = proof(context);
      say(links[from], About.proof, record);
      const { evidence, told } = marker(context);
      say(links[from], ...told[0]!);
      check((await hear(links.near, About.evidence, isEvidence(evidence))) !== undefined, 'a proof was not taken');
      const held = encodeEvidence(Cheat.membership, record);
      check(!names(said(links.near, About.evidence), held), 'it was taken');
    });
  notTaken(
    'proof.other',
    "proofs must be the neighbour's own",
    (context) => new OwnBatch(context, {}, undefined, new Mix(newSigner())).falseProof,
    'far',
  );
  notTaken(
    'proof.stranger',
    'proofs of a neighbour without a name are those of a node of the view',
    (context) => new OwnBatch(context, {}, undefined, new Mix(newSigner())).falseProof,
    'near',
  );
  notTaken(
    'proof.signature',
    'a proof whose signature does not hold shows nothing',
    (context) => flipped(new OwnBatch(context).falseProof, STATEMENT + 3),
    'far',
  );
  return cases;
}

/** Statements that neighbours tell each other of. */
function heardCases(): Case[] {
  const cases: Case[] = [];
  const of = (
    id: string,
    rule: string,
    run: (links: { near: TestLink; far: TestLink }, batch: OwnBatch) => Promise<void>,
  ) =>
    cases.push(
      caseOf(`heard.${id}`, rule, async (context) => {
        const batch = new OwnBatch(context);
        const links = await sharedNeighbours(context);
        // A client has no name: it may bring the proofs of any node of the view.
        say(links.near, About.opening, batch.opening);
        say(links.near, About.proof, batch.proof());
        await run(links, batch);
      }),
    );
  const isHeard = (batch: OwnBatch) => (record: Uint8Array) => equal(record, heardOf(readStatement(batch.statement)));
  of('told', 'neighbours that say their name hear of each statement that held', async ({ near, far }, batch) => {
    check((await hear(far, About.heard, isHeard(batch))) !== undefined, 'the next hop was not told');
    check(!said(near, About.heard).some(isHeard(batch)), 'a client was told');
  });
  of('differs', 'who has heard another statement gets ours', async ({ far }, batch) => {
    check((await hear(far, About.heard, isHeard(batch))) !== undefined, 'the next hop was not told');
    say(far, About.heard, concat(heardOf(readStatement(batch.statement)).subarray(0, 40), random(32)));
    const ours = await hear(far, About.statement, (record) => equal(record, batch.statement));
    check(ours !== undefined, 'it was not answered');
  });
  of('same', 'who has heard the same one gets nothing', async ({ far }, batch) => {
    check((await hear(far, About.heard, isHeard(batch))) !== undefined, 'the next hop was not told');
    say(far, About.heard, heardOf(readStatement(batch.statement)));
    check((await far.ping()) !== undefined, 'the link died of it');
    check(!names(said(far, About.statement), batch.statement), 'it was answered');
  });
  of('unknown', 'a batch that is not known has no statement', async ({ far }, _batch) => {
    const before = said(far, About.statement).length;
    say(far, About.heard, random(72));
    check((await far.ping()) !== undefined, 'the link died of it');
    check(said(far, About.statement).length === before, 'it was answered');
  });
  return cases;
}

/** A client asks for the batch of its second hop. */
function askCases(): Case[] {
  const cases: Case[] = [];
  const ask = ({ near, nearCids }: Relayed, travel: number, digest: Uint8Array, cid: Uint8Array = nearCids[0]) =>
    say(near, About.ask, concat(cid, Uint8Array.of(travel), digest));
  const answer = async ({ near }: Relayed, digest: Uint8Array): Promise<Bytes> => {
    const next = await hear(near, About.next);
    check(next !== undefined, 'it was not answered');
    check(next.length === 32 + noBatch.length, `the answer has ${next.length} bytes`);
    check(equal(next.subarray(0, 32), digest), 'an answer to another question');
    return next.slice(32);
  };
  const given = async (circuit: Relayed): Promise<Bytes> => {
    const [came] = await take(circuit.atNext, 1);
    return atNext(circuit, came!);
  };
  // The first hop goes by what the second has opened.
  const any = async (): Promise<Bytes> => random(32);
  /** The second hop's batch has one input, `cell`. */
  const of = (
    id: string,
    rule: string,
    run: (circuit: Relayed, cell: Bytes, batch: OwnBatch, context: Context) => Promise<void>,
    {
      flaws = {},
      isOpened = true,
      cell: cellOf = any,
    }: { flaws?: Flaws; isOpened?: boolean; cell?: typeof given } = {},
  ) =>
    cases.push(
      caseOf(`ask.${id}`, rule, async (context) => {
        const circuit = await neighbours(context);
        const digest = await cellOf(circuit);
        const batch = new OwnBatch(context, flaws, [digest]);
        if (isOpened) say(circuit.far, About.opening, batch.opening);
        say(circuit.far, About.proof, batch.proof());
        // What was said before is checked when the next one is found.
        const { evidence, told } = marker(context);
        say(circuit.far, ...told[0]!);
        check((await hear(circuit.near, About.evidence, isEvidence(evidence))) !== undefined, 'a proof was not taken');
        await run(circuit, digest, batch, context);
        takeDown(circuit);
      }),
    );
  const shut = async (circuit: Relayed, digest: Bytes) => {
    ask(circuit, 0, digest);
    check(equal(await answer(circuit, digest), noBatch), 'a batch was opened');
  };
  of(
    'known',
    "the second hop's batch with a cell is opened to the client",
    async (circuit, digest, batch) => {
      ask(circuit, 0, digest);
      const { statement, opening } = batch;
      const known = concat(statement, number(opening.length, 2), opening, bytes(LONGEST_OPENING - opening.length));
      check(equal(await answer(circuit, digest), known), 'another batch');
    },
    { cell: given },
  );
  of('unknown', 'an answer without a batch is as long, and zeros', async (circuit) => {
    await shut(circuit, random(32));
  });
  of('side', 'a cell that travels backward is one of the side out', async (circuit, digest) => {
    ask(circuit, 1, digest);
    check(equal(await answer(circuit, digest), noBatch), 'a batch was opened');
  });
  of('backward', 'a batch is opened for a cell that came back', async (circuit, _digest, batch) => {
    ask(circuit, 1, batch.outputs[0]!);
    check(equal((await answer(circuit, batch.outputs[0]!)).subarray(0, STATEMENT), batch.statement), 'another batch');
  });
  of('often', 'answers come twice a second at most', async (circuit, digest) => {
    ask(circuit, 0, digest);
    ask(circuit, 0, digest);
    check((await circuit.near.ping()) !== undefined, 'the link died of it');
    await answer(circuit, digest);
    check((await circuit.near.ping()) !== undefined, 'the link died of it');
    check(said(circuit.near, About.next).length === 1, 'both were answered');
  });
  of('cid', "who asks names a circuit of the link's own, forward", async (circuit, digest, _batch, context) => {
    const { near: other } = await sharedNeighbours(context);
    say(other, About.ask, concat(circuit.nearCids[0], bytes(1), digest));
    check((await other.ping()) !== undefined, 'the link died of it');
    check(said(other, About.next).length === 0, 'it was answered over another link');
    ask(circuit, 0, digest, random(12));
    check((await circuit.near.ping()) !== undefined, 'the link died of it');
    check(said(circuit.near, About.next).length === 0, 'it was answered');
  });
  of('travel', 'travel is 0 or 1', async (circuit, digest) => {
    ask(circuit, 2, digest);
    check((await circuit.near.ping()) !== undefined, 'the link died of it');
    check(said(circuit.near, About.next).length === 0, 'it was answered');
  });
  of('shut', 'a proof of a batch that stays shut counts as none', shut, { isOpened: false });
  of('rules', 'a proof under other rules counts as none', shut, {
    flaws: { rules: { cells: 127, delayMs: 3 } },
  });
  return cases;
}

export const cmixNeighbourCases = (): Case[] => [...evidenceCases(), ...refusedCases(), ...heardCases(), ...askCases()];
