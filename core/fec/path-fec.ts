/** Error correction of one path, both ways, as the session sees it. */
import { RangeSet } from '../stream/ranges.ts';
import { writeRecovered } from '../wire/fec-frames.ts';
import type { LossProcess } from './loss-process.ts';
import type { FecResources, FecTuning } from './policy.ts';
import { type ArrivedPackets, FecReceiver, type RecoveredPacket } from './receiver.ts';
import { FecSender, type FecWish } from './sender.ts';
import { FecTally } from './stats.ts';

/** Packets that were put together and may still arrive; of more, the oldest are held to be gone. */
const MAX_RECOVERED_RANGES = 256;
/** A sender that has not heard by then has sent its frames again. */
const MAX_UNTOLD = 256;

export class PathFec {
  readonly sender: FecSender;
  readonly receiver: FecReceiver;
  readonly tally: FecTally;
  /** What the peer calls the path, as far as it has said; from FEC_SOURCE. */
  peerTag = 0;
  /** Put together and not yet taken in. */
  readonly recovered: RecoveredPacket[] = [];
  readonly #known = new RangeSet(MAX_RECOVERED_RANGES);
  /** Recovered numbers that the peer has not been told of. */
  readonly #untold: number[] = [];

  constructor(
    wish: FecWish,
    resources: FecResources,
    tuning: FecTuning,
    tag: number,
    arrived: ArrivedPackets,
    loss: LossProcess,
  ) {
    this.tally = new FecTally(resources.tally);
    this.sender = new FecSender(wish, resources.budget, tuning, tag, this.tally, loss);
    this.receiver = new FecReceiver(resources.codecs, resources.budget, arrived, this.tally);
  }

  /** The packet was put together from repair symbols: if it comes after all, its frames are known. */
  isKnown(packetNumber: number): boolean {
    return this.#known.count > 0 && this.#known.has(packetNumber);
  }

  /** Its frames have been taken in. */
  onTaken(packetNumber: number): void {
    this.#known.insert(packetNumber, packetNumber + 1);
    if (this.#untold.length >= MAX_UNTOLD) this.#untold.shift();
    const at = this.#untold.findIndex((number) => number > packetNumber);
    this.#untold.splice(at < 0 ? this.#untold.length : at, 0, packetNumber);
  }

  get hasNews(): boolean {
    return this.#untold.length > 0;
  }

  /** FEC_RECOVERED into at least RECOVERED_BYTES. Only while hasNews. */
  writeNews(out: Uint8Array, at: number): number {
    return writeRecovered(out, at, this.#untold);
  }

  get memoryBytes(): number {
    return this.sender.memoryBytes + this.receiver.memoryBytes + this.#known.memoryBytes;
  }
}
