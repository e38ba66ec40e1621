/**
 * One stream of a session and its TCP connection.
 *
 * Client → target: bytes wait in the session, whose window bounds them, until the connection stands; then everything
 * that one turn of the event loop brought goes out in one write as large as possible, and nothing more is read from
 * the session while the socket holds unsent bytes. Target → client: the kernel's bytes land in one buffer shared by
 * all sockets, and the session copies what it accepts; when it accepts less, the rest is kept (one buffer's worth)
 * and the socket is not read until the session is writable.
 */
import { connect, isIPv6, type Socket } from 'node:net';
import type { ExitPolicy } from '@nyx/core/directory/exit-policy.ts';
import { type ResolvedAddress, SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { ExitError, sessionErrorOf } from './exit-error.ts';
import { ConnectRace } from './happy-eyeballs.ts';
import type { Resolver } from './resolver.ts';
import type { Transfer } from './transfer.ts';

export interface TcpStreamOptions {
  readonly policy: ExitPolicy;
  readonly resolver: Resolver;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** The same, once one of the two has ended. */
  readonly halfClosedTimeoutMs: number;
  readonly transfer: Transfer;
  /** Called for each socket that is opened. */
  readonly onSocket: (socket: Socket) => void;
  /** Called once: stream and socket are both done. `code` is what ended the stream. */
  readonly onDone: (code: number) => void;
}

export class TcpStream {
  /** Set while queued for the next flush; belongs to Transfer. */
  flushQueued = false;
  readonly #stream: SessionStream;
  readonly #options: TcpStreamOptions;
  #race: ConnectRace | undefined;
  #socket: Socket | undefined;
  #streamClosed = false;
  #socketClosed = true;
  #endCode: number = SessionError.noError;
  #done = false;
  /** The socket holds bytes that the kernel has not taken. */
  #writing = false;
  #endedToTarget = false;
  #endedFromTarget = false;
  /** Bytes of the target that the session has not accepted yet. */
  #rest: Uint8Array | undefined;

  constructor(stream: SessionStream, options: TcpStreamOptions) {
    this.#stream = stream;
    this.#options = options;
    stream.onReadable = () => this.#queueFlush();
    stream.onWritable = () => this.#writeRest();
    stream.onClose = (code) => this.#onStreamClose(code);
  }

  /** Resolves, checks the policy and connects; every failure ends the stream with its code. */
  async start(): Promise<void> {
    const { host, port } = this.#stream.target;
    const { policy, resolver } = this.#options;
    const startedAtMs = performance.now();
    try {
      if (!policy.mayAllowPort(port)) throw new ExitError(SessionError.exitPolicy, 'port');
      const addresses = await resolver.addresses(host);
      if (this.#streamClosed) return;
      const allowed = addresses.filter(({ address }) => policy.allows(address, port));
      if (allowed.length === 0) throw new ExitError(SessionError.exitPolicy, 'address');
      const spentMs = performance.now() - startedAtMs;
      this.#race = new ConnectRace(allowed, {
        open: (address) => this.#open(address, port),
        timeoutMs: Math.max(1, this.#options.connectTimeoutMs - spentMs),
        onConnected: (socket) => this.#onConnected(socket),
        onFailed: (error) => this.reset(error.code),
      });
    } catch (error) {
      this.reset(sessionErrorOf(error));
    }
  }

  /** Ends both sides; the client learns `code`. */
  reset(code: number): void {
    if (!this.#streamClosed) {
      this.#closeStream(code);
      this.#stream.reset(code);
    }
    this.#dropSocket();
    this.#finishIfDone();
  }

  /** Nothing more comes or goes through the session. A stream that had ended in order still delivers what it holds. */
  sessionEnded(code: number): void {
    if (!this.#streamClosed) this.reset(code);
  }

  /** Writes what has arrived for the target. Called by Transfer once per turn of the event loop. */
  flush(): void {
    const socket = this.#socket;
    if (socket === undefined || this.#writing || this.#socketClosed) return;
    const stream = this.#stream;
    for (let available = stream.readableBytes; available > 0; available = stream.readableBytes) {
      const chunk = this.#options.transfer.takeWriteBuffer(available);
      const length = stream.read(chunk);
      if (length === 0) break;
      socket.write(length === chunk.length ? chunk : chunk.subarray(0, length), this.#onWritten);
      // 0 = the kernel has taken all of it within the call, so the buffer is free again.
      if (socket.writableLength === 0) continue;
      this.#options.transfer.giveWriteBuffer(chunk);
      this.#writing = true;
      return;
    }
    if (stream.readEnded && !this.#endedToTarget) {
      this.#endedToTarget = true;
      socket.end();
      socket.setTimeout(this.#halfClosedMs);
    }
  }

  #open({ address, family }: ResolvedAddress, port: number): Socket {
    const socket = connect({
      host: address,
      port,
      family,
      autoSelectFamily: false,
      allowHalfOpen: true,
      noDelay: true,
      onread: { buffer: this.#options.transfer.readBuffer(), callback: this.#onSocketData },
    });
    this.#options.onSocket(socket);
    return socket;
  }

  #onConnected(socket: Socket): void {
    this.#race = undefined;
    this.#socket = socket;
    this.#socketClosed = false;
    socket.on('end', this.#onSocketEnd).on('error', this.#onSocketError).on('close', this.#onSocketClose);
    socket.setTimeout(this.#options.idleTimeoutMs, () => this.reset(SessionError.idleTimeout));
    const address = socket.localAddress ?? '';
    this.#stream.connected(isIPv6(address) ? 6 : 4, address, socket.localPort ?? 0);
    this.#queueFlush();
  }

  /** Borrows the buffer. False = read no more for now. */
  readonly #onSocketData = (length: number, buffer: Uint8Array): boolean => {
    if (this.#streamClosed) return true;
    const accepted = this.#stream.write(buffer.subarray(0, length));
    if (accepted === length) return true;
    this.#rest = Buffer.from(buffer.subarray(accepted, length)); // a copy: the buffer is everyone's
    return false;
  };

  #writeRest(): void {
    const rest = this.#rest;
    if (rest === undefined || this.#streamClosed) return;
    const accepted = this.#stream.write(rest);
    if (accepted < rest.length) {
      if (accepted > 0) this.#rest = rest.subarray(accepted);
      return;
    }
    this.#rest = undefined;
    if (this.#endedFromTarget) this.#stream.end();
    else this.#socket?.resume();
  }

  readonly #onWritten = (): void => {
    if (!this.#writing || (this.#socket?.writableLength ?? 0) > 0) return;
    this.#writing = false;
    this.#queueFlush();
  };

  readonly #onSocketEnd = (): void => {
    this.#endedFromTarget = true;
    this.#socket?.setTimeout(this.#halfClosedMs);
    if (this.#rest === undefined && !this.#streamClosed) this.#stream.end();
  };

  readonly #onSocketError = (error: Error): void => {
    this.reset(sessionErrorOf(error));
  };

  readonly #onSocketClose = (): void => {
    this.#socketClosed = true;
    if (!this.#streamClosed && !(this.#endedFromTarget && this.#endedToTarget)) this.reset(SessionError.peerReset);
    this.#finishIfDone();
  };

  #onStreamClose(code: number): void {
    if (this.#streamClosed) return;
    this.#closeStream(code);
    // Ended in order: what has arrived still goes out, then the socket closes itself.
    if (code === SessionError.noError && this.#endedFromTarget) this.#queueFlush();
    else this.#dropSocket();
    this.#finishIfDone();
  }

  #closeStream(code: number): void {
    this.#streamClosed = true;
    this.#endCode = code;
    this.#rest = undefined;
  }

  /** With RST, so that the target does not take a cut-off stream for a finished one. */
  #dropSocket(): void {
    this.#race?.cancel();
    this.#race = undefined;
    if (this.#socket !== undefined && !this.#socket.destroyed) this.#socket.resetAndDestroy();
  }

  /** A peer that is gone for good, application and all, looks to us as one that has ended its side. */
  get #halfClosedMs(): number {
    return Math.min(this.#options.halfClosedTimeoutMs, this.#options.idleTimeoutMs);
  }

  #queueFlush(): void {
    if (this.#socket !== undefined && !this.#writing) this.#options.transfer.queue(this);
  }

  #finishIfDone(): void {
    if (this.#done || !this.#streamClosed || !this.#socketClosed) return;
    this.#done = true;
    this.#options.onDone(this.#endCode);
  }
}
