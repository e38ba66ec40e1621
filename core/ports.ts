/**
 * What the outside must give the core. The core itself has no clock, no randomness and no sockets:
 * time is an argument (`nowMs`), the rest comes through these interfaces.
 */

/** Source of cryptographically secure random bytes; in simulations a seeded generator. */
export interface Random {
  /** Overwrites every byte of `into`. */
  fill(into: Uint8Array): void;
}

/** Where a datagram came from or goes to. `address` is a literal IPv4 or IPv6 address, never a name. */
export interface PeerAddress {
  readonly address: string;
  readonly port: number;
}

/** Monotonic milliseconds (fractions allowed). Only differences mean anything. */
export type TimeMs = number;

/** Seconds since the Unix epoch, for what is signed and expires (descriptors, epochs). */
export type UnixSeconds = number;
