/**
 * ChaCha20 and Poly1305 of the OpenSSL inside Node, called directly: its vector code takes half the time of libsodium's
 * portable build (bench/primitives.ts), and node:crypto's own way to it costs ten times the work (ADR 13).
 *
 * Here is only the arrangement of the two as RFC 8439 §2.8 has it; native-suite.ts asserts all lengths before. The
 * symbols are not part of OpenSSL's public API, so they are taken only where they are found and the example of
 * RFC 8439 §2.8.2 comes out right; elsewhere libsodium does everything.
 *
 * The calls take addresses. Short inputs are copied to one block of memory whose address is known; that of a long one is
 * looked up once in its life and kept with it. A view whose memory was given away has length 0 and is refused before.
 */
import { type Address, pointers, requireFfi } from './ffi.ts';

export interface PacketCipher {
  /** RFC 8439 §2.8; `ad` of at most 16 bytes. Lengths are the caller's to have checked. */
  seal(
    out: Uint8Array,
    tag: Uint8Array,
    plaintext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): void;
  /** False: the tag is wrong, and `out` is untouched. */
  open(
    out: Uint8Array,
    tag: Uint8Array,
    ciphertext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean;
  /** Likewise for more than MIN_PADDED_BYTES and at most MAX_PADDED_BYTES; `out` is 16 bytes longer and ends in the keystream that follows. */
  openPadded(
    out: Uint8Array,
    tag: Uint8Array,
    ciphertext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean;
  /** RFC 8439 §2.4. */
  xor(out: Uint8Array, input: Uint8Array, nonce: Uint8Array, blockCounter: number, key: Uint8Array): void;
  /** Erases what the last call left: the key and its keystream. */
  wipe(): void;
}

/** Longest `ad` that seal and open take. */
export const MAX_AD_BYTES = 16;

/** Where a view is, and where the part behind its first stride is. */
interface Place {
  readonly start: Address;
  readonly second: Address;
  /** That part, where it was asked for. */
  rest: Uint8Array | undefined;
}

const BLOCK_BYTES = 64;
/**
 * With AVX-512 OpenSSL makes sixteen blocks at once, and sixteen more for whatever is left over: 1240 bytes cost as much
 * as 2048. What is left over costs half of that as a call of its own, up to SHORT_BYTES.
 */
const STRIDE_BYTES = 1024;
const SHORT_BYTES = 512;
const PAD_BYTES = 16;
/** Lengths of a ciphertext between which openPadded takes it. */
export const MIN_PADDED_BYTES = STRIDE_BYTES;
export const MAX_PADDED_BYTES = STRIDE_BYTES + SHORT_BYTES - PAD_BYTES;
// Offsets in the block of memory that the calls work on.
const KEY = 0;
const COUNTER = 32;
/** Block 0 of a packet's keystream; its first half is the Poly1305 key. */
const STREAM = 64;
const ZEROS = 128;
const AD = 192;
/** What follows the ciphertext under the MAC: up to 15 zeros and two lengths. */
const LENGTHS = 208;
const TAG = 240;
const MAC_STATE = 256;
/** OpenSSL 3 wants 176 to 248 bytes, by processor; Poly1305_ctx_size() is checked against this. */
const MAC_STATE_BYTES = 1024;
/** The end of a ciphertext, and zeros. */
const REST = MAC_STATE + MAC_STATE_BYTES;

/** Undefined = not tried yet. */
let loaded: PacketCipher | null | undefined;

/** Null where this Node has no FFI, hides the symbols, or they give a wrong answer. */
export function loadPacketCipher(): PacketCipher | null {
  if (loaded === undefined) {
    try {
      const cipher = bindCipher();
      loaded = knownAnswer(cipher) ? cipher : null;
    } catch {
      // No such module, a refusal (--permission) or a missing symbol: all mean the same.
      loaded = null;
    }
  }
  return loaded;
}

function bindCipher(): PacketCipher {
  const ffi = requireFfi();
  // Sizes are declared as pointers: the same register, and Node passes signatures of pointers alone without a check of
  // each argument (7 ns a call against 280).
  const { functions } = ffi.dlopen(null, {
    ChaCha20_ctr32: pointers(5),
    Poly1305_Init: pointers(2),
    Poly1305_Update: pointers(3),
    Poly1305_Final: pointers(2),
  });
  const chacha20 = functions.ChaCha20_ctr32!;
  const macInit = functions.Poly1305_Init!;
  const macUpdate = functions.Poly1305_Update!;
  const macFinal = functions.Poly1305_Final!;
  const stateSize = ffi.dlopen(null, { Poly1305_ctx_size: { arguments: [], return: 'u64' } }).functions;
  const stateBytes = Number((stateSize.Poly1305_ctx_size as unknown as () => bigint)());
  if (!(stateBytes > 0 && stateBytes <= MAC_STATE_BYTES)) throw new Error(`Poly1305 state of ${stateBytes} bytes`);

  const memory = new Uint8Array(REST + SHORT_BYTES);
  const at = ffi.getRawPointer(memory);
  const place = (offset: number): Address => at + BigInt(offset);
  const [key, counter, stream, zeros, ad] = [place(KEY), place(COUNTER), place(STREAM), place(ZEROS), place(AD)];
  const [lengths, tag, state, rest] = [place(LENGTHS), place(TAG), place(MAC_STATE), place(REST)];
  const sixteen = 16n;
  const block = BigInt(BLOCK_BYTES);
  const stride = BigInt(STRIDE_BYTES);
  /** Lengths as the calls want them. Of packets only: one entry far behind the others would turn the array into a hash table. */
  const sizes = Array.from({ length: 2 * STRIDE_BYTES }, (_, bytes) => BigInt(bytes));
  const size = (bytes: number): Address => (bytes < sizes.length ? sizes[bytes]! : BigInt(bytes));

  const places = new WeakMap<Uint8Array, Place>();
  const placeOf = (view: Uint8Array): Place => {
    let found = places.get(view);
    if (found === undefined) {
      const start = ffi.getRawPointer(view);
      found = { start, second: start + stride, rest: undefined };
      places.set(view, found);
    }
    return found;
  };
  /** What a call is working on stays reachable until the next one. */
  const held: [Uint8Array, Uint8Array] = [memory, memory];

  const setKey = (keyBytes: Uint8Array, nonce: Uint8Array): void => {
    for (let i = 0; i < 32; i++) memory[KEY + i] = keyBytes[i]!;
    for (let i = 0; i < 12; i++) memory[COUNTER + 4 + i] = nonce[i]!;
  };
  const setCounter = (blockCounter: number): void => {
    memory[COUNTER] = blockCounter;
    memory[COUNTER + 1] = blockCounter >>> 8;
    memory[COUNTER + 2] = blockCounter >>> 16;
    memory[COUNTER + 3] = blockCounter >>> 24;
  };

  /** XORs `bytes` of `from` with the keystream from block `blockCounter` on. Key and nonce are set. */
  const xorStream = (to: Place, from: Place, bytes: number, blockCounter: number): void => {
    setCounter(blockCounter);
    if (bytes > STRIDE_BYTES && bytes <= STRIDE_BYTES + SHORT_BYTES) {
      chacha20(to.start, from.start, stride, key, counter);
      setCounter(blockCounter + STRIDE_BYTES / BLOCK_BYTES);
      chacha20(to.second, from.second, size(bytes - STRIDE_BYTES), key, counter);
    } else {
      chacha20(to.start, from.start, size(bytes), key, counter);
    }
  };

  /** The tag of RFC 8439 §2.8 over `adBytes` and the ciphertext at `text`, into TAG. Key and nonce are set. */
  const authenticate = (adBytes: Uint8Array, text: Address, textBytes: number): void => {
    setCounter(0);
    chacha20(stream, zeros, block, key, counter);
    macInit(state, stream);
    const adLength = adBytes.length;
    if (adLength > 0) {
      for (let i = 0; i < 16; i++) memory[AD + i] = i < adLength ? adBytes[i]! : 0;
      macUpdate(state, ad, sixteen);
    }
    macUpdate(state, text, size(textBytes));
    const padding = -textBytes & 15;
    for (let i = 0; i < padding + 16; i++) memory[LENGTHS + i] = 0;
    const end = LENGTHS + padding;
    memory[end] = adLength;
    memory[end + 8] = textBytes;
    memory[end + 9] = textBytes >>> 8;
    memory[end + 10] = textBytes >>> 16;
    memory[end + 11] = textBytes >>> 24;
    macUpdate(state, lengths, size(padding + 16));
    macFinal(state, tag);
  };

  const verify = (tagIn: Uint8Array, adBytes: Uint8Array, text: Address, textBytes: number): boolean => {
    authenticate(adBytes, text, textBytes);
    let difference = 0;
    for (let i = 0; i < 16; i++) difference |= memory[TAG + i]! ^ tagIn[i]!;
    return difference === 0;
  };

  return {
    seal(out, tagOut, plaintext, adBytes, nonce, keyBytes) {
      held[0] = out;
      held[1] = plaintext;
      const bytes = plaintext.length;
      const to = placeOf(out);
      setKey(keyBytes, nonce);
      xorStream(to, placeOf(plaintext), bytes, 1);
      authenticate(adBytes, to.start, bytes);
      for (let i = 0; i < 16; i++) tagOut[i] = memory[TAG + i]!;
    },

    open(out, tagIn, ciphertext, adBytes, nonce, keyBytes) {
      held[0] = out;
      held[1] = ciphertext;
      const bytes = ciphertext.length;
      const from = placeOf(ciphertext);
      setKey(keyBytes, nonce);
      if (!verify(tagIn, adBytes, from.start, bytes)) return false;
      xorStream(placeOf(out), from, bytes, 1);
      return true;
    },

    openPadded(out, tagIn, ciphertext, adBytes, nonce, keyBytes) {
      held[0] = out;
      held[1] = ciphertext;
      const bytes = ciphertext.length;
      const from = placeOf(ciphertext);
      setKey(keyBytes, nonce);
      if (!verify(tagIn, adBytes, from.start, bytes)) return false;
      const to = placeOf(out);
      setCounter(1);
      chacha20(to.start, from.start, stride, key, counter);
      // What comes behind the ciphertext in memory is none of it.
      from.rest ??= ciphertext.subarray(STRIDE_BYTES);
      memory.set(from.rest, REST);
      const end = REST + bytes - STRIDE_BYTES;
      for (let i = 0; i < PAD_BYTES; i++) memory[end + i] = 0;
      setCounter(1 + STRIDE_BYTES / BLOCK_BYTES);
      chacha20(to.second, rest, size(bytes - STRIDE_BYTES + PAD_BYTES), key, counter);
      return true;
    },

    xor(out, input, nonce, blockCounter, keyBytes) {
      setKey(keyBytes, nonce);
      const bytes = input.length;
      if (bytes < BLOCK_BYTES) {
        setCounter(blockCounter);
        chacha20(stream, zeros, block, key, counter);
        for (let i = 0; i < bytes; i++) out[i] = input[i]! ^ memory[STREAM + i]!;
        return;
      }
      held[0] = out;
      held[1] = input;
      xorStream(placeOf(out), placeOf(input), bytes, blockCounter);
    },

    wipe() {
      memory.fill(0, 0, ZEROS);
      held[0] = memory;
      held[1] = memory;
    },
  };
}

/** The example of RFC 8439 §2.8.2, both ways, and a wrong tag. */
function knownAnswer(cipher: PacketCipher): boolean {
  const plaintext = Buffer.from(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
  const nonce = Buffer.from('070000004041424344454647', 'hex');
  const ad = Buffer.from('50515253c0c1c2c3c4c5c6c7', 'hex');
  const out = new Uint8Array(plaintext.length);
  const tag = new Uint8Array(16);
  cipher.seal(out, tag, plaintext, ad, nonce, key);
  if (Buffer.from(tag).toString('hex') !== '1ae10b594f09e26a7e902ecbd0600691') return false;
  const ciphertext = out.slice();
  if (!cipher.open(out, tag, ciphertext, ad, nonce, key) || !plaintext.equals(out)) return false;
  tag[15]! ^= 1;
  return !cipher.open(out, tag, ciphertext, ad, nonce, key);
}
