/** Packets of the message lane, once more from docs/protocol.md §9 and @noble/* alone. */
import {
  agree,
  type Bytes,
  bytes,
  concat,
  type Dh,
  equal,
  hkdf,
  keystream,
  label,
  mac16,
  mac32,
  newDh,
  none,
  number,
  random,
  readNumber,
  xor,
  zeroNonce,
} from './codec.ts';

export const AT = { alpha: 0, beta: 32, gamma: 424, delta: 440 } as const;
export const PACKET = 1240;
export const MESSAGE = 784;
const BETA = 392;
const BLOCK = 56;
const MAX_HOPS = 7;
export const Command = { forward: 0, deliver: 1, reply: 2, drop: 3 } as const;

export interface MessageHop {
  readonly nodeId: Uint8Array;
  readonly epoch: number;
  readonly mixX25519: Uint8Array;
}

/** What a hop is told; the fields of a good block unless others are given. */
export interface Block {
  readonly next?: Uint8Array;
  readonly delayMs?: number;
  readonly command?: number;
  readonly zeros?: Uint8Array;
}

interface HopKeys {
  readonly stream: Bytes;
  readonly mac: Bytes;
  readonly payload: Bytes;
  readonly blinding: Bytes;
}

const rho = (key: Uint8Array, length: number): Uint8Array => keystream(key, zeroNonce, 0, length);

function hopKeys(secret: Uint8Array, { nodeId, epoch, mixX25519 }: MessageHop, alpha: Uint8Array): HopKeys {
  const okm = hkdf(secret, none, concat(label('sphinx hop'), nodeId, number(epoch, 8), mixX25519, alpha), 144);
  const part = (at: number) => okm.slice(at, at + 32);
  return { stream: part(0), mac: part(32), payload: part(64), blinding: part(96) };
}

// --- payload

const xored = (a: Uint8Array, b: Uint8Array): Bytes => {
  const out = new Uint8Array(a);
  xor(out, b);
  return out;
};

export function lioness(key: Uint8Array, block: Uint8Array, backward: boolean): Bytes {
  const k = rho(key, 128);
  const part = (i: number) => k.slice(32 * i, 32 * i + 32);
  let [left, right] = [new Uint8Array(block.slice(0, 32)), new Uint8Array(block.slice(32))] as [Bytes, Bytes];
  const rounds = [
    () => (right = xored(right, rho(xored(left, part(0)), right.length))),
    () => (left = xored(left, mac32(part(1), right))),
    () => (right = xored(right, rho(xored(left, part(2)), right.length))),
    () => (left = xored(left, mac32(part(3), right))),
  ];
  for (const round of backward ? rounds.reverse() : rounds) round();
  return concat(left, right);
}

/** 0^16 ‖ message ‖ zeros. */
export const padded = (message: Uint8Array): Bytes => concat(bytes(16), message, bytes(MESSAGE - message.length));

// --- as a sender

export interface Header {
  /** α ‖ β ‖ γ of the first hop. */
  readonly bytes: Bytes;
  readonly payloadKeys: readonly Bytes[];
}

/** `blocks`: of each hop; next and γ are filled in where nothing else is said. */
export function makeHeader(hops: readonly MessageHop[], blocks: readonly Block[]): Header {
  const x = newDh();
  const n = hops.length;
  const keys: HopKeys[] = [];
  let alpha: Uint8Array = x.publicKey;
  for (const hop of hops) {
    let secret = agree(x, hop.mixX25519);
    for (const { blinding } of keys) secret = agree({ secret: blinding } as Dh, secret);
    const own = hopKeys(secret, hop, alpha);
    keys.push(own);
    alpha = agree({ secret: own.blinding } as Dh, alpha);
  }
  let filler = none;
  for (let i = 0; i < n - 1; i++) {
    filler = concat(filler, bytes(BLOCK));
    xor(filler, rho(keys[i]!.stream, BETA + BLOCK).subarray(BETA - BLOCK * i));
  }
  let [beta, gamma] = [bytes(0), random(16)];
  for (let i = n - 1; i >= 0; i--) {
    const last = i === n - 1;
    const { next, delayMs = 0, command, zeros = bytes(3) } = blocks[i]!;
    const block = concat(
      next ?? (last ? bytes(32) : hops[i + 1]!.nodeId),
      number(delayMs, 4),
      Uint8Array.of(command ?? (last ? Command.deliver : Command.forward)),
      zeros,
      gamma,
    );
    const plain = last ? concat(block, random(BETA - BLOCK)) : concat(block, beta.subarray(0, BETA - BLOCK));
    const masked = xored(plain, rho(keys[i]!.stream, BETA));
    beta = last ? concat(masked.subarray(0, BETA - BLOCK * (n - 1)), filler) : masked;
    gamma = mac16(keys[i]!.mac, beta);
  }
  return { bytes: concat(x.publicKey, beta, gamma), payloadKeys: keys.map(({ payload }) => payload) };
}

export function makePacket(
  hops: readonly MessageHop[],
  message: Uint8Array,
  blocks: readonly Block[] = hops.map(() => ({})),
): Bytes {
  const header = makeHeader(hops, blocks);
  let delta = padded(message);
  for (const key of [...header.payloadKeys].reverse()) delta = lioness(key, delta, false);
  return concat(header.bytes, delta);
}

/** A block that ends at the first of the hops, and the key to what comes back over it. */
export function makeReplyBlock(hop: MessageHop, replyId: Uint8Array): { block: Bytes; key: Bytes } {
  const { bytes: header } = makeHeader([hop], [{ next: concat(replyId, bytes(16)), command: Command.reply }]);
  const key = random(32);
  return { block: concat(hop.nodeId, header, key), key };
}

// --- as a hop

export interface OpenedPacket {
  readonly next: Bytes;
  readonly delayMs: number;
  readonly command: number;
  readonly zeros: Bytes;
  /** What goes on to the next hop. */
  readonly packet: Bytes;
  /** δ without this hop's layer. */
  readonly delta: Bytes;
}

/** Undefined: γ does not fit. */
export function openPacket(hop: MessageHop, mix: Dh, packet: Uint8Array): OpenedPacket | undefined {
  const alpha = packet.subarray(AT.alpha, AT.beta);
  const beta = packet.subarray(AT.beta, AT.gamma);
  const keys = hopKeys(agree(mix, alpha), hop, alpha);
  if (!equal(mac16(keys.mac, beta), packet.subarray(AT.gamma, AT.delta))) return undefined;
  const plain = xored(concat(beta, bytes(BLOCK)), rho(keys.stream, BETA + BLOCK));
  const delta = lioness(keys.payload, packet.subarray(AT.delta), true);
  const nextAlpha = agree({ secret: keys.blinding } as Dh, alpha);
  return {
    next: plain.slice(0, 32),
    delayMs: readNumber(plain, 32, 4),
    command: plain[36]!,
    zeros: plain.slice(37, 40),
    packet: concat(nextAlpha, plain.subarray(BLOCK), plain.subarray(40, BLOCK), delta),
    delta,
  };
}

/** Any hops, of which nobody has the keys. */
export const anyHops = (count: number, epoch: number): MessageHop[] =>
  Array.from({ length: Math.min(count, MAX_HOPS) }, () => ({
    nodeId: random(32),
    epoch,
    mixX25519: newDh().publicKey,
  }));
