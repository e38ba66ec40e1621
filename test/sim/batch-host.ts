/** The heavy part of class cmix for simulated nodes: computed at once, in a small group, and answered after virtual time. */
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import type { BatchCounts, CmixHost } from '@nyx/core/engine/contract.ts';
import type { Cheat } from '@nyx/core/mix/batch-evidence.ts';
import type { BatchRules } from '@nyx/core/mix/batch-records.ts';
import { smallRecords, TEST_RULES, type TestMix } from '@nyx/core/mix/batch-testing.ts';
import { type BatchJob, type BatchProgress, type CheckJob, judge, proveBatch } from '@nyx/core/mix/batch-work.ts';
import { signPledge } from '@nyx/core/mix/circuit-pledge.ts';
import { runTurns } from '@nyx/core/mix/vdf.ts';
import type { SimNode, VirtualNetwork } from './virtual-network.ts';

const DELAY_MS = 100;
const PROOF_MS = 50;
const CHECK_MS = 5;

/** How a mix lies: what it tells in the place of the truth. */
export type Lie = (job: BatchJob, honest: (job: BatchJob) => BatchProgress[]) => BatchProgress[];

/** Computes, and keeps what is proved to itself. */
export const silent: Lie = (job, honest) =>
  honest(job).map((progress) => (progress.kind === 'proofs' ? { ...progress, messages: [] } : progress));

export class SimBatches implements CmixHost {
  readonly statementBytes: number;
  readonly cheats: { readonly cheat: Cheat; readonly evidence: Uint8Array; readonly found: boolean }[] = [];
  readonly suspects: { readonly nodeId: Uint8Array; readonly counts: BatchCounts }[] = [];
  /** NodeIDs of mixes that exchanged cells. */
  readonly exchangers: Uint8Array[] = [];
  readonly jobs: BatchJob[] = [];
  /** What the view says. */
  views: readonly BatchRules[] = [TEST_RULES];
  node: SimNode | undefined;
  lie: Lie | undefined;
  /** It signs what it does with circuits. */
  pledges = true;
  readonly #network: VirtualNetwork;
  readonly #records: ReturnType<typeof smallRecords>;
  readonly #suite: CryptoSuite;
  readonly #mix: TestMix;
  #due: { readonly atMs: number; readonly run: (nowMs: number) => void }[] = [];

  constructor(network: VirtualNetwork, mix: TestMix) {
    this.#network = network;
    this.#suite = network.suite;
    this.#records = smallRecords(network.suite);
    this.statementBytes = this.#records.statementBytes;
    this.#mix = mix;
  }

  rules(): readonly BatchRules[] {
    return this.views;
  }

  prove(job: BatchJob): void {
    this.jobs.push(job);
    const told = this.lie === undefined ? this.#honest(job) : this.lie(job, (other) => this.#honest(other));
    for (const progress of told) {
      const afterMs = { receipts: 0, delayed: DELAY_MS, proofs: DELAY_MS + PROOF_MS }[progress.kind];
      this.#after(afterMs, (nowMs) => this.node!.engine.batchProgress(progress, nowMs));
    }
  }

  #honest(job: BatchJob): BatchProgress[] {
    const told: BatchProgress[] = [];
    const { signer } = this.#mix;
    runTurns(
      proveBatch(
        this.#records,
        this.#suite,
        signer,
        0,
        job,
        (progress) => told.push(progress),
        () => 0,
      ),
    );
    return told;
  }

  check(id: number, job: CheckJob): void {
    const verdict = judge(this.#records, job);
    this.#after(CHECK_MS, (nowMs) => this.node!.engine.checked(id, verdict, nowMs));
  }

  pledge(id: number, fields: Uint8Array): void {
    if (!this.pledges) return;
    const { certificate, key } = this.#mix.signer;
    const slot = signPledge(certificate, key, fields);
    this.#after(CHECK_MS, (nowMs) => this.node!.engine.pledged(id, slot, nowMs));
  }

  cheated(cheat: Cheat, evidence: Uint8Array, found: boolean): void {
    this.cheats.push({ cheat, evidence, found });
  }

  suspected(nodeId: Uint8Array, counts: BatchCounts): void {
    this.suspects.push({ nodeId, counts });
  }

  exchanged(nodeId: Uint8Array): void {
    this.exchangers.push(nodeId);
  }

  #after(delayMs: number, run: (nowMs: number) => void): void {
    this.#due.push({ atMs: this.#network.nowMs + delayMs, run });
  }

  /** Answers what is due. */
  deliver(nowMs: number): void {
    const due = this.#due.filter(({ atMs }) => atMs <= nowMs);
    this.#due = this.#due.filter(({ atMs }) => atMs > nowMs);
    for (const { run } of due) run(nowMs);
  }
}

/** Runs the network in steps, and the batches' answers between them. */
export function runBatches(
  network: VirtualNetwork,
  hosts: readonly SimBatches[],
  forMs: number,
  done: () => boolean = () => false,
  stepMs = 5,
): boolean {
  const untilMs = network.nowMs + forMs;
  while (network.nowMs < untilMs) {
    network.run(network.nowMs + stepMs, done);
    for (const host of hosts) host.deliver(network.nowMs);
    if (done()) return true;
  }
  return false;
}

/** Until everything that is not proved by then counts as such. */
export function settle(network: VirtualNetwork, hosts: readonly SimBatches[]): void {
  runBatches(network, hosts, 70_000, undefined, 500);
}
