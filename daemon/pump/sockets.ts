/**
 * A worker's sockets. Those that listen take part in the node's ports; links that this worker opens use ports of its own (one
 * per address family), so that every answer comes back to the worker that holds the link: circuits need no hand-over.
 */
import { isIPv6 } from 'node:net';
import { Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { DirectWait } from '../io/direct-udp.ts';
import { openUdp, type UdpMode, type UdpSocket } from '../io/udp.ts';
import type { ListenAddress, PumpOptions } from './contract.ts';

/**
 * Of a socket in one turn. Few, so that what they bring is acknowledged and passed on before more is taken: with 32 a window moved through
 * the network as one lump, and two processors that had a whole network to run were idle for a seventh of their time.
 */
const MAX_BUFFERS = 4;

/** Sockets that are read past the event loop. */
interface Attended {
  readonly sockets: readonly UdpSocket[];
  readonly wait: DirectWait;
}

/** By address family: IPv4, IPv6. */
type DialSockets = readonly [UdpSocket | undefined, UdpSocket | undefined];

/** What was sent to the old address before the other end knew of the new one. */
const LEAVE_MS = 2000;
const wildcards: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

export interface PumpSocketsOptions {
  /** Empty: no links are accepted. */
  readonly listen: readonly ListenAddress[];
  readonly reusePort: boolean;
  readonly mode: PumpOptions['udp'];
  /** Whole datagrams, given away for good. */
  readonly onDatagrams: (buffer: Uint8Array, via: Via, from: PeerAddress) => void;
  /** A socket failed for good: the worker cannot go on. */
  readonly onError: (error: Error) => void;
  readonly log: (level: 'debug' | 'info' | 'warn', message: string, fields?: Record<string, unknown>) => void;
}

export class PumpSockets {
  /** By Via; none at Via.dial. */
  readonly #listening: readonly (UdpSocket | undefined)[];
  #dial4: UdpSocket | undefined;
  #dial6: UdpSocket | undefined;
  readonly #openDial: () => Promise<DialSockets>;
  /** Datagrams for an address family that has no socket here. */
  #unroutable = 0;
  /** Of sockets that are closed. */
  readonly #past = { sendQueueFull: 0, sendErrors: 0 };
  readonly #leaving = new Map<UdpSocket, NodeJS.Timeout>();
  #closed = false;
  #attended: Attended | undefined;

  private constructor(
    listening: readonly (UdpSocket | undefined)[],
    [dial4, dial6]: DialSockets,
    openDial: () => Promise<DialSockets>,
  ) {
    this.#listening = listening;
    this.#dial4 = dial4;
    this.#dial6 = dial6;
    this.#openDial = openDial;
  }

  /** Rejects when a listening address or both families of dialling sockets cannot be had. */
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
    const openDial = async (): Promise<DialSockets> => {
      const dial: (UdpSocket | undefined)[] = [];
      for (const wildcard of ['0.0.0.0', '::']) {
        try {
          dial.push(await openOne(Via.dial, dialHost(wildcard, options.listen), 0, false));
        } catch (error) {
          options.log('debug', 'no UDP socket for one address family', { host: wildcard, error: String(error) });
          dial.push(undefined);
        }
      }
      if (dial.every((socket) => socket === undefined)) throw new Error('no UDP socket can be opened to dial from');
      return [dial[0], dial[1]];
    };
    try {
      const listening: (UdpSocket | undefined)[] = [];
      for (const [i, { host, port }] of options.listen.entries()) {
        const via = i === 0 ? Via.listen : Via.dial + i;
        listening[via] = await openOne(via, host, port, options.reusePort);
      }
      return new PumpSockets(listening, await openDial(), openDial);
    } catch (error) {
      await Promise.all(opened.map((socket) => socket.close()));
      throw error;
    }
  }

  /**
   * Dials from other ports from now on: who sees this machine in two networks does not see one port in both. The old
   * sockets are read for a moment longer. Rejects, and changes nothing, when no others can be opened.
   */
  async redial(): Promise<void> {
    const [dial4, dial6] = await this.#openDial();
    if (this.#closed) {
      await Promise.all([dial4?.close(), dial6?.close()]);
      return;
    }
    for (const socket of [this.#dial4, this.#dial6]) {
      if (socket === undefined) continue;
      this.#leaving.set(
        socket,
        setTimeout(() => this.#leave(socket), LEAVE_MS),
      );
    }
    this.endAttention();
    this.#dial4 = dial4;
    this.#dial6 = dial6;
  }

  /** From now on `receive` reads the sockets, not the event loop. False where that can't be. Only while the loop handles datagrams. */
  attend(): boolean {
    const sockets = [...this.#all, ...this.#leaving.keys()].filter(({ descriptor }) => descriptor !== undefined);
    const wait = DirectWait.on(sockets.map(({ descriptor }) => descriptor!));
    if (wait === null) return false;
    for (const [i, socket] of sockets.entries()) {
      socket.attend(true);
      if (!socket.isSending) wait.unwatch(i);
    }
    this.#attended = { sockets, wait };
    return true;
  }

  endAttention(): void {
    for (const socket of this.#attended?.sockets ?? []) socket.attend(false);
    this.#attended = undefined;
  }

  /**
   * Waits for up to `waitMs` (below 1000) for datagrams or whatever else the event loop would wake for, and hands out the
   * datagrams. Undefined: nobody attends (any more). Else how many buffers came.
   */
  receive(waitMs: number): number | undefined {
    const attended = this.#attended;
    if (attended === undefined) return undefined;
    const { sockets, wait } = attended;
    wait.wait(waitMs);
    let buffers = 0;
    for (let i = 0; i < sockets.length; i++) {
      if (wait.isReadable(i)) buffers += sockets[i]!.receive(MAX_BUFFERS);
    }
    return buffers;
  }

  /** The last wait of `receive` ended with something for the event loop to do. */
  get isLoopReady(): boolean {
    return this.#attended?.wait.isLoopReady ?? false;
  }

  #leave(socket: UdpSocket): void {
    this.endAttention();
    this.#leaving.delete(socket);
    this.#past.sendQueueFull += socket.counters.sendQueueFull;
    this.#past.sendErrors += socket.counters.sendErrors;
    void socket.close();
  }

  get #all(): UdpSocket[] {
    return [...this.#listening, this.#dial4, this.#dial6].filter((socket) => socket !== undefined);
  }

  /** Failed sends of the sockets that links are opened from, by the kernel's code. */
  get dialErrors(): ReadonlyMap<string, number> {
    const sum = new Map<string, number>();
    for (const socket of [this.#dial4, this.#dial6]) {
      for (const [code, count] of socket?.counters.sendErrorCodes ?? []) sum.set(code, (sum.get(code) ?? 0) + count);
    }
    return sum;
  }

  /** As EngineHost.send. */
  send(via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void {
    const socket = via !== Via.dial ? this.#listening[via] : to.address.includes(':') ? this.#dial6 : this.#dial4;
    if (socket === undefined) {
      this.#unroutable += length / DATAGRAM_BYTES;
      release();
      return;
    }
    socket.send(to, batch, length, release);
  }

  /** In the order of the options, with the ports that the system chose. */
  get listenAddresses(): ListenAddress[] {
    return this.#listening.flatMap((socket) =>
      socket === undefined ? [] : [{ host: socket.address.address, port: socket.address.port }],
    );
  }

  /** Plain as soon as one of them is. */
  get mode(): UdpMode {
    return this.#all.every((socket) => socket.mode === 'gso') ? 'gso' : 'plain';
  }

  get queuedBytes(): number {
    return this.#all.reduce((sum, socket) => sum + socket.queuedBytes, 0);
  }

  get sendQueueFull(): number {
    return this.#all.reduce((sum, socket) => sum + socket.counters.sendQueueFull, this.#past.sendQueueFull);
  }

  get sendErrors(): number {
    const past = this.#unroutable + this.#past.sendErrors;
    return this.#all.reduce((sum, socket) => sum + socket.counters.sendErrors, past);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.endAttention();
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    await Promise.all([...this.#all, ...this.#leaving.keys()].map((socket) => socket.close()));
  }
}

/** Who listens on one address of a family also dials from it, so that peers and filters see one node. */
function dialHost(wildcard: string, listen: readonly ListenAddress[]): string {
  const first = listen.find(({ host }) => isIPv6(host) === isIPv6(wildcard));
  return first === undefined || wildcards.has(first.host) ? wildcard : first.host;
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
