/** Cases of a link that is up: control channel and rekey (docs/protocol.md §1, §2.3, §2.4). */

import { lowOrder } from './cases-handshake.ts';
import { bytes, concat, finishRekey, makeRekey, number, random } from './codec.ts';
import { type Case, type Context, check, flipped, spread } from './context.ts';
import type { TestLink } from './peer.ts';

const core = 'Core' as const;
const SEGMENT = 1216;
/** A message type that nobody knows. */
const UNKNOWN = 200;

/** A control cell that must not be taken: it carries a segment out of turn, of which no ack may speak. */
async function notTaken(context: Context, spoil: (link: TestLink) => Uint8Array): Promise<void> {
  const link = await context.link();
  context.peer.send(spoil(link));
  const ack = await link.ping();
  check(ack !== undefined, 'the link died of it');
  check(ack.bitmap === 0n, 'it was taken');
}

const due = (link: TestLink) => ({ flags: 5, seq: link.nextSeq + 7, data: bytes(4) });

function cellCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, section: string, rule: string, spoil: (link: TestLink) => Uint8Array) =>
    cases.push({ id, section, level: core, rule, run: (context) => notTaken(context, spoil) });
  const places = [
    ...spread(4, 24, 20).map(
      (at) => ['header', at, '1', 'a changed header bit gives a CID that no circuit has'] as const,
    ),
    ...spread(24, 40, 16).map((at) => ['tag', at, '2.3', "a control cell's tag is checked"] as const),
    ...spread(40, 1280, 24).map((at) => ['body', at, '2.3', "a control cell's tag covers all of it"] as const),
  ];
  for (const [part, at, section, rule] of places) {
    of(`control.altered.${part}.${at}`, section, rule, (link) => flipped(link.cell(due(link)), at));
  }
  for (const at of [0, 1, 2, 3]) {
    of(`control.linkid.${at}`, '1', 'a datagram under an unknown link id is dropped', (link) =>
      flipped(link.cell(due(link)), at),
    );
  }
  for (const type of [0, 2, 3, 4, 0x41, 0x81, 255]) {
    of(`control.type.${type}`, '2.3', 'cells of the control CID have type 1', (link) => link.cell(due(link), { type }));
  }
  for (const path of [1, 2, 255]) {
    of(`control.path.${path}`, '2.3', 'cells of the control CID have path 0', (link) => link.cell(due(link), { path }));
  }
  of('control.cid.other', '2.3', 'a control cell has the reserved CID', (link) =>
    link.cell(due(link), { cid: random(12) }),
  );
  of('control.cid.backward', '2.3', 'each direction has a reserved CID of its own', (link) =>
    link.cell(due(link), { cid: link.keys.in.cid }),
  );
  of('control.keys.backward', '2.3', 'each direction has keys of its own', (link) =>
    link.cell(due(link), {}, { ...link.keys, out: link.keys.in }),
  );
  of('control.replayed', '2.3', 'a counter is taken once', (link) => {
    const cell = link.cell({ flags: 4 });
    link.peer.send(cell);
    return link.cell(due(link), { counter: link.counter - 1 });
  });
  cases.push({
    id: 'control.window.left',
    section: '2.3',
    level: core,
    rule: 'what lies left of the replay window is not taken',
    run: async (context) => {
      const link = await context.newLink();
      const old = link.counter++;
      link.counter += 100_000;
      check((await link.ping()) !== undefined, 'a counter far ahead was not taken');
      link.peer.send(link.cell(due(link), { counter: old }));
      check((await link.ping())?.bitmap === 0n, 'it was taken');
    },
  });
  for (const gap of [1, 10, 64, 1000]) {
    cases.push({
      id: `control.window.late.${gap}`,
      section: '2.3',
      level: core,
      rule: 'a cell that was overtaken is taken',
      run: async (context) => {
        const link = await context.newLink();
        const late = link.cell(due(link));
        link.counter += gap;
        check((await link.ping())?.bitmap === 0n, 'nothing was sent yet');
        link.peer.send(late);
        check(((await link.ping())?.bitmap ?? 0n) !== 0n, 'it was not taken');
      },
    });
  }
  return cases;
}

function ackCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (link: TestLink, context: Context) => Promise<void>) =>
    cases.push({
      id,
      section: '2.3',
      level: core,
      rule,
      run: async (context) => run(await context.newLink(), context),
    });
  // One link for all 64 bits: each case sends the segment whose bit it looks at.
  const shared = new WeakMap<Context, TestLink>();
  for (let bit = 0; bit < 64; bit++) {
    cases.push({
      id: `ack.bitmap.${bit}`,
      section: '2.3',
      level: core,
      rule: 'bit i of the bitmap, from its highest, acknowledges segment cumulative + 1 + i',
      run: async (context) => {
        const link = shared.get(context) ?? (await context.newLink());
        shared.set(context, link);
        const next = link.nextSeq;
        link.control({ flags: 3, seq: next + bit + 1, data: Uint8Array.of(0) });
        const ack = await link.ack(({ bitmap }) => ((bitmap >> BigInt(63 - bit)) & 1n) === 1n);
        check(ack !== undefined, 'no ack has that bit');
        check(ack.cumulative === next, `cumulative is ${ack.cumulative}, not ${next}`);
        const sent = 0xffff_ffff_ffff_ffffn ^ ((1n << BigInt(63 - bit)) - 1n);
        check(ack.bitmap === sent, `the bitmap is ${ack.bitmap.toString(16)}, not ${sent.toString(16)}`);
      },
    });
  }
  of('ack.beyond', 'nothing beyond cumulative + 64 is taken', async (link) => {
    link.control({ flags: 1, seq: link.nextSeq + 65, data: Uint8Array.of(0) });
    // Were it taken, it would come into the bitmap with the next segment.
    const ack = await link.ping();
    check(ack?.bitmap === 0n, 'it was taken');
  });
  of('ack.cumulative', 'the cumulative ack is the next segment expected', async (link) => {
    link.message(UNKNOWN, bytes(3 * SEGMENT));
    check((await link.ping()) !== undefined, 'no ack came that speaks of all');
  });
  of('ack.hole', 'a hole that is filled moves the cumulative ack over what came early', async (link) => {
    const next = link.nextSeq;
    for (const ahead of [1, 2, 0]) link.control({ flags: 3, seq: next + ahead, data: number(0, 4) });
    const ack = await link.ack(({ cumulative }) => cumulative === next + 3);
    check(ack?.bitmap === 0n, 'no ack came that speaks of all three');
  });
  of('ack.twice', 'a segment that comes twice is acknowledged again, and counts once', async (link) => {
    const seq = link.nextSeq++;
    for (let i = 0; i < 2; i++) link.control({ flags: 1, seq, data: concat(Uint8Array.of(UNKNOWN), bytes(3)) });
    check((await link.ping()) !== undefined, 'it did not count once');
  });
  of('ping.answered', 'a ping asks for an ack', async (link) => {
    const ack = await link.ping();
    check(ack !== undefined && (ack.flags & 4) === 4, 'no ack came');
  });
  of('control.zeros', 'what follows the data is zeros', async (link) => {
    const ack = await link.ping();
    check(ack?.rest.every((byte) => byte === 0) === true, 'something follows');
  });
  of('control.counter', 'counters of the control channel start at 0 and rise by one', async (link) => {
    link.controls.length = 0;
    await link.ping();
    await link.ping();
    const [counter] = link.controls.map(({ header }) => header.counter);
    check(counter !== undefined && counter < 16, `the counter is ${counter}`);
  });
  of('control.type', 'control cells have type 1 and path 0', async (link) => {
    await link.ping();
    check(
      link.controls.every(({ header }) => header.type === 1 && header.path === 0),
      'another type or path',
    );
  });
  of('message.unknown', 'a message of an unknown type is skipped', async (link) => {
    for (const type of [0, 7, 99, 255]) link.message(type, bytes(10));
    check((await link.ping()) !== undefined, 'not all were taken');
  });
  of('message.longest', 'a body of 16 384 bytes is taken', async (link) => {
    link.message(UNKNOWN, bytes(16_384));
    check((await link.ping()) !== undefined, 'it was not taken');
  });
  const ends = (id: string, rule: string, send: (link: TestLink) => void) =>
    of(`link.ends.${id}`, rule, async (link) => {
      send(link);
      check((await link.ping(150)) === undefined, 'the link lives on');
    });
  ends('segment.empty', 'a segment has data', (link) => link.control({ flags: 1, seq: link.nextSeq }));
  for (const length of [1217, 1220, 65_535]) {
    ends(`segment.length.${length}`, 'a segment has at most 1216 bytes', (link) =>
      link.control({ flags: 1, seq: link.nextSeq, data: bytes(SEGMENT), length }),
    );
  }
  ends('length.without', 'without a segment the length is 0', (link) => link.control({ flags: 2, length: 5 }));
  for (const cumulative of [1, 2, 1000, 0xffff_ffff]) {
    ends(`ack.${cumulative}`, 'what was never sent can not be acknowledged', (link) =>
      link.control({ flags: 4, cumulative }),
    );
  }
  ends('message.length', 'a body has at most 16 384 bytes', (link) =>
    link.control({ flags: 1, seq: link.nextSeq++, data: concat(Uint8Array.of(UNKNOWN), number(16_385, 3)) }),
  );
  for (const code of [0, 1, 2, 3, 4]) {
    ends(`close.${code}`, 'CLOSE ends the link', (link) => link.message(6, Uint8Array.of(code)));
  }
  return cases;
}

interface Rekeyed {
  readonly link: TestLink;
  readonly old: { keys: TestLink['keys']; peerId: Uint8Array; counter: number };
}

/** Renews the keys up to the point where ours are in use. */
async function rekey(link: TestLink): Promise<Rekeyed> {
  const id = link.peer.newId();
  const init = makeRekey(id);
  link.message(4, init.body);
  const response = await link.nextMessage(5);
  check(response !== undefined, 'REKEY_INIT was not answered');
  check(response.length === 1124, `REKEY_RESPONSE has ${response.length} bytes`);
  const old = { keys: link.keys, peerId: link.peerId, counter: link.counter };
  link.keys = finishRekey(link.keys, init, response);
  link.peerId = response.slice(0, 4);
  link.counter = 0;
  link.receive.unshift({ id, keys: link.keys });
  return { link, old };
}

function rekeyCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: (link: TestLink) => Promise<void>) =>
    cases.push({
      id: `rekey.${id}`,
      section: '2.4',
      level: core,
      rule,
      run: async (context) => run(await context.newLink()),
    });
  of('answered', 'REKEY_INIT is answered, and cells under the new keys open', async (link) => {
    await rekey(link);
    check((await link.ping()) !== undefined, 'a ping under the new keys was not answered');
  });
  of('ids', 'the responder gives a new link id', async (link) => {
    const { old } = await rekey(link);
    check(Buffer.compare(old.peerId, link.peerId) !== 0 && link.peerId.some((byte) => byte !== 0), 'the same id, or 0');
  });
  of('switch', 'after a cell under the new keys the responder answers under them', async (link) => {
    await rekey(link);
    const [first] = link.receive;
    await link.ping();
    link.receive.splice(0, link.receive.length, first!);
    check((await link.ping()) !== undefined, 'nothing came under the new id');
  });
  of('before-switch', 'until then it sends under the old ones', async (link) => {
    const { old } = await rekey(link);
    const later = { keys: link.keys, peerId: link.peerId };
    Object.assign(link, old);
    link.receive.shift();
    check((await link.ping()) !== undefined, 'nothing came under the old id');
    Object.assign(link, later, { counter: 0 });
  });
  of('old-keys', 'old receive keys live on for a while', async (link) => {
    const { old } = await rekey(link);
    await link.ping();
    const later = { keys: link.keys, peerId: link.peerId, counter: link.counter };
    Object.assign(link, old);
    const answered = (await link.ping()) !== undefined;
    Object.assign(link, later);
    check(answered, 'a cell that was under way under the old keys was not taken');
  });
  of('stream', "the control channel's stream goes on across a rekey", async (link) => {
    link.message(UNKNOWN, bytes(100));
    await rekey(link);
    link.message(UNKNOWN, bytes(100));
    check((await link.ping()) !== undefined, 'segments were lost');
  });
  of('counters', 'cell counters start at 0 under the new keys', async (link) => {
    await rekey(link);
    await link.ping();
    link.controls.length = 0;
    await link.ping();
    check((link.controls.at(-1)?.header.counter ?? 99) < 8, 'the counter goes on');
  });
  of('twice', 'a link can be renewed again', async (link) => {
    await rekey(link);
    await link.ping();
    await rekey(link);
    check((await link.ping()) !== undefined, 'the second renewal failed');
  });
  const ends = (id: string, rule: string, send: (link: TestLink) => void) =>
    of(`ends.${id}`, rule, async (link) => {
      send(link);
      check((await link.ping(150)) === undefined, 'the link lives on');
    });
  for (const length of [0, 4, 36, 1219, 1221]) {
    ends(`length.${length}`, 'REKEY_INIT has 1220 bytes', (link) =>
      link.message(4, concat(makeRekey(link.peer.newId()).body, bytes(1)).subarray(0, length)),
    );
  }
  ends('zero-id', 'a new link id is not 0', (link) => link.message(4, makeRekey(bytes(4)).body));
  for (const [i, point] of lowOrder.entries()) {
    ends(`loworder.${i}`, 'a key of small order is no key', (link) => {
      const { body } = makeRekey(link.peer.newId());
      body.set(point, 4);
      link.message(4, body);
    });
  }
  ends('kem', 'an ML-KEM key with a coefficient of q or more is no key (FIPS 203 §7.2)', (link) => {
    const { body } = makeRekey(link.peer.newId());
    body.fill(0xff, 36, 36 + 1152);
    link.message(4, body);
  });
  ends('response', 'a responder does not get REKEY_RESPONSE', (link) => link.message(5, random(1124)));
  ends('again', 'a second REKEY_INIT before the switch breaks the protocol', (link) => {
    link.message(4, makeRekey(link.peer.newId()).body);
    link.message(4, makeRekey(link.peer.newId()).body);
  });
  return cases;
}

export const linkCases = (): Case[] => [...cellCases(), ...ackCases(), ...rekeyCases()];
