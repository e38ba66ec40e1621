/** From plain async functions to gRPC handlers: errors become rich statuses, cancellation an abort, writes back-pressure. */
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { toStatus } from './errors.ts';

export const unary =
  <Req, Res>(handle: (request: Req) => Res | Promise<Res>): handleUnaryCall<Req, Res> =>
  (call, callback) => {
    Promise.resolve()
      .then(() => handle(call.request))
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(toStatus(error)),
      );
  };

/** `send` resolves when the caller can take more. */
export const serverStream =
  <Req, Res>(
    handle: (request: Req, send: (message: Res) => Promise<void>, signal: AbortSignal) => Promise<void>,
  ): handleServerStreamingCall<Req, Res> =>
  (call) => {
    const abort = new AbortController();
    call.on('cancelled', () => abort.abort());
    call.on('close', () => abort.abort());
    call.on('error', () => abort.abort());
    const send = (message: Res): Promise<void> =>
      new Promise((resolve) => {
        if (abort.signal.aborted || call.write(message)) {
          resolve();
          return;
        }
        const done = () => {
          call.off('drain', done);
          abort.signal.removeEventListener('abort', done);
          resolve();
        };
        call.on('drain', done);
        abort.signal.addEventListener('abort', done);
      });
    Promise.resolve()
      .then(() => handle(call.request, send, abort.signal))
      .then(
        () => call.end(),
        (error: unknown) => call.emit('error', toStatus(error)),
      );
  };

/** Resolves after `ms`, or when the caller has gone. */
export const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
