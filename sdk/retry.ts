/**
 * Repeats HTTP requests that failed on the way: only those that may be repeated (RFC 9110 §9.2.2), and only while nothing
 * of the answer has been seen. For dispatchers; node:http has no place where an agent could repeat a request.
 */
import { setTimeout as later } from 'node:timers';
import { type Dispatcher, RetryHandler } from 'undici';
import { NyxError, type NyxErrorCode } from './errors.ts';

export interface RetryPolicy {
  /** Repetitions after the first try, 0…10. Default 2. */
  readonly retries?: number;
  /** Before the first one; twice as long before each next one. Default 200. */
  readonly delayMs?: number;
}

const MAX_RETRIES = 10;
/** Safe or idempotent: done twice is as good as once. */
const methods: readonly string[] = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'];
/** The way failed, and another one may not. A target that refuses, or a name that is none, would do so again. */
const nyxCodes: readonly NyxErrorCode[] = [
  'PATH_FAILED',
  'NO_PATH',
  'SESSION_LOST',
  'RESET',
  'TIMEOUT',
  'DAEMON_UNREACHABLE',
];
/** A connection that was open and broke, a kept one that the target had closed among them. */
const socketCodes: readonly string[] = ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'];

/** For `dispatcher.compose`. Throws RangeError for a policy out of range. */
export function retryInterceptor(policy: RetryPolicy): Dispatcher.DispatcherComposeInterceptor {
  const { retries = 2, delayMs = 200 } = policy;
  if (!Number.isInteger(retries) || retries < 0 || retries > MAX_RETRIES) {
    throw new RangeError(`retry.retries must be 0…${MAX_RETRIES}, not ${retries}`);
  }
  if (!(delayMs >= 0 && delayMs <= 60_000)) throw new RangeError(`retry.delayMs must be 0…60000, not ${delayMs}`);
  return (dispatch) => (opts, handler) => {
    if (!methods.includes(opts.method) || !isRepeatable(opts.body)) return dispatch(opts, handler);
    let answered = false;
    let tries = 0;
    const retryOptions: RetryHandler.RetryOptions = {
      statusCodes: [],
      retry: (error, _context, done) => {
        if (answered || tries >= retries || !isWayFailure(error)) {
          done(error);
          return;
        }
        later(() => done(null), delayMs * 2 ** tries++);
      },
    };
    const watching: Dispatcher.DispatchHandler = {
      onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
      onRequestUpgrade: (controller, status, headers, socket) =>
        handler.onRequestUpgrade?.(controller, status, headers, socket),
      onResponseStart: (controller, status, headers, message) => {
        answered = true;
        handler.onResponseStart?.(controller, status, headers, message);
      },
      onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
      onResponseEnd: (controller, trailers) => handler.onResponseEnd?.(controller, trailers),
      onResponseError: (controller, error) => handler.onResponseError?.(controller, error),
    };
    return dispatch(opts, new RetryHandler({ ...opts, retryOptions }, { dispatch, handler: watching }));
  };
}

/** A body that is read as it is sent can be sent once. */
function isRepeatable(body: unknown): boolean {
  return body === null || body === undefined || typeof body === 'string' || ArrayBuffer.isView(body);
}

function isWayFailure(error: Error): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof NyxError) return nyxCodes.includes(cause.code);
    if ('code' in cause && socketCodes.includes(String(cause.code))) return true;
  }
  return false;
}
