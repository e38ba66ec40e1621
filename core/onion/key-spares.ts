/**
 * Key pairs of set-ups made ahead, while nobody waits for them: half of what a client computes for a train, and a
 * quarter of a last hop's reply. Each is used once. As many are kept as were taken last, so a node that sets nothing up
 * makes none, and for a minute at most: a spare is a secret of an exchange to come.
 */
import { type CryptoSuite, type DhKeyPair, X25519_BYTES } from '../crypto/suite.ts';
import type { Random, TimeMs } from '../ports.ts';
import { MAX_HOPS } from '../wire/datagram.ts';
import { createFreshKeys, type FreshKeys, wipeFreshKeys } from './fresh-exchange.ts';

const SPARE_LIFE_MS = 60_000;

export class KeySpares {
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #pairs: DhKeyPair[] = [];
  #fresh: FreshKeys | undefined;
  /** Taken since the last refill. */
  #pairsTaken = 0;
  #freshTaken = false;
  #expiresMs: TimeMs = Number.POSITIVE_INFINITY;

  constructor(suite: CryptoSuite, random: Random) {
    this.#suite = suite;
    this.#random = random;
  }

  /** An ephemeral X25519 key pair; the caller's from now on. */
  takePair(): DhKeyPair {
    this.#pairsTaken++;
    return this.#pairs.pop() ?? this.#newPair();
  }

  /** The client's half of a fresh exchange; the caller's from now on. */
  takeFresh(): FreshKeys {
    this.#freshTaken = true;
    const fresh = this.#fresh ?? createFreshKeys(this.#suite, this.#random);
    this.#fresh = undefined;
    return fresh;
  }

  /** Something was taken. */
  get wanting(): boolean {
    return this.#pairsTaken > 0 || this.#freshTaken;
  }

  /** Makes as many as were taken. Takes some 150 µs for a client's circuit: call it once everything else is done. */
  refill(nowMs: TimeMs): void {
    const wanted = Math.min(this.#pairsTaken, MAX_HOPS);
    while (this.#pairs.length < wanted) this.#pairs.push(this.#newPair());
    if (this.#freshTaken) this.#fresh ??= createFreshKeys(this.#suite, this.#random);
    this.#pairsTaken = 0;
    this.#freshTaken = false;
    this.#expiresMs = nowMs + SPARE_LIFE_MS;
  }

  /** Erases those that nothing came for. Call it every second or so. */
  expire(nowMs: TimeMs): void {
    if (nowMs >= this.#expiresMs) this.wipe();
  }

  wipe(): void {
    for (const pair of this.#pairs) pair.wipe();
    this.#pairs.length = 0;
    if (this.#fresh !== undefined) wipeFreshKeys(this.#fresh);
    this.#fresh = undefined;
    this.#expiresMs = Number.POSITIVE_INFINITY;
  }

  #newPair(): DhKeyPair {
    const secret = new Uint8Array(X25519_BYTES);
    this.#random.fill(secret);
    const pair = this.#suite.x25519(secret);
    this.#suite.wipe(secret);
    return pair;
  }
}
