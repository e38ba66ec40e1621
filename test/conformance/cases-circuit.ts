/** Cases of set-up trains, cells and payloads at the last hop (docs/protocol.md §2.3, §3, §4, §5). */
import { lowOrder } from './cases-handshake.ts';
import { openEcho, streamFrame } from './cases-paths.ts';
import {
  ascii,
  bytes,
  concat,
  encodeRoute,
  equal,
  makeTrain,
  number,
  PAYLOAD,
  type Route,
  random,
  ratchet,
  TRAIN,
  TRAIN_AT,
  varint,
} from './codec.ts';
import { type Case, type Context, check, flipped, spread } from './context.ts';
import { frame, pingFrame, TestCircuit } from './peer.ts';

const core = 'Core' as const;
const plus = 'Plus' as const;
const Reason = { unreachable: 2, refused: 3, expired: 6, protocol: 8 } as const;

/** Sends a train that must be refused, and reads the refusal. */
async function refusedWith(context: Context, circuit: TestCircuit, train: Uint8Array, reason: number): Promise<void> {
  circuit.setUp(train);
  const refusal = await circuit.link.nextMessage(3, circuit.backwardCid);
  circuit.link.circuits.delete(circuit);
  check(refusal !== undefined, 'it was not refused');
  check(refusal.length === 62, `SETUP_REFUSED has ${refusal.length} bytes`);
  check(equal(refusal.subarray(0, 12), circuit.backwardCid), 'the refusal names another circuit');
  check(refusal[12] === reason, `the reason is ${refusal[12]}, not ${reason}`);
  check(equal(refusal.subarray(13, 45), context.peer.target.nodeId), 'the refusal names another node');
}

async function newCircuit(context: Context, route: Route = {}): Promise<TestCircuit> {
  const train = makeTrain(context.peer.target, encodeRoute(route));
  const { forwardStart = 0, backwardStart = 0 } = route;
  return new TestCircuit(await context.link(), { train, forwardStart, backwardStart });
}

function trainCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, section: string, rule: string, run: (context: Context) => Promise<void>) =>
    cases.push({ id, section, level: core, rule, run });
  const regions: [string, number, number, number][] = [
    ['epk', TRAIN_AT.epk, TRAIN_AT.ct, 16],
    ['ct', TRAIN_AT.ct, TRAIN_AT.tag, 20],
    ['tag', TRAIN_AT.tag, TRAIN_AT.body, 16],
    ['body', TRAIN_AT.body, TRAIN, 32],
  ];
  for (const [part, from, to, count] of regions) {
    for (const at of spread(from, to, count)) {
      of(
        `train.altered.${part}.${at - from}`,
        '4',
        "the tag covers all of a train, whatever comes behind this hop's part",
        async (context) => {
          const circuit = await newCircuit(context);
          await refusedWith(context, circuit, flipped(circuit.options.train.train, at), Reason.refused);
        },
      );
    }
  }
  for (const [i, point] of lowOrder.entries()) {
    of(`train.loworder.${i}`, '4', 'an ephemeral key of small order is no key', async (context) => {
      const circuit = await newCircuit(context);
      const train = circuit.options.train.train.slice();
      train.set(point);
      await refusedWith(context, circuit, train, Reason.refused);
    });
  }
  const route = (id: string, rule: string, fields: Route, reason: number) =>
    of(`route.${id}`, '4', rule, async (context) => {
      const circuit = await newCircuit(context, fields);
      await refusedWith(context, circuit, circuit.options.train.train, reason);
    });
  for (let at = 0; at < 49; at++) {
    route(
      `tail.${at}`,
      'the trailing zeros of a route are checked',
      { tail: flipped(bytes(49), at, 0) },
      Reason.refused,
    );
  }
  for (const action of [2, 3, 127, 255])
    route(`action.${action}`, 'an action that is not known is refused', { action }, Reason.refused);
  for (const cls of [3, 4, 127, 255])
    route(`class.${cls}`, 'a class that is not known is refused', { class: cls }, Reason.refused);
  for (const log2 of [49, 50, 64, 255])
    route(`maxcells.${log2}`, 'max cells is at most 2^48', { maxCellsLog2: log2 }, Reason.refused);
  for (const expiry of [0, 1, 1_500_000_000])
    route(`expiry.${expiry}`, 'a circuit whose time is over is refused', { expiry }, Reason.expired);
  route('last.relay', '"you are last" goes with action exit', { action: 0 }, Reason.refused);
  route('next.exit', 'action exit goes with "you are last"', { next: random(32), action: 1 }, Reason.refused);
  route(
    'next.unknown',
    'a next hop that the view does not know is out of reach',
    { next: random(32), action: 0 },
    Reason.unreachable,
  );
  of('route.next.self', '4', 'a train that leads back is not followed', async (context) => {
    const circuit = await newCircuit(context, { next: context.peer.target.nodeId, action: 0 });
    await refusedWith(context, circuit, circuit.options.train.train, Reason.unreachable);
  });
  of('train.replayed', '4', 'a train opens once', async (context) => {
    const circuit = await context.newCircuit();
    const again = new TestCircuit(circuit.link, circuit.options);
    await refusedWith(context, again, circuit.options.train.train, Reason.refused);
  });
  of('train.replayed.link', '4', 'a train opens once, whatever link it comes over', async (context) => {
    const circuit = await context.newCircuit();
    const again = new TestCircuit(await context.newLink(), circuit.options);
    await refusedWith(context, again, circuit.options.train.train, Reason.refused);
  });
  of('train.epoch', '4', "a train for another epoch's key opens nowhere", async (context) => {
    const { target } = context.peer;
    const train = makeTrain({ ...target, epoch: target.epoch + 1 }, encodeRoute({}));
    const circuit = new TestCircuit(await context.link(), { train, forwardStart: 0, backwardStart: 0 });
    await refusedWith(context, circuit, train.train, Reason.refused);
  });
  of('train.node', '4', 'a train for another node opens nowhere', async (context) => {
    const train = makeTrain({ ...context.peer.target, nodeId: random(32) }, encodeRoute({}));
    const circuit = new TestCircuit(await context.link(), { train, forwardStart: 0, backwardStart: 0 });
    await refusedWith(context, circuit, train.train, Reason.refused);
  });
  of('train.fresh.loworder', '4', "the client's fresh keys are keys", async (context) => {
    const train = makeTrain(context.peer.target, encodeRoute({}), undefined, lowOrder[1]);
    const circuit = new TestCircuit(await context.link(), { train, forwardStart: 0, backwardStart: 0 });
    await refusedWith(context, circuit, train.train, Reason.protocol);
  });
  of('train.fresh.kem', '4', 'an ML-KEM key with a coefficient of q or more is no key', async (context) => {
    const train = makeTrain(context.peer.target, encodeRoute({}), new Uint8Array(1184).fill(0xff));
    const circuit = new TestCircuit(await context.link(), { train, forwardStart: 0, backwardStart: 0 });
    await refusedWith(context, circuit, train.train, Reason.protocol);
  });
  for (const length of [0, 32, 10_095, 10_097]) {
    of(`setup.length.${length}`, '2.3', 'a SETUP of another length is dropped, the link lives on', async (context) => {
      const link = await context.link();
      link.message(1, bytes(length));
      check((await link.ping()) !== undefined, 'the link died of it');
      check(!link.messages.some(({ type }) => type === 3), 'it was refused, not dropped');
    });
  }
  return cases;
}

function replyCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, section: string, rule: string, run: (circuit: TestCircuit) => Promise<void> | void) =>
    cases.push({ id, section, level: core, rule, run: async (context) => run(await context.newCircuit()) });
  of('reply.type', '5', "the last hop's first message is KEYS", ({ reply }) =>
    check(reply?.[0] === 2, `type ${reply?.[0]}`),
  );
  of('reply.length', '5', 'KEYS has 1120 bytes', ({ reply }) =>
    check(reply !== undefined && reply[1]! * 256 + reply[2]! === 1120, 'another length'),
  );
  of('reply.first', '4', 'the reply is in the first backward cell', ({ indices }) =>
    check(indices[0] === 0, `index ${indices[0]}`),
  );
  of('reply.tail', '3', 'a backward plaintext ends in T(n)', ({ tails }) =>
    check(
      tails.every((tail) => tail),
      'another tail',
    ),
  );
  of('reply.settings', '5', 'SETTINGS come with the first payloads', async (circuit) => {
    await circuit.ping();
    check(
      circuit.frames.some(({ type }) => type === 0x30),
      'no SETTINGS came',
    );
  });
  of('fresh.forward', '3.1', 'cells under the new forward chain are taken', async (circuit) => {
    check(await circuit.ping(), 'PING was not answered');
  });
  of('fresh.backward', '3.1', 'then the last hop sends under the new backward chain', async (circuit) => {
    await circuit.ping();
    circuit.chains[1] = circuit.fresh![1];
    check(await circuit.ping(), 'it still sends under the old one');
  });
  cases.push({
    id: 'zero-rtt',
    section: '3.1',
    level: core,
    rule: 'cells behind the train, under the old chain, are taken before the reply is there',
    run: async (context) => {
      const circuit = await newCircuit(context);
      const mark = random(8);
      circuit.setUp();
      circuit.send(pingFrame(mark));
      check(await circuit.pong(mark), 'PING was not answered');
    },
  });
  cases.push({
    id: 'fresh.old-refused',
    section: '3.1',
    level: core,
    rule: 'the old chain is no more once a cell came under the new one, but for late cells of 10 s',
    run: async (context) => {
      const circuit = await newCircuit(context);
      circuit.setUp();
      const [late, mark] = [random(8), random(8)];
      const cell = circuit.cell(pingFrame(late));
      check(await circuit.ready(), 'no reply');
      circuit.send(pingFrame(mark));
      check(await circuit.pong(mark), 'PING was not answered');
      context.peer.send(cell);
      check(await circuit.pong(late), 'a late cell under the old chain was not taken');
    },
  });
  const starts: [string, number, number][] = [
    ['forward', 12_345, 0],
    ['backward', 0, 54_321],
    ['wrap.forward', 2 ** 48 - 1, 0],
    ['wrap.backward', 0, 2 ** 48 - 2],
    ['both', 2 ** 47, 2 ** 47 + 5],
  ];
  for (const [name, forwardStart, backwardStart] of starts) {
    cases.push({
      id: `counter.start.${name}`,
      section: '3',
      level: core,
      rule: 'an index is (counter − start) mod 2^48',
      run: async (context) => {
        const circuit = await newCircuit(context, { forwardStart, backwardStart });
        circuit.setUp();
        check(await circuit.ready(), 'no reply that opens');
        check((await circuit.ping()) && (await circuit.ping()), 'PING was not answered');
      },
    });
  }
  return cases;
}

/** A forward cell that must not be taken: it carries a PING, and only the one behind it may be answered. */
async function notDelivered(
  context: Context,
  spoil: (circuit: TestCircuit, payload: Uint8Array) => Uint8Array,
): Promise<void> {
  const circuit = await context.circuit();
  const mark = random(8);
  context.peer.send(spoil(circuit, pingFrame(mark)));
  check(await circuit.ping(), 'the circuit died of it');
  check(!circuit.hasPong(mark), 'it was delivered');
}

function cellCases(): Case[] {
  const cases: Case[] = [];
  const of = (
    id: string,
    section: string,
    rule: string,
    spoil: (circuit: TestCircuit, payload: Uint8Array) => Uint8Array,
  ) => cases.push({ id, section, level: core, rule, run: (context) => notDelivered(context, spoil) });
  const places = [
    ...spread(4, 24, 20).map(
      (at) => ['header', at, '1', 'a changed header bit gives a CID that no circuit has'] as const,
    ),
    ...spread(24, 40, 16).map((at) => ['tag', at, '3', "a cell's tag is checked"] as const),
    ...spread(40, 1280, 24).map((at) => ['body', at, '3', "a cell's tag covers all of it"] as const),
  ];
  for (const [part, at, section, rule] of places) {
    of(`cell.altered.${part}.${at}`, section, rule, (circuit, payload) => flipped(circuit.cell(payload), at));
  }
  of('cell.cid', '1', 'a cell of an unknown circuit is dropped', (circuit, payload) =>
    circuit.cell(payload, { cid: random(12) }),
  );
  of('cell.cid.backward', '1', 'a CID is good for one direction', (circuit, payload) =>
    circuit.cell(payload, { cid: circuit.backwardCid }),
  );
  for (const type of [1, 2, 3, 4, 0x80, 0xff]) {
    of(`cell.type.${type}`, '1', 'circuit cells have type 0', (circuit, payload) => circuit.cell(payload, { type }));
  }
  of('cell.replayed', '3', 'an index is taken once', (circuit, payload) => {
    circuit.send(pingFrame(random(8)));
    return circuit.cell(payload, { index: circuit.index - 1 });
  });
  for (const back of [1, 5, 50]) {
    cases.push({
      id: `cell.late.${back}`,
      section: '3',
      level: core,
      rule: 'a cell that was overtaken is taken, once',
      run: async (context) => {
        const circuit = await context.circuit();
        const mark = random(8);
        const late = circuit.cell(pingFrame(mark));
        circuit.index += back;
        check(await circuit.ping(), 'PING was not answered');
        context.peer.send(late);
        check(await circuit.pong(mark), 'it was not taken');
        const before = circuit.frames.filter(({ data }) => equal(data, mark)).length;
        context.peer.send(late);
        check(await circuit.ping(), 'PING was not answered');
        check(circuit.frames.filter(({ data }) => equal(data, mark)).length === before, 'it was taken twice');
      },
    });
  }
  const limit = (log2: number) =>
    cases.push({
      id: `cell.maxcells.${log2}`,
      section: '4',
      level: core,
      rule: 'cells with an index of 2^k or more are refused',
      run: async (context) => {
        const circuit = await newCircuit(context, { maxCellsLog2: log2 });
        circuit.setUp();
        check(await circuit.ready(), 'no reply');
        circuit.index = 2 ** log2 - 1;
        const mark = random(8);
        circuit.link.peer.send(circuit.cell(pingFrame(mark), { index: 2 ** log2 }));
        check(await circuit.ping(), 'the last index was not taken');
        check(!circuit.hasPong(mark), 'it was taken');
      },
    });
  for (const log2 of [4, 8, 12]) limit(log2);
  for (const [ahead, taken] of [
    [1, true],
    [2, true],
    [4, true],
    [5, false],
    [9, false],
  ] as const) {
    cases.push({
      id: `generation.ahead.${ahead}`,
      section: '3',
      level: core,
      rule: 'a receiver follows a generation at most 4 ahead',
      run: async (context) => {
        const circuit = await context.newCircuit();
        check(await circuit.ping(), 'PING was not answered');
        circuit.chains[1] = circuit.fresh![1];
        const mark = random(8);
        let chain = circuit.fresh![0];
        for (let i = 0; i < ahead; i++) chain = ratchet(chain);
        const before = circuit.fresh![0];
        circuit.fresh![0] = chain;
        circuit.link.peer.send(circuit.cell(pingFrame(mark), { index: ahead * 2 ** 19 }));
        if (!taken) circuit.fresh![0] = before;
        if (taken) check(await circuit.pong(mark), 'it was not taken');
        else check((await circuit.ping()) && !circuit.hasPong(mark), 'it was taken, or the circuit died of it');
      },
    });
  }
  return cases;
}

function teardownCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (circuit: TestCircuit) => Promise<void>) =>
    cases.push({
      id: `destroy.${id}`,
      section: '2.3',
      level: core,
      rule,
      run: async (context) => run(await context.newCircuit()),
    });
  const destroy = (circuit: TestCircuit, cid: Uint8Array, direction: number, reason = 0) =>
    circuit.link.message(2, concat(cid, Uint8Array.of(direction, reason)));
  for (const reason of [0, 1, 7, 10, 255]) {
    of(`forward.${reason}`, 'DESTROY ends the circuit', async (circuit) => {
      destroy(circuit, circuit.forwardCid, 0, reason);
      check(!(await circuit.ping(150)), 'the circuit lives on');
      circuit.link.circuits.delete(circuit);
    });
  }
  of('direction', 'DESTROY is taken only under a CID of its own direction', async (circuit) => {
    destroy(circuit, circuit.forwardCid, 1);
    check(await circuit.ping(), 'the circuit is gone');
  });
  of('direction.unknown', 'a direction is 0 or 1', async (circuit) => {
    destroy(circuit, circuit.forwardCid, 2);
    check(await circuit.ping(), 'the circuit is gone');
  });
  of('cid', 'DESTROY of an unknown circuit does nothing', async (circuit) => {
    destroy(circuit, random(12), 0);
    check(await circuit.ping(), 'the circuit is gone');
  });
  of('refused', 'SETUP_REFUSED does not travel forward', async (circuit) => {
    circuit.link.message(3, concat(circuit.forwardCid, Uint8Array.of(3), random(32), bytes(17)));
    check(await circuit.ping(), 'the circuit is gone');
  });
  of('twice', 'a CID that is taken is refused, and its circuit lives on', async (circuit) => {
    const again = new TestCircuit(circuit.link, {
      ...circuit.options,
      train: makeTrain(circuit.link.peer.target, encodeRoute({})),
    });
    again.forwardCid.set(circuit.forwardCid);
    again.setUp();
    const refusal = await circuit.link.nextMessage(3, again.backwardCid);
    circuit.link.circuits.delete(again);
    check(refusal?.[12] === Reason.protocol, 'it was not refused');
    check(await circuit.ping(), 'the first circuit is gone');
  });
  return cases;
}

/** Payloads that break the rules of frames: the session ends with CLOSE and the right code. */
function frameCases(): Case[] {
  const cases: Case[] = [];
  const violation = 1;
  const flow = 2;
  const closes = (
    id: string,
    rule: string,
    payload: Uint8Array,
    code: number = violation,
    section = '5',
    level: Case['level'] = core,
  ) =>
    cases.push({
      id: `frame.${id}`,
      section,
      level,
      rule,
      run: async (context) => {
        const circuit = await context.newCircuit();
        circuit.send(payload);
        const close = await circuit.closeFrame();
        circuit.link.circuits.delete(circuit);
        check(close !== undefined, 'the session goes on');
        check(close.fields[0] === code, `code ${close.fields[0]}, not ${code}`);
      },
    });
  const lives = (id: string, rule: string, payload: Uint8Array, section = '5', level: Case['level'] = core) =>
    cases.push({
      id: `frame.${id}`,
      section,
      level,
      rule,
      run: async (context) => {
        const circuit = await context.circuit();
        circuit.send(payload);
        check(await circuit.ping(), 'the session ended');
      },
    });
  const known = new Set([
    ...Array.from({ length: 17 }, (_, i) => i),
    ...[0x20, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3f],
    ...Array.from({ length: 16 }, (_, i) => 0x50 + i),
  ]);
  for (let type = 0; type < 0x70; type++) {
    if (!known.has(type))
      closes(`unknown.${type}`, 'a frame of an unknown type breaks the protocol', frame(type, 0, 0, 0));
  }
  const full = (tail: Uint8Array): Uint8Array => {
    // Fills the payload with PINGs, so that the frame is cut off by its end.
    const pings = Math.floor((PAYLOAD - tail.length) / 9);
    const filler = concat(...Array.from({ length: pings }, () => pingFrame(random(8))));
    return concat(filler, bytes(0), ...pad(PAYLOAD - filler.length - tail.length), tail);
  };
  // Whole frames of one or two bytes that change nothing: MAX_DATA with a small value.
  const pad = (length: number): Uint8Array[] =>
    length % 2 === 0
      ? Array.from({ length: length / 2 }, () => frame(3, 0))
      : [concat(Uint8Array.of(3, 0x40, 0)), ...pad(length - 3)];
  for (const [name, tail] of [
    ['stream', Uint8Array.of(1, 0, 0, 0, 20)],
    ['crypto', Uint8Array.of(0x10, 0, 20)],
    ['ping', Uint8Array.of(0x31, 1, 2)],
    ['varint', Uint8Array.of(3, 0xc0)],
    ['ack', Uint8Array.of(2, 0)],
    ['datagram', Uint8Array.of(7, 0, 9)],
    ['connect', Uint8Array.of(8, 0, 0, 0x40)],
    ['close', Uint8Array.of(0x3f, 0, 5)],
    ['reset', Uint8Array.of(5, 0)],
    ['settings', Uint8Array.of(0x30, 1, 1)],
  ] as const) {
    closes(`cut.${name}`, 'a frame that runs over the end of the payload breaks the protocol', full(tail));
  }
  const corrects = (id: string, rule: string, payload: Uint8Array) => closes(id, rule, payload, violation, '5.6', plus);
  corrects('recovered.none', 'FEC_RECOVERED counts from 1', frame(0x37, 0, 0));
  corrects('recovered.many', 'FEC_RECOVERED counts to 32', frame(0x37, 33, ...Array.from({ length: 33 }, () => 0)));
  corrects('recovered.unsent', 'FEC_RECOVERED of a number never sent is a violation', frame(0x37, 1, 1 << 20));
  corrects('cut.recovered', 'FEC_RECOVERED that runs over the end of the payload', full(Uint8Array.of(0x37, 2, 0)));
  corrects('cut.source', 'FEC_SOURCE that runs over the end of the payload', full(Uint8Array.of(0x38)));
  corrects('cut.repair', 'FEC_REPAIR that runs over the end of the payload', full(Uint8Array.of(0x36, 0x44)));
  lives('source', 'a packet may name its path for error correction', frame(0x38, 1), '5.6', plus);
  closes(
    'cut.timed',
    'a frame that runs over the end of the payload breaks the protocol',
    full(Uint8Array.of(0x0f, 0, 1, 1, 9)),
    violation,
    '5.1',
    plus,
  );
  cases.push({
    id: 'frame.padding',
    section: '5',
    level: core,
    rule: 'a receiver reads nothing behind PADDING',
    run: async (context) => {
      const circuit = await context.circuit();
      const mark = random(8);
      circuit.send(concat(Uint8Array.of(0), pingFrame(mark)));
      check(await circuit.ping(), 'the session ended');
      check(!circuit.hasPong(mark), 'a PING behind it was answered');
    },
  });
  closes('ack.unsent', 'a packet that was never sent can not be acknowledged', frame(2, 100_000, 0, 0, 0));
  closes('ack.range', 'the first range of an ACK does not go below 0', frame(2, 0, 0, 0, 5));
  closes('connected.client', 'CONNECTED comes from the last hop', frame(9, 0, 4, 7, ascii('1.2.3.4'), 80));
  closes('maxstreams.client', 'MAX_STREAMS comes from the last hop', frame(12, 10));
  closes('stream.limit', 'a client opens no more streams than it may', frame(1, 100_000, 0, 0, 1, Uint8Array.of(1)));
  closes(
    'stream.window',
    'nothing is sent beyond the window of a stream',
    frame(1, 0, 65_536, 0, 1, Uint8Array.of(1)),
    flow,
  );
  closes(
    'stream.window.far',
    'nothing is sent beyond the window of a stream',
    frame(1, 0, 2 ** 40, 0, 1, Uint8Array.of(1)),
    flow,
  );
  closes('stream.final', 'a final size does not move', concat(frame(1, 0, 5, 1, 0), frame(1, 0, 9, 1, 0)));
  closes(
    'stream.beyond-final',
    'nothing lies beyond the final size',
    concat(frame(1, 0, 0, 1, 0), frame(1, 0, 0, 0, 1, Uint8Array.of(1))),
  );
  closes(
    'reset.final',
    'a RESET does not go behind what has come',
    concat(frame(1, 0, 0, 0, 2, bytes(2)), frame(5, 0, 0, 1)),
  );
  closes('crypto.window', 'CRYPTO keeps to its window', frame(0x10, 70_000, 1, Uint8Array.of(1)));
  closes('crypto.type', 'a client sends no KEYS', frame(0x10, 0, 3 + 0, concat(Uint8Array.of(2), number(0, 2))));
  closes(
    'crypto.rekey.length',
    'REKEY has 1216 bytes',
    frame(0x10, 0, 7, concat(Uint8Array.of(3), number(4, 2), bytes(4))),
    0x10,
  );
  closes(
    'plugin.required',
    'a plugin that is required and not there ends the session',
    frame(0x50, pluginBody(1).length, pluginBody(1)),
    7,
  );
  lives(
    'plugin.optional',
    'a plugin that is not required is skipped',
    frame(0x50, pluginBody(0).length, pluginBody(0)),
  );
  lives('blocked', 'DATA_BLOCKED is skipped', frame(13, 7));
  lives('blocked.stream', 'STREAM_DATA_BLOCKED is skipped', frame(14, 3, 7));
  lives('text', 'LOCALIZED_STRING is for people', frame(0x20, 2, ascii('en'), 5, ascii('hello')));
  lives('maxdata.low', 'a limit never falls', frame(3, 0));
  lives('setting.unknown', 'a setting that is not known is skipped', frame(0x30, 1, 0x3fff, 1));
  lives('pathresponse', 'a PATH_RESPONSE that nobody asked for is skipped', concat(Uint8Array.of(0x34), random(8)));
  lives('varint.long', 'a varint may be longer than it must', concat(Uint8Array.of(3), Uint8Array.of(0xc0), bytes(7)));
  for (const size of [1, 2, 4, 8]) {
    cases.push({
      id: `frame.varint.${size}`,
      section: '5',
      level: core,
      rule: 'varints of 1, 2, 4 and 8 bytes are read (RFC 9000 §16)',
      run: async (context) => {
        const circuit = await context.circuit();
        const id =
          size === 1
            ? varint(0x31)
            : concat(Uint8Array.of([0, 0x40, 0, 0x80, 0, 0, 0, 0xc0][size - 1]!), bytes(size - 2), Uint8Array.of(0x31));
        const mark = random(8);
        circuit.send(concat(id, mark));
        check(await circuit.pong(mark), 'PING was not answered');
      },
    });
  }
  cases.push({
    id: 'frame.pathchallenge',
    section: '5',
    level: core,
    rule: 'PATH_CHALLENGE is answered with the same 8 bytes',
    run: async (context) => {
      const circuit = await context.circuit();
      const mark = random(8);
      circuit.send(concat(Uint8Array.of(0x33), mark));
      check(
        await circuit.link.until(() => circuit.frames.some(({ type, data }) => type === 0x34 && equal(data, mark))),
        'no answer',
      );
    },
  });
  cases.push({
    id: 'frame.ack',
    section: '5.3',
    level: core,
    rule: 'a packet that asks for it is acknowledged',
    run: async (context) => {
      const circuit = await context.newCircuit();
      check(await circuit.ping(), 'PING was not answered');
      check(
        circuit.frames.some(({ type, fields }) => type === 2 && fields[0]! >= 0),
        'no ACK came',
      );
    },
  });
  cases.push({
    id: 'stream.echo',
    section: '5',
    level: core,
    rule: 'a stream is opened with CONNECT and its first data at once',
    run: async (context) => {
      const circuit = await context.newCircuit();
      await openEcho(context, circuit, 0, streamFrame(0, 0, ascii('hello')));
      check(
        await circuit.link.until(() => equal(circuit.streamBytes(0), ascii('hello'))),
        'what was sent did not come back',
      );
    },
  });
  return cases;
}

/** CBOR {id: 99, flags, data: h''}. */
function pluginBody(flags: number): Uint8Array {
  const text = (value: string) => concat(Uint8Array.of(0x60 + value.length), ascii(value));
  const body = concat(
    Uint8Array.of(0xa3),
    text('id'),
    Uint8Array.of(0x18, 99),
    text('data'),
    Uint8Array.of(0x40),
    text('flags'),
    Uint8Array.of(flags),
  );
  return body;
}

export const circuitCases = (): Case[] => [
  ...trainCases(),
  ...replyCases(),
  ...cellCases(),
  ...teardownCases(),
  ...frameCases(),
];
