/** Parameters of the network: integers by name, voted on and signed with the view. */
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';
import { decodeCbor, encodeCbor, FieldReader } from './strict-cbor.ts';

export const MAX_VIEW_PARAMS = 64;
const namePattern = /^[a-zA-Z][a-zA-Z0-9-]{0,39}$/;

export type ViewParams = Readonly<Record<string, number>>;

/** The parameters this version knows; what a view does not name has its default. */
export const ViewParam = {
  /** Most nodes of one /16 (IPv4) or /32 (IPv6); 0 = any number. */
  maxPerSubnet: 'max-per-subnet',
  /** Most nodes of one family; 0 = any number. */
  maxPerFamily: 'max-per-family',
  /** So many epochs after it was first seen a node has its full weight. */
  rampEpochs: 'ramp-epochs',
  /** Bytes per second that a node without the flag `measured` is believed at most. */
  maxDeclaredBandwidth: 'max-declared-bandwidth',
  /** Leading zero bits of the admission puzzle: 2^bits tries on average; 0 = no puzzle. */
  puzzleBits: 'puzzle-bits',
  puzzleMemoryKib: 'puzzle-memory-kib',
  puzzlePasses: 'puzzle-passes',
  /** Class cmix: cells of a full batch, and the delay of every batch, ms. */
  cmixCells: 'cmix-cells',
  cmixDelayMs: 'cmix-delay-ms',
} as const;
export type ViewParam = (typeof ViewParam)[keyof typeof ViewParam];

export const defaultViewParams = {
  [ViewParam.maxPerSubnet]: 16,
  [ViewParam.maxPerFamily]: 32,
  [ViewParam.rampEpochs]: 168,
  [ViewParam.maxDeclaredBandwidth]: 12_500_000,
  [ViewParam.puzzleBits]: 5,
  [ViewParam.puzzleMemoryKib]: 65_536,
  [ViewParam.puzzlePasses]: 1,
  [ViewParam.cmixCells]: 100,
  [ViewParam.cmixDelayMs]: 100,
} as const satisfies Record<ViewParam, number>;

export function viewParam(params: ViewParams, name: ViewParam): number {
  return Object.hasOwn(params, name) ? params[name]! : defaultViewParams[name];
}

export function encodeParams(params: ViewParams): Uint8Array {
  return encodeCbor({ ...params });
}

/** Throws DirectoryError MALFORMED or BAD_FIELD. */
export function decodeParams(bytes: Uint8Array, what: string): ViewParams {
  return readParams(decodeCbor(bytes, what), what);
}

/** Checks a decoded map. Throws DirectoryError BAD_FIELD. */
export function readParams(value: unknown, what: string): ViewParams {
  const bad = (problem: string) => new DirectoryError(DirectoryErrorCode.badField, `${what}: params ${problem}`);
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw bad('must be a map');
  }
  const names = Object.keys(value);
  if (names.length > MAX_VIEW_PARAMS) throw bad(`must have at most ${MAX_VIEW_PARAMS} entries`);
  const reader = new FieldReader(value, `${what} params`, names);
  const read: Record<string, number> = {};
  for (const name of names) {
    if (!namePattern.test(name)) throw bad('has a name that is not of a-z 0-9 -');
    read[name] = reader.integer(name, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  }
  return read;
}
