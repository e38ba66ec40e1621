/**
 * Whether bytes are one item of deterministic CBOR (RFC 8949 §4.2.1), of the kinds that this network signs: integers,
 * strings of bytes and of text, lists, maps with text keys, true, false and null. One pass that looks at heads and keys
 * only, where decoding and encoding again would cost as much as all else that is done with a descriptor.
 */
const MAX_DEPTH = 16;
const Major = { unsigned: 0, negative: 1, bytes: 2, text: 3, list: 4, map: 5, simple: 7 } as const;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const FALSE = 0xf4;
const NULL = 0xf6;

/** False also for what is cut off or goes on behind the item, and for text that is no UTF-8. */
export function isCanonicalCbor(bytes: Uint8Array): boolean {
  return skipItem(bytes, 0, 0) === bytes.length;
}

/** Where the item at `at` ends; −1: it is not canonical. */
function skipItem(bytes: Uint8Array, at: number, depth: number): number {
  if (at >= bytes.length || depth > MAX_DEPTH) return -1;
  const head = bytes[at]!;
  const major = head >> 5;
  if (major === Major.simple) return head >= FALSE && head <= NULL ? at + 1 : -1;
  const value = readArgument(bytes, at);
  if (value < 0) return -1;
  const next = at + 1 + argumentBytes(head);
  switch (major) {
    case Major.unsigned:
    case Major.negative:
      return next;
    case Major.bytes:
      return value <= bytes.length - next ? next + value : -1;
    case Major.text:
      return value <= bytes.length - next && isText(bytes, next, next + value) ? next + value : -1;
    case Major.list:
      return skipList(bytes, next, value, depth);
    case Major.map:
      return skipMap(bytes, next, value, depth);
    default:
      return -1;
  }
}

function isText(bytes: Uint8Array, from: number, to: number): boolean {
  let at = from;
  while (at < to && bytes[at]! < 0x80) at++;
  if (at === to) return true;
  try {
    utf8.decode(bytes.subarray(at, to));
    return true;
  } catch {
    return false;
  }
}

function skipList(bytes: Uint8Array, from: number, count: number, depth: number): number {
  // Every item takes a byte at least.
  if (count > bytes.length - from) return -1;
  let at = from;
  for (let i = 0; i < count && at >= 0; i++) at = skipItem(bytes, at, depth + 1);
  return at;
}

/** Keys ascend by their encoded bytes, so none comes twice. */
function skipMap(bytes: Uint8Array, from: number, count: number, depth: number): number {
  if (count > bytes.length - from) return -1;
  let at = from;
  let keyFrom = -1;
  let keyTo = -1;
  for (let i = 0; i < count; i++) {
    if (at >= bytes.length || bytes[at]! >> 5 !== Major.text) return -1;
    const end = skipItem(bytes, at, depth + 1);
    if (end < 0 || (keyFrom >= 0 && !ascends(bytes, keyFrom, keyTo, at, end))) return -1;
    keyFrom = at;
    keyTo = end;
    at = skipItem(bytes, end, depth + 1);
    if (at < 0) return -1;
  }
  return at;
}

function ascends(bytes: Uint8Array, aFrom: number, aTo: number, bFrom: number, bTo: number): boolean {
  const length = Math.min(aTo - aFrom, bTo - bFrom);
  for (let i = 0; i < length; i++) {
    const difference = bytes[aFrom + i]! - bytes[bFrom + i]!;
    if (difference !== 0) return difference < 0;
  }
  return aTo - aFrom < bTo - bFrom;
}

/** Bytes of the argument behind a head; heads above 27 have none that is allowed. */
function argumentBytes(head: number): number {
  const short = head & 31;
  return short < 24 ? 0 : short < 28 ? 1 << (short - 24) : 0;
}

/** −1: cut off, longer than needed, or not a safe integer. */
function readArgument(bytes: Uint8Array, at: number): number {
  const short = bytes[at]! & 31;
  if (short < 24) return short;
  if (short > 27) return -1;
  const length = 1 << (short - 24);
  if (at + length >= bytes.length) return -1;
  let value = 0;
  for (let i = 1; i <= length; i++) value = value * 256 + bytes[at + i]!;
  const least = length === 1 ? 24 : 2 ** (4 * length);
  return value >= least && value <= Number.MAX_SAFE_INTEGER ? value : -1;
}
