/**
 * A small local web server to try a network with, offline: `/` says hello, `/blob?key=HEX64&bytes=N` sends N bytes of
 * AES-256-CTR keystream under that key, which whoever asks can compute as well, so that what arrived can be checked.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Target } from './target.ts';

const CHUNK_BYTES = 256 * 1024;
const MAX_BLOB_BYTES = 2 ** 32;

export function* blob(key: Buffer, sizeBytes: number): Generator<Buffer> {
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  for (let left = sizeBytes; left > 0; left -= CHUNK_BYTES) {
    yield cipher.update(Buffer.alloc(Math.min(left, CHUNK_BYTES)));
  }
}

export function blobSha256(key: Buffer, sizeBytes: number): string {
  const hash = createHash('sha256');
  for (const chunk of blob(key, sizeBytes)) hash.update(chunk);
  return hash.digest('hex');
}

export async function startDemoServer(host = '127.0.0.1'): Promise<Target> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://local');
    const key = url.searchParams.get('key') ?? '';
    const sizeBytes = Number(url.searchParams.get('bytes'));
    if (url.pathname === '/blob' && /^[0-9a-f]{64}$/.test(key) && sizeBytes > 0 && sizeBytes <= MAX_BLOB_BYTES) {
      response.setHeader('content-length', sizeBytes);
      sendBlob(response, blob(Buffer.from(key, 'hex'), sizeBytes));
    } else if (url.pathname === '/') {
      response.end(
        `Hello through Nyx. You come from ${request.socket.remoteAddress}:${request.socket.remotePort}, the exit.\n`,
      );
    } else {
      response.writeHead(404).end('not found\n');
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  return {
    address: { host, port: (server.address() as AddressInfo).port },
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Not `for…of`: leaving such a loop would close the generator, and this one is come back to. */
function sendBlob(response: ServerResponse, chunks: Generator<Buffer>): void {
  while (!response.destroyed) {
    const next = chunks.next();
    if (next.done) {
      response.end();
      return;
    }
    if (!response.write(next.value)) {
      response.once('drain', () => sendBlob(response, chunks));
      return;
    }
  }
}
