/**
 * A whole engine as a client, whose only hop is hostile: it has the link's and the circuit's keys, and answers set-ups with
 * what it likes: made-up key messages and payloads, refusals with puzzles, cells of wrong kinds, an end at any moment.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { type EngineHost, type NodeContact, type SessionOwner, Via } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import { decodeSetup } from '@nyx/core/engine/messages.ts';
import type { LinkHost } from '@nyx/core/link/contract.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import type { Link } from '@nyx/core/link/link.ts';
import { lastHopReply } from '@nyx/core/onion/fresh-exchange.ts';
import { LastHop } from '@nyx/core/onion/last-hop.ts';
import { MixKeyRing, processTrain } from '@nyx/core/onion/setup-train.ts';
import {
  CellBuffer,
  CellType,
  COUNTER_OFFSET,
  DATAGRAM_BYTES,
  PAYLOAD_BYTES,
  readLinkId,
  TYPE_OFFSET,
  writeCounter,
} from '@nyx/core/wire/datagram.ts';
import { Frame, writeAck, writeCryptoHeader, writeOpaqueFrame } from '@nyx/core/wire/frames.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';
import { fixedBytes, suite } from './suite.ts';
import { frameDictionary, framePayloads } from './wire.ts';

const nodeAddress = { address: '192.0.2.1', port: 4000 };
const clientAddress = { address: '192.0.2.2', port: 4000 };
const unix = 1_800_000_000;
const secretsOf = (name: string) => ({
  nodeId: fixedBytes(`${name} id`, 32),
  linkX25519Secret: fixedBytes(`${name} link dh`, 32),
  linkKemSeed: fixedBytes(`${name} link kem`, 64),
});
const mix = { epoch: 7, x25519Secret: fixedBytes('hop mix dh', 32), kemSeed: fixedBytes('hop mix kem', 64) };
const hopSecrets = secretsOf('hop');
const contact: NodeContact = {
  nodeId: hopSecrets.nodeId,
  addresses: [nodeAddress],
  linkX25519: suite.x25519(hopSecrets.linkX25519Secret).publicKey,
  linkKem: suite.mlkem768(hopSecrets.linkKemSeed).publicKey,
  mixKeys: [{ epoch: 7, x25519: suite.x25519(mix.x25519Secret).publicKey, kem: suite.mlkem768(mix.kemSeed).publicKey }],
};
const KEYS = 2;

/** A circuit as the hop knows it. */
interface Leg {
  readonly backwardCid: Uint8Array;
  readonly forwardCid: Uint8Array;
  readonly hop: LastHop;
  readonly keys: Uint8Array;
  /** Cells of it that have come. */
  cells: number;
}

class Pair implements LinkHost {
  nowMs = 1000;
  readonly engine: Engine;
  readonly legs: Leg[] = [];
  link: Link | undefined;
  ended = 0;
  readonly #random = createSeededRandom('fuzz hop');
  readonly #handshakes: LinkHandshakes;
  readonly #ring = new MixKeyRing(suite, contact.nodeId, [mix]);
  readonly #ids = new Map<number, Link>();
  readonly #towardsHop: Uint8Array[] = [];
  readonly #cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  #nextId = 1;

  constructor() {
    const host: EngineHost = {
      send: (_via, to, batch, length, release) => {
        check(to.address === nodeAddress.address, 'a client speaks to its first hop alone');
        check(length % DATAGRAM_BYTES === 0, 'whole datagrams');
        for (let at = 0; at < length; at += DATAGRAM_BYTES) this.#towardsHop.push(batch.slice(at, at + DATAGRAM_BYTES));
        release();
      },
      resolve: () => contact,
      onLink() {},
      onCircuit: (event) => {
        if (event.kind === 'ended') this.ended++;
      },
      onIncomingSession: () => {
        throw new Error('invariant: a client serves nobody');
      },
      onIncomingSessionEnd() {},
      onWake() {},
      unixSeconds: () => unix,
    };
    const limits = { maxLinks: 4, maxCircuits: 8, memoryBytes: 16 * 1024 * 1024 };
    this.engine = new Engine(
      {
        secrets: { ...secretsOf('client'), mix: [] },
        relay: false,
        exit: false,
        named: false,
        ...limits,
        session: {},
        minHops: 1,
      },
      { suite, random: createSeededRandom('fuzz client'), host },
    );
    this.#handshakes = new LinkHandshakes(
      { identity: hopSecrets, named: true, accept: true, unixMs: () => unix * 1000 },
      { suite, random: this.#random, host: this },
    );
  }

  exchange(): void {
    this.engine.flush(this.nowMs);
    for (const datagram of this.#towardsHop.splice(0)) this.#receive(datagram);
    this.#handshakes.poll(this.nowMs, (_via, _to, datagram) => this.deliver(datagram));
    this.link?.handleTimeout(this.nowMs);
    for (let i = 0; i < 64 && this.link?.pollControl(this.#cell, this.nowMs) === true; i++)
      this.deliver(this.#cell.bytes);
  }

  deliver(datagram: Uint8Array): void {
    this.engine.handleDatagrams(datagram.slice(), Via.dial, nodeAddress, this.nowMs);
  }

  /** A backward cell, sealed as the last hop seals it; `type` as its header says. */
  sendPayload(leg: Leg, payload: Uint8Array, type: number = CellType.data): void {
    if (this.link?.state !== 'up') return;
    const cell = this.#cell;
    cell.bytes.fill(0);
    cell.payload.set(payload.subarray(0, PAYLOAD_BYTES));
    const index = leg.hop.allocateIndex();
    leg.hop.sealBackward(type, 0, cell, index);
    this.#finish(leg.backwardCid, leg.hop.counterFor(index), type);
  }

  /** A cell that is not sealed for anybody. */
  sendRaw(cid: Uint8Array, counter: number, type: number, body: Uint8Array): void {
    if (this.link?.state !== 'up') return;
    this.#cell.bytes.fill(0);
    this.#cell.cell.set(body);
    this.#finish(cid, counter, type);
  }

  #finish(cid: Uint8Array, counter: number, type: number): void {
    const cell = this.#cell;
    cell.header.set(cid);
    writeCounter(cell.bytes, COUNTER_OFFSET, counter);
    cell.bytes[TYPE_OFFSET] = type;
    this.link!.finish(cell);
    this.deliver(cell.bytes);
  }

  #receive(datagram: Uint8Array): void {
    const id = readLinkId(datagram);
    if (id === 0) {
      this.#handshakes.handleDatagram(datagram, clientAddress, Via.listen, this.nowMs, (_via, _to, answer) =>
        this.deliver(answer),
      );
      return;
    }
    const link = this.#ids.get(id);
    if (link === undefined) return;
    const cell = this.#cell;
    cell.bytes.set(datagram);
    link.unmask(id, cell);
    if (link.isControl(cell, id)) link.handleControl(id, cell, this.nowMs);
    else {
      const leg = this.legs.find(({ forwardCid }) => Buffer.compare(forwardCid, cell.header.subarray(0, 12)) === 0);
      if (leg !== undefined) leg.cells++;
    }
  }

  onMessage(_link: Link, type: number, body: Uint8Array): void {
    const setup = type === 1 ? decodeSetup(body.slice()) : undefined;
    if (setup === undefined) return;
    const result = processTrain(suite, this.#ring, setup.train);
    check(result.drop === 0 && result.clientFresh !== undefined, 'a client makes trains that open');
    const reply = lastHopReply(suite, this.#random, result.clientFresh);
    check(reply !== undefined, 'a client sends keys that are keys');
    const hop = new LastHop(suite, result.secrets, result.route);
    const cid = (at: number) => body.slice(at, at + 12);
    this.legs.push({ forwardCid: cid(0), backwardCid: cid(12), hop, keys: reply.message, cells: 0 });
  }

  onUp(): void {}
  onRekeyed(): void {}
  onClosed(): void {}
  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    for (const id of added) {
      this.#ids.set(id, link);
      this.link = link;
    }
    for (const id of removed) this.#ids.delete(id);
  }
  newLinkId(): number {
    return this.#nextId++;
  }
}

const keysPayload = (keys: Uint8Array): Uint8Array => {
  const payload = new Uint8Array(PAYLOAD_BYTES);
  const at = writeCryptoHeader(payload, 0, 0, 3 + keys.length);
  payload.set([KEYS, keys.length >> 8, keys.length & 255], at);
  payload.set(keys, at + 3);
  return payload;
};

/**
 * Steps by op & 7 on circuit op >> 5: 0 a control message with this type and body; 1 the right KEYS, or with op & 8 some
 * bytes changed; 2 a payload; 3 an ACK of all that came, and the answer to a challenge; 4 SETUP_REFUSED; 5 DESTROY; 6 time,
 * or with op & 8 another circuit for the session; 7 a cell that is none.
 */
function play(input: Uint8Array): void {
  const tape = new Tape(input);
  const pair = new Pair();
  const { engine } = pair;
  let closes = 0;
  const owner: SessionOwner = { onClose: () => check(++closes === 1, 'a session closes once'), onDetached() {} };
  const options = { hops: [contact], class: 'fast', delayMeanUs: 0, expiry: unix + 3600 } as const;
  const { session } = engine.buildCircuit(options, owner, pair.nowMs);
  const stream = session.openStream({ kind: 'tcp', host: 'a.example', port: 80 });
  stream?.write(new Uint8Array(2500));
  for (let i = 0; i < 4; i++) pair.exchange();
  check(pair.legs.length === 1, 'the set-up came');
  for (let steps = 0; tape.left > 0 && steps < 40; steps++) {
    const op = tape.byte();
    const leg = pair.legs[(op >> 5) % pair.legs.length]!;
    switch (op & 7) {
      case 0:
        pair.link?.send(tape.byte(), tape.take(op >> 3 === 31 ? tape.uint16() & 0x3fff : op >> 3));
        break;
      case 1: {
        const payload = keysPayload(leg.keys);
        for (let n = (op & 8) === 0 ? 0 : 3; n > 0; n--) payload[tape.uint16() % PAYLOAD_BYTES]! ^= tape.byte();
        pair.sendPayload(leg, payload);
        break;
      }
      case 2:
        pair.sendPayload(leg, tape.take((op & 8) === 0 ? tape.byte() : tape.uint16() & 0x7ff));
        break;
      case 3: {
        const payload = new Uint8Array(PAYLOAD_BYTES);
        const at = writeOpaqueFrame(payload, 0, Frame.pathResponse, tape.uint16(), tape.uint16());
        if (leg.cells > 0) writeAck(payload, at, 100, 0, { count: 1, startAt: () => 0, endAt: () => leg.cells });
        pair.sendPayload(leg, payload);
        break;
      }
      case 4: {
        const refuser = (op & 8) === 0 ? contact.nodeId : fixedBytes('another', 32);
        const body = [
          leg.backwardCid,
          Uint8Array.of(tape.byte()),
          refuser,
          Uint8Array.of(tape.byte()),
          fixedBytes('puzzle', 16),
        ];
        pair.link?.send(3, ...body);
        break;
      }
      case 5:
        pair.link?.send(
          2,
          (op & 8) === 0 ? leg.backwardCid : leg.forwardCid,
          Uint8Array.of((op >> 4) & 1, tape.byte()),
        );
        break;
      case 6:
        if ((op & 8) === 0) pair.nowMs += (op >> 4) ** 4;
        else if (pair.legs.length < 6) engine.attachCircuit(session, options, pair.nowMs);
        break;
      default:
        pair.sendRaw(leg.backwardCid, tape.uint16(), tape.byte(), tape.take(op >> 3));
    }
    stream?.read(new Uint8Array(4096));
    pair.exchange();
    check(engine.links().length <= 4, 'limits hold');
    check(engine.bufferedBytes >= 0 && engine.bufferedBytes <= 32 * 1024 * 1024, 'buffers are bounded');
    check(!Number.isNaN(engine.nextTimeoutMs()), 'the next time-out is a time');
  }
  engine.shutdown(pair.nowMs);
  pair.exchange();
  // One that has lost its last circuit waits for its owner, who may have another.
  check(session.closed || session.stats.paths.length === 0, 'a shut down engine has no circuits');
  session.abandon(0x2b, 'over');
  check(closes === 1 && session.stats.streams === 0, 'an abandoned session is over');
}

function seeds(): Uint8Array[] {
  const payloads = framePayloads().map((payload) => [0x0a, payload.length >> 8, payload.length & 255, ...payload]);
  const ready = [0x01, 0x03, 1, 2, 3, 4];
  return [
    Uint8Array.from([...ready, ...payloads.flat()]),
    ...payloads.map((payload) => Uint8Array.from([...ready, ...payload, 0x36, ...payload])),
    Uint8Array.from([0x09, 0, 5, 1, 0, 9, 2, 1, 200, 3]),
    Uint8Array.from([0x04, 3, 0, 0x96]),
    Uint8Array.from([0x04, 4, 12, 0x96, 0x24, 4, 255]),
    Uint8Array.from([...ready, 0x05, 0, 0xf6, 0xf6]),
    Uint8Array.from([...ready, 0x0e, 0x21, 0x23, 0, 0, 0, 0, 0x05, 7, 0x22, 9, 0x33, 1, 1, 1, 1, 1, 1, 1, 1]),
    Uint8Array.from([0x2f, 0, 1, 0, 1, 2, 3, 4, 5, 0x01, 0x37, 0, 0, 0x40, 1, 2, 3, 4, 5, 6]),
    Uint8Array.from([...ready, 0x28, 6, 1, 1, 1, 1, 1, 0xf6]),
  ];
}

export const engineClient: FuzzTarget = {
  name: 'engine-client',
  dictionary: [...frameDictionary, Uint8Array.of(0x01), Uint8Array.of(0x0a, 0, 40), Uint8Array.of(0x0e, 0x21)],
  maxBytes: 4096,
  executions: 80,
  seeds,
  run: play,
};
