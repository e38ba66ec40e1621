/**
 * From a client's socket to a connection through the network: dialling while watching the client, then bytes both
 * ways with half-close and back-pressure until both directions ended or either side failed.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { DialError, type Dialer, type DialOptions, type NyxConnection } from '../pump/contract.ts';

/** What a client may send ahead of the answer; then it is not read until the target is there. */
const maxEarlyBytes = 64 * 1024;

export interface DialedTarget {
  readonly connection: NyxConnection;
  readonly address: string;
  readonly port: number;
  /** What the client sent meanwhile, in order. */
  readonly early: readonly Buffer[];
}

/**
 * Dials for a client whose socket nobody else reads now. Rejects with a DialError; then the connection is already
 * destroyed. CANCELLED when the client went away first, which aborts the dial. `head` = bytes that came with the request.
 */
export async function dialFor(
  socket: Socket,
  dialer: Dialer,
  target: { readonly host: string; readonly port: number },
  options: DialOptions,
  head: Buffer,
  stopping: AbortSignal,
): Promise<DialedTarget> {
  const abort = new AbortController();
  const early: Buffer[] = head.length > 0 ? [head] : [];
  let earlyBytes = head.length;
  const onStop = () => abort.abort(new DialError('SHUTDOWN', 'the proxy is closing'));
  const onGone = () => abort.abort(new DialError('CANCELLED', 'the client went away'));
  const onData = (chunk: Buffer) => {
    early.push(chunk);
    earlyBytes += chunk.length;
    if (earlyBytes >= maxEarlyBytes) socket.pause();
  };
  const onEnd = () => {
    // A client that closes having said nothing has left; after early data it may have half-closed on purpose.
    if (earlyBytes === 0) onGone();
  };
  socket.on('data', onData).on('end', onEnd).on('close', onGone).on('error', onGone);
  stopping.addEventListener('abort', onStop);
  let connection: NyxConnection | undefined;
  try {
    if (stopping.aborted) onStop();
    else if (socket.destroyed) onGone();
    if (earlyBytes < maxEarlyBytes) socket.resume();
    connection = openConnection(dialer, target, options, abort.signal);
    const { address, port } = await connected(connection, abort.signal);
    socket.pause();
    return { connection, address, port, early };
  } catch (error) {
    const failure = asDialError(error);
    connection?.duplex.destroy(failure);
    throw failure;
  } finally {
    stopping.removeEventListener('abort', onStop);
    socket.off('data', onData).off('end', onEnd).off('close', onGone).off('error', onGone);
  }
}

/**
 * Pipes both ways; calls `onEnd` once when both sides are finished, with the error that ended them if there was one. A
 * failed stream ends the socket with RST, so that a truncated transfer does not look complete.
 */
export function splice(socket: Socket, target: DialedTarget, onEnd: (error: Error | undefined) => void): void {
  const { duplex } = target.connection;
  let failure: Error | undefined;
  let open = 2;
  const fail = (error: Error) => {
    failure ??= error;
    if (!socket.destroyed) {
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    }
    duplex.destroy(asDialError(failure));
  };
  // A side that closes after both its directions ended leaves the other to deliver what it still holds.
  const onSocketClose = () => {
    if (!isFinished(socket)) fail(new DialError('CANCELLED', 'the client closed the connection'));
    closed();
  };
  const onDuplexClose = () => {
    if (!isFinished(duplex)) fail(new DialError('SESSION_LOST', 'the stream was cut off'));
    closed();
  };
  const closed = () => {
    open -= 1;
    if (open === 0) onEnd(failure);
  };
  socket.on('error', fail).once('close', onSocketClose);
  duplex.on('error', fail).once('close', onDuplexClose);
  if (socket.destroyed) fail(new DialError('CANCELLED', 'the client went away'));
  if (duplex.destroyed) fail(duplex.errored ?? new DialError('SESSION_LOST', 'the stream was cut off'));
  if (failure !== undefined) {
    // A stream destroyed before its listener was there does not say 'close' again.
    if (socket.closed) closed();
    if (duplex.closed) closed();
    return;
  }
  for (const chunk of target.early) duplex.write(chunk);
  // 0 = the kernel has taken everything within the write.
  target.connection.lendReads?.(() => socket.writableLength === 0);
  duplex.pipe(socket);
  socket.pipe(duplex); // ends the duplex, too, when the client has already half-closed
}

/** Any failure of a dial under a code that the proxies have an answer for. */
export function asDialError(error: unknown): DialError {
  if (error instanceof DialError) return error;
  return new DialError('INTERNAL', error instanceof Error ? error.message : String(error));
}

function openConnection(
  dialer: Dialer,
  target: { readonly host: string; readonly port: number },
  options: DialOptions,
  signal: AbortSignal,
): NyxConnection {
  signal.throwIfAborted();
  const connection = dialer.connect(target, options, signal);
  // The reason comes through `connected`, too; until splice() listens, the event alone must not end the process.
  connection.duplex.on('error', ignoreUntilSpliced);
  return connection;
}

function ignoreUntilSpliced(): void {}

function connected(
  connection: NyxConnection,
  signal: AbortSignal,
): Promise<{ readonly address: string; readonly port: number }> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    connection.connected.then(
      (local) => {
        signal.removeEventListener('abort', onAbort);
        resolve(local);
      },
      (error) => {
        signal.removeEventListener('abort', onAbort);
        reject(error);
      },
    );
    if (signal.aborted) onAbort();
  });
}

function isFinished(duplex: Duplex): boolean {
  return duplex.readableEnded && duplex.writableFinished;
}
