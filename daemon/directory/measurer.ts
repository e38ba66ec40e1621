/**
 * Whom an authority measures, and when: one node at a time, those first that were never measured, then those whose
 * measurement is oldest; within a budget of bytes for each epoch. A node that lets no measurement through, where others do,
 * has the speed 0: else refusing would be better than being slow.
 */
import type { SpeedResult, SpeedTestOptions } from '@nyx/core/directory/speed-test.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';

/** Circuits have to stand within this, and are filled for so long at most. */
const SETUP_MS = 5000;
const DURATION_MS = 3000;
/** Between two measurements: what they disturb has time to settle. */
const PAUSE_MS = 100;
const MAX_PAUSE_MS = 1000;
/** Nodes are measured again after this … */
const AGAIN_MS = 6 * 3_600_000;
/** … or after so many epochs, if that is longer; never measured twice in one epoch. */
const AGAIN_EPOCHS = 1;
/** A node that lets nothing through is asked again after this, and has speed 0 after so many times in a row. */
const RETRY_MS = 10_000;
const FAILURES = 3;
/** So long a new view has to be out before nodes are expected to know each other by it. */
const SETTLE_MS = 1000;

export interface MeasurerOptions {
  /** Most bytes of one measurement. */
  readonly bytesPerNode: number;
  /** Most bytes of all measurements in an epoch. */
  readonly bytesPerEpoch: number;
  readonly epochSeconds: number;
}

/** A node that may be measured. */
export interface MeasurableNode {
  readonly id: string;
  readonly contact: () => NodeContact;
  /** Unix milliseconds; undefined = never. */
  readonly measuredMs: number | undefined;
  /** What was measured, bytes per second; undefined = nothing yet. */
  readonly speed: number | undefined;
}

export interface MeasurerHost {
  /** Nodes of the present view that answer probes, this authority's own excepted. */
  candidates(): Iterable<MeasurableNode>;
  /** Where circuits end; undefined: nothing can be measured now. */
  last(): NodeContact | undefined;
  measure(target: NodeContact, last: NodeContact, options: SpeedTestOptions): Promise<SpeedResult>;
  /** 0 = lets nothing through. */
  measured(id: string, bytesPerSecond: number): void;
  unixMs(): number;
}

export class Measurer {
  readonly #options: MeasurerOptions;
  readonly #host: MeasurerHost;
  readonly #failures = new Map<string, { count: number; lastMs: number }>();
  #epoch = -1;
  #epochBeganMs = 0;
  #spentBytes = 0;
  #succeeded = false;
  #running = false;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(options: MeasurerOptions, host: MeasurerHost) {
    this.#options = options;
    this.#host = host;
  }

  /** Bytes of this epoch's measurements so far. */
  get spentBytes(): number {
    return this.#spentBytes;
  }

  /** Resolves after stop(). Rejects when this machine can't measure. */
  async run(): Promise<void> {
    this.#running = true;
    while (this.#running) await this.#pause((await this.step()) ? PAUSE_MS : MAX_PAUSE_MS);
  }

  /** Measures who is next, if anybody is. */
  async step(): Promise<boolean> {
    const node = this.#next();
    if (node !== undefined) await this.#measure(node);
    return node !== undefined;
  }

  stop(): void {
    this.#running = false;
    this.#stopped = true;
    this.#wake?.();
  }

  #next(): MeasurableNode | undefined {
    const { bytesPerNode, bytesPerEpoch, epochSeconds } = this.#options;
    const nowMs = this.#host.unixMs();
    const epoch = Math.floor(nowMs / (epochSeconds * 1000));
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#epochBeganMs = nowMs;
      this.#spentBytes = 0;
      this.#succeeded = false;
      for (const [id, { lastMs }] of this.#failures) if (nowMs - lastMs > 2 * AGAIN_MS) this.#failures.delete(id);
    }
    if (nowMs - this.#epochBeganMs < SETTLE_MS || this.#spentBytes + bytesPerNode > bytesPerEpoch) return undefined;
    if (this.#host.last() === undefined) return undefined;
    const gapMs = Math.max(AGAIN_MS, AGAIN_EPOCHS * epochSeconds * 1000);
    let oldest: MeasurableNode | undefined;
    for (const node of this.#host.candidates()) {
      if (node.measuredMs !== undefined && nowMs - node.measuredMs < gapMs) continue;
      const failure = this.#failures.get(node.id);
      if (failure !== undefined && nowMs - failure.lastMs < RETRY_MS * 2 ** Math.min(10, failure.count - 1)) continue;
      if (oldest === undefined || (node.measuredMs ?? 0) < (oldest.measuredMs ?? 0)) oldest = node;
    }
    return oldest;
  }

  async #measure(node: MeasurableNode): Promise<void> {
    const last = this.#host.last();
    if (last === undefined) return;
    const { bytesPerNode: maxBytes } = this.#options;
    // Once it let nothing through, nothing is known of its line.
    const lastBytesPerSecond = this.#failures.has(node.id) ? undefined : node.speed;
    const limits = { maxBytes, durationMs: DURATION_MS, setupMs: SETUP_MS, lastBytesPerSecond };
    const { bytesPerSecond, sentBytes } = await this.#host.measure(node.contact(), last, limits);
    if (this.#stopped) return;
    this.#spentBytes += sentBytes;
    if (bytesPerSecond !== undefined) {
      this.#succeeded = true;
      this.#failures.delete(node.id);
      this.#host.measured(node.id, bytesPerSecond);
      return;
    }
    const count = (this.#failures.get(node.id)?.count ?? 0) + 1;
    this.#failures.set(node.id, { count, lastMs: this.#host.unixMs() });
    // Nobody gets through: that is this authority's own trouble, not theirs.
    if (count >= FAILURES && this.#succeeded) this.#host.measured(node.id, 0);
  }

  async #pause(delayMs: number): Promise<void> {
    if (!this.#running) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
