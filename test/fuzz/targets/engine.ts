/**
 * A whole engine, exit and relay in one, that a hostile peer talks to over a real link: set-ups, cells of a real circuit
 * with made-up payloads, junk, and datagrams changed on the wire.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { type CircuitClass, type EngineHost, type NodeContact, Via } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import type { LinkHost } from '@nyx/core/link/contract.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import type { Link } from '@nyx/core/link/link.ts';
import { smallRecords, testMix } from '@nyx/core/mix/batch-testing.ts';
import { type CheckJob, judge } from '@nyx/core/mix/batch-work.ts';
import { signPledge } from '@nyx/core/mix/circuit-pledge.ts';
import { ClientOnion } from '@nyx/core/onion/client-onion.ts';
import { buildTrain } from '@nyx/core/onion/setup-train.ts';
import { createPacket, MESSAGE_BYTES, PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import {
  BATCH_DATAGRAMS,
  CellBuffer,
  CellType,
  COUNTER_OFFSET,
  DATAGRAM_BYTES,
  LayeredCell,
  PAYLOAD_BYTES,
  readLinkId,
  TYPE_OFFSET,
  writeCounter,
} from '@nyx/core/wire/datagram.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';
import { fixedBytes, suite } from './suite.ts';
import { frameDictionary, framePayloads } from './wire.ts';

const records = smallRecords(suite);
const engineAddress = { address: '192.0.2.1', port: 4000 };
const peerAddress = { address: '192.0.2.2', port: 4000 };
const mix = { epoch: 7, x25519Secret: fixedBytes('engine mix dh', 32), kemSeed: fixedBytes('engine mix kem', 64) };
const secrets = {
  nodeId: fixedBytes('engine id', 32),
  linkX25519Secret: fixedBytes('engine link dh', 32),
  linkKemSeed: fixedBytes('engine link kem', 64),
  mix: [mix],
};
const contact: NodeContact = {
  nodeId: secrets.nodeId,
  addresses: [engineAddress],
  linkX25519: suite.x25519(secrets.linkX25519Secret).publicKey,
  linkKem: suite.mlkem768(secrets.linkKemSeed).publicKey,
  mixKeys: [{ epoch: 7, x25519: suite.x25519(mix.x25519Secret).publicKey, kem: suite.mlkem768(mix.kemSeed).publicKey }],
};
const unix = 1_800_000_000;
const trainOf = (circuitClass: CircuitClass) =>
  buildTrain(suite, createSeededRandom('fuzz engine train'), [contact], {
    class: circuitClass,
    delayMeanUs: 0,
    expiry: unix + 3600,
  });

const classes = ['fast', 'mix', 'cmix', 'fast'] as const;

/** The engine under test and the hostile peer, joined by a wire without delay. */
class Pair implements LinkHost {
  nowMs = 1000;
  readonly engine: Engine;
  readonly link: Link;
  /** Datagrams that the peer sent, to be changed and sent again. */
  readonly sent: Uint8Array[] = [];
  sessions = 0;
  readonly #handshakes: LinkHandshakes;
  readonly #ids = new Map<number, Link>();
  readonly #checks: [number, CheckJob][] = [];
  readonly #pledges: [number, Uint8Array][] = [];
  readonly #towardsPeer: Uint8Array[] = [];
  readonly #cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  #nextId = 1;

  constructor() {
    const host: EngineHost = {
      send: (_via, to, batch, length, release) => {
        check(
          length > 0 && length % DATAGRAM_BYTES === 0 && length <= BATCH_DATAGRAMS * DATAGRAM_BYTES,
          'whole datagrams',
        );
        for (let at = 0; at < length && to.address === peerAddress.address; at += DATAGRAM_BYTES) {
          this.#towardsPeer.push(batch.slice(at, at + DATAGRAM_BYTES));
        }
        release();
      },
      resolve: () => undefined,
      onLink() {},
      onCircuit() {},
      // What neighbours say of batches is checked at once, in a small group.
      cmix: {
        statementBytes: records.statementBytes,
        rules: () => [{ cells: 4, delayMs: 100 }],
        prove() {},
        check: (id, job) => void this.#checks.push([id, job]),
        pledge: (id, fields) =>
          void this.#pledges.push([id, signPledge(batch.signer.certificate, batch.signer.key, fields)]),
        cheated: () => check(false, 'nobody has cheated who can be shown to'),
        suspected() {},
        exchanged: () => check(false, 'no circuit of ours is there'),
      },
      onMessagePacket: (event) => {
        const bytes = event.kind === 'message' ? MESSAGE_BYTES : MESSAGE_BYTES + 16;
        check(event.payload.length === bytes, 'a packet brings as many bytes as all do');
      },
      onIncomingSession: () => {
        this.sessions++;
        return {
          onStream: (stream: SessionStream) => {
            stream.connected(4, '192.0.2.7', 80);
            stream.onReadable = () => void stream.write(new Uint8Array(stream.read(new Uint8Array(4096))));
          },
          onClose() {},
        };
      },
      onIncomingSessionEnd: () => {
        this.sessions--;
        check(this.sessions >= 0, 'a session ends once');
      },
      onWake() {},
      unixSeconds: () => unix,
    };
    const limits = { maxLinks: 16, maxCircuits: 16, memoryBytes: 16 * 1024 * 1024 };
    this.engine = new Engine(
      {
        secrets,
        relay: true,
        exit: true,
        named: true,
        ...limits,
        session: {},
        cmix: { maxWaitMs: 100 },
      },
      { suite, random: createSeededRandom('fuzz engine'), host },
    );
    const identity = {
      nodeId: fixedBytes('peer', 32),
      linkX25519Secret: fixedBytes('peer dh', 32),
      linkKemSeed: fixedBytes('peer kem', 64),
    };
    this.#handshakes = new LinkHandshakes(
      { identity, named: false, accept: false, unixMs: () => unix * 1000 },
      { suite, random: createSeededRandom('fuzz peer'), host: this },
    );
    this.link = this.#handshakes.connect(contact, this.nowMs);
    for (let i = 0; i < 4; i++) this.exchange();
    check(this.link.state === 'up', 'the link is up');
  }

  /** Towards the engine. */
  deliver(buffer: Uint8Array, from = peerAddress): void {
    this.engine.handleDatagrams(buffer, Via.listen, from, this.nowMs);
  }

  /** What both have to say, once in each direction. */
  exchange(): void {
    this.#handshakes.poll(this.nowMs, (_via, _to, datagram) => this.#send(datagram));
    this.link.handleTimeout(this.nowMs);
    for (let i = 0; i < 64 && this.link.pollControl(this.#cell, this.nowMs); i++) this.#send(this.#cell.bytes);
    this.engine.flush(this.nowMs);
    for (const datagram of this.#towardsPeer.splice(0)) this.#receive(datagram);
    for (const [id, slot] of this.#pledges.splice(0)) this.engine.pledged(id, slot, this.nowMs);
    for (const [id, job] of this.#checks.splice(0)) this.engine.checked(id, judge(records, job), this.nowMs);
  }

  /** A cell on the link with this header and body. */
  sendCell(write: (cell: CellBuffer) => void): void {
    if (this.link.state !== 'up') return;
    this.#cell.bytes.fill(0);
    write(this.#cell);
    this.link.finish(this.#cell);
    this.#send(this.#cell.bytes);
  }

  onMessage(): void {}
  onUp(): void {}
  onRekeyed(): void {}
  onClosed(): void {}
  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    for (const id of added) this.#ids.set(id, link);
    for (const id of removed) this.#ids.delete(id);
  }
  newLinkId(): number {
    return this.#nextId++;
  }

  #send(bytes: Uint8Array): void {
    const datagram = bytes.slice();
    if (this.sent.length < 32) this.sent.push(datagram);
    this.deliver(datagram.slice());
  }

  #receive(datagram: Uint8Array): void {
    const id = readLinkId(datagram);
    const link = this.#ids.get(id);
    if (link === undefined) return;
    if (link.state === 'handshaking') {
      link.handleHandshake(datagram, this.nowMs);
      return;
    }
    this.#cell.bytes.set(datagram);
    link.unmask(id, this.#cell);
    if (link.isControl(this.#cell, id)) link.handleControl(id, this.#cell, this.nowMs);
  }
}

const packet = new Uint8Array(PACKET_BYTES);
createPacket(
  suite,
  createSeededRandom('fuzz engine packet'),
  [{ nodeId: secrets.nodeId, mixX25519: contact.mixKeys[0]!.x25519, epoch: 7, delayMs: 20 }],
  fixedBytes('message', 99),
  packet,
);
const batch = testMix(suite, 'engine');
const receipt = records.encodeReceipt(batch.signer.certificate, batch.signer.key, 1, fixedBytes('tag', 8), [
  fixedBytes('digest', 32),
]);
const forwardCid = fixedBytes('forward cid', 12);
const backwardCid = fixedBytes('backward cid', 12);

/**
 * Steps `op ‖ …` by op & 7: 0 a control message with this type and body; 1 a real SETUP of any class, some bytes changed; 2 a cell of
 * the circuit with this payload; 3 a cell with this header and body, or from 0xe0 on a packet of the message lane; 4 one of the datagrams sent before, changed, from
 * here or elsewhere; 5 a buffer of any length; 6 time; 7 a DESTROY.
 */
function play(input: Uint8Array): void {
  const tape = new Tape(input);
  const pair = new Pair();
  const { engine, link } = pair;
  let built = trainOf('fast');
  let onion = new ClientOnion(suite, built.secrets, built.routes);
  const scratch = new LayeredCell();
  for (let steps = 0; tape.left > 0 && steps < 40; steps++) {
    const op = tape.byte();
    switch (op & 7) {
      case 0:
        link.send(tape.byte(), tape.take(op >> 3 === 31 ? tape.uint16() & 0x3fff : op >> 3));
        break;
      case 1: {
        const circuitClass = classes[(op >> 3) & 3]!;
        if (circuitClass !== 'fast') {
          built = trainOf(circuitClass);
          onion = new ClientOnion(suite, built.secrets, built.routes);
        }
        const body = new Uint8Array(32 + built.train.length);
        body.set(forwardCid);
        body.set(backwardCid, 12);
        body.set(built.train, 32);
        for (let n = op >> 6; n > 0; n--) body[tape.uint16() % body.length]! ^= tape.byte();
        link.send(1, body);
        break;
      }
      case 2: {
        const index = onion.allocateIndex();
        const payload = scratch.layerPayloads[0]!;
        payload.fill(0);
        payload.set(tape.take(Math.min(PAYLOAD_BYTES, op >> 3 === 31 ? tape.uint16() & 0x7ff : (op >> 3) * 4)));
        const type = op >> 3 === 30 ? tape.byte() : CellType.data;
        onion.sealForward(index, type, 0, scratch);
        pair.sendCell((cell) => {
          cell.cell.set(scratch.cell);
          cell.header.set(forwardCid);
          writeCounter(cell.bytes, COUNTER_OFFSET, onion.forwardCounter(index));
          cell.bytes[TYPE_OFFSET] = type;
        });
        break;
      }
      case 3:
        pair.sendCell((cell) => {
          if (op >= 0xe0) {
            // A packet of the message lane: a real one, with some bytes changed.
            cell.ct.set(packet);
            for (let n = (op >> 3) & 3; n > 0; n--) cell.ct[tape.uint16() % cell.ct.length]! ^= tape.byte();
            cell.bytes[TYPE_OFFSET] = CellType.message;
            return;
          }
          cell.header.set((op & 8) === 0 ? forwardCid : backwardCid);
          cell.header.set(tape.take(op >> 4), 12 - ((op >> 4) % 8));
          cell.cell.set(tape.take(40));
        });
        break;
      case 4: {
        const datagram =
          pair.sent[(op >> 3) % Math.max(1, pair.sent.length)]?.slice() ?? new Uint8Array(DATAGRAM_BYTES);
        for (let n = tape.byte() & 7; n > 0; n--) datagram[tape.uint16() % DATAGRAM_BYTES]! ^= tape.byte();
        pair.deliver(datagram, (op & 0x80) === 0 ? peerAddress : { address: '198.51.100.9', port: 9 });
        break;
      }
      case 5: {
        const glued = new Uint8Array(
          (op >> 3 === 31 ? tape.uint16() : op >> 3) * ((op & 8) === 0 ? DATAGRAM_BYTES : 1),
        );
        glued.set(tape.take(Math.min(64, glued.length)));
        pair.deliver(glued.subarray(0, 60 * DATAGRAM_BYTES));
        break;
      }
      case 6:
        pair.nowMs += (op >> 3) ** 3;
        break;
      default:
        link.send(2, ((op & 8) === 0 ? forwardCid : backwardCid).slice(), Uint8Array.of((op >> 4) & 3, op >> 5));
    }
    pair.exchange();
    check(
      engine.bufferedBytes >= 0 && engine.bufferedBytes <= 32 * 1024 * 1024,
      `buffers hold ${engine.bufferedBytes} bytes`,
    );
    check(engine.links().length <= 17 && engine.relayCircuits <= 16, 'limits hold');
    check(!Number.isNaN(engine.nextTimeoutMs()), 'the next time-out is a time');
  }
  engine.shutdown(pair.nowMs);
  pair.exchange();
  check(pair.sessions === 0, 'a shut down engine has no sessions');
}

function seeds(): Uint8Array[] {
  const cells = framePayloads().map((payload) => [0xfa, payload.length >> 8, payload.length & 255, ...payload]);
  return [
    Uint8Array.from([0x01, 0x0e, ...cells.slice(0, 8).flat()]),
    Uint8Array.from([0x01, ...cells[1]!, ...cells[0]!, 0x2e, 0x17, ...cells[7]!]),
    ...cells.map((cell) => Uint8Array.from([0x01, ...cell, 0x1e, ...cell])),
    Uint8Array.from([0x41, 0, 40, 1, 0x81, 0, 3, 9, 0, 50, 7, 0x1e]),
    Uint8Array.from([0x01, 0x04, 1, 0, 5, 1, 0x8c, 0, 0x0d, 1, 0x15, 2, 3, 0x03, 0x53, 1, 2, 3, 4, 5]),
    Uint8Array.from([0x20, 1, 1, 2, 3, 4, 0x28, 2, 1, 2, 3, 4, 5, 0x08, 6, 0, 0xf6]),
    Uint8Array.from([0x01, 0x01, 0x07, 0x0f, 0xfe, 0xfe]),
    // The message lane: the same packet twice, and a changed one.
    Uint8Array.from([0xe3, 0xe3, 0x1e, 0xeb, 0, 3, 1, 0x1e]),
    // COVER, SPARE_ID, BATCH: a receipt, and what was heard.
    Uint8Array.from([0x20, 7, 0, 0, 39, 16, 0x20, 8, 1, 2, 3, 4, 0x46, 0x20, 7, 0, 0, 0, 1]),
    Uint8Array.from([0x09, ...cells[0]!, 0x4e, 0x1e]),
    Uint8Array.from([
      0x11,
      ...cells[0]!,
      ...cells[1]!,
      0x4e,
      0xf8,
      9,
      (1 + receipt.length) >> 8,
      (1 + receipt.length) & 255,
      1,
      ...receipt,
      0x1e,
    ]),
    Uint8Array.from([0xf8, 9, 0, 73, 3, ...fixedBytes('heard', 72), 0x28, 9, 4, 1, 2, 3, 4, 0x28, 9, 5, 78, 89, 88]),
  ];
}

export const enginePeer: FuzzTarget = {
  name: 'engine',
  dictionary: [...frameDictionary, forwardCid, backwardCid, Uint8Array.of(0x01), Uint8Array.of(0xfa, 0, 40)],
  maxBytes: 4096,
  executions: 150,
  seeds,
  run: play,
};
