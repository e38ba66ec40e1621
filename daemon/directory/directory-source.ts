/** Fetching views from, and handing descriptors to, the configured sources: HTTP(S) URLs or files. */
import { readFile, stat } from 'node:fs/promises';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { decodeParams, type ViewParams } from '@nyx/core/directory/params.ts';
import { MAX_BUNDLE_BYTES } from '@nyx/core/directory/view.ts';
import { http } from '../io/http.ts';

const TIMEOUT_MS = 20_000;
const MAX_ERROR_BYTES = 2048;
const MAX_PARAMS_BYTES = 8192;

/**
 * What the source has for who holds the view with digest `held` (hex): a delta from it, or a whole bundle. Undefined:
 * it has no other one. Rejects with an Error that names the source.
 */
export const fetchView = async (
  source: string,
  held: string | undefined,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> => {
  if (!isUrl(source)) {
    const { size } = await stat(source);
    if (size > MAX_BUNDLE_BYTES) throw new Error(`${source} has ${size} bytes; at most ${MAX_BUNDLE_BYTES} are read`);
    return await readFile(source);
  }
  const response = await exchange(source, held === undefined ? '/view' : `/view?from=${held}`, {
    headers: held === undefined ? {} : { 'if-none-match': `"${held}"` },
    limitBytes: MAX_BUNDLE_BYTES,
    signal,
  });
  if (response.status === 304) return undefined;
  if (response.status !== 200) throw refusal(source, response);
  return response.body;
};

/** False: the source is no authority. Rejects when it is one and refuses, or can't be reached. */
export const postDescriptor = async (source: string, descriptor: Uint8Array, signal: AbortSignal): Promise<boolean> => {
  if (!isUrl(source)) return false;
  const response = await exchange(source, '/descriptor', { method: 'POST', body: descriptor, signal });
  if (response.status === 404) return false;
  if (response.status !== 204) throw refusal(source, response);
  return true;
};

/** The parameters that a source goes by. They are not signed: good for a guess at the work that will be asked. */
export const fetchParams = async (source: string, signal: AbortSignal): Promise<ViewParams | undefined> => {
  if (!isUrl(source)) return undefined;
  const response = await exchange(source, '/params', { limitBytes: MAX_PARAMS_BYTES, signal });
  if (response.status !== 200) throw refusal(source, response);
  return decodeParams(response.body, `parameters of ${source}`);
};

export interface ExchangeOptions {
  /** Default GET. */
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  /** Of an answer with status 200; others are bounded anyway. Default 0. */
  readonly limitBytes?: number;
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
}

interface Response {
  readonly status: number;
  readonly body: Uint8Array;
}

const isUrl = (source: string): boolean => /^https?:\/\//i.test(source);

const refusal = (source: string, { status, body }: Response): Error =>
  new Error(`${source} answered ${status}: ${Buffer.from(body.subarray(0, MAX_ERROR_BYTES)).toString('utf8').trim()}`);

/** One question and its answer, whatever its status. Rejects with an Error that names the source. */
export const exchange = async (source: string, path: string, options: ExchangeOptions): Promise<Response> => {
  const url = new URL(path, source);
  const { method = 'GET', headers, body, limitBytes = 0, timeoutMs = TIMEOUT_MS, signal } = options;
  const content =
    body === undefined
      ? undefined
      : { 'content-type': 'application/octet-stream', 'content-length': String(body.length) };
  // TLS is loaded only where it is used: it costs memory.
  const open = url.protocol === 'https:' ? (await import('node:https')).request : http.request;
  return await new Promise<Response>((resolve, reject) => {
    const fail = (error: Error) => reject(new Error(`${source}: ${error.message}`, { cause: error }));
    const request: ClientRequest = open(
      url,
      { method, headers: { ...headers, ...content }, signal, timeout: timeoutMs, agent: false },
      (response) => collect(response, limitBytes, resolve, fail),
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    request.on('error', fail);
    request.end(body);
  });
};

const collect = (
  response: IncomingMessage,
  maxBytes: number,
  resolve: (response: Response) => void,
  fail: (error: Error) => void,
): void => {
  const limitBytes = response.statusCode === 200 ? maxBytes : MAX_ERROR_BYTES;
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  response.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) response.destroy(new Error(`answer of more than ${limitBytes} bytes`));
    else chunks.push(chunk);
  });
  response.on('error', fail);
  response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
};
