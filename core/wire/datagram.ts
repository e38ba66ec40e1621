/**
 * The datagram: always 1280 bytes, the unit of everything between nodes (docs/protocol.md §1).
 *
 *   0        4                       24          40                                  1280
 *   | link id | header, masked (20)   | tag (16)  | ct (1240)                           |
 *               cid 12 · counter 6 · type 1 · path 1
 */

export const DATAGRAM_BYTES = 1280;
export const LINK_ID_BYTES = 4;
export const HEADER_OFFSET = 4;
export const HEADER_BYTES = 20;
export const CELL_OFFSET = 24;
export const CELL_BYTES = 1256;
export const TAG_BYTES = 16;
export const CT_OFFSET = 40;
export const CT_BYTES = 1240;
export const CID_BYTES = 12;
export const COUNTER_OFFSET = HEADER_OFFSET + CID_BYTES;
export const TYPE_OFFSET = COUNTER_OFFSET + 6;
export const PATH_OFFSET = TYPE_OFFSET + 1;
/** Bytes of a cell's innermost plaintext that the ends may use, for every path length. */
export const PAYLOAD_BYTES = 1144;
export const MAX_HOPS = 7;
export const MIN_HOPS = 3;
/** Room behind a cell in which the client rebuilds what each hop cut off: 16 bytes for every hop but one. */
export const TAIL_BYTES = (MAX_HOPS - 1) * TAG_BYTES;
/** Datagrams that fit one GSO buffer (64 KiB). */
export const BATCH_DATAGRAMS = 51;
export const COUNTER_MODULUS = 2 ** 48;

/** Low 6 bits of the type byte. */
export const CellType = { data: 0, control: 1, crypto: 2, extension: 3, message: 4 } as const;
/** The path id byte is valid. */
export const FLAG_MULTIPATH = 0x40;

/**
 * One datagram's place in a larger buffer, with its views made once, so that the packet path slices nothing.
 * `TAIL_BYTES` behind the datagram belong to it too when `withTail` is set (scratch cells of clients).
 */
export class CellBuffer {
  /** The whole datagram, 1280 bytes. */
  readonly bytes: Uint8Array;
  /** The 20 header bytes. */
  readonly header: Uint8Array;
  /** The first 12 of them. */
  readonly cid: Uint8Array;
  /** Tag and body, 1256 bytes. */
  readonly cell: Uint8Array;
  /** First 1240 bytes of the cell: what a relay seals on the way back. */
  readonly cellHead: Uint8Array;
  readonly tag: Uint8Array;
  /** Body, 1240 bytes. */
  readonly ct: Uint8Array;
  /** First 1144 bytes of the body: where the ends put their payload. */
  readonly payload: Uint8Array;
  /** The 12-byte nonce part and the 4-byte counter part of the header-mask sample are both taken from the tag. */
  readonly sampleNonce: Uint8Array;

  constructor(buffer: ArrayBufferLike, byteOffset: number) {
    const view = (from: number, length: number) => new Uint8Array(buffer, byteOffset + from, length);
    this.bytes = view(0, DATAGRAM_BYTES);
    this.header = view(HEADER_OFFSET, HEADER_BYTES);
    this.cid = view(HEADER_OFFSET, CID_BYTES);
    this.cell = view(CELL_OFFSET, CELL_BYTES);
    this.cellHead = view(CELL_OFFSET, CT_BYTES);
    this.tag = view(CELL_OFFSET, TAG_BYTES);
    this.ct = view(CT_OFFSET, CT_BYTES);
    this.payload = view(CT_OFFSET, PAYLOAD_BYTES);
    this.sampleNonce = view(CELL_OFFSET + 4, 12);
  }
}

/**
 * A scratch cell in which a client seals or opens all layers in place: layer k (1 = outermost) has its tag at
 * 24+16(k−1) and its body right behind, so peeling one layer leaves the next one where it has to be.
 */
export class LayeredCell extends CellBuffer {
  /** `tags[k-1]`, `cts[k-1]` for layer k = 1…7. `cts` are 1240 bytes, the last 16·(k−1) of them behind the datagram. */
  readonly tags: readonly Uint8Array[];
  /** Tag and body of layer k, 1256 bytes: the cell as hop k gets it, or sends it. */
  readonly cells: readonly Uint8Array[];
  readonly cts: readonly Uint8Array[];
  readonly layerPayloads: readonly Uint8Array[];

  constructor() {
    const buffer = new ArrayBuffer(DATAGRAM_BYTES + TAIL_BYTES);
    super(buffer, 0);
    const layers = Array.from({ length: MAX_HOPS }, (_, k) => TAG_BYTES * k);
    this.tags = layers.map((shift) => new Uint8Array(buffer, CELL_OFFSET + shift, TAG_BYTES));
    this.cells = layers.map((shift) => new Uint8Array(buffer, CELL_OFFSET + shift, CELL_BYTES));
    this.cts = layers.map((shift) => new Uint8Array(buffer, CT_OFFSET + shift, CT_BYTES));
    this.layerPayloads = layers.map((shift) => new Uint8Array(buffer, CT_OFFSET + shift, PAYLOAD_BYTES));
  }
}

/** 48-bit big-endian counter of an unmasked header. */
export function readCounter(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset]! * 256 + bytes[offset + 1]!) * 0x1_0000_0000 +
    (((bytes[offset + 2]! << 24) | (bytes[offset + 3]! << 16) | (bytes[offset + 4]! << 8) | bytes[offset + 5]!) >>> 0)
  );
}

/** Writes a 48-bit big-endian counter. */
export function writeCounter(bytes: Uint8Array, offset: number, counter: number): void {
  const high = Math.floor(counter / 0x1_0000_0000);
  const low = counter >>> 0;
  bytes[offset] = high >>> 8;
  bytes[offset + 1] = high;
  bytes[offset + 2] = low >>> 24;
  bytes[offset + 3] = low >>> 16;
  bytes[offset + 4] = low >>> 8;
  bytes[offset + 5] = low;
}

/** Link id as a signed 32-bit number: small integers make the cheapest map keys. */
export function readLinkId(bytes: Uint8Array): number {
  return (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
}

export function writeLinkId(bytes: Uint8Array, linkId: number): void {
  bytes[0] = linkId >>> 24;
  bytes[1] = linkId >>> 16;
  bytes[2] = linkId >>> 8;
  bytes[3] = linkId;
}
