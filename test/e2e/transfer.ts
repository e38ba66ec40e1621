/** Transfers over anything that behaves as a socket, whose every byte is compared by SHA-256, and servers for them. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface TestServer {
  readonly host: string;
  readonly port: number;
  /** host:port. */
  readonly address: string;
  readonly sockets: ReadonlySet<Socket>;
  close(): void;
}

/** A TCP server on loopback. A connection that fails is the affair of the test at its other end. */
export async function serve(onConnection: (socket: Socket) => void, host = '127.0.0.1'): Promise<TestServer> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host,
    port,
    address: `${host}:${port}`,
    sockets,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Sends everything back. */
export const serveEcho = (): Promise<TestServer> => serve((socket) => socket.pipe(socket));

/** Sends random bytes of this size to an echo server and takes them back. Rejects when they are not the same. Gives the milliseconds. */
export async function echoExactly(stream: Duplex, sizeBytes: number): Promise<number> {
  const startedMs = performance.now();
  const sent = randomBytes(sizeBytes);
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = once(stream, 'end');
  stream.end(sent);
  await ended;
  const tookMs = performance.now() - startedMs;
  const received = Buffer.concat(chunks);
  if (sha256(received) !== sha256(sent)) throw new Error(differences(sent, received));
  return tookMs;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Where two transfers differ, for whoever has to find out why. */
function differences(sent: Buffer, received: Buffer): string {
  const found: string[] = [];
  for (let at = 0; at < sent.length && found.length < 5; at++) {
    if (sent[at] === received[at]) continue;
    let end = at + 1;
    while (end < sent.length && sent[end] !== received[end]) end++;
    const origin = sent.indexOf(received.subarray(at, at + 32));
    found.push(`${at}…${end}${origin < 0 ? '' : ` (has what belongs at ${origin})`}`);
    at = end;
  }
  return `${received.length} of ${sent.length} bytes came back; wrong: ${found.join(', ')}`;
}
