/**
 * Reed–Solomon erasure code over GF(2^8) for small blocks: any k of k + r symbols give back the k sources. The generator
 * is a Cauchy matrix (Bloemer et al., 1995), its columns scaled so that repair symbol 0 is the plain XOR of the sources:
 * c(r, i) = (x_0 ⊕ y_i) / (x_r ⊕ y_i) with x_r = 255 − r, y_i = i. Scaling columns keeps every square submatrix regular.
 */
import { type BlockCodec, CodecId, MAX_SOURCES, SYMBOL_WORDS, Symbols } from './block-codec.ts';
import { divide, invert, multiplyAdd } from './gf256.ts';

/** One symbol multiplied and added; XOR costs a third of it. */
const PRODUCT_US = 0.85;
const XOR_US = 0.3;
const CALL_US = 2;

export function coefficient(repair: number, source: number): number {
  return divide(255 ^ source, (255 - repair) ^ source);
}

export class ReedSolomon implements BlockCodec {
  readonly id = CodecId.reedSolomon;
  readonly capability = 'fec-rs1';
  readonly #matrix = new Uint8Array(MAX_SOURCES * MAX_SOURCES);
  readonly #inverse = new Uint8Array(MAX_SOURCES * MAX_SOURCES);
  /** What the repair symbols say of the missing ones alone. */
  #rest: Symbols | undefined;

  encode(sources: Symbols, k: number, repairs: number, into: Symbols): boolean {
    into.words.fill(0, 0, repairs * SYMBOL_WORDS);
    for (let repair = 0; repair < repairs; repair++) {
      for (let i = 0; i < k; i++) {
        const factor = coefficient(repair, i);
        multiplyAdd(into.words, repair * SYMBOL_WORDS, sources.words, i * SYMBOL_WORDS, SYMBOL_WORDS, factor);
      }
    }
    return true;
  }

  decode(
    sources: Symbols,
    k: number,
    missing: readonly number[],
    repairs: Symbols,
    repairIds: readonly number[],
  ): boolean {
    const n = missing.length;
    if (repairIds.length < n) return false;
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        this.#matrix[row * n + column] = coefficient(repairIds[row]!, missing[column]!);
      }
    }
    if (!invert(this.#matrix, this.#inverse, n)) return false;
    const rest = this.#scratch(n);
    rest.words.set(repairs.words.subarray(0, n * SYMBOL_WORDS));
    for (let row = 0; row < n; row++) {
      let next = 0;
      for (let i = 0; i < k; i++) {
        if (next < n && missing[next] === i) {
          next++;
          continue;
        }
        const factor = coefficient(repairIds[row]!, i);
        multiplyAdd(rest.words, row * SYMBOL_WORDS, sources.words, i * SYMBOL_WORDS, SYMBOL_WORDS, factor);
      }
    }
    for (let row = 0; row < n; row++) {
      const at = missing[row]! * SYMBOL_WORDS;
      sources.words.fill(0, at, at + SYMBOL_WORDS);
      for (let column = 0; column < n; column++) {
        const factor = this.#inverse[row * n + column]!;
        multiplyAdd(sources.words, at, rest.words, column * SYMBOL_WORDS, SYMBOL_WORDS, factor);
      }
    }
    return true;
  }

  costUs(k: number, repairs: number): number {
    return repairs === 0 ? 0 : CALL_US + k * (XOR_US + (repairs - 1) * PRODUCT_US);
  }

  #scratch(symbols: number): Symbols {
    if (this.#rest === undefined || this.#rest.count < symbols) this.#rest = new Symbols(symbols);
    return this.#rest;
  }
}
