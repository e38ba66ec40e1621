import type { CryptoSuite, DhKeyPair, KemKeyPair } from '../crypto/suite.ts';
import type { MixSecrets, SetupMemory } from '../engine/contract.ts';
import { HopContext } from '../sphinx/hop-keys.ts';
import type { MessageKeys } from '../sphinx/relay.ts';
import { TagMemory } from './tag-memory.ts';

/** Set-ups remembered per epoch; when they are used up, no more are taken until the next epoch. */
export const MAX_SETUPS_PER_EPOCH = 2 ** 20;

/** Packets of the message lane, the same, where nobody but this engine has the keys. */
export const MAX_MESSAGES_PER_EPOCH = 2 ** 20;

/** One epoch's mix keys, ready for use, with the memory of set-ups and messages seen under them. */
export interface MixKeys extends MessageKeys {
  readonly epoch: number;
  readonly dh: DhKeyPair;
  readonly kem: KemKeyPair;
  /** SHA-256 of the ML-KEM public key. */
  readonly kemHash: Uint8Array;
  readonly seen: SetupMemory;
}

/** A node's mix keys by epoch (docs/protocol.md §4). Keys and memory of an epoch are erased together. */
export class MixKeyRing {
  readonly #suite: CryptoSuite;
  readonly #memoryOf: (epoch: number) => SetupMemory;
  readonly #messageMemoryOf: (epoch: number) => SetupMemory;
  readonly nodeId: Uint8Array;
  #keys: readonly MixKeys[] = [];

  /** Copies `nodeId`; borrows `secrets`. `memoryOf` and `messageMemoryOf` are asked once for each epoch. */
  constructor(
    suite: CryptoSuite,
    nodeId: Uint8Array,
    secrets: readonly MixSecrets[],
    memoryOf: (epoch: number) => SetupMemory = () => new TagMemory(MAX_SETUPS_PER_EPOCH),
    messageMemoryOf: (epoch: number) => SetupMemory = () => new TagMemory(MAX_MESSAGES_PER_EPOCH),
  ) {
    this.#suite = suite;
    this.#memoryOf = memoryOf;
    this.#messageMemoryOf = messageMemoryOf;
    this.nodeId = nodeId.slice();
    this.set(secrets);
  }

  /** Newest first: the order in which a train is tried. */
  get keys(): readonly MixKeys[] {
    return this.#keys;
  }

  /** Epochs that are not in `secrets` are erased; those that are there already stay, with their memory. Borrows `secrets`. */
  set(secrets: readonly MixSecrets[]): void {
    const held = new Map(this.#keys.map((keys) => [keys.epoch, keys]));
    const next = new Map<number, MixKeys>();
    for (const secret of secrets) {
      if (!next.has(secret.epoch)) next.set(secret.epoch, held.get(secret.epoch) ?? this.#load(secret));
    }
    for (const keys of this.#keys) if (next.get(keys.epoch) !== keys) erase(keys);
    this.#keys = [...next.values()].sort((a, b) => b.epoch - a.epoch);
  }

  wipe(): void {
    this.set([]);
  }

  get memoryBytes(): number {
    return this.#keys.reduce((sum, keys) => sum + 4000 + keys.seen.memoryBytes + keys.seenMessages.memoryBytes, 0);
  }

  #load(secret: MixSecrets): MixKeys {
    const kem = this.#suite.mlkem768(secret.kemSeed);
    const dh = this.#suite.x25519(secret.x25519Secret);
    return {
      epoch: secret.epoch,
      dh,
      kem,
      kemHash: this.#suite.sha256(kem.publicKey),
      seen: this.#memoryOf(secret.epoch),
      context: new HopContext(this.nodeId, secret.epoch, dh.publicKey),
      seenMessages: this.#messageMemoryOf(secret.epoch),
    };
  }
}

function erase(keys: MixKeys): void {
  keys.dh.wipe();
  keys.kem.wipe();
  keys.seen.clear();
  keys.seenMessages.clear();
}
