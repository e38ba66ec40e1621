/** Fetching views from, and handing descriptors to, the configured sources: HTTP(S) URLs or files. */
import { readFile, stat } from 'node:fs/promises';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { MAX_BUNDLE_BYTES } from '@nyx/core/directory/view.ts';
import { http } from '../io/http.ts';

const TIMEOUT_MS = 20_000;
const MAX_ERROR_BYTES = 2048;

export interface FetchedView {
  readonly bytes: Buffer;
  readonly etag: string | undefined;
}

/** Undefined: unchanged since `etag`. Rejects with an Error that names the source. */
export const fetchView = async (
  source: string,
  etag: string | undefined,
  signal: AbortSignal,
): Promise<FetchedView | undefined> => {
  if (!isUrl(source)) {
    const { size } = await stat(source);
    if (size > MAX_BUNDLE_BYTES) throw new Error(`${source} has ${size} bytes; at most ${MAX_BUNDLE_BYTES} are read`);
    return { bytes: await readFile(source), etag: undefined };
  }
  const response = await send(
    source,
    '/view',
    'GET',
    etag === undefined ? {} : { 'if-none-match': etag },
    undefined,
    signal,
  );
  if (response.status === 304) return undefined;
  if (response.status !== 200) throw refusal(source, response);
  return { bytes: response.body, etag: response.etag };
};

/** False: the source is no authority. Rejects when it is one and refuses, or can't be reached. */
export const postDescriptor = async (source: string, descriptor: Uint8Array, signal: AbortSignal): Promise<boolean> => {
  if (!isUrl(source)) return false;
  const response = await send(
    source,
    '/descriptor',
    'POST',
    { 'content-type': 'application/octet-stream', 'content-length': String(descriptor.length) },
    descriptor,
    signal,
  );
  if (response.status === 404) return false;
  if (response.status !== 204) throw refusal(source, response);
  return true;
};

interface Response {
  readonly status: number;
  readonly etag: string | undefined;
  readonly body: Buffer;
}

const isUrl = (source: string): boolean => /^https?:\/\//i.test(source);

const refusal = (source: string, { status, body }: Response): Error =>
  new Error(`${source} answered ${status}: ${body.subarray(0, MAX_ERROR_BYTES).toString('utf8').trim()}`);

const send = async (
  source: string,
  path: string,
  method: string,
  headers: Record<string, string>,
  body: Uint8Array | undefined,
  signal: AbortSignal,
): Promise<Response> => {
  const url = new URL(path, source);
  // TLS is loaded only where it is used: it costs memory.
  const open = url.protocol === 'https:' ? (await import('node:https')).request : http.request;
  return await new Promise<Response>((resolve, reject) => {
    const fail = (error: Error) => reject(new Error(`${source}: ${error.message}`, { cause: error }));
    const request: ClientRequest = open(
      url,
      { method, headers, signal, timeout: TIMEOUT_MS, agent: false },
      (response) => collect(response, resolve, fail),
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    request.on('error', fail);
    request.end(body);
  });
};

const collect = (
  response: IncomingMessage,
  resolve: (response: Response) => void,
  fail: (error: Error) => void,
): void => {
  const limitBytes = response.statusCode === 200 ? MAX_BUNDLE_BYTES : MAX_ERROR_BYTES;
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  response.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) response.destroy(new Error(`answer of more than ${limitBytes} bytes`));
    else chunks.push(chunk);
  });
  response.on('error', fail);
  response.on('end', () =>
    resolve({ status: response.statusCode ?? 0, etag: response.headers.etag, body: Buffer.concat(chunks) }),
  );
};
