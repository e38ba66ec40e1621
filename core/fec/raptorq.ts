/**
 * RaptorQ (RFC 6330) by the WebAssembly build of cberner/raptorq (npm `raptorq`). Loading WebAssembly is I/O, so it is
 * done outside: `load` gives the package's classes, once they are needed first (daemon/io/raptorq.ts; in a browser, after
 * the package's own init()). Repair symbol r of a block of k is the encoding symbol k + r of RFC 6330 §5.3: one source
 * block, one sub-block, symbols of SYMBOL_BYTES.
 */
import { type BlockCodec, CodecId, MAX_SOURCES, SYMBOL_BYTES, type Symbols } from './block-codec.ts';

/** What is used of the package. A packet is `source block (1) ‖ symbol number (3) ‖ symbol`. */
export interface RaptorQModule {
  readonly Encoder: { with_defaults(data: Uint8Array, packetBytes: number): RaptorQEncoder };
  readonly Decoder: { with_defaults(length: bigint, packetBytes: number): RaptorQDecoder };
}

interface RaptorQEncoder {
  encode(repairs: number): Uint8Array[];
  free(): void;
}

interface RaptorQDecoder {
  decode(packet: Uint8Array): Uint8Array | undefined;
  free(): void;
}

const PACKET_HEADER_BYTES = 4;
const PACKET_BYTES = PACKET_HEADER_BYTES + SYMBOL_BYTES;
/** Fixed cost of a block, and of each of its symbols. */
const BLOCK_US = 180;
const SYMBOL_US = 12;

/**
 * K′, the numbers of symbols that RFC 6330 Table 2 has parameters for: a block is filled up to the next one. The package
 * numbers repair symbols from K′ on and not from k.
 */
const PADDED = [10, 12, 18, 20, 26, 30, 32, 36, 42, 46, 48, 49, 55, 60, 62, 69];

export class RaptorQ implements BlockCodec {
  readonly id = CodecId.raptorQ;
  readonly capability = 'fec-rq1';
  readonly #load: () => RaptorQModule;
  #module: RaptorQModule | undefined;
  readonly #packet = new Uint8Array(PACKET_BYTES);

  constructor(load: () => RaptorQModule) {
    this.#load = load;
  }

  encode(sources: Symbols, k: number, repairs: number, into: Symbols): boolean {
    if (k < 1 || k > MAX_SOURCES) return false;
    return this.#attempt((module) => {
      const encoder = module.Encoder.with_defaults(sources.bytes.subarray(0, k * SYMBOL_BYTES), PACKET_BYTES);
      const packets = encoder.encode(repairs);
      encoder.free();
      if (packets.length !== k + repairs) return false;
      for (let i = 0; i < repairs; i++) into.set(i, packets[k + i]!.subarray(PACKET_HEADER_BYTES));
      return true;
    });
  }

  decode(
    sources: Symbols,
    k: number,
    missing: readonly number[],
    repairs: Symbols,
    repairIds: readonly number[],
  ): boolean {
    if (k < 1 || k > MAX_SOURCES || repairIds.length < missing.length) return false;
    return this.#attempt((module) => {
      const decoder = module.Decoder.with_defaults(BigInt(k * SYMBOL_BYTES), PACKET_BYTES);
      let next = 0;
      for (let i = 0; i < k; i++) {
        if (next < missing.length && missing[next] === i) next++;
        else decoder.decode(this.#packetOf(i, sources.at(i)));
      }
      let data: Uint8Array | undefined;
      const base = paddedCount(k);
      for (let i = 0; i < repairIds.length && data === undefined; i++) {
        data = decoder.decode(this.#packetOf(base + repairIds[i]!, repairs.at(i)));
      }
      decoder.free();
      if (data === undefined || data.length !== k * SYMBOL_BYTES) return false;
      for (const i of missing) sources.set(i, data.subarray(i * SYMBOL_BYTES, (i + 1) * SYMBOL_BYTES));
      return true;
    });
  }

  costUs(k: number, repairs: number): number {
    return repairs === 0 ? 0 : BLOCK_US + k * SYMBOL_US;
  }

  #packetOf(symbol: number, data: Uint8Array): Uint8Array {
    const packet = this.#packet;
    packet[1] = symbol >>> 16;
    packet[2] = (symbol >>> 8) & 0xff;
    packet[3] = symbol & 0xff;
    packet.set(data, PACKET_HEADER_BYTES);
    return packet;
  }

  /** A trap in WebAssembly leaves an instance whose memory nobody can vouch for: the next use gets a new one. */
  #attempt(use: (module: RaptorQModule) => boolean): boolean {
    try {
      this.#module ??= this.#load();
      return use(this.#module);
    } catch {
      this.#module = undefined;
      return false;
    }
  }
}

function paddedCount(k: number): number {
  for (const padded of PADDED) if (padded >= k) return padded;
  throw new RangeError(`paddedCount: ${k} symbols are more than a block may have`);
}
