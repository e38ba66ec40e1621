/** A home router's translation of addresses and ports (endpoint-independent mapping, RFC 4787), which can forget. */
import { addressBytes, PacketEnd, portOf, rewriteEnd, transportAt } from './ip-packet.ts';

const FIRST_PORT = 20_000;
const PORTS = 40_000;

export class PortNat {
  readonly #inside: Uint8Array;
  readonly #outside: Uint8Array;
  /** By protocol and port. */
  readonly #outsidePorts = new Map<number, number>();
  readonly #insidePorts = new Map<number, number>();
  #next = 0;

  /** IPv4 both. */
  constructor(inside: string, outside: string) {
    this.#inside = addressBytes(inside);
    this.#outside = addressBytes(outside);
    if (this.#inside.length !== 4 || this.#outside.length !== 4) throw new RangeError('NAT is for IPv4');
  }

  /** As a restart or a time-out does: flows that go on get other ports, and nothing comes in by the old ones. */
  rebind(): void {
    this.#outsidePorts.clear();
    this.#insidePorts.clear();
  }

  /** On the way out, in place. False: not to be translated, so it does not go out. */
  leave(packet: Uint8Array, sizeBytes: number): boolean {
    const transport = transportAt(packet, sizeBytes);
    if (transport === 0) return false;
    const key = (packet[9]! << 16) | portOf(packet, transport, PacketEnd.source);
    let port = this.#outsidePorts.get(key);
    if (port === undefined) {
      port = FIRST_PORT + (this.#next++ % PORTS);
      this.#outsidePorts.set(key, port);
      this.#insidePorts.set((packet[9]! << 16) | port, key & 0xffff);
    }
    rewriteEnd(packet, transport, PacketEnd.source, this.#outside, port);
    return true;
  }

  /** On the way in, in place. False: nobody inside has this port. */
  enter(packet: Uint8Array, sizeBytes: number): boolean {
    const transport = transportAt(packet, sizeBytes);
    if (transport === 0) return false;
    const port = this.#insidePorts.get((packet[9]! << 16) | portOf(packet, transport, PacketEnd.destination));
    if (port === undefined) return false;
    rewriteEnd(packet, transport, PacketEnd.destination, this.#inside, port);
    return true;
  }
}
