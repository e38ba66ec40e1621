/** The pump workers that are up, and what all of them have to know. */
import { MessageChannel } from 'node:worker_threads';
import type { MixSecrets, NodeContact } from '@nyx/core/engine/contract.ts';
import type { BatchRules } from '@nyx/core/mix/batch-records.ts';
import {
  DialError,
  DialErrorCode,
  type ListenAddress,
  type PumpStats,
  type PumpTuning,
  type ToPump,
} from '../pump/contract.ts';
import type { PumpClient, PumpReady } from '../pump/pump-client.ts';
import type { SetupLogs } from './setup-logs.ts';

/** Handles of different workers become one number space: `worker · 2^32 + handle`. */
export const globalId = (worker: number, handle: number): number => worker * 2 ** 32 + handle;
export const workerOf = (id: number): number => Math.floor(id / 2 ** 32);
export const handleOf = (id: number): number => id % 2 ** 32;

/** Contacts that a worker is sent at once, and the pause until it gets more. */
const VIEW_PIECE = 128;
const VIEW_PAUSE_MS = 2;

/** What one is given of the other's links goes there without passing through this thread. */
function introduce(worker: number, pump: PumpClient, other: number, neighbour: PumpClient): void {
  const { port1, port2 } = new MessageChannel();
  pump.send({ type: 'neighbour', worker: other, port: port1 }, [port1]);
  neighbour.send({ type: 'neighbour', worker, port: port2 }, [port2]);
}

export interface WorkerStats {
  readonly worker: number;
  readonly stats: PumpStats;
}

export class PumpPool {
  readonly #pumps = new Map<number, PumpClient>();
  #next = 0;
  #contacts: readonly NodeContact[] = [];
  /** What workers have to go by; undefined: still what they start with. */
  #tuning: PumpTuning | undefined;
  #batches: BatchRules | undefined;
  #pendingStats: Promise<WorkerStats[]> | undefined;
  /** Set-ups seen, common to all workers; undefined where nobody sets up circuits through this node. */
  setupLogs: SetupLogs | undefined;
  /** Addresses that were got at the first start; later starts ask for the same ones. */
  addresses: { listen?: readonly ListenAddress[]; socks?: ListenAddress; httpConnect?: ListenAddress } = {};
  udpMode = '';

  /** A worker is up: it is told what the others know. */
  attach(worker: number, pump: PumpClient, ready: PumpReady): void {
    for (const [other, neighbour] of this.#pumps) if (other !== worker) introduce(worker, pump, other, neighbour);
    this.#pumps.set(worker, pump);
    this.addresses = {
      listen: this.addresses.listen ?? ready.listen,
      socks: this.addresses.socks ?? ready.socks,
      httpConnect: this.addresses.httpConnect ?? ready.httpConnect,
    };
    this.udpMode = ready.udpMode;
    if (this.#contacts.length > 0) this.#sendView(worker, pump);
    if (this.#tuning !== undefined && ready.generation < this.#tuning.generation) {
      // It began before the last reload. Whether it went over to that shows in its figures; if it dies, the next one starts with it.
      pump.configure(this.#tuning).catch(() => undefined);
    }
  }

  /**
   * Another configuration for all workers: those that are up are told now, one that is starting when it is up. Resolves when they
   * have answered, or are gone (whoever follows starts with it), or did not answer in time (`pending`).
   */
  async configure(tuning: PumpTuning): Promise<{ readonly confirmed: number; readonly pending: number }> {
    this.#tuning = tuning;
    const answers = await Promise.allSettled([...this.#pumps.values()].map((pump) => pump.configure(tuning)));
    const late = answers.filter(
      (answer) => answer.status === 'rejected' && (answer.reason as DialError).code === DialErrorCode.timeout,
    );
    const confirmed = answers.filter(({ status }) => status === 'fulfilled');
    return { confirmed: confirmed.length, pending: late.length };
  }

  detach(worker: number, pump: PumpClient): void {
    if (this.#pumps.get(worker) === pump) this.#pumps.delete(worker);
  }

  get size(): number {
    return this.#pumps.size;
  }

  /** @param batches what the view says of class cmix. */
  setView(contacts: readonly NodeContact[], batches: BatchRules): void {
    this.#contacts = contacts;
    this.#batches = batches;
    for (const [worker, pump] of this.#pumps) this.#sendView(worker, pump);
  }

  /** In pieces with pauses between them: taking in ten thousand contacts at once would stop a pump for a tenth of a second. */
  #sendView(worker: number, pump: PumpClient): void {
    const contacts = this.#contacts;
    const send = (at: number) => {
      // A newer view is on its way, or the worker is gone.
      if (this.#contacts !== contacts || this.#pumps.get(worker) !== pump) return;
      const end = at + VIEW_PIECE;
      const more = end < contacts.length;
      const batches = this.#batches;
      pump.send({ type: 'view', contacts: contacts.slice(at, end), first: at === 0, more, batches });
      if (more) setTimeout(send, VIEW_PAUSE_MS, end);
    };
    send(0);
  }

  /** Each worker gets copies of its own, which it wipes. */
  setMixSecrets(secrets: () => MixSecrets[]): void {
    for (const pump of this.#pumps.values()) {
      const mix = secrets();
      pump.send({ type: 'mix-secrets', mix, setupLogs: this.setupLogs?.forEpochs(mix.map(({ epoch }) => epoch)) });
      for (const { x25519Secret, kemSeed } of mix) {
        x25519Secret.fill(0);
        kemSeed.fill(0);
      }
    }
  }

  /** A worker for something new, in turn. Throws DialError when none is up. */
  choose(): { readonly worker: number; readonly pump: PumpClient } {
    const workers = [...this.#pumps.keys()].sort((a, b) => a - b);
    if (workers.length === 0)
      throw new DialError(DialErrorCode.internal, 'no pump worker is up; it is being restarted');
    const worker = workers[this.#next++ % workers.length]!;
    return { worker, pump: this.#pumps.get(worker)! };
  }

  /** To all workers that are up. */
  send(message: ToPump): void {
    for (const pump of this.#pumps.values()) pump.send(message);
  }

  get(worker: number): PumpClient | undefined {
    return this.#pumps.get(worker);
  }

  /** The one that is always the same as long as it is up: what leaves one after the other should leave over the same links. */
  first(): PumpClient | undefined {
    return this.#pumps.get(Math.min(...this.#pumps.keys()));
  }

  /** Of all workers that answer. Callers at the same time share one round of questions. */
  async stats(): Promise<WorkerStats[]> {
    this.#pendingStats ??= this.#askStats().finally(() => {
      this.#pendingStats = undefined;
    });
    return await this.#pendingStats;
  }

  async #askStats(): Promise<WorkerStats[]> {
    const answers = await Promise.allSettled(
      [...this.#pumps].map(async ([worker, pump]) => ({ worker, stats: await pump.stats() })),
    );
    // A worker that is just going down has no figures any more; its crash is reported elsewhere.
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  }
}
