/**
 * Recipients' keys: asked for at their mailbox, part by part, and kept until they expire. Pure; the messenger's slots carry
 * the requests.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { joinBytes } from '../directory/bytes.ts';
import type { TimeMs, UnixSeconds } from '../ports.ts';
import type { MessageAddress } from './address.ts';
import { type KeyBundle, openKeyBundle, type SealKeys } from './key-bundle.ts';
import { KEYS_PARTS } from './lane.ts';

/** Recipients whose keys are kept. */
const MAX_KNOWN = 1024;
/** Keys with less time left are fetched anew. */
const SPARE_SECONDS = 3600;
/** Recipients change their keys well before they expire; so much of their life is used here. */
const KEEP_SECONDS = 6 * 3600;
const MAX_ASK_AGAIN_MS = 60_000;
const ASK_AGAIN_GROWTH = 1.5;

interface Fetch {
  readonly address: MessageAddress;
  readonly parts: (Uint8Array | undefined)[];
  readonly askAtMs: TimeMs[];
  askAgainMs: number;
}

interface Known {
  readonly bundle: KeyBundle;
  readonly fetchedAt: UnixSeconds;
}

export class KeyFetches {
  readonly #suite: CryptoSuite;
  readonly #askAgainMs: number;
  readonly #fetches = new Map<string, Fetch>();
  /** Oldest first. */
  readonly #known = new Map<string, Known>();
  readonly #addresses = new Map<string, MessageAddress>();

  constructor(suite: CryptoSuite, askAgainMs: number) {
    this.#suite = suite;
    this.#askAgainMs = askAgainMs;
  }

  known(mailbox: string, now: UnixSeconds): SealKeys | undefined {
    const known = this.#known.get(mailbox);
    if (known === undefined || now + SPARE_SECONDS >= known.bundle.until) return undefined;
    return now - known.fetchedAt < KEEP_SECONDS ? known.bundle : undefined;
  }

  /** Begins to ask, if that is not under way. */
  want(mailbox: string, address: MessageAddress): void {
    if (this.#fetches.has(mailbox)) return;
    this.#fetches.set(mailbox, {
      address,
      parts: new Array(KEYS_PARTS).fill(undefined),
      askAtMs: new Array(KEYS_PARTS).fill(0),
      askAgainMs: this.#askAgainMs,
    });
    this.#addresses.set(mailbox, address);
  }

  addressOf(mailbox: string): MessageAddress | undefined {
    return this.#addresses.get(mailbox);
  }

  /** The request for the next slot. */
  next(
    nowMs: TimeMs,
  ): { readonly mailbox: string; readonly address: MessageAddress; readonly part: number } | undefined {
    for (const [mailbox, { address, parts, askAtMs }] of this.#fetches) {
      for (let part = 0; part < parts.length; part++) {
        if (parts[part] === undefined && nowMs >= askAtMs[part]!) return { mailbox, address, part };
      }
    }
    return undefined;
  }

  /** The request has left. */
  asked(mailbox: string, part: number, nowMs: TimeMs): void {
    const fetch = this.#fetches.get(mailbox);
    if (fetch === undefined) return;
    fetch.askAtMs[part] = nowMs + fetch.askAgainMs;
    if (part === KEYS_PARTS - 1) fetch.askAgainMs = Math.min(MAX_ASK_AGAIN_MS, fetch.askAgainMs * ASK_AGAIN_GROWTH);
  }

  /** A part has come; gives the keys once they are complete and proved. Parts that do not prove anything are asked for again. */
  handlePart(mailbox: string, part: number, data: Uint8Array, now: UnixSeconds): SealKeys | undefined {
    const fetch = this.#fetches.get(mailbox);
    if (fetch === undefined || part >= fetch.parts.length) return undefined;
    fetch.parts[part] = data;
    if (fetch.parts.includes(undefined)) return undefined;
    const bundle = openKeyBundle(
      joinBytes(...(fetch.parts as Uint8Array[])),
      fetch.address.mailboxId,
      now,
      this.#suite,
    );
    if (bundle === undefined) {
      // The owner may have changed them between two parts.
      fetch.parts.fill(undefined);
      return undefined;
    }
    this.#fetches.delete(mailbox);
    this.#known.delete(mailbox);
    this.#known.set(mailbox, { bundle, fetchedAt: now });
    if (this.#known.size > MAX_KNOWN) this.forget(this.#known.keys().next().value!);
    return bundle;
  }

  forget(mailbox: string): void {
    this.#fetches.delete(mailbox);
    this.#known.delete(mailbox);
    this.#addresses.delete(mailbox);
  }

  expire(now: UnixSeconds): void {
    for (const [mailbox, { bundle }] of this.#known) if (now >= bundle.until) this.forget(mailbox);
  }
}
