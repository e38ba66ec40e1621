/** One error class over a closed set of codes: what an application can tell apart and act on. */
import { status as grpcStatus, type Metadata, type ServiceError } from '@grpc/grpc-js';
import { decodeErrorDetails } from '@nyx/proto/errors.ts';

/** Codes as the daemon sends them (ErrorInfo.reason), and those that arise on this side of the API. */
export const nyxErrorCodes = [
  /** No path satisfies the request: too few nodes in the view, or no exit that allows the target. */
  'NO_PATH',
  /** A circuit could not be built or broke before the target was reached. */
  'PATH_FAILED',
  'TIMEOUT',
  /** The target refused the connection. */
  'CONNECTION_REFUSED',
  'HOST_UNREACHABLE',
  'NETWORK_UNREACHABLE',
  /** The exit could not resolve the name. */
  'RESOLVE_FAILED',
  /** The exit's policy does not allow the target. */
  'EXIT_POLICY',
  /** A limit of the daemon or of the exit was reached; try later or with less. */
  'LIMIT',
  /** The peer reset the stream. */
  'RESET',
  /** The circuit that carried the stream is gone. */
  'SESSION_LOST',
  /** Given up by this application: an AbortSignal, or close(). */
  'CANCELLED',
  'BAD_REQUEST',
  /** No message address, or mistyped. */
  'BAD_ADDRESS',
  'BAD_REPLY_BLOCK',
  /** Reply blocks live for two epochs at most. */
  'REPLY_BLOCK_EXPIRED',
  /** Each is good for one reply. */
  'REPLY_BLOCK_USED',
  'MESSAGE_TOO_LARGE',
  /** The recipient's mailbox is not there (any more), or its node is not in the view. */
  'UNKNOWN_MAILBOX',
  /** The recipient got it, and none of its keys opens it. */
  'MESSAGE_NOT_OPENED',
  /** Not acknowledged in time: it may have arrived or not. */
  'MESSAGE_NOT_ACKNOWLEDGED',
  /** Somebody else receives this daemon's messages. */
  'RECEIVER_BUSY',
  /** The daemon has not the role client. */
  'NOT_A_CLIENT',
  /** The daemon is going down. */
  'SHUTDOWN',
  'INTERNAL',
  /** Nothing answers at the control socket, or the connection to it was lost. */
  'DAEMON_UNREACHABLE',
  /** The daemon wants a token, or another one. */
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'NOT_FOUND',
  /** The daemon is of an older version than this SDK. */
  'UNIMPLEMENTED',
] as const;

export type NyxErrorCode = (typeof nyxErrorCodes)[number];

export interface FieldViolation {
  /** Name of the request's field. */
  readonly field: string;
  /** What is wrong with it and what would be right. */
  readonly description: string;
}

export class NyxError extends Error {
  readonly code: NyxErrorCode;
  /** Further facts from the daemon, e.g. the hop at which a circuit failed. */
  readonly details: Readonly<Record<string, string>>;
  /** For BAD_REQUEST: what was wrong, field by field. */
  readonly violations: readonly FieldViolation[];

  constructor(
    code: NyxErrorCode,
    message: string,
    options: {
      readonly details?: Readonly<Record<string, string>>;
      readonly violations?: readonly FieldViolation[];
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'NyxError';
    this.code = code;
    this.details = options.details ?? {};
    this.violations = options.violations ?? [];
  }
}

const codeOfStatus: Readonly<Partial<Record<grpcStatus, NyxErrorCode>>> = {
  [grpcStatus.CANCELLED]: 'CANCELLED',
  [grpcStatus.INVALID_ARGUMENT]: 'BAD_REQUEST',
  [grpcStatus.OUT_OF_RANGE]: 'BAD_REQUEST',
  [grpcStatus.DEADLINE_EXCEEDED]: 'TIMEOUT',
  [grpcStatus.NOT_FOUND]: 'NOT_FOUND',
  [grpcStatus.PERMISSION_DENIED]: 'PERMISSION_DENIED',
  [grpcStatus.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [grpcStatus.RESOURCE_EXHAUSTED]: 'LIMIT',
  [grpcStatus.UNIMPLEMENTED]: 'UNIMPLEMENTED',
  [grpcStatus.UNAVAILABLE]: 'DAEMON_UNREACHABLE',
};

/** A gRPC failure as a NyxError: the daemon's own code where it sent one (google.rpc.ErrorInfo), else by status. */
export function nyxErrorFromGrpc(error: {
  readonly code?: number;
  readonly details?: string;
  readonly message?: string;
  readonly metadata?: Metadata;
}): NyxError {
  const rich = decodeErrorDetails(error);
  const known = nyxErrorCodes.find((code) => code === rich.reason);
  const code = known ?? codeOfStatus[(error.code ?? grpcStatus.UNKNOWN) as grpcStatus] ?? 'INTERNAL';
  const message = error.details || error.message || code;
  return new NyxError(code, message, { details: rich.metadata, violations: rich.fieldViolations, cause: error });
}

/** Any thrown value as a NyxError; one that already is one stays itself. */
export function toNyxError(error: unknown): NyxError {
  if (error instanceof NyxError) return error;
  if (error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error) {
    return nyxErrorFromGrpc(error as ServiceError);
  }
  if (error instanceof Error && error.name === 'AbortError')
    return new NyxError('CANCELLED', error.message, { cause: error });
  return new NyxError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error });
}
