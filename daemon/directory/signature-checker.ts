/**
 * Checks the signatures of many descriptors in a thread that lives as long as one view is verified: half of that work, and
 * none of it on the main thread. A node pays for the thread for a second in an epoch, and only in a large network.
 */
import { Worker } from 'node:worker_threads';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import {
  type DescriptorSignature,
  descriptorSignatures,
  type NodeDescriptor,
  verifyDescriptorSignature,
} from '@nyx/core/directory/descriptor.ts';

export interface SignatureBatch {
  readonly batch: number;
  readonly packed: ArrayBuffer;
}

export interface SignatureVerdict {
  readonly batch: number;
  /** Index within the batch; −1: all hold. */
  readonly bad: number;
}

/** About half a megabyte. */
const BATCH_SIGNATURES = 128;
/** Batches that the thread has not answered yet; then whoever adds waits. */
const MAX_PENDING = 8;

export class SignatureChecker {
  readonly #suite: CryptoSuite;
  readonly #worker: Worker;
  /** By batch: whose signatures they are. */
  readonly #pending = new Map<number, readonly NodeDescriptor[]>();
  #signatures: DescriptorSignature[] = [];
  #owners: NodeDescriptor[] = [];
  #batches = 0;
  #bad: NodeDescriptor | undefined;
  #failed: Error | undefined;
  #onChange: (() => void) | undefined;

  constructor(suite: CryptoSuite) {
    this.#suite = suite;
    this.#worker = new Worker(new URL('./signature-worker.ts', import.meta.url), { name: 'signatures' });
    this.#worker.on('message', ({ batch, bad }: SignatureVerdict) => {
      if (bad >= 0) this.#bad ??= this.#pending.get(batch)?.[bad];
      this.#pending.delete(batch);
      this.#onChange?.();
    });
    this.#worker.on('error', (error: Error) => {
      this.#failed ??= error;
      this.#onChange?.();
    });
    this.#worker.on('exit', (code) => {
      this.#failed ??= new Error(`the thread that checks signatures ended with code ${code}`);
      this.#onChange?.();
    });
  }

  /** Borrows the descriptor's bytes until the batch is sent, at the latest at the next call of ready() or finish(). */
  add(descriptor: NodeDescriptor): void {
    for (const signature of descriptorSignatures(descriptor)) {
      this.#signatures.push(signature);
      this.#owners.push(descriptor);
    }
    if (this.#signatures.length >= BATCH_SIGNATURES) this.#send();
  }

  /** Waits while the thread has enough to do. */
  async ready(): Promise<void> {
    await this.#until(() => this.#pending.size < MAX_PENDING);
  }

  /** Resolves when all hold. Rejects with DirectoryError BAD_SIGNATURE. A thread that failed is made up for here. */
  async finish(): Promise<void> {
    if (this.#signatures.length > 0) this.#send();
    await this.#until(() => this.#pending.size === 0);
    if (this.#bad !== undefined) verifyDescriptorSignature(this.#bad, this.#suite);
    if (this.#failed === undefined && this.#bad === undefined) return;
    for (const owners of this.#pending.values()) {
      for (const descriptor of owners) verifyDescriptorSignature(descriptor, this.#suite);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    if (this.#bad !== undefined) throw new Error('a signature that does not hold in one thread does in another');
  }

  async close(): Promise<void> {
    this.#failed ??= new Error('closed');
    await this.#worker.terminate();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (this.#failed === undefined && this.#bad === undefined && !condition()) {
      await new Promise<void>((resolve) => {
        this.#onChange = resolve;
      });
    }
  }

  #send(): void {
    let length = 0;
    for (const { message } of this.#signatures) length += 100 + message.length;
    const packed = new Uint8Array(length);
    const view = new DataView(packed.buffer);
    let at = 0;
    for (const { key, signature, message } of this.#signatures) {
      view.setUint32(at, message.length);
      packed.set(key, at + 4);
      packed.set(signature, at + 36);
      packed.set(message, at + 100);
      at += 100 + message.length;
    }
    const batch = this.#batches++;
    this.#pending.set(batch, this.#owners);
    this.#signatures = [];
    this.#owners = [];
    if (this.#failed === undefined) this.#worker.postMessage({ batch, packed: packed.buffer }, [packed.buffer]);
  }
}
