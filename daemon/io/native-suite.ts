/**
 * The suite of the daemon. For every packet OpenSSL's vector code, called directly (openssl-packet.ts), or libsodium where
 * that can't be had; OpenSSL by node:crypto of Node 26 for handshakes.
 *
 * sodium-native's own wrapper asserts a dozen things per call; a packet can't pay for that, so this calls the binding
 * itself. The binding trusts its caller with memory: the lengths are asserted here, before every call.
 */
import * as nodeCrypto from 'node:crypto';
import { createRequire } from 'node:module';
import { blake3 } from '@nyx/core/crypto/blake3.ts';
import {
  assertAeadLengths,
  assertBlake2bLengths,
  assertLength,
  assertStreamLengths,
} from '@nyx/core/crypto/lengths.ts';
import { openPadded, PAD_BYTES } from '@nyx/core/crypto/open-padded.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SEED_BYTES,
  ED25519_SIGNATURE_BYTES,
  type KemKeyPair,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  MLKEM768_SEED_BYTES,
  type SignKeyPair,
} from '@nyx/core/crypto/suite.ts';
import { x25519Multiply, x25519Pair } from './native-x25519.ts';
import {
  loadPacketCipher,
  MAX_AD_BYTES,
  MAX_PADDED_BYTES,
  MIN_PADDED_BYTES,
  type PacketCipher,
} from './openssl-packet.ts';

/** The functions of sodium-native/binding that are used here; they return 0, or −1 for a bad tag. */
interface SodiumBinding {
  crypto_aead_chacha20poly1305_ietf_encrypt_detached(
    ciphertext: Uint8Array,
    tag: Uint8Array,
    plaintext: Uint8Array,
    ad: Uint8Array | undefined,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number;
  crypto_aead_chacha20poly1305_ietf_decrypt_detached(
    plaintext: Uint8Array,
    ciphertext: Uint8Array,
    tag: Uint8Array,
    ad: Uint8Array | undefined,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number;
  crypto_stream_chacha20_ietf_xor_ic(
    out: Uint8Array,
    input: Uint8Array,
    nonce: Uint8Array,
    blockCounter: number,
    key: Uint8Array,
  ): number;
  /** Each as buffer, offset and length. */
  crypto_sign_verify_detached(
    signature: ArrayBufferLike,
    signatureOffset: number,
    signatureLength: number,
    message: ArrayBufferLike,
    messageOffset: number,
    messageLength: number,
    publicKey: ArrayBufferLike,
    publicKeyOffset: number,
    publicKeyLength: number,
  ): boolean;
  /** Each as buffer, offset and length. */
  crypto_generichash(
    output: ArrayBufferLike,
    outputOffset: number,
    outputLength: number,
    input: ArrayBufferLike,
    inputOffset: number,
    inputLength: number,
    key: ArrayBufferLike,
    keyOffset: number,
    keyLength: number,
  ): number;
  crypto_generichash_batch(output: Uint8Array, parts: Uint8Array[], useKey: boolean, key: Uint8Array): number;
}

const sodium: SodiumBinding = createRequire(import.meta.url)('sodium-native/binding');

/** Shorter texts than this go to libsodium: nearly all are views made for one call, and looking up an address costs. */
const MIN_DIRECT_BYTES = 1024;

/** The native suite; with `null` libsodium alone does the packets. One can be shared. Throws at import where sodium-native has no build. */
export function createNativeSuite(
  cipher: PacketCipher | null = loadPacketCipher(),
  minDirectBytes: number = MIN_DIRECT_BYTES,
): CryptoSuite {
  const suite: CryptoSuite = {
    name: 'native',

    aeadSeal(out, tag, plaintext, ad, nonce, key) {
      assertAeadLengths(out, tag, plaintext, nonce, key);
      if (cipher !== null && plaintext.length >= minDirectBytes && ad.length <= MAX_AD_BYTES) {
        cipher.seal(out, tag, plaintext, ad, nonce, key);
        return;
      }
      sodium.crypto_aead_chacha20poly1305_ietf_encrypt_detached(out, tag, plaintext, ad, nonce, key);
    },

    aeadOpen(out, tag, ciphertext, ad, nonce, key) {
      assertAeadLengths(out, tag, ciphertext, nonce, key);
      if (cipher !== null && ciphertext.length >= minDirectBytes && ad.length <= MAX_AD_BYTES) {
        return cipher.open(out, tag, ciphertext, ad, nonce, key);
      }
      return sodium.crypto_aead_chacha20poly1305_ietf_decrypt_detached(out, ciphertext, tag, ad, nonce, key) === 0;
    },

    aeadOpenPadded(out, tag, ciphertext, ad, nonce, key) {
      const { length } = ciphertext;
      assertAeadLengths(out, tag, ciphertext, nonce, key, PAD_BYTES);
      const isDirect = length > MIN_PADDED_BYTES && length <= MAX_PADDED_BYTES && ad.length <= MAX_AD_BYTES;
      if (cipher !== null && isDirect) return cipher.openPadded(out, tag, ciphertext, ad, nonce, key);
      return openPadded(suite, out, tag, ciphertext, ad, nonce, key);
    },

    chacha20Xor(out, input, nonce, blockCounter, key) {
      // Running over the counter's end is not an error code in libsodium: it aborts the process.
      assertStreamLengths(out, input, nonce, blockCounter, key);
      if (cipher !== null) {
        cipher.xor(out, input, nonce, blockCounter, key);
        return;
      }
      sodium.crypto_stream_chacha20_ietf_xor_ic(out, input, nonce, blockCounter, key);
    },

    blake2b(out, key, input) {
      assertBlake2bLengths(out, key);
      const failed = sodium.crypto_generichash(
        out.buffer,
        out.byteOffset,
        out.length,
        input.buffer,
        input.byteOffset,
        input.length,
        key.buffer,
        key.byteOffset,
        key.length,
      );
      if (failed !== 0) throw new Error('BLAKE2b failed');
    },

    x25519Multiply,

    sha256(...parts) {
      const hash = nodeCrypto.createHash('sha256');
      for (const part of parts) hash.update(part);
      return plain(hash.digest());
    },

    hkdf: (inputKey, salt, info, lengthBytes) =>
      new Uint8Array(nodeCrypto.hkdfSync('sha256', inputKey, salt, info, lengthBytes)),

    blake3,

    mac16(key, ...parts) {
      assertLength('MAC key', key, 32);
      const mac = new Uint8Array(16);
      if (sodium.crypto_generichash_batch(mac, parts, true, key) !== 0) throw new Error('BLAKE2b failed');
      return mac;
    },

    x25519: x25519Pair,
    mlkem768: mlkem768Pair,
    mlkem768Encapsulate,
    ed25519: ed25519Pair,

    ed25519Verify(publicKey, message, signature) {
      if (publicKey.length !== ED25519_PUBLIC_KEY_BYTES || signature.length !== ED25519_SIGNATURE_BYTES) return false;
      // libsodium takes half the time of OpenSSL, which shows in a view of ten thousand nodes.
      return sodium.crypto_sign_verify_detached(
        signature.buffer,
        signature.byteOffset,
        signature.length,
        message.buffer,
        message.byteOffset,
        message.length,
        publicKey.buffer,
        publicKey.byteOffset,
        publicKey.length,
      );
    },

    equal: (a, b) => a.length === b.length && nodeCrypto.timingSafeEqual(a, b),

    wipe(...buffers) {
      for (const buffer of buffers) buffer.fill(0);
      cipher?.wipe();
    },
  };
  return suite;
}

function mlkem768Pair(seed: Uint8Array): KemKeyPair {
  assertLength('ML-KEM-768 seed', seed, MLKEM768_SEED_BYTES);
  const held = holdPrivate(seed, 'ml-kem-768', 'raw-seed');
  return {
    publicKey: held.publicKey,
    decapsulate(ciphertext) {
      assertLength('ML-KEM-768 ciphertext', ciphertext, MLKEM768_CIPHERTEXT_BYTES);
      return plainSecret(nodeCrypto.decapsulate(held.use(), ciphertext));
    },
    wipe: held.wipe,
  };
}

function mlkem768Encapsulate(
  publicKey: Uint8Array,
  coins: Uint8Array,
  keep = false,
): { ciphertext: Uint8Array; sharedSecret: Uint8Array } | undefined {
  assertLength('ML-KEM-768 public key', publicKey, MLKEM768_PUBLIC_KEY_BYTES);
  assertLength('ML-KEM-768 coins', coins, 32);
  const key = keep ? knownKemKeys.get(publicKey) : importPublic(publicKey, 'ml-kem-768');
  if (key === undefined) return undefined;
  const { ciphertext, sharedKey } = nodeCrypto.encapsulate(key);
  return { ciphertext: plain(ciphertext), sharedSecret: plainSecret(sharedKey) };
}

interface KnownKey {
  readonly bytes: Uint8Array;
  readonly key: nodeCrypto.KeyObject;
}

/** Imported ML-KEM keys of nodes that circuits have led over, the latest; importing one costs as much as using it. */
class KnownKemKeys {
  readonly #limit: number;
  readonly #keys = new Map<string, KnownKey>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(publicKey: Uint8Array): nodeCrypto.KeyObject | undefined {
    const name = Buffer.from(publicKey.buffer, publicKey.byteOffset, KNOWN_NAME_BYTES).toString('latin1');
    const known = this.#keys.get(name);
    // The beginning of a key is as good as random, but whoever makes a second one with it must gain nothing.
    if (known !== undefined && Buffer.compare(known.bytes, publicKey) === 0) {
      this.#keep(name, known);
      return known.key;
    }
    const key = importPublic(publicKey, 'ml-kem-768');
    if (key !== undefined) this.#keep(name, { bytes: new Uint8Array(publicKey), key });
    return key;
  }

  /** As the latest; the one that was used longest ago makes room. */
  #keep(name: string, known: KnownKey): void {
    this.#keys.delete(name);
    if (this.#keys.size >= this.#limit) this.#keys.delete(this.#keys.keys().next().value!);
    this.#keys.set(name, known);
  }
}

const KNOWN_NAME_BYTES = 24;
const knownKemKeys = new KnownKemKeys(64);

function ed25519Pair(seed: Uint8Array): SignKeyPair {
  assertLength('Ed25519 seed', seed, ED25519_SEED_BYTES);
  const held = holdPrivate(seed, 'ed25519', 'raw-private');
  return {
    publicKey: held.publicKey,
    sign: (message) => plain(nodeCrypto.sign(null, message, held.use())),
    wipe: held.wipe,
  };
}

type KeyType = 'ed25519' | 'ml-kem-768';

/** A private key inside OpenSSL, which clears it when the object is collected; `wipe` gives up the only reference. */
function holdPrivate(secret: Uint8Array, type: KeyType, format: 'raw-private' | 'raw-seed') {
  let key: nodeCrypto.KeyObject | undefined = nodeCrypto.createPrivateKey({
    key: secret,
    format,
    asymmetricKeyType: type,
  });
  return {
    publicKey: plain(nodeCrypto.createPublicKey(key).export({ format: 'raw-public' })),
    use(): nodeCrypto.KeyObject {
      if (key === undefined) throw new Error(`${type} key was wiped`);
      return key;
    },
    wipe(): void {
      key = undefined;
    },
  };
}

/** Undefined when OpenSSL finds the key malformed (e.g. ML-KEM coefficients not reduced). */
function importPublic(publicKey: Uint8Array, type: KeyType): nodeCrypto.KeyObject | undefined {
  try {
    return nodeCrypto.createPublicKey({ key: publicKey, format: 'raw-public', asymmetricKeyType: type });
  } catch (error) {
    if (codeOf(error) === 'ERR_INVALID_ARG_VALUE') return undefined;
    throw error;
  }
}

/** A Uint8Array of its own memory: Buffers compare unequal to plain arrays and may share a pool. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

function plainSecret(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes);
  bytes.fill(0);
  return copy;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
