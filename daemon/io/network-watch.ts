/**
 * Notices that this machine has come into another network: its addresses are others than before, or sends that the
 * kernel refused for want of a route go through again. There is no portable notification, so it looks.
 */
import { networkInterfaces } from 'node:os';

/** What the kernel says when it knows no way out. */
const unreachable: readonly string[] = ['ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'EADDRNOTAVAIL', 'EPERM'];

export interface NetworkWatchHost {
  /** Addresses that others may see us at, in any order. Default: those of the interfaces. */
  readonly addresses?: () => readonly string[];
  /** Sends that failed so far, by code. */
  readonly sendErrors: () => ReadonlyMap<string, number>;
  readonly onChange: (what: 'addresses' | 'route') => void;
}

export class NetworkWatch {
  readonly #host: NetworkWatchHost;
  #addresses: string;
  #errors = 0;
  #wasAway = false;

  constructor(host: NetworkWatchHost) {
    this.#host = host;
    this.#addresses = this.#look();
    this.#errors = this.#count();
  }

  /** Call it some times a second. */
  poll(): void {
    const addresses = this.#look();
    const errors = this.#count();
    const isAway = errors > this.#errors;
    const changed = addresses !== this.#addresses;
    const back = this.#wasAway && !isAway;
    this.#addresses = addresses;
    this.#errors = errors;
    this.#wasAway = isAway;
    if (changed) this.#host.onChange('addresses');
    else if (back) this.#host.onChange('route');
  }

  #look(): string {
    return [...(this.#host.addresses ?? outsideAddresses)()].sort().join(' ');
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
