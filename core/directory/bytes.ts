/** Writing and reading the directory's binary forms: big-endian, nothing is taken before it is known to be there. */
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}

export function joinBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Collects parts; `number` writes `lengthBytes` big-endian bytes of an integer below 2^48. */
export class ByteWriter {
  readonly #parts: Uint8Array[] = [];

  bytes(part: Uint8Array): this {
    this.#parts.push(part);
    return this;
  }

  number(value: number, lengthBytes: number): this {
    const part = new Uint8Array(lengthBytes);
    writeNumber(part, 0, value, lengthBytes);
    return this.bytes(part);
  }

  finish(): Uint8Array {
    return joinBytes(...this.#parts);
  }
}

export function writeNumber(into: Uint8Array, at: number, value: number, lengthBytes: number): void {
  let rest = value;
  for (let i = lengthBytes - 1; i >= 0; i--) {
    into[at + i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}

export function readNumber(from: Uint8Array, at: number, lengthBytes: number): number {
  let value = 0;
  for (let i = 0; i < lengthBytes; i++) value = value * 256 + from[at + i]!;
  return value;
}

/** Reads the parts of `bytes` in order. Throws DirectoryError MALFORMED or TOO_LARGE, naming `what`. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    // A Buffer's slice() would be a view of the caller's memory instead of a copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#what = what;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** Borrows: a view of the input. */
  view(length: number): Uint8Array {
    if (length > this.left) throw this.malformed(`ends ${length - this.left} bytes too early`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** A copy. */
  take(length: number): Uint8Array {
    return this.view(length).slice();
  }

  number(lengthBytes: number): number {
    return readNumber(this.view(lengthBytes), 0, lengthBytes);
  }

  /** A number of 4 bytes that is at most `max`. */
  length(max: number, name: string): number {
    const value = this.number(4);
    if (value > max) {
      throw new DirectoryError(
        DirectoryErrorCode.tooLarge,
        `${this.#what} has a ${name} of ${value}; at most ${max} are allowed`,
      );
    }
    return value;
  }

  /** Throws unless the next bytes are `magic` and the version after it is `version`. */
  expect(magic: Uint8Array, version: number): void {
    const found = this.view(magic.length);
    if (compareBytes(found, magic) !== 0) {
      throw this.malformed(`does not begin with ${String.fromCharCode(...magic)}`);
    }
    const foundVersion = this.number(1);
    if (foundVersion !== version) {
      throw new DirectoryError(
        DirectoryErrorCode.unsupportedVersion,
        `${this.#what} has version ${foundVersion}; this node reads version ${version}`,
      );
    }
  }

  end(): void {
    if (this.left > 0) throw this.malformed(`has ${this.left} bytes after its end`);
  }

  malformed(problem: string): DirectoryError {
    return new DirectoryError(DirectoryErrorCode.malformed, `${this.#what} ${problem}`);
  }
}

export const magicOf = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
