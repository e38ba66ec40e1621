/** Whole messages over libp2p streams: each side writes one and closes its half. Lengths and times are bounded. */
import type { Connection, Stream, StreamCloseEvent, StreamHandler, StreamMessageEvent } from '@libp2p/interface';
import { Refusal, RefusedError } from './contract.ts';

const CHUNK_BYTES = 64 * 1024;

/**
 * All that the peer sends until it closes its half. Rejects with RefusedError `oversized` beyond `maxBytes`, and when the
 * stream is broken off: what came until then is no message. Nothing at all is none either, and nobody's offence: whoever
 * closes a second connection to us ends the streams on it.
 */
export const readMessage = (stream: Stream, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    const settle = (error: Error | undefined) => {
      stream.removeEventListener('message', onMessage);
      stream.removeEventListener('end', onEnd);
      stream.removeEventListener('close', onClose);
      signal.removeEventListener('abort', onAbort);
      if (error !== undefined) reject(error);
      else if (sizeBytes === 0) reject(new Error('the stream ended without a message'));
      else resolve(new Uint8Array(Buffer.concat(chunks)));
    };
    const fail = (error: Error) => {
      settle(error);
      stream.abort(error);
    };
    const onMessage = ({ data }: StreamMessageEvent) => {
      sizeBytes += data.byteLength;
      if (sizeBytes > maxBytes) {
        fail(new RefusedError(Refusal.oversized, `a message of more than ${maxBytes} bytes`));
        return;
      }
      chunks.push(data.subarray());
      if (isOver()) settle(undefined);
    };
    // Negotiating the protocol may have read ahead, and puts back after the end what belongs to the message.
    const isOver = () => stream.readableEnded && stream.readBufferLength === 0;
    const isBroken = () => stream.status === 'aborted' || stream.status === 'reset';
    // An end of a stream that is broken off is followed by its close, which says why.
    const onEnd = () => {
      if (!isBroken()) settle(undefined);
    };
    const onClose = ({ error }: StreamCloseEvent) =>
      settle(error ?? (isBroken() ? new Error('the stream was broken off') : undefined));
    const onAbort = () => fail(new Error('the peer took too long'));
    if (signal.aborted) onAbort();
    else if (isOver() && !isBroken()) settle(undefined);
    else {
      stream.addEventListener('end', onEnd);
      stream.addEventListener('close', onClose);
      signal.addEventListener('abort', onAbort, { once: true });
      // Last: what has come already is handed out at once.
      stream.addEventListener('message', onMessage);
    }
  });

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
