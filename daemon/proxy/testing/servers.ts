/** For tests only: targets on loopback, and a client socket whose input can be awaited. */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';

/** A TCP server on loopback that is gone when the test is. */
export async function listen(test: TestContext, onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    test.after(() => void socket.destroy());
    socket.on('error', () => socket.destroy());
    onSocket(socket);
  });
  return await listening(test, server);
}

/** Sends back what it gets, and ends when its client does. */
export function listenEcho(test: TestContext): Promise<number> {
  return listen(test, (socket) => socket.pipe(socket));
}

/** Answers every request with its own Host header and path. */
export async function listenHttp(test: TestContext): Promise<number> {
  const server = createHttpServer((request, response) => response.end(`${request.headers.host} ${request.url}`));
  return await listening(test, server);
}

async function listening(test: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  test.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Turns of the event loop until `progress` has not changed for a good many of them. */
export async function untilStalled(progress: () => number): Promise<void> {
  for (let last = progress(), still = 0; still < 300; still += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (progress() !== last) still = 0;
    last = progress();
  }
}

/** A client that keeps what it receives until someone asks for it. */
export class Client {
  readonly socket: Socket;
  error: NodeJS.ErrnoException | undefined;
  ended = false;
  closed = false;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #wake: () => void = () => {};

  constructor(test: TestContext, port: number, localAddress?: string) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true, localAddress });
    test.after(() => void this.socket.destroy());
    this.socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#receivedBytes += chunk.length;
      this.#wake();
    });
    this.socket.on('end', () => {
      this.ended = true;
      this.#wake();
    });
    this.socket.on('error', (error) => {
      this.error = error;
      this.#wake();
    });
    this.socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  send(...parts: (Uint8Array | string)[]): this {
    for (const part of parts) this.socket.write(part);
    return this;
  }

  /** The next bytes; fails when the connection ends first. */
  async take(sizeBytes: number): Promise<Buffer> {
    while (this.#receivedBytes < sizeBytes) {
      if (this.ended || this.closed) {
        throw new Error(`ended after ${this.#receivedBytes} of ${sizeBytes} bytes: ${this.#all().toString('hex')}`);
      }
      await this.#change();
    }
    const all = this.#all();
    this.#received = [all.subarray(sizeBytes)];
    this.#receivedBytes -= sizeBytes;
    return all.subarray(0, sizeBytes);
  }

  /** Everything up to the end of the connection, orderly or not. */
  async rest(): Promise<Buffer> {
    while (!this.ended && !this.closed) await this.#change();
    return this.#all();
  }

  async untilClosed(): Promise<void> {
    while (!this.closed) await this.#change();
  }

  #all(): Buffer {
    return Buffer.concat(this.#received);
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Runs curl; fails with its own words, and when it is not installed. */
export async function curl(...args: string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('curl', ['--silent', '--show-error', '--max-time', '10', ...args], {
      env: { PATH: process.env.PATH },
    });
    return stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new Error('this test needs the curl program: install it (e.g. apt-get install curl)');
    }
    throw error;
  }
}
