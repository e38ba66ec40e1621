/**
 * Sphinx packets a second time, from the paper (Danezis and Goldberg, IEEE S&P 2009) and docs/protocol.md §9 alone, on
 * node:crypto (BLAKE2b from noble, since OpenSSL's has no key): plain and slow, to check core/sphinx against. Shares nothing with it.
 */
import {
  createCipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { blake2b } from '@noble/hashes/blake2.js';

export interface ReferenceHop {
  readonly nodeId: Buffer;
  /** Public X25519 mix key. */
  readonly y: Buffer;
  readonly epoch: number;
  readonly delayMs: number;
}

const BETA = 392;
const BLOCK = 56;
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const X25519_SPKI = Buffer.from('302a300506032b656e032100', 'hex');
const BASE = Buffer.concat([Buffer.of(9), Buffer.alloc(31)]);

const privateKey = (scalar: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([X25519_PKCS8, scalar]), format: 'der', type: 'pkcs8' });
const publicKey = (point: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([X25519_SPKI, point]), format: 'der', type: 'spki' });

export const multiply = (scalar: Uint8Array, point: Uint8Array): Buffer =>
  diffieHellman({ privateKey: privateKey(scalar), publicKey: publicKey(point) });
export const publicOf = (secret: Uint8Array): Buffer => multiply(secret, BASE);

const xor = (a: Uint8Array, b: Uint8Array): Buffer => Buffer.from(a.map((byte, i) => byte ^ b[i]!));

/** ρ(k), as many bytes as asked for. */
const rho = (key: Uint8Array, length: number): Buffer =>
  createCipheriv('chacha20', key, Buffer.alloc(16)).update(Buffer.alloc(length));

const mac = (key: Uint8Array, data: Uint8Array, length: number): Buffer =>
  Buffer.from(blake2b(data, { key, dkLen: length }));

interface Keys {
  readonly stream: Buffer;
  readonly mac: Buffer;
  readonly payload: Buffer;
  readonly blinding: Buffer;
  readonly tag: Buffer;
}

function keysOf(secret: Uint8Array, node: { nodeId: Buffer; epoch: number; y: Buffer }, alpha: Uint8Array): Keys {
  const epoch = Buffer.alloc(8);
  epoch.writeBigUInt64BE(BigInt(node.epoch));
  const info = Buffer.concat([Buffer.from('nyx1 sphinx hop'), node.nodeId, epoch, node.y, alpha]);
  const okm = Buffer.from(hkdfSync('sha256', secret, '', info, 144));
  return {
    stream: okm.subarray(0, 32),
    mac: okm.subarray(32, 64),
    payload: okm.subarray(64, 96),
    blinding: okm.subarray(96, 128),
    tag: okm.subarray(128),
  };
}

const roundKeys = (key: Uint8Array): Buffer[] => {
  const all = rho(key, 128);
  return [0, 1, 2, 3].map((i) => all.subarray(32 * i, 32 * i + 32));
};

export function lionessEncrypt(key: Uint8Array, block: Uint8Array): Buffer {
  const [k1, k2, k3, k4] = roundKeys(key);
  let left: Buffer = Buffer.from(block.subarray(0, 32));
  let right: Buffer = Buffer.from(block.subarray(32));
  right = xor(right, rho(xor(left, k1!), right.length));
  left = xor(left, mac(k2!, right, 32));
  right = xor(right, rho(xor(left, k3!), right.length));
  left = xor(left, mac(k4!, right, 32));
  return Buffer.concat([left, right]);
}

export function lionessDecrypt(key: Uint8Array, block: Uint8Array): Buffer {
  const [k1, k2, k3, k4] = roundKeys(key);
  let left: Buffer = Buffer.from(block.subarray(0, 32));
  let right: Buffer = Buffer.from(block.subarray(32));
  left = xor(left, mac(k4!, right, 32));
  right = xor(right, rho(xor(left, k3!), right.length));
  left = xor(left, mac(k2!, right, 32));
  right = xor(right, rho(xor(left, k1!), right.length));
  return Buffer.concat([left, right]);
}

/** `random`: the sender's secret (32), what stands behind the last block (392, of which the middle is used), the last γ field (16). */
export function makeHeader(
  hops: readonly ReferenceHop[],
  command: number,
  target: Uint8Array,
  random: Buffer,
): { readonly header: Buffer; readonly payloadKeys: Buffer[] } {
  const n = hops.length;
  const x = random.subarray(0, 32);
  const alphas: Buffer[] = [];
  const keys: Keys[] = [];
  for (let i = 0; i < n; i++) {
    alphas.push(i === 0 ? publicOf(x) : multiply(keys[i - 1]!.blinding, alphas[i - 1]!));
    let secret = multiply(x, hops[i]!.y);
    for (let j = 0; j < i; j++) secret = multiply(keys[j]!.blinding, secret);
    // What a sender computes from his secrets, the hop computes from its own and α: checked where the hop's is known.
    keys.push(keysOf(secret, hops[i]!, alphas[i]!));
  }
  let filler: Buffer = Buffer.alloc(0);
  for (let i = 0; i + 1 < n; i++) {
    const from = BETA - BLOCK * i;
    filler = xor(Buffer.concat([filler, Buffer.alloc(BLOCK)]), rho(keys[i]!.stream, BETA + BLOCK).subarray(from));
  }
  let beta: Buffer = Buffer.alloc(0);
  let gamma: Buffer = Buffer.alloc(0);
  for (let i = n - 1; i >= 0; i--) {
    const delay = Buffer.alloc(4);
    delay.writeUInt32BE(hops[i]!.delayMs);
    const last = i === n - 1;
    const block = Buffer.concat([
      last ? Buffer.concat([target, Buffer.alloc(32 - target.length)]) : hops[i + 1]!.nodeId,
      delay,
      Buffer.of(last ? command : 0, 0, 0, 0),
      last ? random.subarray(424, 440) : gamma,
    ]);
    const stream = rho(keys[i]!.stream, BETA);
    if (last) {
      const own = BETA - filler.length;
      beta = Buffer.concat([xor(Buffer.concat([block, random.subarray(32 + BLOCK, 32 + own)]), stream), filler]);
    } else {
      beta = xor(Buffer.concat([block, beta.subarray(0, BETA - BLOCK)]), stream);
    }
    gamma = mac(keys[i]!.mac, beta, 16);
  }
  return { header: Buffer.concat([alphas[0]!, beta, gamma]), payloadKeys: keys.map(({ payload }) => payload) };
}

export function makePacket(hops: readonly ReferenceHop[], message: Uint8Array, random: Buffer): Buffer {
  const { header, payloadKeys } = makeHeader(hops, 1, Buffer.alloc(0), random);
  let delta: Buffer = Buffer.concat([Buffer.alloc(16), message, Buffer.alloc(784 - message.length)]);
  for (const key of payloadKeys.toReversed()) delta = lionessEncrypt(key, delta);
  return Buffer.concat([header, delta]);
}

/** `random`: as makeHeader's, then the block's key (32). */
export function makeReplyBlock(
  hops: readonly ReferenceHop[],
  replyId: Uint8Array,
  random: Buffer,
): { readonly block: Buffer; readonly keys: Buffer[] } {
  const { header, payloadKeys } = makeHeader(hops, 2, replyId, random);
  const key = random.subarray(440, 472);
  return { block: Buffer.concat([hops[0]!.nodeId, header, key]), keys: [key, ...payloadKeys] };
}

export function packetFromBlock(block: Buffer, message: Uint8Array): Buffer {
  const delta = Buffer.concat([Buffer.alloc(16), message, Buffer.alloc(784 - message.length)]);
  return Buffer.concat([block.subarray(32, 472), lionessEncrypt(block.subarray(472), delta)]);
}

/** The message, or undefined. */
export function openReplyPlainly(keys: readonly Uint8Array[], reply: Uint8Array): Buffer | undefined {
  let delta: Buffer = Buffer.from(reply);
  for (const key of keys.slice(1).toReversed()) delta = lionessEncrypt(key, delta);
  delta = lionessDecrypt(keys[0]!, delta);
  return delta.subarray(0, 16).every((byte) => byte === 0) ? delta.subarray(16) : undefined;
}

export interface ReferenceResult {
  readonly command: number;
  readonly delayMs: number;
  /** First 32 bytes of the block. */
  readonly target: Buffer;
  readonly tag: Buffer;
  /** What goes on; at the last hop, where nothing does, the same with what δ has become. */
  readonly next: Buffer;
}

/** Undefined: refused. */
export function processPacket(
  node: { readonly nodeId: Buffer; readonly epoch: number; readonly secret: Buffer },
  packet: Buffer,
): ReferenceResult | undefined {
  const [alpha, beta, gamma, delta] = [
    packet.subarray(0, 32),
    packet.subarray(32, 424),
    packet.subarray(424, 440),
    packet.subarray(440),
  ];
  const keys = keysOf(multiply(node.secret, alpha), { ...node, y: publicOf(node.secret) }, alpha);
  if (!mac(keys.mac, beta, 16).equals(gamma)) return undefined;
  const opened = xor(Buffer.concat([beta, Buffer.alloc(BLOCK)]), rho(keys.stream, BETA + BLOCK));
  const block = opened.subarray(0, BLOCK);
  const next = Buffer.concat([
    multiply(keys.blinding, alpha),
    opened.subarray(BLOCK),
    block.subarray(40),
    lionessDecrypt(keys.payload, delta),
  ]);
  return { command: block[36]!, delayMs: block.readUInt32BE(32), target: block.subarray(0, 32), tag: keys.tag, next };
}
