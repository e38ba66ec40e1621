/**
 * Deterministic CBOR (RFC 8949 §4.2.1) of plain maps, and the checks that a decoded map has exactly the fields and
 * types it should. What is signed has one encoding only.
 */
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { isCanonicalCbor } from './canonical-cbor.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';

export function encodeCbor(value: unknown): Uint8Array {
  return new Uint8Array(encode(value, rfc8949EncodeOptions));
}

/**
 * Decodes one value. Throws DirectoryError MALFORMED for indefinite lengths, duplicate keys, integers not in their
 * shortest form, trailing bytes, and whatever else would not come out as the same bytes again.
 */
export function decodeCbor(bytes: Uint8Array, what: string): unknown {
  // What the decoder lets pass: keys out of order, floats that are integers, forms longer than needed.
  if (!isCanonicalCbor(bytes)) {
    throw new DirectoryError(DirectoryErrorCode.malformed, `${what} is not deterministic CBOR: not the canonical form`);
  }
  try {
    return decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowBigInt: false,
      allowInfinity: false,
      allowNaN: false,
      rejectDuplicateMapKeys: true,
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DirectoryError(DirectoryErrorCode.malformed, `${what} is not deterministic CBOR: ${reason}`, {
      cause: error,
    });
  }
}

/** Reads typed, bounded fields out of a decoded map; every complaint names the field. */
export class FieldReader {
  readonly #map: Record<string, unknown>;
  readonly #what: string;

  /** Throws unless `value` is a map whose keys are among `keys`. */
  constructor(value: unknown, what: string, keys: readonly string[]) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
      throw new DirectoryError(DirectoryErrorCode.malformed, `${what} is not a map`);
    }
    this.#map = value as Record<string, unknown>;
    this.#what = what;
    for (const key of Object.keys(value)) {
      if (!keys.includes(key)) throw this.bad(key, 'is not a field of this version');
    }
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#map, key);
  }

  get(key: string): unknown {
    return Object.hasOwn(this.#map, key) ? this.#map[key] : undefined;
  }

  integer(key: string, min: number, max: number): number {
    const value = this.get(key);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      throw this.bad(key, `must be an integer of ${min} to ${max}, is ${showValue(value)}`);
    }
    return value;
  }

  boolean(key: string): boolean {
    const value = this.get(key);
    if (typeof value !== 'boolean') throw this.bad(key, `must be true or false, is ${showValue(value)}`);
    return value;
  }

  bytes(key: string, length: number): Uint8Array {
    const value = this.get(key);
    if (!(value instanceof Uint8Array) || value.length !== length) {
      throw this.bad(key, `must be ${length} bytes, is ${showValue(value)}`);
    }
    // A view of the whole input would keep that alive; what the decoder has copied need not be copied again.
    return value.byteLength === value.buffer.byteLength ? value : new Uint8Array(value);
  }

  text(key: string, pattern: RegExp, meaning: string): string {
    const value = this.get(key);
    if (typeof value !== 'string' || !pattern.test(value))
      throw this.bad(key, `must be ${meaning}, is ${showValue(value)}`);
    return value;
  }

  array(key: string, min: number, max: number): readonly unknown[] {
    const value = this.get(key);
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw this.bad(key, `must be a list of ${min} to ${max}, is ${showValue(value)}`);
    }
    return value;
  }

  bad(key: string, problem: string): DirectoryError {
    return new DirectoryError(DirectoryErrorCode.badField, `${this.#what}: ${key.slice(0, 40)} ${problem}`);
  }
}

/** A decoded value as an error shows it: short, and never by the value's own methods, which came from outside. */
export function showValue(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`;
}
