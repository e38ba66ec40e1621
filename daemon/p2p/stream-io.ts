/** Whole messages over libp2p streams: each side writes one and closes its half. Lengths and times are bounded. */
import type { Connection, Stream, StreamHandler } from '@libp2p/interface';
import { byteStream } from '@libp2p/utils';
import { Refusal, RefusedError } from './contract.ts';

const CHUNK_BYTES = 64 * 1024;

/** All that the peer sends until it closes its half. Rejects with RefusedError `oversized` beyond `maxBytes`. */
export const readMessage = async (stream: Stream, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> => {
  const onAbort = () => stream.abort(new Error('the peer took too long'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    const reader = byteStream(stream, { maxBufferSize: maxBytes });
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for (let chunk = await reader.read({ signal }); chunk !== null; chunk = await reader.read({ signal })) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > maxBytes) break;
      chunks.push(chunk.subarray());
    }
    if (sizeBytes > maxBytes) throw new RefusedError(Refusal.oversized, `a message of more than ${maxBytes} bytes`);
    return new Uint8Array(Buffer.concat(chunks));
  } catch (error) {
    stream.abort(error as Error);
    if ((error as Error).name !== 'StreamBufferError') throw error;
    throw new RefusedError(Refusal.oversized, `a message of more than ${maxBytes} bytes`);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
};

/** Sends in pieces, at the peer's pace, and closes the own half. */
export const writeMessage = async (
  stream: Stream,
  parts: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<void> => {
  for (const part of parts) {
    for (let at = 0; at < part.length; at += CHUNK_BYTES) {
      if (!stream.send(part.subarray(at, at + CHUNK_BYTES))) await stream.onDrain({ signal });
    }
  }
  await stream.close({ signal });
};

/** One question, one answer. */
export const exchange = async (
  connection: Connection,
  protocol: string,
  request: readonly Uint8Array[],
  maxResponseBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> => {
  const stream = await connection.newStream(protocol, { signal });
  try {
    const [response] = await Promise.all([
      readMessage(stream, maxResponseBytes, signal),
      writeMessage(stream, request, signal),
    ]);
    return response;
  } catch (error) {
    stream.abort(error as Error);
    throw error;
  }
};

/** A handler whose failure ends its stream and is told to `onError`. */
export const handler =
  (
    timeoutMs: number,
    handle: (stream: Stream, connection: Connection, signal: AbortSignal) => Promise<void>,
    onError: (error: Error, connection: Connection) => void,
  ): StreamHandler =>
  async (stream, connection) => {
    try {
      await handle(stream, connection, AbortSignal.timeout(timeoutMs));
    } catch (error) {
      stream.abort(error as Error);
      onError(error as Error, connection);
    }
  };
