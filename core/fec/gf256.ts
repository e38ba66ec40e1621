/**
 * Arithmetic in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d, the one of RFC 5510 and RFC 6330 §5.7),
 * on symbols four bytes at a time. No secrets go through it: the tables' timing shows nothing.
 */
const POLYNOMIAL = 0x11d;

const exponents = new Uint8Array(510);
const logarithms = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i++) {
  exponents[i] = x;
  exponents[i + 255] = x;
  logarithms[x] = i;
  x <<= 1;
  if (x > 0xff) x ^= POLYNOMIAL;
}

/** Products of one factor with all bytes, made when first asked for. */
const rows: (Uint8Array | undefined)[] = new Array(256).fill(undefined);

export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : exponents[logarithms[a]! + logarithms[b]!]!;
}

/** `a` / `b`; `b` is not 0. */
export function divide(a: number, b: number): number {
  return a === 0 ? 0 : exponents[logarithms[a]! + 255 - logarithms[b]!]!;
}

/** into[at …] ^= factor · from[start …], `length` words of four bytes each. */
export function multiplyAdd(
  into: Uint32Array,
  at: number,
  from: Uint32Array,
  start: number,
  length: number,
  factor: number,
): void {
  if (factor === 0) return;
  if (factor === 1) {
    for (let i = 0; i < length; i++) into[at + i]! ^= from[start + i]!;
    return;
  }
  const row = rowOf(factor);
  for (let i = 0; i < length; i++) {
    const word = from[start + i]!;
    into[at + i]! ^=
      row[word & 0xff]! |
      (row[(word >>> 8) & 0xff]! << 8) |
      (row[(word >>> 16) & 0xff]! << 16) |
      (row[word >>> 24]! << 24);
  }
}

/** Inverts an n × n matrix (row-major) into `inverse`, destroying `matrix`; false when it has no inverse. */
export function invert(matrix: Uint8Array, inverse: Uint8Array, n: number): boolean {
  inverse.fill(0, 0, n * n);
  for (let i = 0; i < n; i++) inverse[i * n + i] = 1;
  for (let column = 0; column < n; column++) {
    let pivot = column;
    while (pivot < n && matrix[pivot * n + column] === 0) pivot++;
    if (pivot === n) return false;
    if (pivot !== column) {
      swapRows(matrix, pivot, column, n);
      swapRows(inverse, pivot, column, n);
    }
    const scale = divide(1, matrix[column * n + column]!);
    for (let i = 0; i < n; i++) {
      matrix[column * n + i] = multiply(matrix[column * n + i]!, scale);
      inverse[column * n + i] = multiply(inverse[column * n + i]!, scale);
    }
    for (let row = 0; row < n; row++) {
      const factor = matrix[row * n + column]!;
      if (row === column || factor === 0) continue;
      for (let i = 0; i < n; i++) {
        matrix[row * n + i]! ^= multiply(factor, matrix[column * n + i]!);
        inverse[row * n + i]! ^= multiply(factor, inverse[column * n + i]!);
      }
    }
  }
  return true;
}

function swapRows(matrix: Uint8Array, a: number, b: number, n: number): void {
  for (let i = 0; i < n; i++) {
    const value = matrix[a * n + i]!;
    matrix[a * n + i] = matrix[b * n + i]!;
    matrix[b * n + i] = value;
  }
}

function rowOf(factor: number): Uint8Array {
  let row = rows[factor];
  if (row === undefined) {
    row = new Uint8Array(256);
    for (let i = 0; i < 256; i++) row[i] = multiply(factor, i);
    rows[factor] = row;
  }
  return row;
}
