/**
 * The heavy part of class cmix, on a thread of its own beside a pump (core/mix/batch-work.ts): delays, proofs, and checks of what
 * neighbours prove. Proofs come first until a batch's delay is over, since its cells wait for it; then proofs and checks take
 * turns. Started by cmix-worker.ts when there is something to do for the first time.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { BatchRecords } from '@nyx/core/mix/batch-records.ts';
import {
  type BatchJob,
  type BatchProgress,
  type BatchSigner,
  type CheckJob,
  judge,
  proveBatch,
  type Verdict,
} from '@nyx/core/mix/batch-work.ts';
import { signPledge } from '@nyx/core/mix/circuit-pledge.ts';
import { RSA_2048, RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { SquaringRate } from '@nyx/core/mix/squaring-rate.ts';
import { evaluate, runTurns, type Turns } from '@nyx/core/mix/vdf.ts';
import { createNativePowMod } from '../io/modular-power.ts';
import { createNativeSuite } from '../io/native-suite.ts';

export interface CmixThreadOptions {
  /** Undefined: this node proves no batches of its own. */
  readonly signer: { readonly certificate: Uint8Array; readonly seed: Uint8Array } | undefined;
}

export type ToCmixThread =
  | { readonly type: 'prove'; readonly job: BatchJob }
  | { readonly type: 'check'; readonly id: number; readonly job: CheckJob }
  | { readonly type: 'pledge'; readonly id: number; readonly fields: Uint8Array };

export type FromCmixThread =
  | { readonly type: 'calibrated'; readonly squaringsPerMs: number }
  | { readonly type: 'progress'; readonly progress: BatchProgress }
  | { readonly type: 'verdict'; readonly id: number; readonly verdict: Verdict }
  | { readonly type: 'pledged'; readonly id: number; readonly slot: Uint8Array };

/** Squarings that are timed at start: some tens of milliseconds. */
const PROBE_SQUARINGS = 20_480;
const WARM_UP_SQUARINGS = 4096;

class CmixThread {
  readonly #post: (message: FromCmixThread) => void;
  readonly #suite = createNativeSuite();
  readonly #records = new BatchRecords(this.#suite, new RsaGroup(RSA_2048, createNativePowMod()));
  readonly #signer: BatchSigner | undefined;
  readonly #rate: SquaringRate;
  readonly #jobs: BatchJob[] = [];
  readonly #checks: { readonly id: number; readonly job: CheckJob }[] = [];
  #proving: Turns<void> | undefined = undefined;
  /** The batch at hand waits for its delay. */
  #urgent = false;
  #running = false;

  constructor(options: CmixThreadOptions, post: (message: FromCmixThread) => void) {
    this.#post = post;
    const { signer } = options;
    if (signer !== undefined) {
      this.#signer = { certificate: signer.certificate, key: this.#suite.ed25519(signer.seed) };
      signer.seed.fill(0);
    }
    this.#rate = new SquaringRate(signer === undefined ? 0 : this.#calibrate());
  }

  /** How many squarings a millisecond takes, on this machine and now. */
  #calibrate(): number {
    const { suite, group } = this.#records;
    const input = group.hashToElement(suite, 'nyx1 cmix calibration');
    runTurns(evaluate(group, input, WARM_UP_SQUARINGS));
    const startedMs = performance.now();
    runTurns(evaluate(group, input, PROBE_SQUARINGS));
    const squaringsPerMs = PROBE_SQUARINGS / (performance.now() - startedMs);
    this.#post({ type: 'calibrated', squaringsPerMs });
    return squaringsPerMs;
  }

  handle(message: ToCmixThread): void {
    if (message.type === 'pledge') {
      this.#pledge(message.id, message.fields);
      return;
    }
    if (message.type === 'prove') this.#jobs.push(message.job);
    else this.#checks.push(message);
    if (!this.#running) {
      this.#running = true;
      setImmediate(() => this.#turn());
    }
  }

  /** At once: it is one signature, and a circuit is being set up. */
  #pledge(id: number, fields: Uint8Array): void {
    if (this.#signer === undefined) return;
    const { certificate, key } = this.#signer;
    this.#post({ type: 'pledged', id, slot: signPledge(certificate, key, fields) });
  }

  #turn(): void {
    this.#prove();
    if (!this.#urgent) this.#check();
    this.#running = this.#proving !== undefined || this.#jobs.length + this.#checks.length > 0;
    if (this.#running) setImmediate(() => this.#turn());
  }

  #prove(): void {
    if (this.#proving === undefined) {
      const job = this.#jobs.shift();
      if (job === undefined || this.#signer === undefined) return;
      this.#urgent = true;
      const tell = (progress: BatchProgress) => {
        if (progress.kind === 'delayed') {
          this.#urgent = false;
          if (this.#rate.note(progress.squarings, job.rules.delayMs, progress.delayMs)) {
            this.#post({ type: 'calibrated', squaringsPerMs: this.#rate.perMs });
          }
        }
        this.#post({ type: 'progress', progress });
      };
      const nowMs = () => performance.now();
      this.#proving = proveBatch(this.#records, this.#suite, this.#signer, this.#rate.perMs, job, tell, nowMs);
    }
    if (this.#proving.next().done === true) this.#proving = undefined;
  }

  #check(): void {
    const check = this.#checks.shift();
    if (check === undefined) return;
    this.#post({ type: 'verdict', id: check.id, verdict: judge(this.#records, check.job) });
  }
}

const port = parentPort!;
const thread = new CmixThread(workerData as CmixThreadOptions, (message) => port.postMessage(message));
port.on('message', (message: ToCmixThread) => thread.handle(message));
