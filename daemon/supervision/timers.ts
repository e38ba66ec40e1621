/** Time as supervision sees it, so that tests run on virtual time. */
export interface Timers {
  /** Monotonic. */
  nowMs(): number;
  /** Calls back once; the returned function cancels. */
  after(delayMs: number, callback: () => void): () => void;
}

export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Virtual time: nothing happens until `advance`, and then in order. */
export class VirtualTimers implements Timers {
  #nowMs = 0;
  #pending: { atMs: number; order: number; callback: () => void }[] = [];
  #order = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const entry = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, callback };
    this.#pending.push(entry);
    return () => {
      this.#pending = this.#pending.filter((other) => other !== entry);
    };
  }

  /** How many callbacks wait. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Lets `ms` pass; between two callbacks, promises settle. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const due = this.#pending
        .filter((entry) => entry.atMs <= untilMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (due === undefined) break;
      this.#pending = this.#pending.filter((other) => other !== due);
      this.#nowMs = due.atMs;
      due.callback();
      await settle();
    }
    this.#nowMs = untilMs;
  }
}

/** Lets everything that is ready run: promise chains and mailbox drains. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
