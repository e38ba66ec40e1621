/**
 * The wire protocol once more, from docs/protocol.md and @noble/* alone: nothing here is shared with the implementation
 * under test, so a mistake that both its ends have shows. Slow and plain on purpose.
 */
import { chacha20, chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { blake2b } from '@noble/hashes/blake2.js';
import { blake3 } from '@noble/hashes/blake3.js';
import { hkdf as nobleHkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';

export const DATAGRAM = 1280;
export const FRAGMENT = 1224;
export const PAYLOAD = 1144;
export const TRAIN = 10064;
const BODY = 1240;

export type Bytes = Uint8Array<ArrayBuffer>;

export const bytes = (length: number): Bytes => new Uint8Array(length);
export const concat = (...parts: readonly Uint8Array[]): Bytes => new Uint8Array(Buffer.concat(parts));
export const ascii = (text: string): Bytes => new Uint8Array(Buffer.from(text, 'latin1'));
export const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
export const random = (length: number): Bytes => crypto.getRandomValues(new Uint8Array(length));

/** Big-endian, `length` bytes. */
export function number(value: number | bigint, length: number): Bytes {
  const out = bytes(length);
  let left = BigInt(value);
  for (let i = length - 1; i >= 0; i--) {
    out[i] = Number(left & 0xffn);
    left >>= 8n;
  }
  return out;
}

export const readNumber = (from: Uint8Array, at: number, length: number): number =>
  Number(BigInt(`0x${Buffer.from(from.subarray(at, at + length)).toString('hex')}`));

const hash = (...parts: readonly Uint8Array[]): Bytes => new Uint8Array(sha256(concat(...parts)));
export const hkdf = (ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Bytes =>
  new Uint8Array(nobleHkdf(sha256, ikm, salt, info, length));
export const label = (text: string): Bytes => ascii(`nyx1 ${text}`);
export const mac16 = (key: Uint8Array, ...parts: readonly Uint8Array[]): Bytes =>
  new Uint8Array(blake2b(concat(...parts), { key, dkLen: 16 }));
export const mac32 = (key: Uint8Array, data: Uint8Array): Bytes => new Uint8Array(blake2b(data, { key, dkLen: 32 }));
export const keystream = (key: Uint8Array, nonce: Uint8Array, counter: number, length: number): Uint8Array =>
  chacha20(key, nonce, bytes(length), undefined, counter);
export const xor = (into: Uint8Array, mask: Uint8Array): void => {
  for (let i = 0; i < into.length; i++) into[i]! ^= mask[i]!;
};

/** `tag (16) ‖ ciphertext`. */
export function seal(key: Uint8Array, nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array): Bytes {
  const sealed = chacha20poly1305(key, nonce, ad).encrypt(plaintext);
  return concat(sealed.subarray(plaintext.length), sealed.subarray(0, plaintext.length));
}

export function open(key: Uint8Array, nonce: Uint8Array, ad: Uint8Array, sealed: Uint8Array): Bytes | undefined {
  try {
    return new Uint8Array(
      chacha20poly1305(key, nonce, ad).decrypt(concat(sealed.subarray(16), sealed.subarray(0, 16))),
    );
  } catch {
    // The library's way to say that the tag does not verify.
    return undefined;
  }
}

export const nonceOf = (counter: number): Bytes => concat(bytes(6), number(counter, 6));
export const zeroNonce = bytes(12);
export const none = bytes(0);

export interface Dh {
  readonly secret: Uint8Array;
  readonly publicKey: Uint8Array;
}
export interface Kem {
  readonly secretKey: Uint8Array;
  readonly publicKey: Uint8Array;
}
export const newDh = (): Dh => {
  const secret = random(32);
  return { secret, publicKey: x25519.getPublicKey(secret) };
};
export const newKem = (): Kem => ml_kem768.keygen(random(64));
export const agree = (dh: Dh, peer: Uint8Array): Uint8Array => x25519.getSharedSecret(dh.secret, peer);

export interface Signer {
  readonly publicKey: Bytes;
  readonly sign: (message: Uint8Array) => Uint8Array;
}
export const newSigner = (): Signer => {
  const secret = random(32);
  return {
    publicKey: new Uint8Array(ed25519.getPublicKey(secret)),
    sign: (message) => ed25519.sign(message, secret),
  };
};
export const nodeIdOf = (identity: Uint8Array): Bytes => new Uint8Array(blake3(identity));

// --- §2.1 handshake datagrams

export const HandshakeType = { init: 1, response: 2, cookie: 3 } as const;

export interface HandshakeFields {
  readonly linkId: Uint8Array;
  /** 20 bytes. */
  readonly header: Uint8Array;
  readonly mac1: Uint8Array;
  readonly mac2: Uint8Array;
  readonly fragment: Uint8Array;
  readonly mac1Ok: boolean;
}

export const handshakeHeader = (type: number, index: number, count: number, id: Uint8Array): Bytes =>
  concat(Uint8Array.of(type, index, count, 0), id, bytes(8));

const handshakeKey = (receiver: Uint8Array, what: string): Bytes => hkdf(receiver, none, label(what), 32);

function handshakeMask(receiver: Uint8Array, mac1: Uint8Array): Uint8Array {
  const counter = new DataView(mac1.buffer, mac1.byteOffset).getUint32(0, true);
  return keystream(handshakeKey(receiver, 'handshake mask'), mac1.subarray(4, 16), counter, 20);
}

/** `receiver`: the public key that masks what goes to it. A `cookie` adds mac2. */
export function handshakeDatagram(
  receiver: Uint8Array,
  linkId: Uint8Array,
  header: Uint8Array,
  fragment: Uint8Array,
  cookie?: Uint8Array,
): Bytes {
  const mac1 = mac16(handshakeKey(receiver, 'mac1'), linkId, header, fragment);
  const mac2 =
    cookie === undefined ? bytes(16) : mac16(hkdf(cookie, none, label('mac2'), 32), linkId, header, mac1, fragment);
  const masked = header.slice();
  xor(masked, handshakeMask(receiver, mac1));
  return concat(linkId, masked, mac1, mac2, fragment);
}

export function readHandshake(receiver: Uint8Array, datagram: Uint8Array): HandshakeFields {
  const [linkId, header, mac1, mac2, fragment] = [
    [0, 4],
    [4, 24],
    [24, 40],
    [40, 56],
    [56, DATAGRAM],
  ].map(([from, to]) => datagram.slice(from, to)) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  xor(header, handshakeMask(receiver, mac1));
  const mac1Ok = equal(mac1, mac16(handshakeKey(receiver, 'mac1'), linkId, header, fragment));
  return { linkId, header, mac1, mac2, fragment, mac1Ok };
}

/** The cookie in a reply, whose AD is the mac1 that it answers. */
export function openCookie(receiver: Uint8Array, fragment: Uint8Array, answeredMac1: Uint8Array): Bytes | undefined {
  const key = hkdf(handshakeKey(receiver, 'mac1'), none, label('cookie'), 32);
  return open(key, fragment.subarray(0, 12), answeredMac1, fragment.subarray(12, 44));
}

// --- §2.2 the exchange

export interface LinkTarget {
  readonly linkX25519: Uint8Array;
  readonly linkKem: Uint8Array;
}

export interface Direction {
  readonly hp: Bytes;
  readonly control: Bytes;
  readonly cid: Bytes;
  /** Of the message lane (§9.1). */
  readonly message: Bytes;
  readonly messageCid: Bytes;
}

export interface LinkKeys {
  readonly out: Direction;
  readonly in: Direction;
  readonly rekeySecret: Bytes;
  readonly transcript: Bytes;
}

/** What an init says of its sender, before it is sealed: 78 bytes. */
export interface Identity {
  readonly version?: number;
  readonly flags?: number;
  readonly linkId: Uint8Array;
  readonly timestampMs?: number;
  readonly nodeId?: Uint8Array;
  readonly staticKey?: Dh;
  /** In place of the static key's public half. */
  readonly staticPublic?: Uint8Array;
}

export interface Init {
  /** 2398 bytes. */
  readonly message: Bytes;
  readonly e: Dh;
  readonly kem: Kem;
  readonly staticKey: Dh | undefined;
  readonly chainingKey: Bytes;
  readonly hash: Bytes;
}

export const INIT = { e: 0, cts: 32, kem: 1120, tag: 2304, identity: 2320, end: 2398 } as const;

const mixKey = (chainingKey: Uint8Array, secret: Uint8Array): { chainingKey: Bytes; key: Bytes } => {
  const okm = hkdf(secret, chainingKey, label('link mix'), 64);
  return { chainingKey: okm.slice(0, 32), key: okm.slice(32) };
};

export function makeInit(to: LinkTarget, identity: Identity): Init {
  const e = newDh();
  const kem = newKem();
  const capsule = ml_kem768.encapsulate(to.linkKem);
  const clear = concat(e.publicKey, capsule.cipherText, kem.publicKey);
  const start = hash(label('link'));
  let h = hash(start, to.linkX25519, to.linkKem);
  h = hash(h, clear);
  const first = mixKey(start, agree(e, to.linkX25519));
  const second = mixKey(first.chainingKey, capsule.sharedSecret);
  const { version = 1, timestampMs = 0, staticKey, nodeId = bytes(32) } = identity;
  const plaintext = concat(
    Uint8Array.of(version, identity.flags ?? (staticKey === undefined ? 0 : 1)),
    identity.linkId,
    number(timestampMs, 8),
    nodeId,
    identity.staticPublic ?? staticKey?.publicKey ?? bytes(32),
  );
  const sealed = seal(second.key, zeroNonce, h, plaintext);
  return {
    message: concat(clear, sealed),
    e,
    kem,
    staticKey,
    chainingKey: second.chainingKey,
    hash: hash(h, sealed),
  };
}

export interface Response {
  readonly version: number;
  readonly peerLinkId: Uint8Array;
  readonly status: number;
  readonly keys: LinkKeys;
}

export function openResponse(init: Init, message: Uint8Array): Response | undefined {
  const eR = message.subarray(0, 32);
  const h = hash(init.hash, message.subarray(0, 1120));
  let mixed = mixKey(init.chainingKey, agree(init.e, eR));
  if (init.staticKey !== undefined) mixed = mixKey(mixed.chainingKey, agree(init.staticKey, eR));
  mixed = mixKey(mixed.chainingKey, ml_kem768.decapsulate(message.subarray(32, 1120), init.kem.secretKey));
  const plaintext = open(mixed.key, zeroNonce, h, message.subarray(1120, 1142));
  if (plaintext === undefined) return undefined;
  const transcript = hash(h, message.subarray(1120, 1142));
  return {
    version: plaintext[0]!,
    peerLinkId: plaintext.slice(1, 5),
    status: plaintext[5]!,
    keys: linkKeys(mixed.chainingKey, transcript),
  };
}

function linkKeys(chainingKey: Uint8Array, transcript: Bytes): LinkKeys {
  const okm = hkdf(chainingKey, transcript, label('link keys'), 272);
  const direction = (at: number, messageAt: number): Direction => ({
    hp: okm.slice(at, at + 32),
    control: okm.slice(at + 32, at + 64),
    cid: okm.slice(at + 64, at + 76),
    message: okm.slice(messageAt, messageAt + 32),
    messageCid: okm.slice(messageAt + 32, messageAt + 44),
  });
  return { out: direction(0, 184), in: direction(76, 228), rekeySecret: okm.slice(152, 184), transcript };
}

/** What a node of the suite's own holds. */
export interface NodeKeys {
  readonly identity: Signer;
  readonly nodeId: Bytes;
  readonly link: Dh;
  readonly linkKem: Kem;
  readonly epoch: number;
  readonly mix: Dh;
  readonly mixKem: Kem;
}

export const newNodeKeys = (epoch: number): NodeKeys => {
  const identity = newSigner();
  return {
    identity,
    nodeId: nodeIdOf(identity.publicKey),
    link: newDh(),
    linkKem: newKem(),
    epoch,
    mix: newDh(),
    mixKem: newKem(),
  };
};

/** An init as its responder reads it. */
export interface OpenedInit {
  readonly linkId: Bytes;
  readonly version: number;
  readonly named: boolean;
  readonly timestampMs: number;
  readonly nodeId: Bytes;
  readonly staticPublic: Bytes;
  readonly e: Bytes;
  readonly kem: Bytes;
  readonly chainingKey: Bytes;
  readonly hash: Bytes;
}

export function openInit(keys: NodeKeys, message: Uint8Array): OpenedInit | undefined {
  const part = (from: number, to: number): Bytes => new Uint8Array(message.slice(from, to));
  const [e, kem] = [part(INIT.e, INIT.cts), part(INIT.kem, INIT.tag)];
  const start = hash(label('link'));
  const h = hash(hash(start, keys.link.publicKey, keys.linkKem.publicKey), part(0, INIT.tag));
  const first = mixKey(start, agree(keys.link, e));
  const capsule = ml_kem768.decapsulate(part(INIT.cts, INIT.kem), keys.linkKem.secretKey);
  const second = mixKey(first.chainingKey, capsule);
  const identity = open(second.key, zeroNonce, h, part(INIT.tag, INIT.end));
  if (identity === undefined) return undefined;
  return {
    version: identity[0]!,
    named: identity[1] === 1,
    linkId: identity.slice(2, 6),
    timestampMs: readNumber(identity, 6, 8),
    nodeId: identity.slice(14, 46),
    staticPublic: identity.slice(46, 78),
    e,
    kem,
    chainingKey: second.chainingKey,
    hash: hash(h, part(INIT.tag, INIT.end)),
  };
}

/** The response to it, and the keys as the responder uses them. */
export function makeResponse(
  init: OpenedInit,
  linkId: Uint8Array,
): { readonly message: Bytes; readonly keys: LinkKeys } {
  const e = newDh();
  const capsule = ml_kem768.encapsulate(init.kem);
  const clear = concat(e.publicKey, capsule.cipherText);
  const h = hash(init.hash, clear);
  let mixed = mixKey(init.chainingKey, agree(e, init.e));
  if (init.named) mixed = mixKey(mixed.chainingKey, agree(e, init.staticPublic));
  mixed = mixKey(mixed.chainingKey, capsule.sharedSecret);
  const sealed = seal(mixed.key, zeroNonce, h, concat(Uint8Array.of(1), linkId, Uint8Array.of(0)));
  const keys = linkKeys(mixed.chainingKey, hash(h, sealed));
  return { message: concat(clear, sealed), keys: { ...keys, out: keys.in, in: keys.out } };
}

// --- §2.4

export interface RekeyInit {
  readonly body: Bytes;
  readonly e: Dh;
  readonly kem: Kem;
}

export function makeRekey(linkId: Uint8Array): RekeyInit {
  const e = newDh();
  const kem = newKem();
  return { body: concat(linkId, e.publicKey, kem.publicKey), e, kem };
}

export function finishRekey(before: LinkKeys, init: RekeyInit, response: Uint8Array): LinkKeys {
  const secret = concat(
    agree(init.e, response.subarray(4, 36)),
    ml_kem768.decapsulate(response.subarray(36), init.kem.secretKey),
  );
  const chainingKey = hkdf(secret, before.rekeySecret, label('link rekey'), 32);
  return linkKeys(chainingKey, hash(before.transcript, init.body, response));
}

// --- §1 cells

export interface Header {
  readonly cid: Uint8Array;
  readonly counter: number;
  readonly type: number;
  readonly path: number;
}

/** `cell` = tag ‖ ct, 1256 bytes. */
export function maskCell(hp: Uint8Array, linkId: Uint8Array, header: Header, cell: Uint8Array): Bytes {
  const block = sampleBlock(hp, cell);
  const fields = concat(number(header.counter, 6), Uint8Array.of(header.type, header.path));
  xor(fields, block);
  const cid = header.cid.slice();
  xor(cid, keystream(block.subarray(16, 48), concat(fields, bytes(4)), 0, 12));
  return concat(linkId, cid, fields, cell);
}

export function unmaskCell(hp: Uint8Array, datagram: Uint8Array): Header & { readonly cell: Bytes } {
  const cell = new Uint8Array(datagram.slice(24));
  const block = sampleBlock(hp, cell);
  const cid = datagram.slice(4, 16);
  const fields = datagram.slice(16, 24);
  xor(cid, keystream(block.subarray(16, 48), concat(fields, bytes(4)), 0, 12));
  xor(fields, block);
  return { cid, counter: readNumber(fields, 0, 6), type: fields[6]!, path: fields[7]!, cell };
}

function sampleBlock(hp: Uint8Array, cell: Uint8Array): Uint8Array {
  const counter = new DataView(cell.buffer, cell.byteOffset).getUint32(0, true);
  return keystream(hp, cell.subarray(4, 16), counter, 64);
}

// --- §2.3 control cells

export interface Control {
  readonly flags: number;
  readonly seq?: number;
  readonly cumulative?: number;
  readonly bitmap?: bigint;
  readonly data?: Uint8Array;
  /** In place of the data's length. */
  readonly length?: number;
}

export function controlPlaintext(fields: Control): Bytes {
  const { flags, seq = 0, cumulative = 0, bitmap = 0n, data = none } = fields;
  const head = concat(
    Uint8Array.of(flags),
    number(seq, 4),
    number(fields.length ?? data.length, 2),
    number(cumulative, 4),
    number(bitmap, 8),
    number(0, 2),
    data,
  );
  return concat(head, bytes(BODY - head.length));
}

export interface ReadControl {
  readonly flags: number;
  readonly seq: number;
  readonly cumulative: number;
  readonly bitmap: bigint;
  readonly data: Bytes;
  readonly rest: Bytes;
}

export function readControl(plaintext: Uint8Array): ReadControl {
  const length = readNumber(plaintext, 5, 2);
  return {
    flags: plaintext[0]!,
    seq: readNumber(plaintext, 1, 4),
    cumulative: readNumber(plaintext, 7, 4),
    bitmap: BigInt(`0x${Buffer.from(plaintext.subarray(11, 19)).toString('hex')}`),
    data: new Uint8Array(plaintext.slice(21, 21 + length)),
    rest: new Uint8Array(plaintext.slice(21 + length)),
  };
}

// --- §4 set-up train, §3 cells of a circuit with one hop

export interface MixTarget {
  readonly nodeId: Uint8Array;
  readonly epoch: number;
  readonly mixX25519: Uint8Array;
  readonly mixKem: Uint8Array;
}

/** H + R: what a hop takes out of a train, and puts behind it. */
export const FILLER = 1264;
export const TRAIN_AT = { epk: 0, ct: 32, tag: 1120, body: 1136 } as const;

/** Fields of a route; the rest of its 128 bytes is `tail`. */
export interface Route {
  readonly next?: Uint8Array;
  readonly action?: number;
  readonly class?: number;
  readonly delayUs?: number;
  readonly forwardStart?: number;
  readonly forwardOffset?: number;
  readonly backwardStart?: number;
  readonly backwardOffset?: number;
  readonly maxCellsLog2?: number;
  readonly expiry?: number;
  /** For the next hop's puzzle. */
  readonly solution?: Uint8Array;
  readonly tail?: Uint8Array;
}

export function encodeRoute(route: Route): Bytes {
  return concat(
    route.next ?? bytes(32),
    Uint8Array.of(route.action ?? 1, route.class ?? 0),
    number(route.delayUs ?? 0, 4),
    number(route.forwardStart ?? 0, 6),
    number(route.forwardOffset ?? 0, 6),
    number(route.backwardStart ?? 0, 6),
    number(route.backwardOffset ?? 0, 6),
    Uint8Array.of(route.maxCellsLog2 ?? 0),
    number(route.expiry ?? 4_000_000_000, 8),
    route.solution ?? bytes(8),
    route.tail ?? bytes(49),
  );
}

export interface Train {
  readonly train: Bytes;
  readonly chains: readonly [Bytes, Bytes];
  /** Of the hop: what stands for the circuit in proofs. */
  readonly binding: Bytes;
  /** Of the hop: with what it fills up the next train. */
  readonly filler: Bytes;
  /** What lies behind the route. */
  readonly rest: Bytes;
  readonly fresh: { readonly e: Dh; readonly kem: Kem };
}

/** A train for one hop; the fresh keys behind the route may be others, or anything else be there (`behind`). */
export function makeTrain(
  to: MixTarget,
  route: Uint8Array,
  freshKem?: Uint8Array,
  freshDh?: Uint8Array,
  behind?: Uint8Array,
): Train {
  const e = newDh();
  const capsule = ml_kem768.encapsulate(to.mixKem);
  const salt = hash(
    label('setup'),
    to.nodeId,
    number(to.epoch, 8),
    to.mixX25519,
    hash(to.mixKem),
    e.publicKey,
    capsule.cipherText,
  );
  const okm = hkdf(concat(agree(e, to.mixX25519), capsule.sharedSecret), salt, label('circuit hop'), 176);
  const fresh = { e: newDh(), kem: newKem() };
  const inside = behind ?? concat(freshDh ?? fresh.e.publicKey, freshKem ?? fresh.kem.publicKey);
  const rest = concat(inside, random(TRAIN - TRAIN_AT.body - route.length - inside.length));
  const body = concat(route, rest);
  const sealed = seal(okm.subarray(0, 32), zeroNonce, none, body);
  return {
    train: concat(e.publicKey, capsule.cipherText, sealed),
    chains: [okm.slice(64, 96), okm.slice(96, 128)],
    binding: okm.slice(144),
    filler: new Uint8Array(keystream(okm.subarray(32, 64), zeroNonce, 0, FILLER)),
    rest,
    fresh,
  };
}

/** The secret of a fresh exchange (§3.1): DH ‖ KEM secret. */
export function freshSecret(train: Train, reply: Uint8Array): Bytes {
  const { e, kem } = train.fresh;
  return concat(agree(e, reply.subarray(0, 32)), ml_kem768.decapsulate(reply.subarray(32), kem.secretKey));
}

/** `direction`: 0 forward, 1 backward. */
export function freshChain(chain: Uint8Array, shared: Uint8Array, direction: 0 | 1): Bytes {
  return hkdf(shared, chain, concat(label('forward secret'), Uint8Array.of(direction)), 32);
}

export const ratchet = (chain: Uint8Array): Bytes => hkdf(chain, none, label('ratchet'), 32);
export const cellKeys = (chain: Uint8Array): { aead: Bytes; prg: Bytes } => {
  const okm = hkdf(chain, none, label('cell keys'), 64);
  return { aead: okm.slice(0, 32), prg: okm.slice(32) };
};
/** pad_i(n), which a relay puts behind a forward plaintext: 1240 bytes on from block 1, which is 24 bytes into block 20. */
export const padOf = (aead: Uint8Array, n: number): Uint8Array => keystream(aead, nonceOf(n), 20, 64).subarray(24, 40);

// --- §5.5 tickets

/** id (16) ‖ key (32), from the first circuit's fresh exchange. */
export const ticketOf = (shared: Uint8Array): { id: Bytes; key: Bytes } => {
  const okm = hkdf(shared, none, label('session ticket'), 48);
  return { id: okm.slice(0, 16), key: okm.slice(16) };
};
/** Body of ATTACH, on the circuit with that binding. */
export const attachOf = ({ id, key }: { id: Uint8Array; key: Uint8Array }, binding: Uint8Array): Bytes =>
  concat(id, mac16(key, label('attach'), id, binding));

/** T(n), the last 96 bytes of a backward plaintext. */
export const tailOf = (prg: Uint8Array, n: number): Uint8Array => keystream(prg, nonceOf(n), 0, 96);

// --- §5 frames

/** A varint of RFC 9000 §16. */
export function varint(value: number): Bytes {
  if (value < 64) return number(value, 1);
  if (value < 16_384) return number(value | 0x4000, 2);
  if (value < 2 ** 30) return number(value + 0x8000_0000, 4);
  return number(BigInt(value) | 0xc000_0000_0000_0000n, 8);
}

export function readVarint(from: Uint8Array, at: number): { value: number; next: number } {
  const length = 1 << (from[at]! >> 6);
  const value = readNumber(from, at, length) % 2 ** (8 * length - 2);
  return { value, next: at + length };
}
