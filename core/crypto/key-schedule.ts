/** Small helpers shared by the key derivations and nonces of link and onion (docs/protocol.md). */

const labelPrefix = 'nyx1 ';
const utf8 = new TextEncoder();
const labels = new Map<string, Uint8Array>();
/** Labels come from the code, never from the wire; the bound only guards against a mistake. */
const maxLabels = 256;

/** For salts, info strings and additional data that are empty. */
export const EMPTY: Uint8Array = new Uint8Array(0);

/** The nonce of keys that are used once (set-up, fillers). Must not be written to. */
export const ZERO_NONCE: Uint8Array = new Uint8Array(12);

/** Largest cell index: nonces and headers carry 48 bits. */
export const MAX_INDEX = 2 ** 48 - 1;

/**
 * UTF-8 of `'nyx1 ' + name`: the domain-separating `info` of a derivation. Memoised and shared: callers must not
 * write to it.
 */
export function nyxLabel(name: string): Uint8Array {
  let label = labels.get(name);
  if (label === undefined) {
    label = utf8.encode(labelPrefix + name);
    if (labels.size < maxLabels) labels.set(name, label);
  }
  return label;
}

/**
 * Writes the AEAD nonce of cell `index`: 6 zero bytes ‖ 48-bit big-endian index. `nonce` has 12 bytes; `index` is an
 * integer of 0…2^48−1 (not checked: packet path).
 */
export function writeIndexNonce(nonce: Uint8Array, index: number): void {
  const high = Math.floor(index / 0x1_0000_0000);
  const low = index >>> 0;
  nonce[0] = 0;
  nonce[1] = 0;
  nonce[2] = 0;
  nonce[3] = 0;
  nonce[4] = 0;
  nonce[5] = 0;
  nonce[6] = high >>> 8;
  nonce[7] = high;
  nonce[8] = low >>> 24;
  nonce[9] = low >>> 16;
  nonce[10] = low >>> 8;
  nonce[11] = low;
}
