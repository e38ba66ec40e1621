/** Why the exit could not serve a stream, as a session error code; and the operating system's words for it. */
import { SessionError } from '@nyx/core/stream/contract.ts';

export class ExitError extends Error {
  readonly code: SessionError;

  constructor(code: SessionError, message: string) {
    super(message);
    this.name = 'ExitError';
    this.code = code;
  }
}

const codes: ReadonlyMap<string, SessionError> = new Map<string, SessionError>([
  ['ECONNREFUSED', SessionError.connectRefused],
  ['ETIMEDOUT', SessionError.connectTimeout],
  ['EHOSTUNREACH', SessionError.hostUnreachable],
  ['EHOSTDOWN', SessionError.hostUnreachable],
  ['ENETUNREACH', SessionError.networkUnreachable],
  ['ENETDOWN', SessionError.networkUnreachable],
  // No address of that family here: to the client the same as having no route.
  ['EADDRNOTAVAIL', SessionError.networkUnreachable],
  ['EAFNOSUPPORT', SessionError.networkUnreachable],
  ['EINVAL', SessionError.networkUnreachable],
  // The exit's own firewall.
  ['EACCES', SessionError.exitPolicy],
  ['EPERM', SessionError.exitPolicy],
  ['ECONNRESET', SessionError.peerReset],
  ['ECONNABORTED', SessionError.peerReset],
  ['EPIPE', SessionError.peerReset],
  ['EMFILE', SessionError.limit],
  ['ENFILE', SessionError.limit],
  ['ENOBUFS', SessionError.limit],
  ['ENOMEM', SessionError.limit],
  ['ENOTFOUND', SessionError.resolveFailed],
  ['ENODATA', SessionError.resolveFailed],
  ['EAI_AGAIN', SessionError.resolveFailed],
  ['EAI_FAIL', SessionError.resolveFailed],
  ['EAI_NODATA', SessionError.resolveFailed],
  ['ESERVFAIL', SessionError.resolveFailed],
  ['EREFUSED', SessionError.resolveFailed],
  ['EFORMERR', SessionError.resolveFailed],
  ['EBADRESP', SessionError.resolveFailed],
  ['EBADNAME', SessionError.resolveFailed],
  ['ETIMEOUT', SessionError.resolveFailed],
  ['ECANCELLED', SessionError.cancelled],
]);

/** The code for any error of a socket or of the resolver; `internal` for what has no name here. */
export function sessionErrorOf(error: unknown): SessionError {
  if (error instanceof ExitError) return error.code;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return (typeof code === 'string' ? codes.get(code) : undefined) ?? SessionError.internal;
}
