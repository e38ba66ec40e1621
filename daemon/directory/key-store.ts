/** The node's long-term and epoch keys, on disk by SealedFiles. */
import { randomBytes } from 'node:crypto';
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { nodeIdOf } from '@nyx/core/directory/descriptor.ts';
import type { MixPublicKeys, MixSecrets, NodeSecrets } from '@nyx/core/engine/contract.ts';
import { KeyStoreError, KeyStoreErrorCode, type SealedFiles } from './sealed-files.ts';

const IDENTITY_FILE = 'identity.key';
const EPOCHS_FILE = 'epochs.key';
/** identity seed 32 ‖ link X25519 secret 32 ‖ link ML-KEM seed 64 */
const IDENTITY_BYTES = 32 + 32 + 64;
/** epoch 8 ‖ X25519 secret 32 ‖ ML-KEM seed 64 */
const EPOCH_BYTES = 8 + 32 + 64;
const MAX_EPOCHS = 4;

interface EpochKeys {
  readonly secrets: MixSecrets;
  readonly publicKeys: MixPublicKeys;
}

export class KeyStore {
  readonly files: SealedFiles;
  readonly #suite: CryptoSuite;
  readonly nodeId: Uint8Array;
  readonly identity: SignKeyPair;
  readonly #linkX25519Secret: Uint8Array;
  readonly #linkKemSeed: Uint8Array;
  readonly linkX25519: Uint8Array;
  readonly linkKem: Uint8Array;
  #epochs: readonly EpochKeys[] = [];

  /** Makes keys where there are none. Throws KeyStoreError. */
  constructor(files: SealedFiles, suite: CryptoSuite) {
    this.files = files;
    this.#suite = suite;
    let bytes = files.read(IDENTITY_FILE);
    if (bytes === undefined) {
      bytes = randomBytes(IDENTITY_BYTES);
      files.write(IDENTITY_FILE, bytes);
    }
    if (bytes.length !== IDENTITY_BYTES) throw corrupt(files, IDENTITY_FILE, `${bytes.length} bytes`);
    this.identity = suite.ed25519(bytes.subarray(0, 32));
    this.nodeId = nodeIdOf(this.identity.publicKey, suite);
    this.#linkX25519Secret = new Uint8Array(bytes.subarray(32, 64));
    this.#linkKemSeed = new Uint8Array(bytes.subarray(64));
    suite.wipe(bytes);
    this.linkX25519 = publicX25519(suite, this.#linkX25519Secret);
    this.linkKem = publicKem(suite, this.#linkKemSeed);
    this.#readEpochs();
  }

  /** Public mix keys of all epochs that are held, ascending. */
  mixPublicKeys(): readonly MixPublicKeys[] {
    return this.#epochs.map((entry) => entry.publicKeys);
  }

  /**
   * Holds keys of exactly these epochs: makes the missing ones, erases all others, those in `renew` are made anew.
   * Returns whether anything changed; it is on disk then.
   */
  holdEpochs(epochs: readonly number[], renew: readonly number[] = []): boolean {
    const wanted = [...new Set(epochs)].sort((a, b) => a - b);
    const kept = this.#epochs.filter(({ secrets }) => wanted.includes(secrets.epoch) && !renew.includes(secrets.epoch));
    if (kept.length === wanted.length && kept.length === this.#epochs.length) return false;
    const dropped = this.#epochs.filter((entry) => !kept.includes(entry));
    const next = wanted.map((epoch) => kept.find(({ secrets }) => secrets.epoch === epoch) ?? this.#makeEpoch(epoch));
    this.#writeEpochs(next);
    this.#epochs = next;
    for (const { secrets } of dropped) this.#suite.wipe(secrets.x25519Secret, secrets.kemSeed);
    return true;
  }

  /** Copies, which the receiver wipes. Only epochs up to `latestEpoch`. */
  mixSecrets(latestEpoch: number): MixSecrets[] {
    return this.#epochs
      .filter(({ secrets }) => secrets.epoch <= latestEpoch)
      .map(({ secrets }) => ({
        epoch: secrets.epoch,
        x25519Secret: secrets.x25519Secret.slice(),
        kemSeed: secrets.kemSeed.slice(),
      }));
  }

  /** What a pump needs. Copies, which the receiver wipes. */
  nodeSecrets(latestEpoch: number): NodeSecrets {
    return {
      nodeId: this.nodeId,
      linkX25519Secret: this.#linkX25519Secret.slice(),
      linkKemSeed: this.#linkKemSeed.slice(),
      mix: this.mixSecrets(latestEpoch),
    };
  }

  /** Erases all secrets from memory; what is on disk stays. */
  wipe(): void {
    this.identity.wipe();
    this.#suite.wipe(this.#linkX25519Secret, this.#linkKemSeed);
    for (const { secrets } of this.#epochs) this.#suite.wipe(secrets.x25519Secret, secrets.kemSeed);
    this.#epochs = [];
  }

  #makeEpoch(epoch: number): EpochKeys {
    return this.#entry({
      epoch,
      x25519Secret: new Uint8Array(randomBytes(32)),
      kemSeed: new Uint8Array(randomBytes(64)),
    });
  }

  #entry(secrets: MixSecrets): EpochKeys {
    const publicKeys = {
      epoch: secrets.epoch,
      x25519: publicX25519(this.#suite, secrets.x25519Secret),
      kem: publicKem(this.#suite, secrets.kemSeed),
    };
    return { secrets, publicKeys };
  }

  #readEpochs(): void {
    const bytes = this.files.read(EPOCHS_FILE);
    if (bytes === undefined) return;
    if (bytes.length % EPOCH_BYTES !== 0 || bytes.length > MAX_EPOCHS * EPOCH_BYTES) {
      throw corrupt(this.files, EPOCHS_FILE, `${bytes.length} bytes`);
    }
    const read: EpochKeys[] = [];
    for (let at = 0; at < bytes.length; at += EPOCH_BYTES) {
      const epoch = Number(bytes.readBigUInt64BE(at));
      if (!Number.isSafeInteger(epoch)) throw corrupt(this.files, EPOCHS_FILE, `epoch ${epoch}`);
      read.push(
        this.#entry({
          epoch,
          x25519Secret: new Uint8Array(bytes.subarray(at + 8, at + 40)),
          kemSeed: new Uint8Array(bytes.subarray(at + 40, at + EPOCH_BYTES)),
        }),
      );
    }
    this.#epochs = read;
    this.#suite.wipe(bytes);
  }

  #writeEpochs(epochs: readonly EpochKeys[]): void {
    const bytes = Buffer.alloc(epochs.length * EPOCH_BYTES);
    epochs.forEach(({ secrets }, index) => {
      const at = index * EPOCH_BYTES;
      bytes.writeBigUInt64BE(BigInt(secrets.epoch), at);
      bytes.set(secrets.x25519Secret, at + 8);
      bytes.set(secrets.kemSeed, at + 40);
    });
    this.files.write(EPOCHS_FILE, bytes);
    this.#suite.wipe(bytes);
  }
}

const publicX25519 = (suite: CryptoSuite, secret: Uint8Array): Uint8Array => {
  const pair = suite.x25519(secret);
  const publicKey = new Uint8Array(pair.publicKey);
  pair.wipe();
  return publicKey;
};

const publicKem = (suite: CryptoSuite, seed: Uint8Array): Uint8Array => {
  const pair = suite.mlkem768(seed);
  const publicKey = new Uint8Array(pair.publicKey);
  pair.wipe();
  return publicKey;
};

const corrupt = (files: SealedFiles, name: string, found: string): KeyStoreError =>
  new KeyStoreError(
    KeyStoreErrorCode.corrupt,
    `${files.folder}/${name} has ${found}, which is no key file; restore it from a backup`,
  );
