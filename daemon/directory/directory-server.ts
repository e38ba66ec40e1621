/**
 * Serves the directory over HTTP. What is served is signed or known by its digest, so the transport needs no protection
 * of its own.
 *
 *   GET  /view[?from=DIGEST]       the newest bundle; a delta from that view where there is one (ETag = digest in hex)
 *   GET  /params                   the parameters that hold (CBOR)
 *   POST /descriptor               hands a descriptor to the authority
 *   POST /authority/message        voting messages       GET /authority/vote/DIGEST
 *   POST /authority/descriptors    digests (32 bytes each) → (length (4) ‖ descriptor)*
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MAX_DESCRIPTOR_BYTES } from '@nyx/core/directory/descriptor.ts';
import { encodeParams, type ViewParams } from '@nyx/core/directory/params.ts';
import { MAX_VOTING_MESSAGE_BYTES } from '@nyx/core/directory/voting-messages.ts';
import { http } from '../io/http.ts';
import type { ListenAddress } from '../pump/contract.ts';
import { encodeDescriptorList, MAX_ASKED_DESCRIPTORS } from './authority-peers.ts';

const DIGEST_BYTES = 32;

/** What the server asks of an authority. */
export interface ServedAuthority {
  /** Throws, or rejects, with a message for the sender. */
  submit(descriptor: Uint8Array): Promise<void>;
  readonly params: ViewParams;
  /** Throws with a message for the sender. */
  handleMessage(bytes: Uint8Array): void;
  vote(digest: string): Uint8Array | undefined;
  descriptor(digest: string): Uint8Array | undefined;
}

export interface DirectoryServerHost {
  /** Encoded bundle and the hex digest of its body. */
  view(): { readonly bytes: Uint8Array; readonly digest: string } | undefined;
  /** The delta that begins with the view of that digest (hex). */
  delta(from: string): Promise<Uint8Array | undefined>;
  /** Undefined = not an authority. */
  readonly authority: ServedAuthority | undefined;
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
      handle(request, response, host).catch((error: Error) => refuse(response, 500, error.message));
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

const handle = async (request: IncomingMessage, response: ServerResponse, host: DirectoryServerHost): Promise<void> => {
  const [path = '', query = ''] = (request.url ?? '').split('?', 2);
  const { authority } = host;
  if (path === '/view') {
    if (!allow(request, response, 'GET', 'HEAD')) return;
    await serveView(request, response, query, host);
    return;
  }
  const forAuthority = path === '/params' || path === '/descriptor' || path.startsWith('/authority/');
  if (forAuthority && authority === undefined) {
    refuse(response, 404, 'this node is not a directory authority');
  } else if (authority === undefined) {
    refuse(response, 404, 'there are /view, /params and /descriptor');
  } else if (path === '/params') {
    if (allow(request, response, 'GET')) send(response, encodeParams(authority.params));
  } else if (path === '/descriptor') {
    if (!allow(request, response, 'POST')) return;
    const body = await receive(request, response, MAX_DESCRIPTOR_BYTES, 'descriptor');
    if (body !== undefined) await answer(response, () => authority.submit(body));
  } else if (path === '/authority/message') {
    if (!allow(request, response, 'POST')) return;
    const body = await receive(request, response, MAX_VOTING_MESSAGE_BYTES, 'voting message');
    if (body !== undefined) await answer(response, async () => authority.handleMessage(body));
  } else if (path === '/authority/descriptors') {
    if (!allow(request, response, 'POST')) return;
    const body = await receive(request, response, MAX_ASKED_DESCRIPTORS * DIGEST_BYTES, 'list of digests');
    if (body !== undefined) serveDescriptors(response, body, authority);
  } else if (/^\/authority\/vote\/[0-9a-f]{64}$/.test(path)) {
    if (!allow(request, response, 'GET')) return;
    const vote = authority.vote(path.slice(-64));
    if (vote === undefined) refuse(response, 404, 'there is no such vote now');
    else send(response, vote);
  } else {
    refuse(response, 404, 'there are /view, /params and /descriptor');
  }
};

const serveView = async (
  request: IncomingMessage,
  response: ServerResponse,
  query: string,
  host: DirectoryServerHost,
): Promise<void> => {
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
  const from = /^from=([0-9a-f]{64})$/.exec(query)?.[1];
  const delta = from === undefined || from === view.digest ? undefined : await host.delta(from);
  // A delta leads to the view that followed, which need not be the newest: it has no ETag.
  if (delta !== undefined) send(response, delta, {}, request.method === 'HEAD');
  else send(response, view.bytes, { etag }, request.method === 'HEAD');
};

const serveDescriptors = (response: ServerResponse, asked: Uint8Array, authority: ServedAuthority): void => {
  if (asked.length % DIGEST_BYTES !== 0) {
    refuse(response, 400, 'a list of digests of 32 bytes each is wanted');
    return;
  }
  const found: Uint8Array[] = [];
  for (let at = 0; at < asked.length; at += DIGEST_BYTES) {
    const descriptor = authority.descriptor(Buffer.from(asked.subarray(at, at + DIGEST_BYTES)).toString('hex'));
    if (descriptor !== undefined) found.push(descriptor);
  }
  send(response, encodeDescriptorList(found));
};

/** The body, or undefined when the request was refused or given up. */
const receive = (
  request: IncomingMessage,
  response: ServerResponse,
  limitBytes: number,
  what: string,
): Promise<Uint8Array | undefined> =>
  new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    request.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > limitBytes) {
        refuse(response, 413, `a ${what} has at most ${limitBytes} bytes`);
        request.destroy();
        resolve(undefined);
        return;
      }
      chunks.push(chunk);
    });
    request.on('end', () => resolve(sizeBytes > limitBytes ? undefined : Buffer.concat(chunks)));
    // The sender gave up; there is nobody to tell.
    request.on('error', () => resolve(undefined));
  });

/** 204, or what is wrong. */
const answer = async (response: ServerResponse, task: () => Promise<void>): Promise<void> => {
  try {
    await task();
  } catch (error) {
    refuse(response, 400, (error as Error).message);
    return;
  }
  response.writeHead(204).end();
};

const allow = (request: IncomingMessage, response: ServerResponse, ...methods: readonly string[]): boolean => {
  if (methods.includes(request.method ?? '')) return true;
  refuse(response, 405, `use ${methods[0]}`, methods.join(', '));
  return false;
};

const send = (
  response: ServerResponse,
  body: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
  headOnly = false,
): void => {
  response.writeHead(200, {
    ...headers,
    'content-type': 'application/octet-stream',
    'content-length': body.length,
    'cache-control': 'no-cache',
  });
  response.end(headOnly ? undefined : body);
};

const refuse = (response: ServerResponse, status: number, message: string, allowed?: string): void => {
  if (response.headersSent) return;
  const body = `${message.slice(0, 500)}\n`;
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...(allowed === undefined ? {} : { allow: allowed }),
  });
  response.end(body);
};

const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
