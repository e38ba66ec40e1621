import { AEAD_TAG_BYTES, type CryptoSuite } from './suite.ts';

/** How many bytes of keystream aeadOpenPadded puts behind the plaintext. */
export const PAD_BYTES = AEAD_TAG_BYTES;

const BLOCK_BYTES = 64;
// Scratch: a pad may lie on both sides of a block's end.
const stream = new Uint8Array(2 * BLOCK_BYTES);
const zeros = new Uint8Array(2 * BLOCK_BYTES);

/** aeadOpenPadded of suites whose AEAD does not give its keystream away: by seeking to where the ciphertext ends. */
export function openPadded(
  suite: Pick<CryptoSuite, 'aeadOpen' | 'chacha20Xor'>,
  out: Uint8Array,
  tag: Uint8Array,
  ciphertext: Uint8Array,
  ad: Uint8Array,
  nonce: Uint8Array,
  key: Uint8Array,
): boolean {
  const bytes = ciphertext.length;
  if (!suite.aeadOpen(out.subarray(0, bytes), tag, ciphertext, ad, nonce, key)) return false;
  // The data keystream begins at block 1 (RFC 8439 §2.8).
  suite.chacha20Xor(stream, zeros, nonce, 1 + Math.floor(bytes / BLOCK_BYTES), key);
  const from = bytes % BLOCK_BYTES;
  for (let i = 0; i < PAD_BYTES; i++) out[bytes + i] = stream[from + i]!;
  stream.fill(0);
  return true;
}
