/** The parts of a suite: one that fails is told by name, and costs the others nothing. */
export class Parts {
  readonly #suite: string;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: (message: string) => void;
  /** Why a part has no figures, by its name. */
  readonly failed: Record<string, string> = {};

  constructor(suite: string, signal: AbortSignal | undefined, onProgress: (message: string) => void = () => {}) {
    this.#suite = suite;
    this.#signal = signal;
    this.#onProgress = onProgress;
  }

  /** What `measure` gives, or undefined when it failed or the whole was interrupted. */
  async run<T>(name: string, measure: () => Promise<T>): Promise<T | undefined> {
    try {
      this.#signal?.throwIfAborted();
      this.#onProgress(`${this.#suite}: ${name}`);
      return await measure();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.failed[name] = message;
      this.#onProgress(`${this.#suite}: ${name} failed: ${message}`);
      return undefined;
    }
  }
}
