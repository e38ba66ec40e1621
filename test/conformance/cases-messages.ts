/** Cases of the message lane (docs/protocol.md §9) and of what a mailbox node answers (§10.2): the suite is client and next hop. */
import { lowOrder } from './cases-handshake.ts';
import { type Bytes, bytes, concat, equal, random } from './codec.ts';
import { type Case, type Context, check, flipped, spread } from './context.ts';
import type { TestLink } from './peer.ts';
import {
  AT,
  anyHops,
  type Block,
  Command,
  lioness,
  MESSAGE,
  type MessageHop,
  makePacket,
  makeReplyBlock,
  type OpenedPacket,
  openPacket,
  PACKET,
  padded,
} from './sphinx.ts';

const full = 'Full' as const;
const TOO_LONG_MS = 600_001;
const DELAY_MS = 60;

type Run = (context: Context, near: TestLink) => Promise<void>;

const targetHop = ({ peer: { target } }: Context): MessageHop => target;
const ownHop = ({ node: { keys } }: Context): MessageHop => ({ ...keys, mixX25519: keys.mix.publicKey });

const send = (near: TestLink, packet: Uint8Array): void => near.peer.send(near.messageCell(packet));

/** The next packet that the suite's node gets. */
async function arrives(context: Context): Promise<OpenedPacket> {
  const packet = await context.node.nextPacket();
  check(packet !== undefined, 'no packet came to the next hop');
  check(packet.length === PACKET, `a packet of ${packet.length} bytes`);
  const opened = openPacket(ownHop(context), context.node.keys.mix, packet);
  check(opened !== undefined, 'a packet came that does not open');
  return opened;
}

/** A packet for the suite's node by way of the target. */
const through = (context: Context, message: Uint8Array, blocks: readonly Block[] = [{}, {}]): Bytes =>
  makePacket([targetHop(context), ownHop(context)], message, blocks);

/** Sends cells of which nothing may come through, and then one that must. */
async function notPassedOn(context: Context, near: TestLink, cells: readonly Uint8Array[]): Promise<void> {
  for (const cell of cells) near.peer.send(cell);
  const message = random(MESSAGE);
  send(near, through(context, message));
  check(equal((await arrives(context)).delta, padded(message)), 'it was passed on');
}

function laneCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, section: string, rule: string, run: Run) =>
    cases.push({
      id: `message.${id}`,
      section,
      level: full,
      rule,
      run: async (context) => {
        const near = await context.newLink();
        await run(context, near);
        near.close();
      },
    });
  const dropped = (id: string, section: string, rule: string, packet: (context: Context) => Uint8Array) =>
    of(id, section, rule, (context, near) => notPassedOn(context, near, [near.messageCell(packet(context))]));

  of('passed', '9.5', 'a packet loses a layer and goes on', async (context, near) => {
    const message = random(MESSAGE);
    send(near, through(context, message));
    const { delta, command, next } = await arrives(context);
    check(equal(delta, padded(message)), 'another message');
    check(command === Command.deliver && equal(next, bytes(32)), 'another block');
  });
  for (const hops of [3, 7]) {
    of(`passed.${hops}`, '9.3', 'paths have up to seven hops', async (context, near) => {
      const rest = anyHops(hops - 2, context.peer.target.epoch);
      const path = [targetHop(context), ownHop(context), ...rest];
      const blocks = path.map((_, i) => ({ delayMs: i === 1 ? 77 : 0 }));
      send(near, makePacket(path, random(10), blocks));
      const { next, delayMs, command, zeros } = await arrives(context);
      check(equal(next, rest[0]!.nodeId), 'another next hop');
      check(delayMs === 77 && command === Command.forward && equal(zeros, bytes(3)), 'another block');
    });
  }
  of('delay', '9.5', 'a packet waits for its delay', async (context, near) => {
    const startedMs = performance.now();
    send(near, through(context, random(8), [{ delayMs: DELAY_MS }, {}]));
    await arrives(context);
    check(performance.now() - startedMs >= DELAY_MS, 'it did not');
  });
  of('replayed', '9.5', 'a packet is taken once', async (context, near) => {
    const packet = through(context, random(8));
    send(near, packet);
    await arrives(context);
    await notPassedOn(context, near, [near.messageCell(packet)]);
  });
  of('replayed.link', '9.5', 'a packet is taken once, whatever link it comes over', async (context, near) => {
    const packet = through(context, random(8));
    const other = await context.newLink();
    send(other, packet);
    await arrives(context);
    other.close();
    await notPassedOn(context, near, [near.messageCell(packet)]);
  });
  of('replayed.payload', '9.6', 'a header is taken once, whatever its payload', async (context, near) => {
    const packet = through(context, random(8));
    send(near, packet);
    await arrives(context);
    const other = concat(packet.subarray(0, AT.delta), random(PACKET - AT.delta));
    await notPassedOn(context, near, [near.messageCell(other)]);
  });
  for (const [part, from, to, count] of [
    ['alpha', AT.alpha, AT.beta - 1, 3],
    ['beta', AT.beta, AT.gamma, 8],
    ['gamma', AT.gamma, AT.delta, 3],
  ] as const) {
    for (const at of spread(from, to, count)) {
      dropped(`altered.${part}.${at - from}`, '9.5', 'every bit of a header is under γ', (context) =>
        flipped(through(context, random(8)), at),
      );
    }
  }
  dropped('altered.alpha.top', '9.2', 'another encoding of the same point gives other keys', (context) =>
    flipped(through(context, random(8)), AT.beta - 1, 7),
  );
  for (const at of spread(AT.delta, PACKET, 3)) {
    of(`altered.delta.${at}`, '9.4', 'a changed bit destroys all of a payload', async (context, near) => {
      const message = random(MESSAGE);
      send(near, flipped(through(context, message), at));
      const { delta } = await arrives(context);
      const same = [...padded(message)].filter((byte, i) => byte === delta[i]).length;
      // One in 256, by chance: three, and hardly ever 30.
      check(same < 30, `${same} bytes are as they were`);
    });
  }
  for (const [i, point] of lowOrder.entries()) {
    dropped(`loworder.${i}`, '9.2', 'α of low order is dropped', (context) =>
      concat(point, through(context, random(8)).subarray(32)),
    );
  }
  for (const at of [0, 1, 2]) {
    dropped(`zeros.${at}`, '9.3', 'zeros of a block are checked', (context) =>
      through(context, random(8), [{ zeros: flipped(bytes(3), at, 0) }, {}]),
    );
  }
  for (const command of [4, 128, 255]) {
    dropped(`command.${command}`, '9.3', 'a command that is not known is dropped', (context) =>
      through(context, random(8), [{ command }, {}]),
    );
  }
  dropped('delay.long', '9.3', 'delays have 600 000 ms at most', (context) =>
    through(context, random(8), [{ delayMs: TOO_LONG_MS }, {}]),
  );
  dropped('next.unknown', '9.5', 'a packet for a node that the view does not know is dropped', (context) =>
    through(context, random(8), [{ next: random(32) }, {}]),
  );
  dropped('node', '9.2', 'a packet for another node opens nowhere', (context) =>
    makePacket([{ ...targetHop(context), nodeId: random(32) }, ownHop(context)], random(8)),
  );
  dropped('epoch', '9.2', "a packet for another epoch's key opens nowhere", (context) =>
    makePacket([{ ...targetHop(context), epoch: context.peer.target.epoch + 1 }, ownHop(context)], random(8)),
  );
  dropped('drop', '9.3', 'cover is thrown away', (context) =>
    makePacket([targetHop(context)], random(8), [{ command: Command.drop }]),
  );

  const cell = (id: string, rule: string, spoil: (context: Context, near: TestLink) => Uint8Array) =>
    of(`cell.${id}`, '9.1', rule, (context, near) => notPassedOn(context, near, [spoil(context, near)]));
  for (const at of [24, 40, 700, 1279]) {
    cell(`altered.${at}`, 'the tag of a cell of the lane is checked', (context, near) =>
      flipped(near.messageCell(through(context, random(8))), at),
    );
  }
  for (const type of [0, 1, 3, 0x44]) {
    cell(`type.${type}`, 'cells of the lane have type 4', (context, near) =>
      near.messageCell(through(context, random(8)), { type }),
    );
  }
  cell('path', 'cells of the lane have path id 0', (context, near) =>
    near.messageCell(through(context, random(8)), { path: 1 }),
  );
  cell('cid', 'each direction has a reserved message CID of its own', (context, near) =>
    near.messageCell(through(context, random(8)), { cid: near.keys.in.messageCid }),
  );
  of('cell.counter', '9.1', 'a counter is taken once', async (context, near) => {
    near.peer.send(near.messageCell(through(context, random(8)), { counter: 900 }));
    await arrives(context);
    await notPassedOn(context, near, [near.messageCell(through(context, random(8)), { counter: 900 })]);
  });
  of('cell.direction', '9.1', "packets go from a link's initiator to its responder only", async (context, near) => {
    send(near, through(context, random(8)));
    await arrives(context);
    const far = await context.node.link();
    far.peer.send(far.messageCell(through(context, random(8))));
    check((await far.ping()) !== undefined, 'the link died of it');
    await notPassedOn(context, near, []);
  });
  return cases;
}

/** What a mailbox node does with the payload of a packet that ends there. */
function mailboxCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) =>
    cases.push({
      id: `mailbox.${id}`,
      section: '10.2',
      level: full,
      rule,
      run: async (context) => {
        const near = await context.newLink();
        await run(context, near);
        near.close();
      },
    });
  const SEALED_ANSWER = 279;
  const deliver = (context: Context, near: TestLink, payload: Uint8Array) =>
    send(near, makePacket([targetHop(context)], payload));
  /** What came back over a reply block that ends at the suite's node. */
  const comesBack = async (context: Context, replyId: Uint8Array, key: Uint8Array): Promise<Bytes> => {
    const packet = await context.node.nextPacket();
    check(packet !== undefined, 'there was no answer');
    const opened = openPacket(ownHop(context), context.node.keys.mix, packet);
    check(opened !== undefined, 'an answer that does not open');
    check(opened.command === Command.reply && equal(opened.next.subarray(0, 16), replyId), 'another reply block');
    const plain = lioness(key, packet.subarray(AT.delta), true);
    check(equal(plain.subarray(0, 16), bytes(16)), 'the zeros are not there');
    return plain.slice(16);
  };
  const back = (context: Context, replyId: Uint8Array) => makeReplyBlock(ownHop(context), replyId);

  for (const part of [0, 1]) {
    of(`fetch.unknown.${part}`, 'keys of a mailbox that is not there: part 255', async (context, near) => {
      const replyId = random(16);
      const { block, key } = back(context, replyId);
      deliver(context, near, concat(Uint8Array.of(2), random(32), Uint8Array.of(part), block));
      const answer = await comesBack(context, replyId, key);
      check(answer[0] === 255, `part ${answer[0]}`);
    });
  }
  of('forward', 'forward: the sealed answer goes over the reply block as it is', async (context, near) => {
    const [replyId, answer] = [random(16), random(SEALED_ANSWER)];
    const { block, key } = back(context, replyId);
    deliver(context, near, concat(Uint8Array.of(3), block, answer));
    const came = await comesBack(context, replyId, key);
    check(equal(came, concat(answer, bytes(MESSAGE - SEALED_ANSWER))), 'something else came');
  });
  const dropped = (id: string, rule: string, payload: (block: Uint8Array) => Uint8Array) =>
    of(id, rule, async (context, near) => {
      deliver(context, near, payload(back(context, random(16)).block));
      const replyId = random(16);
      const { block, key } = back(context, replyId);
      deliver(context, near, concat(Uint8Array.of(3), block, random(SEALED_ANSWER)));
      await comesBack(context, replyId, key);
    });
  for (const type of [0, 4, 255]) {
    dropped(`type.${type}`, 'payloads of another type are dropped', (block) =>
      concat(Uint8Array.of(type), random(32), bytes(1), block),
    );
  }
  dropped('fetch.part', 'a bundle has parts 0 and 1', (block) =>
    concat(Uint8Array.of(2), random(32), Uint8Array.of(2), block),
  );
  dropped('deliver.unknown', 'a packet for a mailbox that is not there is dropped', () =>
    concat(Uint8Array.of(1), random(32), random(751)),
  );
  of('check', 'a payload whose 16 zeros are not there is dropped', async (context, near) => {
    const { block } = back(context, random(16));
    const packet = makePacket([targetHop(context)], concat(Uint8Array.of(3), block, random(SEALED_ANSWER)));
    send(near, flipped(packet, AT.delta + 300));
    const replyId = random(16);
    const second = back(context, replyId);
    deliver(context, near, concat(Uint8Array.of(3), second.block, random(SEALED_ANSWER)));
    await comesBack(context, replyId, second.key);
  });
  return cases;
}

export const messageCases = (): Case[] => [...laneCases(), ...mailboxCases()];
