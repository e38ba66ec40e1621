/** Errors of the API: a gRPC status with google.rpc details (ErrorInfo, BadRequest) in its trailer. */
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { MessageError, MessageErrorCode } from '@nyx/core/messages/message-error.ts';
import { encodeStatusDetails, STATUS_DETAILS_KEY } from '@nyx/proto/errors.ts';
import { DialError, DialErrorCode } from '../pump/contract.ts';

export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** An error that is told to the caller as it is. */
export class ApiError extends Error {
  readonly status: status;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  constructor(
    code: status,
    reason: string,
    message: string,
    metadata: Readonly<Record<string, string>> = {},
    violations: readonly FieldViolation[] = [],
  ) {
    super(message);
    this.name = 'ApiError';
    this.status = code;
    this.reason = reason;
    this.metadata = metadata;
    this.violations = violations;
  }
}

/** INVALID_ARGUMENT that names every bad field. */
export const invalidArgument = (violations: readonly FieldViolation[]): ApiError =>
  new ApiError(
    status.INVALID_ARGUMENT,
    'INVALID_ARGUMENT',
    violations.map(({ field, description }) => `${field} ${description}`).join('; '),
    {},
    violations,
  );

export const notFound = (what: string, id: string | number): ApiError =>
  new ApiError(status.NOT_FOUND, 'NOT_FOUND', `there is no ${what} ${id}`, { what, id: String(id) });

/** How a dial's failure looks as a gRPC status; the exact code is ErrorInfo.reason. */
export const statusOfDialCode: Readonly<Record<DialErrorCode, status>> = {
  [DialErrorCode.noPath]: status.UNAVAILABLE,
  [DialErrorCode.pathFailed]: status.UNAVAILABLE,
  [DialErrorCode.timeout]: status.DEADLINE_EXCEEDED,
  [DialErrorCode.refused]: status.UNAVAILABLE,
  [DialErrorCode.hostUnreachable]: status.UNAVAILABLE,
  [DialErrorCode.networkUnreachable]: status.UNAVAILABLE,
  [DialErrorCode.resolveFailed]: status.NOT_FOUND,
  [DialErrorCode.exitPolicy]: status.PERMISSION_DENIED,
  [DialErrorCode.limit]: status.RESOURCE_EXHAUSTED,
  [DialErrorCode.reset]: status.ABORTED,
  [DialErrorCode.sessionLost]: status.ABORTED,
  [DialErrorCode.cancelled]: status.CANCELLED,
  [DialErrorCode.badRequest]: status.INVALID_ARGUMENT,
  [DialErrorCode.shutdown]: status.UNAVAILABLE,
  [DialErrorCode.internal]: status.INTERNAL,
};

/** The same for messages. */
const statusOfMessageCode: Readonly<Record<MessageErrorCode, status>> = {
  [MessageErrorCode.badAddress]: status.INVALID_ARGUMENT,
  [MessageErrorCode.badReplyBlock]: status.INVALID_ARGUMENT,
  [MessageErrorCode.replyBlockExpired]: status.FAILED_PRECONDITION,
  [MessageErrorCode.replyBlockUsed]: status.FAILED_PRECONDITION,
  [MessageErrorCode.tooLarge]: status.INVALID_ARGUMENT,
  [MessageErrorCode.unknownMailbox]: status.NOT_FOUND,
  [MessageErrorCode.notOpened]: status.FAILED_PRECONDITION,
  [MessageErrorCode.notAcknowledged]: status.DEADLINE_EXCEEDED,
  [MessageErrorCode.cancelled]: status.CANCELLED,
  [MessageErrorCode.limit]: status.RESOURCE_EXHAUSTED,
};

const asApiError = (error: unknown): ApiError => {
  if (error instanceof ApiError) return error;
  if (error instanceof DialError) return new ApiError(statusOfDialCode[error.code], error.code, error.message);
  if (error instanceof MessageError) return new ApiError(statusOfMessageCode[error.code], error.code, error.message);
  return new ApiError(status.INTERNAL, 'INTERNAL', error instanceof Error ? error.message : String(error));
};

/** Any error as a status with details. What is not meant for the caller is INTERNAL, with its message. */
export const toStatus = (error: unknown): StatusObject & Error => {
  const api = asApiError(error);
  const metadata = new Metadata();
  metadata.set(
    STATUS_DETAILS_KEY,
    encodeStatusDetails(api.status, api.message, api.reason, api.metadata, api.violations),
  );
  return Object.assign(new Error(api.message), { code: api.status, details: api.message, metadata });
};
