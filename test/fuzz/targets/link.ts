/** core/link: handshake datagrams and control cells, both also behind their MAC or AEAD, from a peer that has the keys. */

import { writeIndexNonce } from '@nyx/core/crypto/key-schedule.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { type NodeContact, Via } from '@nyx/core/engine/contract.ts';
import type { EmitDatagram, LinkHost } from '@nyx/core/link/contract.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import { HandshakeDatagram, HandshakeType, handshakeKeys } from '@nyx/core/link/handshake-datagram.ts';
import { unmaskHeader } from '@nyx/core/link/header-mask.ts';
import { defaultLinkOptions, Link } from '@nyx/core/link/link.ts';
import type { LinkKeys } from '@nyx/core/link/link-keys.ts';
import {
  CellBuffer,
  CellType,
  COUNTER_OFFSET,
  DATAGRAM_BYTES,
  HEADER_OFFSET,
  readCounter,
  TYPE_OFFSET,
  writeCounter,
} from '@nyx/core/wire/datagram.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';
import { fixedBytes, suite } from './suite.ts';

const peerAddress = { address: '192.0.2.1', port: 4000 };
const knownDrop = (drop: Drop): boolean => drop >= Drop.none && drop <= Drop.closed;

/** Keeps the links' promises in view: ids announced once, one close, nothing after it. */
class Host implements LinkHost {
  readonly ids = new Map<number, Link>();
  readonly closed = new Set<Link>();
  messages = 0;
  #nextId = 1;
  onMessage(link: Link, _type: number, body: Uint8Array): void {
    check(!this.closed.has(link), 'no message of a closed link');
    check(body.length <= 16_384, 'a message is at most 16 KiB');
    this.messages++;
  }
  onUp(link: Link): void {
    check(!this.closed.has(link), 'no closed link comes up');
  }
  onRekeyed(): void {}
  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    for (const id of added) {
      check(!this.ids.has(id), 'an id is given once');
      this.ids.set(id, link);
    }
    for (const id of removed) check(this.ids.delete(id), 'an id is taken back once');
    check(this.ids.size < 100, 'few ids');
  }
  onClosed(link: Link): void {
    check(!this.closed.has(link), 'a link closes once');
    this.closed.add(link);
    for (const owner of this.ids.values()) check(owner !== link, 'a closed link has no ids');
  }
  newLinkId(): number {
    return this.#nextId++;
  }
}

const linkKeys = (): LinkKeys => {
  const direction = (name: string) => ({
    hp: fixedBytes(`${name} hp`, 32),
    control: fixedBytes(`${name} control`, 32),
    cid: fixedBytes(`${name} cid`, 12),
    message: fixedBytes(`${name} message`, 32),
    messageCid: fixedBytes(`${name} message cid`, 12),
  });
  return {
    initiatorToResponder: direction('forward'),
    responderToInitiator: direction('backward'),
    rekeySecret: fixedBytes('rekey secret', 32),
    transcript: fixedBytes('transcript', 32),
  };
};

const newCell = (): CellBuffer => new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);

/**
 * A list of control cells, sealed with the link's real key: `op ‖ …`, op & 3 = 0 a raw plaintext, 1 the next segment of
 * the byte stream, 2 a segment from elsewhere, 3 time or the counter. The first byte's lowest bit says who we are.
 */
function playControl(input: Uint8Array): void {
  const tape = new Tape(input);
  const initiator = (tape.byte() & 1) === 1;
  const host = new Host();
  const link = new Link(
    { initiator, nodeId: undefined, address: peerAddress, via: Via.listen, options: defaultLinkOptions },
    { suite, random: createSeededRandom('fuzz link'), host },
  );
  let nowMs = 1000;
  link.install({ keys: linkKeys(), localId: host.newLinkId(), peerLinkId: 77 }, nowMs);
  const [localId] = link.localIds;
  const keys = linkKeys();
  const direction = initiator ? keys.responderToInitiator : keys.initiatorToResponder;
  link.send(1, new Uint8Array(3000));
  const cell = newCell();
  const nonce = new Uint8Array(12);
  let counter = 0;
  let nextSeq = 0;

  const receive = (plaintext: Uint8Array): void => {
    cell.bytes.fill(0);
    cell.header.set(direction.cid);
    writeCounter(cell.bytes, COUNTER_OFFSET, counter);
    cell.bytes[TYPE_OFFSET] = CellType.control;
    cell.ct.set(plaintext.subarray(0, cell.ct.length));
    writeIndexNonce(nonce, counter++);
    suite.aeadSeal(cell.ct, cell.tag, cell.ct, Uint8Array.of(CellType.control, 0), nonce, direction.control);
    check(
      link.isControl(cell, localId!) || link.state === 'closed' || !link.localIds.includes(localId!),
      'has the control CID',
    );
    check(knownDrop(link.handleControl(localId!, cell, nowMs)), 'a drop reason of the closed set');
  };
  const segment = (seq: number, data: Uint8Array): void => {
    const plaintext = new Uint8Array(1240);
    const view = new DataView(plaintext.buffer);
    plaintext[0] = 1;
    view.setUint32(1, seq);
    view.setUint16(5, data.length);
    plaintext.set(data, 21);
    receive(plaintext);
  };

  for (let steps = 0; tape.left > 0 && steps < 96; steps++) {
    const op = tape.byte();
    if ((op & 3) === 0) receive(tape.take(op >> 2 === 63 ? 1240 : op >> 2));
    else if ((op & 3) === 1) segment(nextSeq++, tape.take(Math.min(1216, op >> 2 === 63 ? tape.uint16() : op >> 2)));
    else if ((op & 3) === 2) segment((nextSeq + tape.byte() - 64) >>> 0, tape.take(op >> 2));
    else if (op >> 2 < 32) nowMs += (op >> 2) * 100;
    else counter += (op >> 2) - 32;
    link.handleTimeout(nowMs);
    for (let i = 0; i < 256 && link.pollControl(cell, nowMs); i++) check(i < 255, 'polling ends');
    check(link.memoryBytes <= 2 * 1024 * 1024, `the link holds ${link.memoryBytes} bytes`);
    check(!Number.isNaN(link.nextTimeoutMs()), 'the next time-out is a time');
    if (host.closed.has(link)) check(link.state === 'closed' && !link.wantsSend(nowMs), 'a closed link is silent');
  }
  link.wipe();
}

const HOME = peerAddress;
const places = [HOME, { address: '198.51.100.1', port: 1 }, { address: '198.51.100.2', port: 2 }];
const CHALLENGE = 16;
const RESPONSE = 32;

/**
 * A link that moves (docs/protocol.md §2.5): control cells sealed with the link's real key, each from one of three places.
 * First byte: its lowest bit, who we are. Then steps by op & 7, from places[op >> 6]: 0 a raw plaintext; 1 flags and a made-up
 * token; 2 the token of a challenge that was sent, repeated from there; 3 SPARE_ID; 4 a ping under the id of op & 8 ? our
 * spare : usual; 5 time; 6 a cell seen before, from there; 7 initiator: our address changes.
 */
function playMoves(input: Uint8Array): void {
  const tape = new Tape(input);
  const initiator = (tape.byte() & 1) === 1;
  const host = new Host();
  const link = new Link(
    { initiator, nodeId: undefined, moves: true, address: HOME, via: Via.listen, options: defaultLinkOptions },
    { suite, random: createSeededRandom('fuzz moves'), host },
  );
  let nowMs = 1000;
  link.install({ keys: linkKeys(), localId: host.newLinkId(), peerLinkId: 77 }, nowMs);
  const keys = linkKeys();
  const [direction, ours] = initiator
    ? [keys.responderToInitiator, keys.initiatorToResponder]
    : [keys.initiatorToResponder, keys.responderToInitiator];
  const cell = newCell();
  const nonce = new Uint8Array(12);
  const sent: Uint8Array[] = [];
  /** By place, bytes: what came from there, and what challenges went there. */
  const came = places.map(() => 0);
  const went = places.map(() => 0);
  /** Tokens that went to each place. */
  const tokens: Uint8Array[][] = places.map(() => []);
  let counter = 0;
  let nextSeq = 0;

  const deliver = (datagram: Uint8Array, place: number, linkId: number): void => {
    cell.bytes.set(datagram);
    came[place]! += DATAGRAM_BYTES;
    const before = link.address;
    const drop = link.handleControl(linkId, cell, nowMs, places[place], Via.listen);
    check(knownDrop(drop), 'a drop reason of the closed set');
    if (link.address !== before) {
      check(!initiator, 'only an initiator moves, so only a responder sees the other end elsewhere');
      check(link.address.address === places[place]!.address, 'it is where the proof came from');
    }
  };
  const receive = (flags: number, data: Uint8Array, place: number, linkId: number): void => {
    const plaintext = new Uint8Array(1240);
    plaintext[0] = flags;
    if ((flags & 1) !== 0) {
      new DataView(plaintext.buffer).setUint32(1, nextSeq++);
      plaintext[6] = data.length;
    }
    plaintext.set(data.subarray(0, 1219), 21);
    seal(plaintext, place, linkId);
  };
  const seal = (plaintext: Uint8Array, place: number, linkId: number): void => {
    cell.bytes.fill(0);
    cell.header.set(direction.cid);
    writeCounter(cell.bytes, COUNTER_OFFSET, counter);
    cell.bytes[TYPE_OFFSET] = CellType.control;
    cell.ct.set(plaintext.subarray(0, cell.ct.length));
    writeIndexNonce(nonce, counter++);
    suite.aeadSeal(cell.ct, cell.tag, cell.ct, Uint8Array.of(CellType.control, 0), nonce, direction.control);
    const datagram = cell.bytes.slice();
    if (sent.length < 16) sent.push(datagram);
    deliver(datagram, place, linkId);
  };
  /** What a challenge says that is in `cell`: under the first keys alone, which is what this peer has. */
  const tokenIn = (): Uint8Array | undefined => {
    const opened = cell.bytes.slice();
    const copy = new CellBuffer(opened.buffer, 0);
    unmaskHeader(suite, ours.hp, copy);
    writeIndexNonce(nonce, readCounter(copy.bytes, COUNTER_OFFSET));
    const ad = Uint8Array.of(CellType.control, 0);
    if (!suite.aeadOpen(copy.ct, copy.tag, copy.ct, ad, nonce, ours.control)) return undefined;
    check(copy.ct[0] === CHALLENGE, 'a challenge says nothing else');
    return copy.ct.slice(21, 29);
  };

  for (let steps = 0; tape.left > 0 && steps < 96 && !host.closed.has(link); steps++) {
    const op = tape.byte();
    const place = (op >> 6) % places.length;
    const id = link.localIds[(op & 8) === 0 ? 0 : link.localIds.length - 1] ?? 0;
    switch (op & 7) {
      case 0:
        seal(tape.take(tape.byte()), place, id);
        break;
      case 1:
        receive((op & 16) === 0 ? CHALLENGE : RESPONSE, tape.take(8), place, id);
        break;
      case 2: {
        const known = tokens[tape.byte() % places.length]!;
        receive(RESPONSE, known.at(-1) ?? new Uint8Array(8), place, id);
        break;
      }
      case 3:
        receive(1, Uint8Array.of(8, 0, 0, 4, ...tape.take(4)), place, id);
        break;
      case 4:
        receive(2, new Uint8Array(0), place, id);
        break;
      case 5:
        nowMs += ((op >> 3) & 7) ** 4;
        break;
      case 6:
        if (sent.length > 0) deliver(sent[tape.byte() % sent.length]!.slice(), place, id);
        break;
      default:
        link.migrate(nowMs);
    }
    link.handleTimeout(nowMs);
    for (let i = 0; i < 64; i++) {
      const to = link.pollChallenge(cell, nowMs);
      if (to === undefined) break;
      check(!initiator, 'only a responder asks where the other end is');
      const at = places.findIndex(({ address }) => address === to.address.address);
      went[at]! += DATAGRAM_BYTES;
      check(went[at]! <= 3 * came[at]!, 'three times what came from there at most');
      const token = tokenIn();
      if (token !== undefined) tokens[at]!.push(token);
    }
    for (let i = 0; i < 256 && link.pollControl(cell, nowMs); i++) check(i < 255, 'polling ends');
    check(link.localIds.length <= 12, 'few ids');
    check(link.memoryBytes <= 2 * 1024 * 1024, `the link holds ${link.memoryBytes} bytes`);
    check(!Number.isNaN(link.nextTimeoutMs()), 'the next time-out is a time');
  }
  link.wipe();
}

export const linkMoves: FuzzTarget = {
  name: 'link-moves',
  dictionary: [
    Uint8Array.of(0x44),
    Uint8Array.of(0x42, 1),
    Uint8Array.of(0x4c),
    Uint8Array.of(0x6d),
    Uint8Array.of(8, 0, 0, 4),
  ],
  maxBytes: 2048,
  executions: 400,
  seeds: () => [
    // A responder: a ping from home, a spare id, then a ping from elsewhere, its challenge answered from there.
    Uint8Array.of(0, 0x04, 0x03, 1, 2, 3, 4, 0x44, 0x42, 1, 0x44, 0x04),
    // Answered from a third place, and a token made up.
    Uint8Array.of(0, 0x04, 0x44, 0x82, 1, 0x51, 1, 2, 3, 4, 5, 6, 7, 8),
    // Copies of old cells from elsewhere, with time between.
    Uint8Array.of(0, 0x04, 0x04, 0x46, 0, 0x46, 1, 0x2d, 0x86, 1, 0x3d, 0x84),
    // Under the spare id, from elsewhere; twice.
    Uint8Array.of(0, 0x04, 0x03, 9, 9, 9, 9, 0x4c, 0x4a, 1, 0x3d, 0x8c, 0x8a, 2),
    // An initiator: moves, is challenged, and is sent spare ids.
    Uint8Array.of(1, 0x04, 0x03, 5, 5, 5, 5, 0x07, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 0x07),
    Uint8Array.of(1, 0x03, 0, 0, 0, 0, 0x00, 40, 0x30, 0, 0, 0, 0, 0, 0),
  ],
  run: playMoves,
};

const message = (type: number, length: number): number[] => [type, 0, length >> 8, length & 255];

export const linkControl: FuzzTarget = {
  name: 'link-control',
  dictionary: [
    Uint8Array.of(1),
    Uint8Array.of(7),
    Uint8Array.of(0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(4, 0, 4, 0xc4),
    Uint8Array.of(6, 0, 0, 1),
  ],
  maxBytes: 4096,
  executions: 600,
  seeds: () => [
    Uint8Array.of(0, 0x21, ...message(2, 4), 1, 2, 3, 4, 0x08, 2, 0),
    Uint8Array.of(1, 0xfd, 4, 0xc0, ...message(5, 1124), ...fixedBytes('response', 1124)),
    Uint8Array.of(
      0,
      0xfd,
      4,
      0xc0,
      ...message(4, 1220),
      ...fixedBytes('rekey', 1220).subarray(0, 1212),
      0x21,
      ...fixedBytes('end', 8),
    ),
    Uint8Array.of(0, 0x15, ...message(6, 1), 0, 0x83),
    Uint8Array.of(
      0,
      0x12,
      65,
      9,
      9,
      9,
      9,
      0x12,
      66,
      9,
      9,
      9,
      9,
      0x11,
      9,
      9,
      9,
      9,
      0xff,
      0x54,
      4,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      3,
      ...new Uint8Array(10),
    ),
  ],
  run: playControl,
};

const identity = (name: string) => ({
  nodeId: fixedBytes(`${name} id`, 32),
  linkX25519Secret: fixedBytes(`${name} dh`, 32),
  linkKemSeed: fixedBytes(`${name} kem`, 64),
});
const responderIdentity = identity('responder');
const responderContact: NodeContact = {
  nodeId: responderIdentity.nodeId,
  addresses: [peerAddress],
  linkX25519: suite.x25519(responderIdentity.linkX25519Secret).publicKey,
  linkKem: suite.mlkem768(responderIdentity.linkKemSeed).publicKey,
  mixKeys: [],
};
const ourContact: NodeContact = (() => {
  const ours = identity('initiator');
  return {
    nodeId: ours.nodeId,
    addresses: [peerAddress],
    linkX25519: suite.x25519(ours.linkX25519Secret).publicKey,
    linkKem: suite.mlkem768(ours.linkKemSeed).publicKey,
    mixKeys: [],
  };
})();

const handshakes = (name: string, named: boolean, host: Host): LinkHandshakes =>
  new LinkHandshakes(
    { identity: identity(name), named, accept: true, unixMs: () => 1_800_000_000_000, resolve: () => ourContact },
    { suite, random: createSeededRandom(`fuzz ${name} ${named}`), host },
  );

/** Real inits of a named and an anonymous initiator, datagram by datagram. */
const inits: Uint8Array[] = [true, false].flatMap((named) => {
  const node = handshakes('initiator', named, new Host());
  node.connect(responderContact, 0);
  const sent: Uint8Array[] = [];
  node.poll(0, (_via, _to, datagram) => void sent.push(datagram.slice()));
  return sent;
});
const initKeys = handshakeKeys(suite, responderContact.linkX25519);

/**
 * Steps `op ‖ …`: op & 7 = 0 a raw datagram; 1…3 one of the real init's datagrams, its header and some bytes of its
 * fragment changed, under a right mac1; 4 a fragment made up, under a right mac1; 5 time; 6 an initiator of our own gets
 * what was answered, changed; 7 the same unchanged.
 */
function playHandshake(input: Uint8Array): void {
  const tape = new Tape(input);
  const host = new Host();
  const responder = handshakes('responder', true, host);
  const answers: Uint8Array[] = [];
  const emit: EmitDatagram = (_via, _to, datagram) => {
    check(datagram.length === DATAGRAM_BYTES, 'answers have 1280 bytes');
    answers.push(datagram.slice());
  };
  const frame = new HandshakeDatagram();
  let nowMs = 1000;
  const patch = (bytes: Uint8Array): void => {
    for (let n = tape.byte() & 7; n > 0; n--) bytes[tape.uint16() % bytes.length]! ^= tape.byte();
  };
  const receive = (datagram: Uint8Array): void => {
    const before = answers.length;
    const from = { address: '192.0.2.9', port: 1 + (tape.byte() & 1) };
    check(
      knownDrop(responder.handleDatagram(datagram, from, Via.listen, nowMs, emit)),
      'a drop reason of the closed set',
    );
    check(answers.length <= before + 1, 'a datagram is answered by one at most');
  };
  for (let steps = 0; tape.left > 0 && steps < 48; steps++) {
    const op = tape.byte();
    if ((op & 7) === 0) {
      const datagram = new Uint8Array(DATAGRAM_BYTES);
      datagram.set(tape.take(DATAGRAM_BYTES - 4), 4);
      receive(datagram);
    } else if ((op & 7) <= 3) {
      check(frame.open(suite, initKeys, inits[(op >> 3) % inits.length]!), 'the template opens');
      if ((op & 7) === 2) patch(frame.header.subarray(0, 12));
      if ((op & 7) === 3) patch(frame.fragment);
      frame.seal(suite, initKeys);
      receive(frame.bytes);
    } else if ((op & 7) === 4) {
      frame.bytes.fill(0);
      frame.writeHeader(HandshakeType.init, tape.byte(), tape.byte(), tape.take(8));
      frame.bytes[HEADER_OFFSET] = op >> 6 === 3 ? tape.byte() : HandshakeType.init;
      frame.fragment.set(tape.take(op));
      frame.seal(suite, initKeys);
      receive(frame.bytes);
    } else if ((op & 7) === 5) {
      nowMs += (op >> 3) * 400;
      responder.poll(nowMs, emit);
    } else initiate((op & 7) === 6 ? patch : undefined, receive);
    check(responder.memoryBytes <= 4 * 1024 * 1024, `handshakes hold ${responder.memoryBytes} bytes`);
    check(responder.unconfirmed <= 512, 'bounded unconfirmed links');
  }
  responder.wipe();

  /** Only once each: it costs several public-key operations. */
  function initiate(change: ((bytes: Uint8Array) => void) | undefined, deliver: (datagram: Uint8Array) => void): void {
    if (answers.length > 8) return;
    const ours = new Host();
    const initiator = handshakes('initiator', false, ours);
    const link = initiator.connect(responderContact, nowMs);
    const sent: Uint8Array[] = [];
    initiator.poll(nowMs, (_via, _to, datagram) => void sent.push(datagram.slice()));
    const from = answers.length;
    for (const datagram of sent) deliver(datagram);
    for (const answer of answers.slice(from)) {
      change?.(answer);
      if (link.state === 'handshaking') check(knownDrop(link.handleHandshake(answer, nowMs)), 'a known drop reason');
    }
    initiator.poll(nowMs + 6000, () => {});
    check(link.state === 'up' || link.state === 'closed', 'up, or given up in time');
    link.wipe();
    initiator.wipe();
  }
}

export const linkHandshake: FuzzTarget = {
  name: 'link-handshake',
  dictionary: [
    Uint8Array.of(1),
    Uint8Array.of(0x09),
    Uint8Array.of(0x11),
    Uint8Array.of(0x19),
    Uint8Array.of(2, 1, 0, 0, 1),
  ],
  maxBytes: 2048,
  executions: 250,
  seeds: () => [
    Uint8Array.of(0x01, 0, 0x09, 0),
    Uint8Array.of(0x11, 0, 0x19, 0, 0x19, 0, 0x11, 1),
    Uint8Array.of(0x0a, 1, 0, 2, 9, 0, 0x0b, 1, 4, 1, 1, 0),
    Uint8Array.of(0x44, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, ...fixedBytes('fragment', 60), 0xfd, 0x09, 0),
    Uint8Array.of(0x07, 0),
    Uint8Array.of(0x06, 0, 0, 2, 1, 0, 9, 0, 60, 7, 0, 0),
    Uint8Array.of(0x00, ...fixedBytes('raw', 200)),
  ],
  run: playHandshake,
};
