/**
 * A pump's side of the thread that computes for class cmix (cmix-thread.ts): it starts with the first work, and ends with the
 * pump. When it dies the pump fails with it, and both are started again by the pump's supervisor: batches that are never
 * proved would be held against us.
 */
import { Worker } from 'node:worker_threads';
import type { BatchCounts, CmixHost } from '@nyx/core/engine/contract.ts';
import type { Cheat } from '@nyx/core/mix/batch-evidence.ts';
import { type BatchRules, CERTIFICATE_BYTES, statementBytesFor } from '@nyx/core/mix/batch-records.ts';
import type { BatchJob, BatchProgress, CheckJob, Verdict } from '@nyx/core/mix/batch-work.ts';
import type { CmixThreadOptions, FromCmixThread, ToCmixThread } from './cmix-thread.ts';

const RSA_2048_BYTES = 256;
/** After a change of the view's rules batches by the old ones are taken for so long: not all nodes have a view at the same time. */
const BOTH_RULES_MS = 600_000;

export interface CmixWorkerHost {
  progress(progress: BatchProgress): void;
  verdict(id: number, verdict: Verdict): void;
  pledged(id: number, slot: Uint8Array): void;
  calibrated(squaringsPerMs: number): void;
  cheated(cheat: Cheat, evidence: Uint8Array, found: boolean): void;
  suspected(nodeId: Uint8Array, counts: BatchCounts): void;
  exchanged(nodeId: Uint8Array): void;
  failed(error: Error): void;
}

export class CmixWorker implements CmixHost {
  readonly statementBytes = statementBytesFor(RSA_2048_BYTES);
  readonly #options: CmixThreadOptions;
  readonly #host: CmixWorkerHost;
  #worker: Worker | undefined = undefined;
  #stopped = false;
  #rules: readonly BatchRules[] = [];
  #rulesSinceMs = 0;
  /** Of our last batch. */
  lastDelayMs: number | undefined = undefined;

  constructor(options: CmixThreadOptions, host: CmixWorkerHost) {
    if (options.signer !== undefined && options.signer.certificate.length !== CERTIFICATE_BYTES) {
      throw new RangeError(`a certificate has ${CERTIFICATE_BYTES} bytes`);
    }
    this.#options = options;
    this.#host = host;
  }

  rules(): readonly BatchRules[] {
    if (this.#rules.length > 1 && performance.now() - this.#rulesSinceMs > BOTH_RULES_MS) {
      this.#rules = this.#rules.slice(0, 1);
    }
    return this.#rules;
  }

  /** A view has come. */
  setRules(rules: BatchRules): void {
    const [present] = this.#rules;
    if (present?.cells === rules.cells && present.delayMs === rules.delayMs) return;
    this.#rules = present === undefined ? [rules] : [rules, present];
    this.#rulesSinceMs = performance.now();
  }

  prove(job: BatchJob): void {
    this.#send({ type: 'prove', job });
  }

  check(id: number, job: CheckJob): void {
    this.#send({ type: 'check', id, job });
  }

  pledge(id: number, fields: Uint8Array): void {
    this.#send({ type: 'pledge', id, fields });
  }

  cheated(cheat: Cheat, evidence: Uint8Array, found: boolean): void {
    this.#host.cheated(cheat, evidence, found);
  }

  suspected(nodeId: Uint8Array, counts: BatchCounts): void {
    this.#host.suspected(nodeId, counts);
  }

  exchanged(nodeId: Uint8Array): void {
    this.#host.exchanged(nodeId);
  }

  /** Ends the thread; what it is at is lost. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#worker?.terminate();
  }

  #send(message: ToCmixThread): void {
    if (this.#stopped) return;
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./cmix-thread.ts', import.meta.url), {
      workerData: this.#options,
      name: 'cmix',
    });
    worker.on('message', (message: FromCmixThread) => {
      if (this.#stopped) return;
      if (message.type === 'progress') {
        if (message.progress.kind === 'delayed') this.lastDelayMs = message.progress.delayMs;
        this.#host.progress(message.progress);
      } else if (message.type === 'verdict') {
        this.#host.verdict(message.id, message.verdict);
      } else if (message.type === 'pledged') {
        this.#host.pledged(message.id, message.slot);
      } else {
        this.#host.calibrated(message.squaringsPerMs);
      }
    });
    worker.on('error', (error) => {
      this.#host.failed(error instanceof Error ? error : new Error(String(error)));
    });
    worker.on('exit', (code) => {
      if (!this.#stopped) this.#host.failed(new Error(`the thread of class cmix ended with code ${code}`));
    });
    // The pump lives as long as its sockets; this thread alone does not keep it.
    worker.unref();
    return worker;
  }
}
