/**
 * A worker's sockets. `listen` takes part in the node's port; links that this worker opens use ports of its own (one
 * per address family), so that every answer comes back to the worker that holds the link: circuits need no hand-over.
 */
import { isIPv6 } from 'node:net';
import { Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { openUdp, type UdpMode, type UdpSocket } from '../io/udp.ts';
import type { ListenAddress, PumpOptions } from './contract.ts';

const wildcards: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

export interface PumpSocketsOptions {
  /** Undefined: none is accepted. */
  readonly listen: ListenAddress | undefined;
  readonly reusePort: boolean;
  readonly mode: PumpOptions['udp'];
  /** Whole datagrams, given away for good. */
  readonly onDatagrams: (buffer: Uint8Array, via: Via, from: PeerAddress) => void;
  /** A socket failed for good: the worker cannot go on. */
  readonly onError: (error: Error) => void;
  readonly log: (level: 'debug' | 'info' | 'warn', message: string, fields?: Record<string, unknown>) => void;
}

export class PumpSockets {
  readonly #listen: UdpSocket | undefined;
  readonly #dial4: UdpSocket | undefined;
  readonly #dial6: UdpSocket | undefined;
  readonly #all: readonly UdpSocket[];
  /** Datagrams for an address family that has no socket here. */
  #unroutable = 0;

  constructor(listen: UdpSocket | undefined, dial4: UdpSocket | undefined, dial6: UdpSocket | undefined) {
    this.#listen = listen;
    this.#dial4 = dial4;
    this.#dial6 = dial6;
    this.#all = [listen, dial4, dial6].filter((socket) => socket !== undefined);
  }

  /** Rejects when the listening address or both families of dialling sockets cannot be had. */
  static async open(options: PumpSocketsOptions): Promise<PumpSockets> {
    const opened: UdpSocket[] = [];
    const openOne = async (via: Via, host: string, port: number, reusePort: boolean) => {
      const { mode, onError, onDatagrams } = options;
      const socket = await openUdp({
        host,
        port,
        mode,
        reusePort,
        onError,
        onDatagrams: (buffer, from) => onDatagrams(wholeDatagrams(buffer), via, from),
      });
      opened.push(socket);
      if (mode === 'auto' && socket.mode === 'plain') {
        options.log('info', 'UDP without segmentation offload', { reason: socket.whyPlain });
      }
      return socket;
    };
    try {
      const { listen } = options;
      const listening = listen && (await openOne(Via.listen, listen.host, listen.port, options.reusePort));
      const dial: (UdpSocket | undefined)[] = [];
      for (const wildcard of ['0.0.0.0', '::']) {
        try {
          dial.push(await openOne(Via.dial, dialHost(wildcard, listen), 0, false));
        } catch (error) {
          options.log('debug', 'no UDP socket for one address family', { host: wildcard, error: String(error) });
          dial.push(undefined);
        }
      }
      if (dial.every((socket) => socket === undefined)) throw new Error('no UDP socket can be opened to dial from');
      return new PumpSockets(listening, dial[0], dial[1]);
    } catch (error) {
      await Promise.all(opened.map((socket) => socket.close()));
      throw error;
    }
  }

  /** As EngineHost.send. */
  send(via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void {
    const socket = via === Via.listen ? this.#listen : to.address.includes(':') ? this.#dial6 : this.#dial4;
    if (socket === undefined) {
      this.#unroutable += length / DATAGRAM_BYTES;
      release();
      return;
    }
    socket.send(to, batch, length, release);
  }

  get listenAddress(): ListenAddress | undefined {
    const address = this.#listen?.address;
    return address && { host: address.address, port: address.port };
  }

  /** Plain as soon as one of them is. */
  get mode(): UdpMode {
    return this.#all.every((socket) => socket.mode === 'gso') ? 'gso' : 'plain';
  }

  get queuedBytes(): number {
    return this.#all.reduce((sum, socket) => sum + socket.queuedBytes, 0);
  }

  get sendQueueFull(): number {
    return this.#all.reduce((sum, socket) => sum + socket.counters.sendQueueFull, 0);
  }

  get sendErrors(): number {
    return this.#unroutable + this.#all.reduce((sum, socket) => sum + socket.counters.sendErrors, 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((socket) => socket.close()));
  }
}

/** Who listens on one address also dials from it, so that peers and filters see one node. */
function dialHost(wildcard: string, listen: ListenAddress | undefined): string {
  if (listen === undefined || wildcards.has(listen.host)) return wildcard;
  return isIPv6(listen.host) === isIPv6(wildcard) ? listen.host : wildcard;
}

/**
 * A short datagram ends a run that the kernel glued together: it must not spoil those before it, or anyone who can
 * forge a source address could.
 */
function wholeDatagrams(buffer: Uint8Array): Uint8Array {
  const rest = buffer.length % DATAGRAM_BYTES;
  if (rest === 0 || buffer.length < DATAGRAM_BYTES || buffer.length > BATCH_DATAGRAMS * DATAGRAM_BYTES) return buffer;
  return buffer.subarray(0, buffer.length - rest);
}
