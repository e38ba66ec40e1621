/**
 * The other end of a measurement: one loopback TCP server that is a source, a sink or an echo, by the first byte
 * that a connection sends.
 *
 *   `D` ‖ length (8, big-endian)  → that many pattern bytes, then FIN
 *   `U` … FIN                     → counts; answers the count (8) and FIN
 *   `E`                           → sends everything back
 *
 * Throughput is measured from the receiver's side, so buffers in between don't count as delivered.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { HostPort } from './socks.ts';

const CHUNK_BYTES = 256 * 1024;
const MAX_LENGTH_BYTES = 2 ** 40;

/** 251 is prime, so the pattern never lines up with cells or chunks: a lost, doubled or swapped piece shows. */
export const patternPeriodBytes = 251;
const pattern = Buffer.alloc(CHUNK_BYTES + patternPeriodBytes);
for (let index = 0; index < pattern.length; index += 1) pattern[index] = index % patternPeriodBytes;

/** `sizeBytes` (≤ 256 KiB) of the pattern from stream offset `offset` on. Shared memory: read only. */
export function patternAt(offset: number, sizeBytes: number): Buffer {
  const start = offset % patternPeriodBytes;
  return pattern.subarray(start, start + Math.min(sizeBytes, CHUNK_BYTES));
}

export interface Target {
  readonly address: HostPort;
  close(): Promise<void>;
}

export async function startTarget(host = '127.0.0.1', port = 0): Promise<Target> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy()); // a peer that resets is the measuring side's finding, not ours
    serve(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('the target server has no TCP address');
  return {
    address: { host, port: bound.port },
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function serve(socket: Socket): void {
  // Closed with nothing said, as by those who only time how long opening takes.
  const onEnd = () => socket.end();
  socket.once('end', onEnd);
  socket.once('readable', function onReadable() {
    const first = socket.read(1) as Buffer | null;
    if (first === null) {
      if (!socket.readableEnded && !socket.destroyed) socket.once('readable', onReadable);
      return;
    }
    socket.off('end', onEnd);
    if (first[0] === 0x44) readLength(socket);
    else if (first[0] === 0x55) sink(socket);
    else if (first[0] === 0x45) socket.pipe(socket);
    else socket.destroy();
  });
}

function readLength(socket: Socket): void {
  const head = socket.read(8) as Buffer | null;
  if (head === null) {
    if (!socket.readableEnded && !socket.destroyed) socket.once('readable', () => readLength(socket));
    return;
  }
  const length = Number(head.readBigUInt64BE());
  socket.resume();
  if (length > MAX_LENGTH_BYTES) socket.destroy();
  else source(socket, length);
}

function source(socket: Socket, length: number): void {
  let sent = 0;
  const pump = () => {
    while (sent < length && !socket.destroyed) {
      const piece = patternAt(sent, Math.min(CHUNK_BYTES, length - sent));
      sent += piece.length;
      if (!socket.write(piece)) {
        socket.once('drain', pump);
        return;
      }
    }
    socket.end();
  };
  pump();
}

function sink(socket: Socket): void {
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.on('end', () => {
    const answer = Buffer.alloc(8);
    answer.writeBigUInt64BE(BigInt(received));
    socket.end(answer);
  });
}
