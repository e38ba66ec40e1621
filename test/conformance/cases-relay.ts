/** Cases of a circuit that goes on: the suite is its client and its next hop as well (docs/protocol.md §2.2, §2.3, §3, §4). */
import {
  type Bytes,
  bytes,
  cellKeys,
  concat,
  encodeRoute,
  equal,
  makeTrain,
  nonceOf,
  open,
  padOf,
  type Route,
  random,
  ratchet,
  seal,
  type Train,
} from './codec.ts';
import { type Case, type Context, check, flipped } from './context.ts';
import { CellInbox, type TestLink } from './peer.ts';

const core = 'Core' as const;
const MODULUS = 2 ** 48;

/** A circuit through the target, from both its ends. */
export interface Relayed {
  readonly near: TestLink;
  readonly far: TestLink;
  readonly train: Train;
  readonly route: Required<Pick<Route, 'forwardStart' | 'forwardOffset' | 'backwardStart' | 'backwardOffset'>>;
  /** As the client chose them, and as the target did for the next hop. */
  readonly nearCids: readonly [Bytes, Bytes];
  readonly farCids: readonly [Bytes, Bytes];
  readonly body: Bytes;
  readonly atNext: CellInbox;
  readonly atClient: CellInbox;
  index: number;
}

export async function relayed(context: Context, change: Route = {}, over?: TestLink): Promise<Relayed> {
  const near = over ?? (await context.link());
  const route = {
    forwardStart: 1000,
    forwardOffset: MODULUS - 500,
    backwardStart: 77,
    backwardOffset: 2 ** 40,
    ...change,
  };
  const { nodeId } = context.node.keys;
  const train = makeTrain(context.peer.target, encodeRoute({ next: nodeId, action: 0, ...route }));
  const nearCids = [random(12), random(12)] as const;
  near.message(1, concat(...nearCids, bytes(8), train.train));
  const setup = await context.node.nextMessage(1);
  check(setup !== undefined, 'no SETUP came to the next hop');
  const { link: far, body } = setup;
  const farCids = [body.slice(0, 12), body.slice(12, 24)] as const;
  const [atNext, atClient] = [new CellInbox(far, farCids[0]), new CellInbox(near, nearCids[1])];
  return { near, far, train, route, nearCids, farCids, body, atNext, atClient, index: 0 };
}

export const end = ({ near, far, atNext, atClient }: Relayed): void => {
  near.circuits.delete(atClient);
  far.circuits.delete(atNext);
};

/** A forward cell of the client's, ready to be sent or spoilt, whose plaintext is `plaintext`. */
export function forward(
  circuit: Relayed,
  plaintext: Uint8Array,
  header: { index?: number; type?: number; path?: number } = {},
) {
  const { index = circuit.index++, type = 0, path = 0 } = header;
  let chain = circuit.train.chains[0];
  for (let i = 0; i < Math.floor(index / 2 ** 19); i++) chain = ratchet(chain);
  const sealed = seal(cellKeys(chain).aead, nonceOf(index), Uint8Array.of(type, path), plaintext);
  const counter = (circuit.route.forwardStart + index) % MODULUS;
  return circuit.near.circuitCell({ cid: circuit.nearCids[0], counter, type, path }, sealed);
}

/** A backward cell of the next hop's: any bytes. */
export function backward(
  circuit: Relayed,
  cell: Uint8Array,
  index: number,
  header: { type?: number; path?: number } = {},
): Bytes {
  const { type = 0, path = 0 } = header;
  const counter = (circuit.route.backwardStart + index) % MODULUS;
  return circuit.far.circuitCell({ cid: circuit.farCids[1], counter, type, path }, cell);
}

/** Sends what must not be passed on, and then what must. */
async function notPassedOn(circuit: Relayed, cells: readonly Uint8Array[]): Promise<void> {
  for (const cell of cells) circuit.near.peer.send(cell);
  const plaintext = random(1240);
  circuit.near.peer.send(forward(circuit, plaintext));
  const came = await circuit.atNext.next();
  check(came !== undefined, 'a good cell was not passed on');
  check(equal(came.cell.subarray(0, 1240), plaintext), 'it was passed on');
  end(circuit);
}

function setupCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, section: string, rule: string, run: (circuit: Relayed, context: Context) => void) =>
    cases.push({
      id: `relay.${id}`,
      section,
      level: core,
      rule,
      run: async (context) => {
        const circuit = await relayed(context, { solution: ascending });
        run(circuit, context);
        end(circuit);
      },
    });
  const ascending = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
  of('init.named', '2.2', 'a relay says its name to the next hop', (_circuit, { node, peer }) => {
    check(node.init?.named === true && equal(node.init.nodeId, peer.target.nodeId), 'another name, or none');
    check(equal(node.init.staticPublic, peer.target.linkX25519), 'another link key than its descriptor has');
  });
  of('init.timestamp', '2.2', 'a named init carries a timestamp', (_circuit, { node }) => {
    const offMs = Math.abs((node.init?.timestampMs ?? 0) - Date.now());
    check(offMs < 120_000, `the timestamp is ${offMs} ms off`);
  });
  of('init.version', '2.2', 'an init says version 1', (_circuit, { node }) =>
    check(node.init?.version === 1, 'another'),
  );
  of('setup.length', '2.3', 'SETUP has 10 096 bytes', ({ body }) => check(body.length === 10_096, `${body.length}`));
  of('setup.cids', '2.3', 'CIDs are local to a link', ({ nearCids, farCids }) => {
    const all = [...nearCids, ...farCids].map((cid) => Buffer.from(cid).toString('hex'));
    check(new Set(all).size === 4, 'a CID is used twice');
  });
  of('setup.solution', '4', 'the solution for the next hop travels on', ({ body }) =>
    check(equal(body.subarray(24, 32), ascending), 'another solution'),
  );
  of('train.rest', '4', 'the next train begins with what lay behind the route', ({ body, train }) =>
    check(equal(body.subarray(32, 32 + train.rest.length), train.rest), 'it differs'),
  );
  of('train.filler', '4', 'a train is filled up from the filler key', ({ body, train }) =>
    check(equal(body.subarray(32 + train.rest.length), train.filler), 'it differs'),
  );
  return cases;
}

function cellCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (circuit: Relayed) => Promise<void>, route: Route = {}) =>
    cases.push({
      id: `relay.${id}`,
      section: '3',
      level: core,
      rule,
      run: async (context) => {
        const circuit = await relayed(context, route);
        await run(circuit);
        end(circuit);
      },
    });
  const passes = async (circuit: Relayed, index: number, header: { type?: number; path?: number } = {}) => {
    const plaintext = random(1240);
    circuit.near.peer.send(forward(circuit, plaintext, { index, ...header }));
    const came = await circuit.atNext.next();
    check(came !== undefined, 'it was not passed on');
    return { ...came, plaintext };
  };
  for (const index of [0, 1, 3, 4, 1000, 2 ** 19 - 1]) {
    of(`forward.pad.${index}`, 'a relay puts 16 bytes of pad_i(n) behind the plaintext', async (circuit) => {
      const { cell, plaintext } = await passes(circuit, index);
      check(equal(cell.subarray(0, 1240), plaintext), 'the plaintext differs');
      check(equal(cell.subarray(1240), padOf(cellKeys(circuit.train.chains[0]).aead, index)), 'the pad differs');
    });
  }
  of('forward.generation', 'pads are of the keys of their generation', async (circuit) => {
    const { cell } = await passes(circuit, 2 ** 19 + 5);
    const { aead } = cellKeys(ratchet(circuit.train.chains[0]));
    check(equal(cell.subarray(1240), padOf(aead, 2 ** 19 + 5)), 'the pad differs');
  });
  for (const [name, start, offset] of [
    ['zero', 5, 0],
    ['wrap', MODULUS - 1, 7],
    ['negative', 100, MODULUS - 99],
  ] as const) {
    of(
      `forward.counter.${name}`,
      'a relay sends counter c + offset mod 2^48',
      async (circuit) => {
        const { header } = await passes(circuit, 2);
        const expected = (start + 2 + offset) % MODULUS;
        check(header.counter === expected, `${header.counter}, not ${expected}`);
      },
      { forwardStart: start, forwardOffset: offset },
    );
  }
  of('forward.fields', 'type, flags and path id are copied', async (circuit) => {
    const { header } = await passes(circuit, 0, { type: 0x40, path: 3 });
    check(header.type === 0x40 && header.path === 3, `type ${header.type}, path ${header.path}`);
  });
  for (const at of [16, 20, 24, 39, 40, 700, 1279]) {
    of(`forward.altered.${at}`, "each hop checks a cell's tag", async (circuit) => {
      await notPassedOn(circuit, [flipped(forward(circuit, random(1240)), at)]);
    });
  }
  of('forward.replayed', 'an index is taken once, at every hop', async (circuit) => {
    const cell = forward(circuit, random(1240));
    circuit.near.peer.send(cell);
    check((await circuit.atNext.next()) !== undefined, 'it was not passed on');
    await notPassedOn(circuit, [cell, cell]);
  });
  of('forward.type', 'circuit cells have type 0', async (circuit) => {
    await notPassedOn(
      circuit,
      [1, 2, 3].map((type) => forward(circuit, random(1240), { type })),
    );
  });
  of(
    'forward.maxcells',
    'cells with an index of 2^k or more are refused, at every hop',
    async (circuit) => {
      await notPassedOn(circuit, [forward(circuit, random(1240), { index: 16 })]);
    },
    { maxCellsLog2: 4 },
  );
  const comesBack = async (circuit: Relayed, index: number, header: { type?: number; path?: number } = {}) => {
    const sent = random(1256);
    circuit.far.peer.send(backward(circuit, sent, index, header));
    const came = await circuit.atClient.next();
    check(came !== undefined, 'it was not passed on');
    const aead = cellKeys(circuit.train.chains[1]).aead;
    const plaintext = open(aead, nonceOf(index), Uint8Array.of(came.header.type, came.header.path), came.cell);
    return { ...came, plaintext, sent };
  };
  for (const index of [0, 9, 100_000]) {
    of(
      `backward.seal.${index}`,
      'a relay seals the first 1240 bytes of what came, under n and its chain',
      async (circuit) => {
        const { plaintext, sent } = await comesBack(circuit, index);
        check(plaintext !== undefined, 'it does not open');
        check(equal(plaintext, sent.subarray(0, 1240)), 'something else is in it');
      },
    );
  }
  of('backward.counter', 'backward too counter c + offset is sent', async (circuit) => {
    const { header } = await comesBack(circuit, 6);
    const expected = (77 + 6 + 2 ** 40) % MODULUS;
    check(header.counter === expected, `${header.counter}, not ${expected}`);
  });
  of('backward.fields', 'type, flags and path id are copied', async (circuit) => {
    const { header } = await comesBack(circuit, 0, { type: 0x40, path: 9 });
    check(header.type === 0x40 && header.path === 9, `type ${header.type}, path ${header.path}`);
  });
  of('backward.replayed', 'an index is taken once, backward too', async (circuit) => {
    await comesBack(circuit, 3);
    circuit.far.peer.send(backward(circuit, random(1256), 3));
    const { header } = await comesBack(circuit, 4);
    check(header.counter === (77 + 4 + 2 ** 40) % MODULUS, 'it was passed on');
  });
  of('early', 'cells right behind the train are passed on behind it', async (circuit) => {
    const plaintext = random(1240);
    circuit.near.peer.send(forward(circuit, plaintext));
    const came = await circuit.atNext.next();
    check(came !== undefined && equal(came.cell.subarray(0, 1240), plaintext), 'it was not passed on');
  });
  return cases;
}

function endCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (circuit: Relayed, context: Context) => Promise<void>) =>
    cases.push({
      id: `relay.end.${id}`,
      section: '2.3',
      level: core,
      rule,
      run: async (context) => {
        const circuit = await relayed(context);
        await run(circuit, context);
        end(circuit);
      },
    });
  of('forward', 'DESTROY travels on to the next hop, under its CID', async ({ near, far, nearCids, farCids }) => {
    near.message(2, concat(nearCids[0], Uint8Array.of(0, 0)));
    const message = await far.nextMessage(2, farCids[0]);
    check(message !== undefined && equal(message.subarray(0, 12), farCids[0]), 'no DESTROY, or under another CID');
    check(message[12] === 0, `direction ${message[12]}`);
  });
  for (const reason of [5, 6, 7]) {
    of(`backward.${reason}`, 'DESTROY travels back to the client, with its reason', async (circuit) => {
      const { near, far, nearCids, farCids } = circuit;
      far.message(2, concat(farCids[1], Uint8Array.of(1, reason)));
      const message = await near.nextMessage(2, nearCids[1]);
      check(message !== undefined && equal(message.subarray(0, 12), nearCids[1]), 'no DESTROY, or under another CID');
      check(message[12] === 1 && message[13] === reason, `direction ${message[12]}, reason ${message[13]}`);
    });
  }
  of('refused', 'SETUP_REFUSED travels back, and names who refused', async (circuit, { node }) => {
    const { near, far, nearCids, farCids } = circuit;
    const puzzle = concat(Uint8Array.of(9), random(16));
    far.message(3, concat(farCids[1], Uint8Array.of(4), node.keys.nodeId, puzzle));
    const refusal = await near.nextMessage(3, circuit.nearCids[1]);
    check(refusal !== undefined && equal(refusal.subarray(0, 12), nearCids[1]), 'no refusal, or under another CID');
    check(refusal[12] === 4 && equal(refusal.subarray(13, 45), node.keys.nodeId), 'another reason, or another node');
    check(equal(refusal.subarray(45), puzzle), 'the puzzle differs');
  });
  of('direction', 'DESTROY is taken only under a CID of its own direction', async (circuit) => {
    circuit.far.message(2, concat(circuit.farCids[0], Uint8Array.of(1, 0)));
    circuit.far.message(2, concat(circuit.farCids[1], Uint8Array.of(0, 0)));
    check((await circuit.far.ping()) !== undefined, 'the link died of it');
    await notPassedOn(circuit, []);
  });
  of('link', 'a circuit that has answered ends with its link to the next hop: DESTROY', async (circuit, { node }) => {
    circuit.far.peer.send(backward(circuit, random(1256), 0));
    check((await circuit.atClient.next()) !== undefined, 'a backward cell was not passed on');
    circuit.far.message(6, Uint8Array.of(0));
    node.forgetLink();
    const message = await circuit.near.nextMessage(2, circuit.nearCids[1]);
    check(message !== undefined && equal(message.subarray(0, 12), circuit.nearCids[1]), 'the client was not told');
    check(message[13] === 1, `reason ${message[13]}, not 1 (link lost)`);
  });
  of('link.unanswered', 'one that has not is refused: the next hop is out of reach', async (circuit, context) => {
    circuit.far.message(6, Uint8Array.of(0));
    context.node.forgetLink();
    const refusal = await circuit.near.nextMessage(3, circuit.nearCids[1]);
    check(refusal !== undefined && equal(refusal.subarray(0, 12), circuit.nearCids[1]), 'the client was not told');
    check(refusal[12] === 2, `reason ${refusal[12]}, not 2 (unreachable)`);
    check(equal(refusal.subarray(13, 45), context.peer.target.nodeId), 'the refusal names another node');
  });
  of('cells', 'a circuit that has ended passes nothing on', async (circuit) => {
    circuit.near.message(2, concat(circuit.nearCids[0], Uint8Array.of(0, 0)));
    check((await circuit.far.nextMessage(2, circuit.farCids[0])) !== undefined, 'no DESTROY came to the next hop');
    circuit.near.peer.send(forward(circuit, random(1240)));
    check((await circuit.near.ping()) !== undefined && (await circuit.far.ping()) !== undefined, 'a link died of it');
    check(circuit.atNext.cells.length === 0, 'it was passed on');
  });
  return cases;
}

export const relayCases = (): Case[] => [...setupCases(), ...cellCases(), ...endCases()];
