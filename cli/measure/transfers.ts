/**
 * The measuring end of a stream to a target (target.ts): download, upload, echo, over anything that behaves as a socket.
 * What arrives is compared with the target's pattern, so a wrong byte is a failure and not throughput.
 */
import type { Duplex } from 'node:stream';
import { patternAt } from './target.ts';

export interface TransferOptions {
  /** Aborting rejects. */
  readonly signal: AbortSignal;
  /** After this time the transfer ends early and counts what it has delivered. */
  readonly stopAfterMs?: number;
  /** Bytes more that were delivered (download) or handed over (upload). */
  readonly onBytes?: (sizeBytes: number) => void;
}

/** Needs a source behind it. Resolves with the number of bytes received: `sizeBytes`, or fewer after `stopAfterMs`. */
export function download(socket: Duplex, sizeBytes: number, options: TransferOptions): Promise<number> {
  const request = Buffer.alloc(9);
  request[0] = 0x44;
  request.writeBigUInt64BE(BigInt(sizeBytes), 1);
  return operation(socket, options, (done, fail) => {
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      for (let from = 0; from < chunk.length; ) {
        const expected = patternAt(received + from, chunk.length - from);
        if (chunk.compare(expected, 0, expected.length, from, from + expected.length) !== 0) {
          fail(new Error(`wrong bytes near offset ${received + from}`));
          return;
        }
        from += expected.length;
      }
      received += chunk.length;
      options.onBytes?.(chunk.length);
      if (received === sizeBytes) done(received);
      else if (received > sizeBytes) fail(new Error('more bytes than asked for'));
    });
    socket.on('end', () => fail(new Error(`the stream ended after ${received} of ${sizeBytes} bytes`)));
    socket.write(request);
    return () => {
      done(received);
      socket.destroy();
    };
  });
}

/** Needs a sink behind it. Resolves with the number of bytes that the sink says it got, which is what was sent. */
export function upload(socket: Duplex, sizeBytes: number, options: TransferOptions): Promise<number> {
  return operation(socket, options, (done, fail) => {
    let answer = Buffer.alloc(0);
    let sent = 0;
    let stopped = false;
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length > 8) fail(new Error('the sink answered too much'));
    });
    socket.on('end', () => {
      const got = answer.length === 8 ? Number(answer.readBigUInt64BE()) : undefined;
      if (got === sent) done(sent);
      else fail(new Error(`the sink got ${got ?? 'nothing'} of ${sent} bytes`));
    });
    socket.write(Uint8Array.of(0x55));
    const pump = () => {
      while (sent < sizeBytes && !stopped) {
        const piece = patternAt(sent, sizeBytes - sent);
        sent += piece.length;
        options.onBytes?.(piece.length);
        if (!socket.write(piece)) {
          socket.once('drain', pump);
          return;
        }
      }
      socket.end();
    };
    pump();
    return () => {
      stopped = true; // what is on its way still has to arrive: the sink's answer ends the measurement
    };
  });
}

/** Needs an echo behind it. Resolves with the times of up to `rounds` round trips of `sizeBytes`, in milliseconds. */
export async function echo(
  socket: Duplex,
  rounds: number,
  sizeBytes: number,
  options: TransferOptions,
): Promise<number[]> {
  const sample: number[] = [];
  await operation(socket, options, (done, fail) => {
    let received = 0;
    let start = 0;
    let stopped = false;
    const next = () => {
      received = 0;
      start = performance.now();
      socket.write(Buffer.alloc(sizeBytes, sample.length & 255));
    };
    socket.on('data', (chunk: Buffer) => {
      if (chunk.some((byte) => byte !== (sample.length & 255))) {
        fail(new Error(`round ${sample.length} came back changed`));
        return;
      }
      received += chunk.length;
      if (received < sizeBytes) return;
      sample.push(performance.now() - start);
      options.onBytes?.(sizeBytes);
      if (sample.length >= rounds || stopped) done(sample.length);
      else next();
    });
    socket.on('end', () => fail(new Error(`the stream ended after ${sample.length} of ${rounds} rounds`)));
    socket.write(Uint8Array.of(0x45));
    next();
    return () => {
      stopped = true;
    };
  });
  return sample;
}

/** `work` returns what to do when the time for the transfer is up. */
function operation(
  socket: Duplex,
  options: TransferOptions,
  work: (done: (result: number) => void, fail: (error: Error) => void) => () => void,
): Promise<number> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const settle = (act: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      act();
    };
    const fail = (error: Error) =>
      settle(() => {
        reject(error);
        socket.destroy();
      });
    const onAbort = () => fail(signal.reason instanceof Error ? signal.reason : new Error('cancelled'));
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the stream was closed')));
    const stop = work((result) => settle(() => resolve(result)), fail);
    if (options.stopAfterMs !== undefined) timer = setTimeout(stop, options.stopAfterMs);
  });
}
