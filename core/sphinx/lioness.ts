/**
 * LIONESS (Anderson and Biham, 1996): a permutation of a whole payload in which every bit of the output depends on every
 * bit of the input, from ChaCha20 and keyed BLAKE2b. Whoever changes one bit on the way gets a random payload.
 *
 *   R ⊕= S(L ⊕ k1);  L ⊕= H(k2, R);  R ⊕= S(L ⊕ k3);  L ⊕= H(k4, R)
 */
import { ZERO_NONCE } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';

const LEFT_BYTES = 32;
const ROUND_KEYS_BYTES = 4 * 32;

/** Scratch memory for one caller; holds keys only while a call lasts. */
export class Lioness {
  readonly #suite: CryptoSuite;
  readonly #roundKeys = new Uint8Array(ROUND_KEYS_BYTES);
  readonly #keys = [0, 1, 2, 3].map((i) => this.#roundKeys.subarray(32 * i, 32 * i + 32));
  readonly #mixed = new Uint8Array(LEFT_BYTES);

  constructor(suite: CryptoSuite) {
    this.#suite = suite;
  }

  /** Encrypts `block` (more than 32 bytes) in place under a 32-byte key. */
  encrypt(key: Uint8Array, block: Uint8Array): void {
    const left = block.subarray(0, LEFT_BYTES);
    const right = block.subarray(LEFT_BYTES);
    this.#expand(key);
    this.#stream(0, left, right);
    this.#hash(1, left, right);
    this.#stream(2, left, right);
    this.#hash(3, left, right);
    this.#wipe();
  }

  /** Undoes encrypt(). */
  decrypt(key: Uint8Array, block: Uint8Array): void {
    const left = block.subarray(0, LEFT_BYTES);
    const right = block.subarray(LEFT_BYTES);
    this.#expand(key);
    this.#hash(3, left, right);
    this.#stream(2, left, right);
    this.#hash(1, left, right);
    this.#stream(0, left, right);
    this.#wipe();
  }

  #expand(key: Uint8Array): void {
    this.#roundKeys.fill(0);
    this.#suite.chacha20Xor(this.#roundKeys, this.#roundKeys, ZERO_NONCE, 0, key);
  }

  #stream(round: number, left: Uint8Array, right: Uint8Array): void {
    const key = this.#keys[round]!;
    for (let i = 0; i < LEFT_BYTES; i++) this.#mixed[i] = left[i]! ^ key[i]!;
    this.#suite.chacha20Xor(right, right, ZERO_NONCE, 0, this.#mixed);
  }

  #hash(round: number, left: Uint8Array, right: Uint8Array): void {
    this.#suite.blake2b(this.#mixed, this.#keys[round]!, right);
    for (let i = 0; i < LEFT_BYTES; i++) left[i]! ^= this.#mixed[i]!;
  }

  #wipe(): void {
    this.#suite.wipe(this.#roundKeys, this.#mixed);
  }
}
