/**
 * What hides the 20 header bytes of a datagram (docs/protocol.md §1). Two ways: a handshake datagram, whose mac1 covers
 * its header, is XORed as in RFC 9001 §5.4.4. In a cell nothing vouches for the header, so there the mask of the CID
 * follows from the masked counter, type and path: whoever changes a bit of those gets a random CID, which no circuit has.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { type CellBuffer, CID_BYTES, HEADER_BYTES } from '../wire/datagram.ts';

const FIELDS_BYTES = HEADER_BYTES - CID_BYTES;

// Scratch of the packet path: one thread runs one packet at a time.
const zeros = new Uint8Array(64);
const block = new Uint8Array(64);
/** The CID's mask key: the second quarter and the third of the block, so not the bytes that hide the fields. */
const cidKey = block.subarray(16, 48);
/** `masked fields (8) ‖ 0 (4)`. */
const fieldsNonce = new Uint8Array(12);

/** Masks a cell's header. The cell behind it must be final: its first 16 bytes are the sample. `hpKey` is 32 bytes. Allocates nothing. */
export function maskHeader(suite: CryptoSuite, hpKey: Uint8Array, cell: CellBuffer): void {
  sample(suite, hpKey, cell);
  const { header } = cell;
  for (let i = 0; i < FIELDS_BYTES; i++) header[CID_BYTES + i]! ^= block[i]!;
  xorCid(suite, cell);
}

/** Undoes maskHeader. */
export function unmaskHeader(suite: CryptoSuite, hpKey: Uint8Array, cell: CellBuffer): void {
  sample(suite, hpKey, cell);
  xorCid(suite, cell);
  const { header } = cell;
  for (let i = 0; i < FIELDS_BYTES; i++) header[CID_BYTES + i]! ^= block[i]!;
}

/** Masks or unmasks the header of a handshake datagram; the sample is its mac1. */
export function xorHandshakeHeader(suite: CryptoSuite, hpKey: Uint8Array, cell: CellBuffer): void {
  suite.chacha20Xor(cell.header, cell.header, cell.sampleNonce, sampleCounter(cell), hpKey);
}

/** The 64 bytes that follow from the sample, into `block`. */
function sample(suite: CryptoSuite, hpKey: Uint8Array, cell: CellBuffer): void {
  suite.chacha20Xor(block, zeros, cell.sampleNonce, sampleCounter(cell), hpKey);
}

function sampleCounter({ tag }: CellBuffer): number {
  return (tag[0]! | (tag[1]! << 8) | (tag[2]! << 16) | (tag[3]! << 24)) >>> 0;
}

/** The fields are masked, as they travel. */
function xorCid(suite: CryptoSuite, { header, cid }: CellBuffer): void {
  for (let i = 0; i < FIELDS_BYTES; i++) fieldsNonce[i] = header[CID_BYTES + i]!;
  suite.chacha20Xor(cid, cid, fieldsNonce, 0, cidKey);
}
