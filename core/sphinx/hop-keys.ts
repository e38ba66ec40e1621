/** What a sender and one hop of a Sphinx packet have in common (docs/protocol.md §9.2). */
import { EMPTY, nyxLabel } from '../crypto/key-schedule.ts';
import { type CryptoSuite, X25519_BYTES } from '../crypto/suite.ts';
import { ALPHA_BYTES, NODE_ID_BYTES } from './layout.ts';

export const REPLAY_TAG_BYTES = 16;
const OKM_BYTES = 4 * 32 + REPLAY_TAG_BYTES;

/** Views of one output; all of them secret but the tag. */
export interface HopKeys {
  /** ChaCha20 key that β is under. */
  readonly stream: Uint8Array;
  /** Key of γ. */
  readonly mac: Uint8Array;
  /** Key of the payload's permutation. */
  readonly payload: Uint8Array;
  /** What α is multiplied by. */
  readonly blinding: Uint8Array;
  /** By which the hop knows the packet again. */
  readonly replayTag: Uint8Array;
  readonly all: Uint8Array;
}

/** The HKDF info of one node and epoch: only α changes from packet to packet. */
export class HopContext {
  readonly #info: Uint8Array;
  readonly #alpha: Uint8Array;

  constructor(nodeId: Uint8Array, epoch: number, mixX25519: Uint8Array) {
    if (nodeId.length !== NODE_ID_BYTES) throw new RangeError(`a NodeID has 32 bytes, not ${nodeId.length}`);
    if (mixX25519.length !== X25519_BYTES) throw new RangeError(`a mix key has 32 bytes, not ${mixX25519.length}`);
    const label = nyxLabel('sphinx hop');
    const info = new Uint8Array(label.length + NODE_ID_BYTES + 8 + X25519_BYTES + ALPHA_BYTES);
    info.set(label);
    info.set(nodeId, label.length);
    new DataView(info.buffer).setBigUint64(label.length + NODE_ID_BYTES, BigInt(epoch));
    info.set(mixX25519, label.length + NODE_ID_BYTES + 8);
    this.#info = info;
    this.#alpha = info.subarray(info.length - ALPHA_BYTES);
  }

  /** The keys for `shared` = X25519 of α and the mix key; `alpha` exactly as it came, so that another way to write it gives other keys. */
  derive(suite: CryptoSuite, shared: Uint8Array, alpha: Uint8Array): HopKeys {
    this.#alpha.set(alpha);
    const all = suite.hkdf(shared, EMPTY, this.#info, OKM_BYTES);
    return {
      stream: all.subarray(0, 32),
      mac: all.subarray(32, 64),
      payload: all.subarray(64, 96),
      blinding: all.subarray(96, 128),
      replayTag: all.subarray(128),
      all,
    };
  }
}
