/** Reassembly of inits from their fragments (docs/protocol.md §2.1), bounded in number and time. */
import { TAG_BYTES } from '../wire/datagram.ts';
import { ExpiringMap } from './expiring-map.ts';
import { FRAGMENT_BYTES } from './handshake-datagram.ts';
import { INIT_BYTES } from './handshake-messages.ts';

/** Datagrams of one init. */
export const INIT_FRAGMENTS = Math.ceil(INIT_BYTES / FRAGMENT_BYTES);

/** An init on its way in, and then the key to recognising its repetitions. */
export interface PartialInit {
  readonly message: Uint8Array;
  /** The fragments' mac1, side by side. */
  readonly mac1s: Uint8Array;
  /** Bit i = fragment i is here. */
  present: number;
}

const complete = (1 << INIT_FRAGMENTS) - 1;
/** What one entry costs, with its map overhead. */
const entryBytes = INIT_FRAGMENTS * (FRAGMENT_BYTES + TAG_BYTES) + 256;

export class InitReassembly {
  readonly #partial: ExpiringMap<PartialInit>;
  readonly #maxEntries: number;

  constructor(maxEntries: number, lifeMs: number) {
    this.#maxEntries = maxEntries;
    this.#partial = new ExpiringMap(maxEntries, lifeMs);
  }

  get memoryBytes(): number {
    return this.#partial.size * entryBytes;
  }

  /** From here on, newcomers must prove their address. */
  get halfFull(): boolean {
    return this.#partial.size * 2 >= this.#maxEntries;
  }

  /**
   * Adds a fragment whose mac1 has verified (borrowed); gives the init once it is complete, and forgets it. The first
   * fragment of an index stays: a forged one makes the init fail, after which a repetition starts afresh.
   */
  add(key: string, index: number, fragment: Uint8Array, mac1: Uint8Array, nowMs: number): PartialInit | undefined {
    let partial = this.#partial.get(key, nowMs);
    if (partial === undefined) {
      partial = {
        message: new Uint8Array(INIT_FRAGMENTS * FRAGMENT_BYTES),
        mac1s: new Uint8Array(INIT_FRAGMENTS * TAG_BYTES),
        present: 0,
      };
      this.#partial.set(key, partial, nowMs);
    }
    if ((partial.present & (1 << index)) === 0) {
      partial.present |= 1 << index;
      partial.message.set(fragment, index * FRAGMENT_BYTES);
      partial.mac1s.set(mac1, index * TAG_BYTES);
    }
    if (partial.present !== complete) return undefined;
    this.#partial.delete(key);
    return partial;
  }

  prune(nowMs: number): void {
    this.#partial.prune(nowMs);
  }
}
