/**
 * Which families of addresses this machine can send to: what the configuration says, or else what its interfaces have. A
 * machine without any address but loopback (offline, or not yet online) counts as one that has both: nothing is known.
 */
import { networkInterfaces } from 'node:os';
import { REACH_ALL, REACH_IPV4, REACH_IPV6, Reach, reachOf } from '@nyx/core/directory/address.ts';

export type AddressFamily = 'ipv4' | 'ipv6';
export type AddressFamilies = 'auto' | readonly AddressFamily[];

/** Interfaces are asked again after this. */
const LOOK_MS = 1000;

export interface OwnReachHost {
  readonly nowMs: () => number;
  /** Default: the addresses of this machine's interfaces. */
  readonly addresses?: () => readonly string[];
}

export class OwnReach {
  readonly #fixed: number | undefined;
  readonly #host: OwnReachHost;
  #mask = REACH_ALL;
  #lookMs = Number.NEGATIVE_INFINITY;

  constructor(families: AddressFamilies, host: OwnReachHost) {
    this.#host = host;
    if (families === 'auto') return;
    this.#fixed = (families.includes('ipv4') ? REACH_IPV4 : 0) | (families.includes('ipv6') ? REACH_IPV6 : 0);
  }

  /** Bits of Reach. At most a second old. */
  get mask(): number {
    if (this.#fixed !== undefined) return this.#fixed;
    const nowMs = this.#host.nowMs();
    if (nowMs - this.#lookMs < LOOK_MS) return this.#mask;
    this.#lookMs = nowMs;
    this.#mask = reachByAddresses((this.#host.addresses ?? interfaceAddresses)());
    return this.#mask;
  }

  reaches(address: string): boolean {
    return (reachOf(address) & this.mask) !== 0;
  }
}

/** Link-local addresses lead nowhere that a node could be. */
function reachByAddresses(addresses: readonly string[]): number {
  let outside = 0;
  for (const address of addresses) {
    if (/^fe[89ab]|^169\.254\./i.test(address)) continue;
    outside |= reachOf(address) & (Reach.ipv4 | Reach.ipv6);
  }
  return outside === 0 ? REACH_ALL : outside | Reach.loopback4 | Reach.loopback6;
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map(({ address }) => address));
}
