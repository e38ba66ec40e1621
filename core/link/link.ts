/**
 * One link: an authenticated session between two adjacent nodes (docs/protocol.md §2).
 *
 * The way of a received cell: `unmask` → `isControl`? `handleControl` : (the engine finds its circuit). The way of a
 * sent one: the owner writes header and body, `finish` masks and addresses it. Control cells come from `pollControl`,
 * to be called until it gives false whenever `wantsSend`.
 */
import { writeIndexNonce } from '../crypto/key-schedule.ts';
import { Drop } from '../drop-reason.ts';
import type { Via } from '../engine/contract.ts';
import type { PeerAddress } from '../ports.ts';
import {
  type CellBuffer,
  CellType,
  CID_BYTES,
  COUNTER_OFFSET,
  DATAGRAM_BYTES,
  HEADER_OFFSET,
  PATH_OFFSET,
  readCounter,
  readLinkId,
  TYPE_OFFSET,
  writeCounter,
  writeLinkId,
} from '../wire/datagram.ts';
import { ReplayWindow } from '../wire/replay-window.ts';
import { AddressValidation, sameAddress, TOKEN_BYTES } from './address-validation.ts';
import {
  type LinkClose,
  type LinkDependencies,
  type LinkEnd,
  LinkMessage,
  type LinkOptions,
  type LinkState,
} from './contract.ts';
import { ControlFields, ControlFlag, DATA_OFFSET } from './control-cell.ts';
import { ControlReceiver } from './control-receiver.ts';
import { ControlSender } from './control-sender.ts';
import { maskHeader, unmaskHeader } from './header-mask.ts';
import type { LinkInitiator } from './initiator.ts';
import { type DirectionKeys, type LinkKeys, wipeDirection } from './link-keys.ts';
import { answerRekey, finishRekey, type RekeyStart, startRekey, wipeRekey } from './rekey.ts';

export const defaultLinkOptions: LinkOptions = {
  rekeyBytes: 2 ** 30,
  rekeyMs: 600_000,
  oldKeysMs: 10_000,
  keepAliveMs: 15_000,
  deadMs: 10_000,
  probeAfterMs: 1000,
  probeGapMs: 100,
  probeMs: 2000,
  maxQueuedBytes: 64 * 10_240,
  confirmMs: 10_000,
};

/**
 * The ack of a complete message waits at most this long for company: sent alone it would wake a peer that is in no
 * hurry for it, in the middle of a set-up.
 */
const maxAckDelayMs = 5;
/** Half of what a sender sends at first before it has to hear something. */
const maxUnacked = 16;
/** An unanswered ping is repeated after this long, then after twice that, and so on. */
const pingGapMs = 1000;
/** The same for the first ping of all, which tells the responder that the link is real. */
const firstPingGapMs = 250;
const maxDrainMs = 1000;
/** Patience with silence, and an accepted link's own keep-alive and patience, in keep-alives: a peer that saves power sends one in 60 s. */
const SILENCE = 8;
const ACCEPTED_KEEP_ALIVE = 6;
const ACCEPTED_SILENCE = 12;
/** Receive ids at once: current, next and two old ones. A peer that wants more is renewing keys too fast. */
const maxReceiveSlots = 4;
/** Pages of the control channel's replay window: at most 65 segments and some acks are under way at a time. */
const windowPages = 2;
/** The same for the message lane: as far as a batch of packets may be overtaken by later ones. */
const messageWindowPages = 16;
const probeRtts = 5;
/** Questions unanswered for so long, or for two round trips: the way to the peer was interrupted. */
const interruptionMs = 250;
/** The initiator's old keys live this long at most, should the peer be slow to switch. */
const maxSwitchMs = 60_000;

/** What it takes to receive under one link id. */
interface ReceiveSlot {
  readonly id: number;
  /** A second id, for when the initiator moves; 0 = none has been given to the peer. */
  spareId: number;
  readonly keys: DirectionKeys;
  readonly window: ReplayWindow;
  /** Of the message lane. */
  readonly messages: ReplayWindow;
  expiresMs: number;
}

/** Keys that the responder has agreed to and the initiator not yet used. */
interface NextKeys {
  readonly slot: ReceiveSlot;
  readonly keys: LinkKeys;
  readonly peerLinkId: number;
}

/** What a handshake gives a link. */
export interface LinkSecrets {
  readonly keys: LinkKeys;
  readonly localId: number;
  readonly peerLinkId: number;
}

export interface LinkInit {
  readonly initiator: boolean;
  readonly nodeId: Uint8Array | undefined;
  readonly address: PeerAddress;
  readonly via: Via;
  readonly options: LinkOptions;
  /** Initiator: its address may change, so that spare ids are exchanged. */
  readonly moves?: boolean;
  /** Called once, when an accepted link's initiator has proved itself, before `onUp`. */
  readonly onConfirmed?: (nowMs: number) => void;
}

export class Link {
  readonly initiator: boolean;
  /** The peer; undefined for an anonymous initiator. 32 bytes. */
  readonly nodeId: Uint8Array | undefined;
  /** Where the peer is, as far as it has been proved. */
  address: PeerAddress;
  via: Via;
  /** Cover cells received. */
  coverIn = 0;
  /** Receive link ids valid now. Only the link writes it. */
  readonly localIds: number[] = [];
  readonly #deps: LinkDependencies;
  readonly #options: LinkOptions;
  readonly #sender: ControlSender;
  readonly #receiver: ControlReceiver;
  readonly #fields = new ControlFields();
  readonly #nonce = new Uint8Array(12);
  readonly #ad = new Uint8Array(2);
  readonly #onConfirmed: ((nowMs: number) => void) | undefined;
  readonly #moves: boolean;
  readonly #validation: AddressValidation;
  /** What the peer wants to hear from where we are now. */
  #answer: Uint8Array | undefined;
  /** What it wanted to hear last time: a question is repeated, a move is not. */
  #answered: Uint8Array = new Uint8Array(TOKEN_BYTES);
  #isAsked = false;
  /** The peer's receive id for the time after a move; 0 = it has given none. */
  #peerSpareId = 0;
  #state: LinkState = 'handshaking';
  #handshake: LinkInitiator | undefined;
  #confirmed = false;
  #keys: LinkKeys | undefined;
  #send: DirectionKeys | undefined;
  #sendCounter = 0;
  #messageCounter = 0;
  #peerLinkId = 0;
  #current: ReceiveSlot | undefined;
  readonly #old: ReceiveSlot[] = [];
  #next: NextKeys | undefined;
  #rekey: RekeyStart | undefined;
  #rekeyAtMs = Number.POSITIVE_INFINITY;
  #bytesSinceRekey = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  #upSinceMs: number | undefined;
  #lastHeardMs = 0;
  #ackDueMs = Number.POSITIVE_INFINITY;
  #ackBaseMs = 0;
  #unacked = 0;
  /** When those are acknowledged at the latest. */
  #ackLatestMs = Number.POSITIVE_INFINITY;
  #ackUrgent = false;
  #pingDueMs = Number.POSITIVE_INFINITY;
  #unansweredPings = 0;
  /** An authentic cell has come. */
  #heardPeer = false;
  /** When the only ping in flight left; undefined when an answer would not tell a round trip. */
  #pingSentMs: number | undefined;
  /** Circuit cells have gone out since the last flush, or since a datagram came. */
  #cellsSent = false;
  /** Since when cells have gone out without anything coming back; Infinity = nothing is owed. */
  #owedSinceMs = Number.POSITIVE_INFINITY;
  #probeDueMs = Number.POSITIVE_INFINITY;
  /** Since when the peer has not answered the question whether it is there; Infinity = it was not asked. */
  #unansweredSinceMs = Number.POSITIVE_INFINITY;
  /** Our address has changed, and the peer has not been heard since. */
  #migrating = false;
  #drainUntilMs = Number.POSITIVE_INFINITY;
  #expiresMs = Number.POSITIVE_INFINITY;
  /** Time of the call being handled, for messages delivered within it. */
  #nowMs = 0;
  /** The id that the initiator was first reached under: names the link at both ends. */
  #firstId = 0;

  constructor(init: LinkInit, deps: LinkDependencies) {
    this.initiator = init.initiator;
    this.nodeId = init.nodeId;
    this.address = init.address;
    this.via = init.via;
    this.#options = init.options;
    this.#deps = deps;
    this.#onConfirmed = init.onConfirmed;
    this.#moves = init.initiator && init.moves === true;
    this.#validation = new AddressValidation(deps.suite, deps.random);
    this.#sender = new ControlSender(init.options.maxQueuedBytes);
    this.#receiver = new ControlReceiver((type, body) => this.#handleMessage(type, body));
  }

  get state(): LinkState {
    return this.#state;
  }

  /** The peer has proved that it holds the link's keys. */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  /** When the peer was heard last. */
  get lastHeardMs(): number {
    return this.#lastHeardMs;
  }

  /** Smoothed round-trip time of the control channel. */
  get rttMs(): number | undefined {
    return this.#sender.rttMs;
  }

  /** Control segments sent, which lossRatio is about. */
  get controlSends(): number {
    return this.#sender.sends;
  }

  /** New keys are being agreed on; the present ones go on meanwhile. */
  get rekeying(): boolean {
    return this.#rekey !== undefined;
  }

  /** Share of our control segments that were lost, 0…1, smoothed. */
  get lossRatio(): number {
    return this.#sender.lossRatio;
  }

  /** Control stream bytes not yet acknowledged. */
  get queuedBytes(): number {
    return this.#sender.queuedBytes;
  }

  /** Memory in control queues, bytes. */
  get memoryBytes(): number {
    let bytes = this.#sender.queuedBytes + this.#receiver.memoryBytes;
    if (this.#current !== undefined) bytes += windowBytes(this.#current);
    for (const slot of this.#old) bytes += windowBytes(slot);
    return bytes;
  }

  get bytesIn(): number {
    return this.#bytesIn;
  }

  get bytesOut(): number {
    return this.#bytesOut;
  }

  get upSinceMs(): number | undefined {
    return this.#upSinceMs;
  }

  /** Unmasks the header of a datagram that came under receive id `linkId`; without keys for it, leaves it as it is. */
  unmask(linkId: number, cell: CellBuffer): void {
    const slot = this.#slot(linkId);
    if (slot !== undefined) unmaskHeader(this.#deps.suite, slot.keys.hp, cell);
  }

  /** Whether an unmasked header has the reserved control CID of the id it came under. */
  isControl(cell: CellBuffer, linkId: number): boolean {
    const slot = this.#slot(linkId);
    if (slot === undefined) return false;
    const cid = slot.keys.cid;
    const header = cell.header;
    for (let i = 0; i < CID_BYTES; i++) if (header[i] !== cid[i]) return false;
    return true;
  }

  /**
   * Opens a control cell in place and handles it; messages it completes go to `host.onMessage`. Anything but
   * `Drop.none` changed nothing, save `badFrame`: an authentic peer broke the protocol, and the link is closed.
   * `from`, `via`: where it came from; without them the link stays where it is.
   */
  handleControl(linkId: number, cell: CellBuffer, nowMs: number, from?: PeerAddress, via?: Via): Drop {
    const slot = this.#slot(linkId);
    if (slot === undefined) return Drop.unknownLink;
    if (this.#state !== 'up' && this.#state !== 'draining') return Drop.closed;
    if (cell.bytes[TYPE_OFFSET] !== CellType.control || cell.bytes[PATH_OFFSET] !== 0) return Drop.badType;
    const counter = readCounter(cell.bytes, COUNTER_OFFSET);
    const seen = slot.window.check(counter);
    if (seen !== Drop.none) return seen;
    this.#ad[0] = cell.bytes[TYPE_OFFSET]!;
    this.#ad[1] = cell.bytes[PATH_OFFSET]!;
    writeIndexNonce(this.#nonce, counter);
    if (!this.#deps.suite.aeadOpen(cell.ct, cell.tag, cell.ct, this.#ad, this.#nonce, slot.keys.control)) {
      return Drop.badTag;
    }
    slot.window.mark(counter);
    const silentMs = nowMs - this.#unansweredSinceMs;
    this.noteReceived(DATAGRAM_BYTES);
    this.#nowMs = nowMs;
    this.#heard(slot, nowMs);
    const drop = this.#handleFields(cell, nowMs, from);
    this.#noteAnswer(silentMs, nowMs);
    if (from !== undefined && via !== undefined) this.noteFrom(linkId, from, via, nowMs);
    return drop;
  }

  /**
   * An authentic datagram that was no repetition came under `linkId` from `from`. True: it is not where the link leads,
   * which will be looked into (pollChallenge). Only initiators move: a responder is where its descriptor says.
   */
  noteFrom(linkId: number, from: PeerAddress, via: Via, nowMs: number): boolean {
    if (this.initiator || this.#state !== 'up' || sameAddress(from, this.address)) return false;
    const slot = this.#slot(linkId);
    if (slot === undefined || !this.#confirmed) return false;
    this.#validation.note(from, via, slot.spareId === linkId, nowMs);
    return true;
  }

  /**
   * Fills one complete outgoing challenge, `finish` included, for an address that the peer seems to have now, and gives
   * where to send it; undefined = none is due, `cell` is then untouched.
   */
  pollChallenge(cell: CellBuffer, nowMs: number): { readonly address: PeerAddress; readonly via: Via } | undefined {
    const send = this.#send;
    if (send === undefined) return undefined;
    const candidate = this.#validation.poll(nowMs, this.#sender.rttMs ?? 0);
    if (candidate === undefined) return undefined;
    const fields = this.#fields;
    fields.flags = ControlFlag.challenge;
    fields.seq = 0;
    fields.length = 0;
    fields.ackDelayMs = 0;
    fields.write(cell.ct, undefined);
    cell.ct.set(candidate.token, DATA_OFFSET);
    const usual = this.#peerLinkId;
    // Nothing of this address is to be seen at the other one.
    if (candidate.fresh && this.#peerSpareId !== 0) this.#peerLinkId = this.#peerSpareId;
    this.#seal(cell, send);
    this.#peerLinkId = usual;
    return candidate;
  }

  /** Initiator: our address has changed, or may have. The peer hears of it at once, under an id that nobody has seen. */
  migrate(nowMs: number): void {
    if (!this.initiator || this.#state !== 'up') return;
    if (this.#peerSpareId !== 0) this.#peerLinkId = this.#peerSpareId;
    this.#peerSpareId = 0;
    this.#probeDueMs = nowMs;
    this.#migrating = true;
    this.#owedSinceMs = nowMs;
    this.#cellsSent = false;
  }

  /**
   * Opens a cell of the message lane in place: its packet (1240 bytes) is then `cell.ct`. `unknownCircuit`: the CID is not
   * that of the lane. Nobody but the peer can make one that opens, or have one opened twice, so it says as much of the
   * peer as a control cell.
   */
  openMessage(linkId: number, cell: CellBuffer, nowMs: number): Drop {
    const slot = this.#slot(linkId);
    if (slot === undefined) return Drop.unknownLink;
    const { messageCid, message } = slot.keys;
    const { bytes, header } = cell;
    for (let i = 0; i < CID_BYTES; i++) if (header[i] !== messageCid[i]) return Drop.unknownCircuit;
    if (this.#state !== 'up') return Drop.closed;
    if (bytes[TYPE_OFFSET] !== CellType.message || bytes[PATH_OFFSET] !== 0) return Drop.badType;
    const counter = readCounter(bytes, COUNTER_OFFSET);
    const replayed = slot.messages.check(counter);
    if (replayed !== Drop.none) return replayed;
    this.#ad[0] = CellType.message;
    this.#ad[1] = 0;
    writeIndexNonce(this.#nonce, counter);
    if (!this.#deps.suite.aeadOpen(cell.ct, cell.tag, cell.ct, this.#ad, this.#nonce, message)) return Drop.badTag;
    slot.messages.mark(counter);
    this.noteReceived(DATAGRAM_BYTES);
    this.#nowMs = nowMs;
    this.#heard(slot, nowMs);
    return Drop.none;
  }

  /**
   * The last step for every outgoing cell: the peer's link id, then the mask over the header (which must be
   * written, as must the body). Of a cell of the message lane only the type and the packet need be written: it is
   * sealed here, under the keys of this moment. Throws on a link without keys: that is the owner's mistake.
   */
  finish(cell: CellBuffer): void {
    const send = this.#send;
    if (send === undefined) throw new Error(`link is ${this.#state}: no keys to send with`);
    if (cell.bytes[TYPE_OFFSET] === CellType.message) this.#sealMessage(cell, send);
    writeLinkId(cell.bytes, this.#peerLinkId);
    maskHeader(this.#deps.suite, send.hp, cell);
  }

  /** Whether pollControl would fill a datagram now. */
  wantsSend(nowMs: number): boolean {
    if (this.#send === undefined) return false;
    if (this.#ackDueMs <= nowMs || this.#pingDueMs <= nowMs || this.#probeDueMs <= nowMs) return true;
    if (this.#answer !== undefined) return true;
    return this.#sender.wantsSend() || this.#isRekeyDue(nowMs);
  }

  /** Fills one complete outgoing control datagram, `finish` included, if one is due. False = none; `cell` is then untouched. */
  pollControl(cell: CellBuffer, nowMs: number): boolean {
    if (this.#isRekeyDue(nowMs)) this.#startRekey();
    const send = this.#send;
    if (send === undefined) return false;
    if (this.#answer !== undefined) {
      this.#writeAnswer(cell, send, this.#answer);
      return true;
    }
    const segment = this.#sender.next(nowMs);
    const probe = this.#probeDueMs <= nowMs;
    const ping = probe || this.#pingDueMs <= nowMs;
    if (probe) {
      this.#probeDueMs = nowMs + this.#options.probeGapMs;
      if (this.#unansweredSinceMs === Number.POSITIVE_INFINITY) this.#unansweredSinceMs = nowMs;
    }
    if (segment === undefined && !ping && this.#ackDueMs > nowMs) return false;
    const fields = this.#fields;
    fields.flags = ControlFlag.ack;
    fields.seq = 0;
    fields.length = 0;
    if (segment !== undefined) {
      fields.flags |= ControlFlag.segment;
      fields.seq = segment.seq;
      fields.length = segment.length;
      this.#pingSentMs = undefined;
    }
    if (ping) {
      fields.flags |= ControlFlag.ping;
      this.#notePing(nowMs, segment === undefined);
    }
    this.#receiver.writeAck(fields);
    fields.ackDelayMs = nowMs - this.#ackBaseMs;
    this.#ackDueMs = Number.POSITIVE_INFINITY;
    this.#ackUrgent = false;
    this.#unacked = 0;
    fields.write(cell.ct, segment?.data);
    this.#seal(cell, send);
    return true;
  }

  /** Something goes to the peer anyway: an ack that waits for company goes with it. True = wantsSend has become true. */
  joinAck(nowMs: number): boolean {
    if (this.#ackDueMs === Number.POSITIVE_INFINITY || this.#ackDueMs <= nowMs) return false;
    this.#ackDueMs = nowMs;
    return true;
  }

  /**
   * Fills one complete outgoing cover datagram, `finish` included. To anybody but the peer it is like any other.
   * Throws on a link without keys.
   */
  sealCover(cell: CellBuffer): void {
    const send = this.#send;
    if (send === undefined) throw new Error(`link is ${this.#state}: no keys to send with`);
    const fields = this.#fields;
    fields.flags = ControlFlag.cover;
    fields.seq = 0;
    fields.length = 0;
    fields.cumulative = 0;
    fields.bitmapHigh = 0;
    fields.bitmapLow = 0;
    fields.ackDelayMs = 0;
    fields.write(cell.ct, undefined);
    this.#seal(cell, send);
  }

  /** When handleTimeout or pollControl must be called at the latest (absolute; in the past = now; Infinity = no timer). */
  nextTimeoutMs(): number {
    if (this.#send === undefined) return Number.POSITIVE_INFINITY;
    if (this.#sender.wantsSend() || this.#isRekeyDue(Number.NEGATIVE_INFINITY)) return Number.NEGATIVE_INFINITY;
    if (this.#answer !== undefined) return Number.NEGATIVE_INFINITY;
    let timeoutMs = Math.min(
      this.#ackDueMs,
      this.#pingDueMs,
      this.#probeDueMs,
      this.#sender.nextTimeoutMs,
      this.#deadAtMs(),
      this.#validation.nextTimeoutMs(),
      this.#drainUntilMs,
      this.#expiresMs,
      this.#canRekey() ? this.#rekeyAtMs : Number.POSITIVE_INFINITY,
    );
    for (const slot of this.#old) timeoutMs = Math.min(timeoutMs, slot.expiresMs);
    return timeoutMs;
  }

  /** Does what time alone brings: losses, expiry of old keys, death. */
  handleTimeout(nowMs: number): void {
    if (this.#send === undefined) return;
    this.#nowMs = nowMs;
    this.#sender.handleTimeout(nowMs);
    this.#expireOldKeys(nowMs);
    this.#validation.expire(nowMs);
    if (nowMs >= this.#drainUntilMs) this.#end('requested');
    else if (nowMs >= this.#expiresMs) this.#end(this.initiator ? 'timeout' : 'unconfirmed');
    else if (nowMs >= this.#deadAtMs()) this.#end('timeout');
  }

  /**
   * Queues a message on the reliable stream; its body is the parts one after the other (copied), at most 16 KiB.
   * False = the queue is full or the link is closing.
   */
  send(type: number, ...parts: Uint8Array[]): boolean {
    if (this.#state !== 'up' && this.#state !== 'handshaking') return false;
    return this.#sender.push(type, parts);
  }

  /**
   * Circuit cells have come: they count towards the rekey, and the peer is there. Nothing has authenticated them: who
   * replays old ones can put off the question whether the peer lives, which `deadMs` answers in any case.
   */
  noteReceived(sizeBytes: number): void {
    this.#bytesIn += sizeBytes;
    this.#bytesSinceRekey += sizeBytes;
    this.#cellsSent = false;
    this.#owedSinceMs = Number.POSITIVE_INFINITY;
    this.#probeDueMs = Number.POSITIVE_INFINITY;
    this.#unansweredSinceMs = Number.POSITIVE_INFINITY;
  }

  /** Circuit cells go out. Control cells count themselves. */
  noteSent(sizeBytes: number): void {
    this.#bytesOut += sizeBytes;
    this.#bytesSinceRekey += sizeBytes;
    this.#cellsSent = true;
  }

  /** What was sent has left. True when nextTimeoutMs has changed by it. */
  noteFlushed(nowMs: number): boolean {
    if (!this.#cellsSent || this.#state !== 'up') return false;
    this.#cellsSent = false;
    if (this.#owedSinceMs !== Number.POSITIVE_INFINITY) return false;
    this.#owedSinceMs = nowMs;
    this.#probeDueMs = nowMs + this.#options.probeAfterMs;
    return true;
  }

  /**
   * Says goodbye behind what is queued, then closes ('requested') as soon as the peer has it, in at most a second.
   * A link without keys closes at once.
   */
  close(code: LinkClose, nowMs: number): void {
    if (this.#state === 'handshaking') this.#end('requested');
    if (this.#state !== 'up') return;
    this.#nowMs = nowMs;
    this.#state = 'draining';
    this.#sender.push(LinkMessage.close, [Uint8Array.of(code)], true);
    this.#drainUntilMs = nowMs + Math.min(maxDrainMs, 4 * this.#sender.rtoMs);
  }

  /** Erases all keys at once, without a word to the peer or to the host. Idempotent. */
  wipe(): void {
    const { suite } = this.#deps;
    if (this.#keys !== undefined) wipeLinkKeys(suite, this.#keys);
    if (this.#next !== undefined) wipeLinkKeys(suite, this.#next.keys);
    for (const slot of this.#old) wipeDirection(suite, slot.keys);
    if (this.#rekey !== undefined) wipeRekey(this.#rekey);
    this.#handshake?.wipe();
    this.#handshake = undefined;
    this.#answer = undefined;
    this.#validation.clear();
    this.#keys = undefined;
    this.#send = undefined;
    this.#current = undefined;
    this.#next = undefined;
    this.#rekey = undefined;
    this.#old.length = 0;
    this.#sender.clear();
    this.#receiver.clear();
    this.#state = 'closed';
  }

  // --- handshake: called by LinkHandshakes and, for a response, by the engine ---

  /** For LinkHandshakes: this link waits for the answer to `handshake`. */
  await(handshake: LinkInitiator): void {
    this.#handshake = handshake;
    this.#firstId = handshake.localId;
    this.#deps.host.onStep?.('Handshake', 'Connect', this.#firstId);
    this.#addId(handshake.localId);
  }

  /**
   * A datagram (1280 bytes, borrowed) under our id while we are `handshaking`: a response or a cookie reply. `from`: where
   * it came from; without it, from where the last init went.
   */
  handleHandshake(datagram: Uint8Array, nowMs: number, from?: PeerAddress): Drop {
    const handshake = this.#handshake;
    if (handshake === undefined) return Drop.badHandshake;
    const drop = handshake.handle(datagram, nowMs, from);
    if (drop !== Drop.none || handshake.outcome === undefined) return drop;
    const { outcome } = handshake;
    this.#handshake = undefined;
    handshake.wipe();
    if (outcome === 'refused') {
      this.#end('refused');
      return Drop.none;
    }
    this.address = handshake.address;
    if (handshake.rttMs !== undefined) this.#sender.noteRtt(handshake.rttMs);
    this.install(outcome, nowMs);
    return Drop.none;
  }

  /** Ends it at once, without a word to the peer. */
  abort(reason: LinkEnd): void {
    this.#end(reason);
  }

  /** For LinkHandshakes: nobody answered. */
  fail(reason: LinkEnd): void {
    this.#end(reason);
  }

  /** For LinkHandshakes: the keys are there. */
  install(secrets: LinkSecrets, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#keys = secrets.keys;
    this.#peerLinkId = secrets.peerLinkId;
    this.#send = this.#sendKeys(secrets.keys);
    this.#current = this.#newSlot(secrets.localId, secrets.keys);
    this.#rekeyAtMs = nowMs + this.#options.rekeyMs;
    this.#lastHeardMs = nowMs;
    this.#state = 'up';
    if (!this.initiator) this.#firstId = secrets.peerLinkId;
    this.#deps.host.onStep?.('Handshake', this.initiator ? 'TakeResponse' : 'Accept', this.#firstId);
    if (!this.localIds.includes(secrets.localId)) this.#addId(secrets.localId);
    this.#expiresMs = nowMs + this.#options.confirmMs;
    if (!this.initiator) return;
    // The first cell tells the responder that the initiator is real; it must not wait for the owner's messages.
    this.#pingDueMs = nowMs;
    this.#confirm(nowMs);
  }

  #confirm(nowMs: number): void {
    this.#confirmed = true;
    if (!this.initiator) this.#deps.host.onStep?.('Handshake', 'Prove', this.#firstId);
    this.#upSinceMs = nowMs;
    this.#onConfirmed?.(nowMs);
    this.#deps.host.onUp(this);
    if (this.#moves) this.#giveSpareId();
  }

  /** The peer may reach us under one more id, for when the initiator's address has changed. Once for each set of keys. */
  #giveSpareId(): void {
    const slot = this.#current;
    if (slot === undefined || slot.spareId !== 0 || this.#state !== 'up') return;
    const id = this.#deps.host.newLinkId();
    const body = new Uint8Array(4);
    writeLinkId(body, id);
    if (!this.#sender.push(LinkMessage.spareId, [body], true)) return;
    slot.spareId = id;
    this.#addId(id);
  }

  #handleSpareId(body: Uint8Array): void {
    const id = body.length === 4 ? readLinkId(body) : 0;
    if (id === 0) {
      this.#end('protocol');
      return;
    }
    this.#peerSpareId = id;
    if (!this.initiator) this.#giveSpareId();
  }

  #writeAnswer(cell: CellBuffer, send: DirectionKeys, token: Uint8Array): void {
    const fields = this.#fields;
    fields.flags = ControlFlag.response | ControlFlag.ping;
    fields.seq = 0;
    fields.length = 0;
    fields.ackDelayMs = 0;
    fields.write(cell.ct, undefined);
    cell.ct.set(token, DATA_OFFSET);
    this.#answer = undefined;
    this.#seal(cell, send);
  }

  /** Where the peer is has been proved. */
  #moved({ address, via, fresh }: { readonly address: PeerAddress; readonly via: Via; readonly fresh: boolean }): void {
    this.address = address;
    this.via = via;
    if (fresh && this.#peerSpareId !== 0) this.#peerLinkId = this.#peerSpareId;
    if (fresh) this.#peerSpareId = 0;
    // What it has missed meanwhile goes again at once.
    this.#ackDueMs = Math.min(this.#ackDueMs, this.#nowMs);
    this.#deps.host.onMoved?.(this);
  }

  /** The peer was heard, which had not answered for `silentMs`. Tells the host if that ends an interruption. */
  #noteAnswer(silentMs: number, nowMs: number): void {
    const moved = this.#migrating || this.#isAsked;
    const isBack = moved || this.#answer !== undefined || silentMs > Math.max(interruptionMs, 2 * (this.rttMs ?? 0));
    this.#migrating = false;
    this.#isAsked = false;
    if (!isBack || !this.initiator || this.#state !== 'up') return;
    this.#sender.retryNow(nowMs);
    this.#deps.host.onAnswered?.(this, moved);
  }

  // --- receiving ---

  #slot(linkId: number): ReceiveSlot | undefined {
    const current = this.#current;
    if (current !== undefined && (current.id === linkId || current.spareId === linkId)) return current;
    if (this.#next !== undefined && this.#next.slot.id === linkId) return this.#next.slot;
    for (let i = 0; i < this.#old.length; i++) {
      const old = this.#old[i]!;
      if (old.id === linkId || old.spareId === linkId) return old;
    }
    return undefined;
  }

  /** An authentic cell: the peer is there, holds these keys, and has perhaps switched to new ones. */
  #heard(slot: ReceiveSlot, nowMs: number): void {
    this.#lastHeardMs = nowMs;
    this.#unansweredPings = 0;
    this.#heardPeer = true;
    this.#expiresMs = Number.POSITIVE_INFINITY;
    this.#pingDueMs = nowMs + this.#keepAliveMs();
    if (!this.#confirmed) this.#confirm(nowMs);
    if (slot === this.#next?.slot) this.#promote(this.#next, nowMs);
    if (slot !== this.#current) return;
    for (const old of this.#old) old.expiresMs = Math.min(old.expiresMs, nowMs + this.#options.oldKeysMs);
  }

  #handleFields(cell: CellBuffer, nowMs: number, from: PeerAddress | undefined): Drop {
    const fields = this.#fields;
    if (!fields.read(cell.ct)) return this.#violation();
    if ((fields.flags & ControlFlag.ack) !== 0) {
      if (this.#pingSentMs !== undefined && (fields.flags & ControlFlag.segment) === 0) {
        const rttMs = nowMs - this.#pingSentMs - fields.ackDelayMs;
        if (rttMs > 0) this.#sender.noteRtt(rttMs);
        this.#pingSentMs = undefined;
      }
      const { cumulative, bitmapHigh, bitmapLow, ackDelayMs } = fields;
      if (!this.#sender.handleAck(cumulative, bitmapHigh, bitmapLow, ackDelayMs, nowMs)) return this.#violation();
    }
    if ((fields.flags & ControlFlag.ping) !== 0) this.#ackAtOnce(nowMs);
    if ((fields.flags & ControlFlag.segment) !== 0) {
      const outcome = this.#receiver.handleSegment(
        fields.seq,
        cell.ct.subarray(DATA_OFFSET, DATA_OFFSET + fields.length),
      );
      if (outcome === 'tooLong') return this.#violation();
      this.#noteUnacked(outcome !== 'new' || this.#receiver.hasGaps, nowMs);
    }
    if ((fields.flags & ControlFlag.cover) !== 0) this.coverIn++;
    if ((fields.flags & (ControlFlag.challenge | ControlFlag.response)) !== 0) this.#handleToken(cell, from);
    if (this.#state === 'draining' && this.#sender.idle) this.#end('requested');
    return Drop.none;
  }

  #handleToken(cell: CellBuffer, from: PeerAddress | undefined): void {
    const token = cell.ct.slice(DATA_OFFSET, DATA_OFFSET + TOKEN_BYTES);
    if ((this.#fields.flags & ControlFlag.challenge) !== 0) {
      if (!this.initiator || this.#state !== 'up') return;
      this.#answer = token;
      this.#isAsked ||= !this.#deps.suite.equal(token, this.#answered);
      this.#answered = token;
      // The peer sees us elsewhere than before: new keys bring new ids.
      this.#rekeyAtMs = Math.min(this.#rekeyAtMs, this.#nowMs);
    } else if (from !== undefined) {
      const proved = this.#validation.answered(token, from);
      if (proved !== undefined) this.#moved(proved);
    }
  }

  #ackAtOnce(nowMs: number): void {
    this.#ackBaseMs = nowMs;
    this.#ackUrgent = true;
    this.#ackDueMs = nowMs;
  }

  /** A segment came. One that is lost has to be known at once, and a sender whose window may be used up has to go on. */
  #noteUnacked(isGap: boolean, nowMs: number): void {
    this.#unacked += 1;
    this.#ackBaseMs = nowMs;
    if (this.#unacked === 1) this.#ackLatestMs = nowMs + maxAckDelayMs;
    if (isGap || this.#unacked >= maxUnacked) this.#ackUrgent = true;
    const mayBeStuck = this.#unacked >= 2 && this.#receiver.midMessage;
    this.#ackDueMs = this.#ackUrgent || mayBeStuck ? nowMs : this.#ackLatestMs;
  }

  #violation(): Drop {
    this.#end('protocol');
    return Drop.badFrame;
  }

  /** A message in order. False once the link is closed. */
  #handleMessage(type: number, body: Uint8Array): boolean {
    if (type === LinkMessage.close) this.#end('peer');
    else if (type === LinkMessage.rekeyInit) this.#handleRekeyInit(body);
    else if (type === LinkMessage.rekeyResponse) this.#handleRekeyResponse(body);
    else if (type === LinkMessage.spareId) this.#handleSpareId(body);
    else if (this.#state === 'up') this.#deps.host.onMessage(this, type, body);
    return this.#send !== undefined;
  }

  // --- sending ---

  #seal(cell: CellBuffer, send: DirectionKeys): void {
    const { bytes } = cell;
    bytes.set(send.cid, HEADER_OFFSET);
    writeCounter(bytes, COUNTER_OFFSET, this.#sendCounter);
    bytes[TYPE_OFFSET] = CellType.control;
    bytes[PATH_OFFSET] = 0;
    this.#ad[0] = CellType.control;
    this.#ad[1] = 0;
    writeIndexNonce(this.#nonce, this.#sendCounter);
    this.#sendCounter += 1;
    this.#deps.suite.aeadSeal(cell.ct, cell.tag, cell.ct, this.#ad, this.#nonce, send.control);
    this.#bytesOut += DATAGRAM_BYTES;
    this.#bytesSinceRekey += DATAGRAM_BYTES;
    this.finish(cell);
  }

  #sealMessage(cell: CellBuffer, send: DirectionKeys): void {
    const { bytes } = cell;
    bytes.set(send.messageCid, HEADER_OFFSET);
    writeCounter(bytes, COUNTER_OFFSET, this.#messageCounter);
    bytes[PATH_OFFSET] = 0;
    this.#ad[0] = CellType.message;
    this.#ad[1] = 0;
    writeIndexNonce(this.#nonce, this.#messageCounter);
    this.#messageCounter += 1;
    this.#deps.suite.aeadSeal(cell.ct, cell.tag, cell.ct, this.#ad, this.#nonce, send.message);
  }

  #notePing(nowMs: number, alone: boolean): void {
    // Only a ping that is alone on the link measures: its answer can be mistaken for no other ack.
    this.#pingSentMs = alone && this.#unansweredPings === 0 && this.#sender.idle ? nowMs : undefined;
    const factor = 2 ** this.#unansweredPings;
    const gapMs = this.#heardPeer
      ? Math.min(this.#options.keepAliveMs, pingGapMs * factor)
      : Math.min(pingGapMs, firstPingGapMs * factor);
    this.#pingDueMs = nowMs + gapMs;
    this.#unansweredPings += 1;
  }

  /** Who opened the link keeps it alive, as often as it can afford; the other side asks only when that one is overdue. */
  #keepAliveMs(): number {
    return (this.initiator ? 1 : ACCEPTED_KEEP_ALIVE) * this.#options.keepAliveMs;
  }

  #deadAtMs(): number {
    const { keepAliveMs, probeAfterMs, probeMs } = this.#options;
    const probedMs = probeAfterMs + Math.max(probeMs, probeRtts * (this.#sender.rttMs ?? 0));
    const silentMs = Math.min(
      this.#lastHeardMs + (this.initiator ? SILENCE : ACCEPTED_SILENCE) * keepAliveMs,
      this.#owedSinceMs + probedMs,
    );
    const busySinceMs = this.#sender.busySinceMs;
    if (busySinceMs === Number.POSITIVE_INFINITY) return silentMs;
    return Math.min(silentMs, Math.max(this.#lastHeardMs, busySinceMs) + this.#options.deadMs);
  }

  // --- rekey (§2.4) ---

  #canRekey(): boolean {
    return (
      this.initiator && this.#state === 'up' && this.#rekey === undefined && this.#old.length < maxReceiveSlots - 2
    );
  }

  #isRekeyDue(nowMs: number): boolean {
    return this.#canRekey() && (this.#bytesSinceRekey >= this.#options.rekeyBytes || nowMs >= this.#rekeyAtMs);
  }

  #startRekey(): void {
    const { suite, random, host } = this.#deps;
    const start = startRekey(suite, random, host.newLinkId());
    this.#rekey = start;
    this.#addId(start.linkId);
    this.#deps.host.onStep?.('Rekey', 'StartRekey', this.#firstId);
    if (!this.#sender.push(LinkMessage.rekeyInit, [start.body], true)) this.#end('protocol');
  }

  #handleRekeyInit(body: Uint8Array): void {
    this.#expireOldKeys(this.#nowMs);
    if (this.initiator || this.#next !== undefined || this.#old.length >= maxReceiveSlots - 1) {
      this.#end('protocol');
      return;
    }
    const { suite, random, host } = this.#deps;
    const localId = host.newLinkId();
    const answer = answerRekey(suite, random, this.#keys!, body, localId);
    if (answer === undefined || !this.#sender.push(LinkMessage.rekeyResponse, [answer.body], true)) {
      this.#end('protocol');
      return;
    }
    this.#next = { slot: this.#newSlot(localId, answer.keys), keys: answer.keys, peerLinkId: answer.peerLinkId };
    this.#deps.host.onStep?.('Rekey', 'Agree', this.#firstId);
    this.#addId(localId);
  }

  #handleRekeyResponse(body: Uint8Array): void {
    const start = this.#rekey;
    const rekeyed = start && finishRekey(this.#deps.suite, start, this.#keys!, body);
    if (start === undefined || rekeyed === undefined) {
      this.#end('protocol');
      return;
    }
    this.#rekey = undefined;
    const slot = this.#newSlot(start.linkId, rekeyed.keys);
    this.#switch({ slot, keys: rekeyed.keys, peerLinkId: rekeyed.peerLinkId }, this.#nowMs + maxSwitchMs);
    // A ping under the new keys makes the peer switch and answer under them.
    this.#pingDueMs = this.#nowMs;
    this.#deps.host.onStep?.('Rekey', 'TakeAtInitiator', this.#firstId);
    this.#deps.host.onRekeyed(this);
    if (this.#moves) this.#giveSpareId();
  }

  #promote(next: NextKeys, nowMs: number): void {
    this.#next = undefined;
    this.#switch(next, nowMs + this.#options.oldKeysMs);
    this.#deps.host.onStep?.('Rekey', 'TakeAtResponder', this.#firstId);
    this.#deps.host.onRekeyed(this);
  }

  /** From now on everything is sent under `next`; the old receive keys stay until `oldExpiresMs`. */
  #switch(next: NextKeys, oldExpiresMs: number): void {
    const { suite } = this.#deps;
    if (this.#send !== undefined) wipeDirection(suite, this.#send);
    suite.wipe(this.#keys!.rekeySecret);
    const old = this.#current!;
    old.expiresMs = oldExpiresMs;
    this.#old.push(old);
    this.#keys = next.keys;
    this.#send = this.#sendKeys(next.keys);
    this.#sendCounter = 0;
    this.#messageCounter = 0;
    this.#peerLinkId = next.peerLinkId;
    this.#peerSpareId = 0;
    this.#current = next.slot;
    this.#bytesSinceRekey = 0;
    this.#rekeyAtMs = this.#nowMs + this.#options.rekeyMs;
  }

  #expireOldKeys(nowMs: number): void {
    for (let i = this.#old.length - 1; i >= 0; i--) {
      const slot = this.#old[i]!;
      if (slot.expiresMs > nowMs) continue;
      wipeDirection(this.#deps.suite, slot.keys);
      this.#old.splice(i, 1);
      this.#deps.host.onStep?.('Rekey', this.initiator ? 'ExpireAtInitiator' : 'ExpireAtResponder', this.#firstId);
      this.#removeIds(slot.spareId === 0 ? [slot.id] : [slot.id, slot.spareId]);
    }
  }

  #newSlot(id: number, keys: LinkKeys): ReceiveSlot {
    const receive = this.initiator ? keys.responderToInitiator : keys.initiatorToResponder;
    return {
      id,
      spareId: 0,
      keys: receive,
      window: new ReplayWindow(windowPages),
      messages: new ReplayWindow(messageWindowPages),
      expiresMs: Number.POSITIVE_INFINITY,
    };
  }

  #sendKeys(keys: LinkKeys): DirectionKeys {
    return this.initiator ? keys.initiatorToResponder : keys.responderToInitiator;
  }

  // --- ids and end ---

  #addId(id: number): void {
    this.localIds.push(id);
    this.#deps.host.onIdsChanged(this, [id], []);
  }

  #removeIds(ids: number[]): void {
    for (const id of ids) {
      const at = this.localIds.indexOf(id);
      if (at >= 0) this.localIds.splice(at, 1);
    }
    this.#deps.host.onIdsChanged(this, [], ids);
  }

  #end(reason: LinkEnd): void {
    if (this.#state === 'closed') return;
    this.wipe();
    if (!this.#confirmed) {
      this.#deps.host.onStep?.('Handshake', this.initiator ? 'GiveUp' : 'Expire', this.#firstId);
    } else this.#deps.host.onStep?.('Rekey', 'GiveUp', this.#firstId);
    this.#removeIds(this.localIds.slice());
    this.#deps.host.onClosed(this, reason);
  }
}

function windowBytes(slot: ReceiveSlot): number {
  return slot.window.memoryBytes + slot.messages.memoryBytes;
}

function wipeLinkKeys(suite: LinkDependencies['suite'], keys: LinkKeys): void {
  wipeDirection(suite, keys.initiatorToResponder);
  wipeDirection(suite, keys.responderToInitiator);
  suite.wipe(keys.rekeySecret);
}
