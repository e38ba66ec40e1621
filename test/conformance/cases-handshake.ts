/** Cases of handshake datagrams and of the exchange in them (docs/protocol.md §1, §2.1, §2.2). */
import {
  bytes,
  concat,
  equal,
  FRAGMENT,
  HandshakeType,
  handshakeDatagram,
  handshakeHeader,
  type Identity,
  INIT,
  makeInit,
  newDh,
  openCookie,
  openResponse,
  random,
  readHandshake,
} from './codec.ts';
import { type Case, type Context, check, flipped, sleep, spread } from './context.ts';
import { attempt, Peer, TestLink } from './peer.ts';

const core = 'Core' as const;
const noLink = bytes(4);

/** The points of small order on Curve25519 (RFC 7748 §6.1), and their representatives that are not canonical. */
export const lowOrder = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
].map((hex) => new Uint8Array(Buffer.from(hex, 'hex')));

function datagramCases(): Case[] {
  const lengths = [1, 3, 4, 20, 24, 56, 640, 1256, 1276, 1279, 1281, 1400, 2560 - 1];
  const cases: Case[] = lengths.map((length) => ({
    id: `datagram.length.${length}`,
    section: '1',
    level: core,
    rule: 'every datagram has 1280 bytes: others are not answered',
    run: async (context) => {
      const made = attempt(context.peer);
      const cut = made.datagrams.map((datagram) => concat(datagram, random(1280)).subarray(0, length));
      await context.refused(cut, made.id);
    },
  }));
  // An init's two datagrams; everything but mac2 is under mac1.
  const places = [
    ...spread(0, 4, 4).map((at) => ['linkid', at] as const),
    ...spread(4, 24, 20).map((at) => ['header', at] as const),
    ...spread(24, 40, 16).map((at) => ['mac1', at] as const),
    ...spread(56, 1280, 20).map((at) => ['fragment', at] as const),
  ];
  for (const index of [0, 1]) {
    for (const [part, at] of places) {
      cases.push({
        id: `handshake.altered.${index}.${part}.${at}`,
        section: '2.1',
        level: core,
        rule: 'mac1 covers link id, header and fragment: an altered datagram is not taken',
        run: async (context) => {
          const made = attempt(context.peer);
          const datagrams = made.datagrams.map((datagram, i) => (i === index ? flipped(datagram, at) : datagram));
          for (const datagram of datagrams) context.peer.send(datagram);
          await context.fence();
          check(context.peer.count(made.id) === 0, 'it was answered');
          // Nor has it taken the good one's place.
          await context.answered({ ...made, datagrams: [made.datagrams[index]!, made.datagrams[index]!] });
          context.peer.forget(made.id);
        },
      });
    }
  }
  return cases;
}

/** Well made datagrams whose header says something that it must not. */
function headerCases(): Case[] {
  type Change = (header: Uint8Array) => void;
  const changes: [string, string, Change][] = [
    ...[0, 2, 3, 4, 127, 255].map((value): [string, string, Change] => [
      `type.${value}`,
      'a responder takes type 1 alone',
      (header) => {
        header[0] = value;
      },
    ]),
    ...[2, 3, 8, 31, 32, 33, 255].map((value): [string, string, Change] => [
      `index.${value}`,
      'a fragment index is below the count',
      (header) => {
        if (header[1] === 1) header[1] = value;
      },
    ]),
    ...[0, 1, 3, 4, 255].map((value): [string, string, Change] => [
      `count.${value}`,
      'an init has two fragments',
      (header) => {
        header[2] = value;
      },
    ]),
    ...[3, 12, 13, 14, 15, 16, 17, 18, 19].map((at): [string, string, Change] => [
      `reserved.${at}`,
      'reserved bytes of the header are zero',
      (header) => {
        header[at] = 1;
      },
    ]),
  ];
  return changes.map(([name, rule, change]) => ({
    id: `handshake.header.${name}`,
    section: '2.1',
    level: core,
    rule,
    run: async (context) => {
      const { peer } = context;
      const made = attempt(peer);
      const padded = concat(made.init.message, random(2 * FRAGMENT - INIT.end));
      const datagrams = [0, 1].map((index) => {
        const header = handshakeHeader(HandshakeType.init, index, 2, made.handshakeId);
        change(header);
        const fragment = padded.subarray(index * FRAGMENT, (index + 1) * FRAGMENT);
        return handshakeDatagram(peer.target.linkX25519, noLink, header, fragment);
      });
      await context.refused(datagrams, made.id);
    },
  }));
}

/** Inits that are well made as datagrams, with something wrong inside. */
function initCases(): Case[] {
  const cases: Case[] = [];
  const bad = (name: string, rule: string, message: (context: Context, id: Uint8Array) => Uint8Array) =>
    cases.push({
      id: `init.${name}`,
      section: '2.2',
      level: core,
      rule,
      run: async (context) => {
        await context.pace();
        const id = context.peer.newId();
        const datagrams = context.peer.fragments(message(context, id), concat(id, random(4)));
        await context.refused(datagrams, id);
      },
    });
  const regions: [string, number, number, number][] = [
    ['e', INIT.e, INIT.cts, 8],
    ['cts', INIT.cts, INIT.kem, 12],
    ['kem', INIT.kem, INIT.tag, 12],
    ['tag', INIT.tag, INIT.identity, 16],
    ['identity', INIT.identity, INIT.end, 26],
  ];
  for (const [part, from, to, count] of regions) {
    for (const at of spread(from, to, count)) {
      bad(`altered.${part}.${at - from}`, 'the tag covers every byte of an init', (context, id) =>
        // The top bit of an X25519 key is not looked at by the curve, but it is by the transcript.
        flipped(makeInit(context.peer.target, { linkId: id }).message, at),
      );
    }
  }
  const identity = (name: string, rule: string, fields: (id: Uint8Array) => Identity) =>
    bad(name, rule, (context, id) => makeInit(context.peer.target, fields(id)).message);
  for (const version of [0, 2, 3, 255]) {
    identity(`version.${version}`, 'a version that is not known is not answered', (linkId) => ({ linkId, version }));
  }
  for (const flags of [2, 3, 4, 128, 255]) {
    identity(`flags.${flags}`, 'flags other than "named" are zero', (linkId) => ({ linkId, flags }));
  }
  identity('linkid.other', "an init's link id is the first half of its handshake id", () => ({ linkId: random(4) }));
  identity('linkid.zero', 'no link is ever given id 0', () => ({ linkId: bytes(4) }));
  for (const [i, point] of lowOrder.entries()) {
    bad(`loworder.e.${i}`, 'an ephemeral key of small order is no key', (context, id) => {
      const { message } = makeInit(context.peer.target, { linkId: id });
      message.set(point);
      return message;
    });
    identity(`loworder.s.${i}`, 'a static key of small order is no key', (linkId) => ({
      linkId,
      flags: 1,
      timestampMs: Date.now(),
      nodeId: random(32),
      staticPublic: point,
    }));
  }
  return cases;
}

/** What a good init is answered with, field by field. */
function responseCases(): Case[] {
  type Answer = Awaited<ReturnType<Context['answered']>>;
  const cases: Case[] = [];
  const of = (
    name: string,
    section: string,
    rule: string,
    holds: (answer: Answer, id: Uint8Array, handshakeId: Uint8Array) => boolean,
  ) =>
    cases.push({
      id: `response.${name}`,
      section,
      level: core,
      rule,
      run: async (context) => {
        const made = attempt(context.peer);
        const answer = await context.answered(made);
        check(holds(answer, made.id, made.handshakeId), `header ${Buffer.from(answer.header).toString('hex')}`);
      },
    });
  of('linkid', '2.1', "answers come under the initiator's link id", ({ linkId }, id) => equal(linkId, id));
  of('mac1', '2.1', "mac1 of an answer is made with the initiator's ephemeral key", ({ mac1Ok }) => mac1Ok);
  of('mac2', '2.1', 'mac2 of an answer is zeros', ({ mac2 }) => mac2.every((byte) => byte === 0));
  of('type', '2.1', 'a response has type 2', ({ header }) => header[0] === 2);
  of('index', '2.1', 'a response is one fragment, index 0', ({ header }) => header[1] === 0);
  of('count', '2.1', 'a response is one fragment of one', ({ header }) => header[2] === 1);
  of(
    'reserved',
    '2.1',
    'reserved bytes are zero',
    ({ header }) => header[3] === 0 && header.subarray(12).every((byte) => byte === 0),
  );
  of('handshakeid', '2.1', 'an answer repeats the handshake id', ({ header }, _id, handshakeId) =>
    equal(header.subarray(4, 12), handshakeId),
  );
  const opened = (
    name: string,
    rule: string,
    named: boolean,
    holds: (response: NonNullable<ReturnType<typeof openResponse>>) => boolean,
  ) =>
    cases.push({
      id: `response.${name}`,
      section: '2.2',
      level: core,
      rule,
      run: async (context) => {
        const made = attempt(context.peer, named ? newDh() : undefined);
        const answer = await context.answered(made);
        const response = openResponse(made.init, answer.fragment);
        check(response !== undefined, 'its AEAD does not open');
        check(holds(response), `version ${response.version}, status ${response.status}`);
      },
    });
  opened('opens.anonymous', 'DH(e_i, e_r) and the KEM secret are mixed for an anonymous initiator', false, () => true);
  opened('opens.named', 'DH(s_i, e_r) is mixed for one that says its name', true, () => true);
  opened('version', 'a response says version 1', false, ({ version }) => version === 1);
  opened('status', 'status 0: accepted', false, ({ status }) => status === 0);
  opened('peerid', 'the responder gives a link id that is not 0', false, ({ peerLinkId }) =>
    peerLinkId.some((byte) => byte !== 0),
  );
  const sequence = (name: string, rule: string, run: (context: Context) => Promise<void>) =>
    cases.push({ id: `handshake.${name}`, section: '2.1', level: core, rule, run });
  sequence('order', 'fragments may come in any order', async (context) => {
    const made = attempt(context.peer);
    await context.answered({ ...made, datagrams: [made.datagrams[1], made.datagrams[0]] });
  });
  sequence('twice', 'a fragment that comes twice does no harm', async (context) => {
    const made = attempt(context.peer);
    context.peer.send(made.datagrams[0]);
    await context.answered(made);
  });
  sequence('half', 'half an init is not answered', async (context) => {
    const made = attempt(context.peer);
    await context.refused([made.datagrams[0], made.datagrams[0]], made.id);
  });
  for (const index of [0, 1] as const) {
    sequence(`repeat.${index}`, 'a fragment of an answered init gets the same response again', async (context) => {
      const made = attempt(context.peer);
      await context.pace();
      for (const datagram of made.datagrams) context.peer.send(datagram);
      const first = await context.peer.next([made.id]);
      context.peer.send(made.datagrams[index]);
      const again = await context.peer.next([made.id]);
      check(first !== undefined && again !== undefined && equal(first, again), 'the responses differ');
    });
  }
  sequence('repeat.one-for-one', 'a fragment is answered with at most one datagram', async (context) => {
    const made = attempt(context.peer);
    await context.answered(made);
    context.peer.send(made.datagrams[0]);
    await context.fence();
    await context.fence();
    check(context.peer.count(made.id) === 1, `${context.peer.count(made.id)} datagrams came`);
  });
  sequence('replay.handshakeid', 'an init under another handshake id is not answered again', async (context) => {
    const made = attempt(context.peer);
    await context.answered(made);
    const other = context.peer.fragments(made.init.message, concat(made.id, random(4)));
    await context.refused(other, made.id);
  });
  sequence('replay.address', 'an init from another address is not answered again', async (context) => {
    const made = attempt(context.peer);
    await context.answered(made);
    const elsewhere = await Peer.open(context.peer.target);
    for (const datagram of made.datagrams) elsewhere.send(datagram);
    // Another socket has no order with ours: its own good init is its fence.
    const fence = attempt(elsewhere);
    for (const datagram of fence.datagrams) elsewhere.send(datagram);
    const answer = await elsewhere.next([fence.id]);
    elsewhere.close();
    check(answer !== undefined, 'nobody there');
    await context.fence();
    check(context.peer.count(made.id) === 0, 'it was answered');
  });
  sequence('mac2.unasked', 'mac2 is not looked at where no cookie was asked for', async (context) => {
    const made = attempt(context.peer);
    const datagrams = context.peer.fragments(made.init.message, made.handshakeId, random(16));
    await context.answered({ ...made, datagrams });
  });
  sequence('up.named', 'a named initiator that the view does not know gets a link all the same', async (context) => {
    await context.pace();
    await TestLink.open(context.peer, newDh());
  });
  return cases;
}

/** Last of all: they leave the target under load for some seconds. */
export function cookieCases(): Case[] {
  const cases: Case[] = [];
  const loaded = async (context: Context): Promise<void> => {
    // Half of a responder's reassembly in use: first fragments alone, each of an init of its own.
    const fragment = attempt(context.peer).init.message.subarray(0, FRAGMENT);
    for (let i = 0; i < 160; i++) {
      const header = handshakeHeader(HandshakeType.init, 0, 2, concat(random(4), random(4)));
      header[4]! |= 1;
      context.peer.send(handshakeDatagram(context.peer.target.linkX25519, noLink, header, fragment));
      if (i % 20 === 19) await sleep(4);
    }
  };
  const of = (name: string, rule: string, run: (context: Context) => Promise<void>) =>
    cases.push({
      id: `cookie.${name}`,
      section: '2.1',
      level: core,
      rule,
      run: async (context) => {
        await loaded(context);
        await run(context);
      },
    });
  const ask = async (context: Context) => {
    const made = attempt(context.peer);
    context.peer.send(made.datagrams[0]);
    const datagram = await context.peer.next([made.id]);
    check(datagram !== undefined, 'no cookie came');
    const reply = readHandshake(made.init.e.publicKey, datagram);
    const mac1 = readHandshake(context.peer.target.linkX25519, made.datagrams[0]).mac1;
    return { made, datagram, reply, cookie: openCookie(made.init.e.publicKey, reply.fragment, mac1) };
  };
  of('type', 'under load an init without a cookie gets type 3', async (context) => {
    const { reply } = await ask(context);
    check(reply.header[0] === 3 && reply.mac1Ok, `type ${reply.header[0]}`);
  });
  of('size', 'a cookie reply has 1280 bytes', async (context) => {
    const { datagram } = await ask(context);
    check(datagram.length === 1280, `${datagram.length} bytes`);
  });
  of('handshakeid', 'a cookie reply repeats the handshake id', async (context) => {
    const { reply, made } = await ask(context);
    check(equal(reply.header.subarray(4, 12), made.handshakeId), 'another handshake id');
  });
  of('opens', 'a cookie is sealed with AD = the mac1 that it answers', async (context) => {
    const { cookie } = await ask(context);
    check(cookie !== undefined, 'it does not open');
  });
  of('accepted', 'an init with mac2 under the cookie is answered', async (context) => {
    const { cookie, made } = await ask(context);
    const answer = await context.answered({
      ...made,
      datagrams: context.peer.fragments(made.init.message, made.handshakeId, cookie),
    });
    check(answer.header[0] === 2, `type ${answer.header[0]}`);
  });
  of('second-fragment', 'only a first fragment is answered with a cookie', async (context) => {
    const made = attempt(context.peer);
    await context.refused([made.datagrams[1]], made.id);
  });
  of('wrong', 'a mac2 under another cookie is none', async (context) => {
    const made = attempt(context.peer);
    const [first] = context.peer.fragments(made.init.message, made.handshakeId, random(16));
    context.peer.send(first);
    const datagram = await context.peer.next([made.id]);
    check(datagram !== undefined && readHandshake(made.init.e.publicKey, datagram).header[0] === 3, 'no cookie reply');
  });
  of('same', 'an address gets the same cookie again', async (context) => {
    const [first, second] = [await ask(context), await ask(context)];
    check(first.cookie !== undefined && equal(first.cookie, second.cookie!), 'cookies differ within a second');
  });
  of('address', "another address's cookie is none", async (context) => {
    const { cookie } = await ask(context);
    const elsewhere = await Peer.open(context.peer.target);
    const made = attempt(elsewhere);
    const [first] = elsewhere.fragments(made.init.message, made.handshakeId, cookie);
    elsewhere.send(first);
    const datagram = await elsewhere.next([made.id]);
    elsewhere.close();
    check(datagram !== undefined && readHandshake(made.init.e.publicKey, datagram).header[0] === 3, 'it was taken');
  });
  return cases;
}

export const handshakeCases = (): Case[] => [...datagramCases(), ...headerCases(), ...initCases(), ...responseCases()];
