/**
 * Notices that this machine has come into another network: its addresses are others than before, or sends that the
 * kernel refused for want of a route go through again. There is no portable notification, so it looks.
 */
import { networkInterfaces } from 'node:os';

/** What the kernel says when it knows no way out. */
const unreachable: readonly string[] = ['ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'EADDRNOTAVAIL', 'EPERM'];

/**
 * An address more is seldom alone: the route follows, the other family's address, the end of the network before. A move in the
 * middle of another's validation costs twice the time, and while all addresses of before are there nothing presses.
 */
const SETTLE_MS = 300;

export interface NetworkWatchHost {
  /** Addresses that others may see us at, in any order. Default: those of the interfaces. */
  readonly addresses?: () => readonly string[];
  /** Sends that failed so far, by code. */
  readonly sendErrors: () => ReadonlyMap<string, number>;
  readonly onChange: (what: 'addresses' | 'route') => void;
}

export class NetworkWatch {
  readonly #host: NetworkWatchHost;
  #addresses: ReadonlySet<string>;
  /** Addresses have come, and none has gone: when that is a change. */
  #settledMs = Number.POSITIVE_INFINITY;
  #errors = 0;
  #wasAway = false;
  #hadAddresses: boolean;

  constructor(host: NetworkWatchHost) {
    this.#host = host;
    this.#addresses = this.#look();
    this.#hadAddresses = this.#addresses.size > 0;
    this.#errors = this.#count();
  }

  /** When it last looked, there was no way out. A machine that never had an address of its own talks with itself. */
  get isAway(): boolean {
    return this.#wasAway || (this.#addresses.size === 0 && this.#hadAddresses);
  }

  /** Call it some times a second; where something waits for it, more often. */
  poll(nowMs: number): void {
    const before = this.#addresses;
    const addresses = this.#look();
    const errors = this.#count();
    const isAway = errors > this.#errors;
    const back = this.#wasAway && !isAway;
    this.#addresses = addresses;
    this.#hadAddresses ||= addresses.size > 0;
    this.#errors = errors;
    this.#wasAway = isAway;
    const gone = [...before].some((address) => !addresses.has(address));
    const isNew = [...addresses].some((address) => !before.has(address));
    // Without one there was no network.
    if (gone || (isNew && before.size === 0)) this.#change('addresses');
    else if (back) this.#change('route');
    else if (isNew) this.#settledMs = Math.min(this.#settledMs, nowMs + SETTLE_MS);
    else if (nowMs >= this.#settledMs) this.#change('addresses');
  }

  #change(what: 'addresses' | 'route'): void {
    this.#settledMs = Number.POSITIVE_INFINITY;
    this.#host.onChange(what);
  }

  #look(): ReadonlySet<string> {
    return new Set((this.#host.addresses ?? outsideAddresses)());
  }

  #count(): number {
    const errors = this.#host.sendErrors();
    return unreachable.reduce((sum, code) => sum + (errors.get(code) ?? 0), 0);
  }
}

function outsideAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).filter(({ internal }) => !internal).map(({ address }) => address),
  );
}
