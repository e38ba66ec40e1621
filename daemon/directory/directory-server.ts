/**
 * Serves the directory over HTTP: `GET /view` gives the newest bundle (ETag = its digest), `POST /descriptor` hands one
 * to the authority. What is served is signed, so the transport needs no protection of its own.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MAX_DESCRIPTOR_BYTES } from '@nyx/core/directory/descriptor.ts';
import { http } from '../io/http.ts';
import type { ListenAddress } from '../pump/contract.ts';

export interface DirectoryServerHost {
  /** Encoded bundle and the hex digest of its body. */
  view(): { readonly bytes: Uint8Array; readonly digest: string } | undefined;
  /** Undefined = not an authority. Throws with a message for the sender. */
  submit: ((descriptor: Uint8Array) => void) | undefined;
}

export interface DirectoryServer {
  readonly address: ListenAddress;
  close(): Promise<void>;
}

/** Rejects with Node's error when the address can't be had. */
export const startDirectoryServer = async (
  listen: ListenAddress,
  host: DirectoryServerHost,
): Promise<DirectoryServer> => {
  const server = http.createServer(
    { requestTimeout: 15_000, headersTimeout: 10_000, maxHeaderSize: 8192 },
    (request, response) => {
      handle(request, response, host);
    },
  );
  server.maxConnections = 1024;
  server.keepAliveTimeout = 5000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  return { address: { host: address, port }, close: () => close(server) };
};

const handle = (request: IncomingMessage, response: ServerResponse, host: DirectoryServerHost): void => {
  const path = request.url?.split('?', 1)[0];
  if (path === '/view') {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      refuse(response, 405, 'use GET', 'GET, HEAD');
      return;
    }
    const view = host.view();
    if (view === undefined) {
      refuse(response, 503, 'no view yet');
      return;
    }
    const etag = `"${view.digest}"`;
    if (request.headers['if-none-match'] === etag) {
      response.writeHead(304, { etag }).end();
      return;
    }
    response.writeHead(200, {
      etag,
      'content-type': 'application/octet-stream',
      'content-length': view.bytes.length,
      'cache-control': 'no-cache',
    });
    response.end(request.method === 'HEAD' ? undefined : view.bytes);
    return;
  }
  if (path === '/descriptor') {
    if (request.method !== 'POST') {
      refuse(response, 405, 'use POST', 'POST');
      return;
    }
    const { submit } = host;
    if (submit === undefined) {
      refuse(response, 404, 'this node is not a directory authority');
      return;
    }
    receive(request, response, submit);
    return;
  }
  refuse(response, 404, 'there are /view and /descriptor');
};

const receive = (request: IncomingMessage, response: ServerResponse, submit: (bytes: Uint8Array) => void): void => {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  request.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_DESCRIPTOR_BYTES) {
      refuse(response, 413, `a descriptor has at most ${MAX_DESCRIPTOR_BYTES} bytes`);
      request.destroy();
      return;
    }
    chunks.push(chunk);
  });
  request.on('end', () => {
    if (response.headersSent) return;
    try {
      submit(Buffer.concat(chunks));
    } catch (error) {
      refuse(response, 400, (error as Error).message);
      return;
    }
    response.writeHead(204).end();
  });
  // The sender gave up; there is nobody to tell.
  request.on('error', () => {});
};

const refuse = (response: ServerResponse, status: number, message: string, allow?: string): void => {
  if (response.headersSent) return;
  const body = `${message.slice(0, 500)}\n`;
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...(allow === undefined ? {} : { allow }),
  });
  response.end(body);
};

const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
