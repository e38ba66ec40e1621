import type { CryptoSuite } from '../crypto/suite.ts';
import type { CellBuffer } from '../wire/datagram.ts';

/**
 * XORs the header mask over a datagram's 20 header bytes; the same call masks and unmasks (docs/protocol.md §1,
 * after RFC 9001 §5.4.4). The sample is the 16 bytes behind the header (a cell's tag, a handshake's mac1), so they
 * must be final. Allocates nothing. `hpKey` is 32 bytes.
 */
export function maskHeader(suite: CryptoSuite, hpKey: Uint8Array, cell: CellBuffer): void {
  const tag = cell.tag;
  const blockCounter = (tag[0]! | (tag[1]! << 8) | (tag[2]! << 16) | (tag[3]! << 24)) >>> 0;
  suite.chacha20Xor(cell.header, cell.header, cell.sampleNonce, blockCounter, hpKey);
}
