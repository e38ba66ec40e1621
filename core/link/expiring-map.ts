/** A map whose entries live a fixed time and whose size is bounded: when full, the oldest goes. */
export class ExpiringMap<V> {
  /** In order of insertion, which is the order of expiry. */
  readonly #entries = new Map<string, { readonly value: V; readonly expiresMs: number }>();
  readonly #maxEntries: number;
  readonly #lifeMs: number;

  constructor(maxEntries: number, lifeMs: number) {
    this.#maxEntries = maxEntries;
    this.#lifeMs = lifeMs;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string, nowMs: number): V | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined || entry.expiresMs <= nowMs ? undefined : entry.value;
  }

  /** Replaces an entry of the same key; its life begins anew. */
  set(key: string, value: V, nowMs: number): void {
    this.#entries.delete(key);
    this.prune(nowMs);
    if (this.#entries.size >= this.#maxEntries) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(key, { value, expiresMs: nowMs + this.#lifeMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** Drops what has expired. */
  prune(nowMs: number): void {
    for (const [key, entry] of this.#entries) {
      if (entry.expiresMs > nowMs) return;
      this.#entries.delete(key);
    }
  }
}
