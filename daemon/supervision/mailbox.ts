/** A bounded inbox. xstate's own mailbox has no limit and loses what a throw interrupts; this stands before it. */
export class Mailbox<T> {
  readonly limit: number;
  #queue: T[] = [];
  #head = 0;
  #dropped = 0;
  #deliver: ((message: T) => void) | undefined;
  #scheduled = false;
  #onThrow: (error: unknown) => void = () => {};

  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) throw new RangeError(`inbox limit must be at least 1, got ${limit}`);
    this.limit = limit;
  }

  get length(): number {
    return this.#queue.length - this.#head;
  }

  /** Messages refused because the inbox was full. */
  get dropped(): number {
    return this.#dropped;
  }

  /** False when the inbox is full; the message is then counted and lost. Delivery is never within this call. */
  send(message: T): boolean {
    if (this.length >= this.limit) {
      this.#dropped++;
      return false;
    }
    this.#queue.push(message);
    this.#schedule();
    return true;
  }

  /**
   * Messages go to `deliver` from now on, what waited first. A throw goes to `onThrow`, after the mailbox is detached:
   * the message that caused it is gone, the rest waits for the next one who attaches.
   */
  attach(deliver: (message: T) => void, onThrow: (error: unknown) => void): void {
    this.#deliver = deliver;
    this.#onThrow = onThrow;
    this.#schedule();
  }

  /** Messages wait. */
  detach(): void {
    this.#deliver = undefined;
  }

  #schedule(): void {
    if (this.#scheduled || this.#deliver === undefined || this.length === 0) return;
    this.#scheduled = true;
    setImmediate(this.#drain);
  }

  readonly #drain = (): void => {
    this.#scheduled = false;
    // No more than what is there now: what is sent meanwhile waits its turn behind other work of the event loop.
    for (let left = this.length; left > 0 && this.#deliver !== undefined; left--) {
      const message = this.#queue[this.#head]!;
      this.#head++;
      if (this.#head > 64 && this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      try {
        this.#deliver(message);
      } catch (error) {
        const onThrow = this.#onThrow;
        this.detach();
        onThrow(error);
        return;
      }
    }
    if (this.length === 0) {
      this.#queue = [];
      this.#head = 0;
    }
    this.#schedule();
  };
}
