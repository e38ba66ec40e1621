/** Exit codes, and how a failure becomes one. Documented in `nyx-cli --help`. */
import { NyxError, type NyxErrorCode } from '@nyx/sdk/errors.ts';

export const ExitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
  noDaemon: 3,
  path: 4,
  target: 5,
  unacknowledged: 6,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** A failure with what to do next. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  /** More of it, for --json. */
  readonly details: object;
  constructor(exitCode: ExitCode, message: string, details: object = {}) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.details = details;
  }
}

const byCode: Readonly<Partial<Record<NyxErrorCode, { readonly exit: ExitCode; readonly next: string }>>> = {
  DAEMON_UNREACHABLE: {
    exit: ExitCode.noDaemon,
    next: 'Start one with `nyx-cli daemon`, or a local network with `nyx-cli up`.',
  },
  SHUTDOWN: { exit: ExitCode.noDaemon, next: 'The daemon is going down; start it again.' },
  UNAUTHENTICATED: { exit: ExitCode.noDaemon, next: 'Give the daemon’s token with --token-file.' },
  NO_PATH: {
    exit: ExitCode.path,
    next: 'See what the daemon knows of the network: `nyx-cli status`, `nyx-cli paths nodes`.',
  },
  PATH_FAILED: { exit: ExitCode.path, next: 'Try again; `nyx-cli events` shows why circuits fail.' },
  SESSION_LOST: { exit: ExitCode.path, next: 'Try again: another circuit will be built.' },
  TIMEOUT: { exit: ExitCode.target, next: 'Is the target up? `--timeout` gives it longer.' },
  CONNECTION_REFUSED: { exit: ExitCode.target, next: 'Nothing listens at that port of the target.' },
  HOST_UNREACHABLE: { exit: ExitCode.target, next: 'The exit has no route to the target.' },
  NETWORK_UNREACHABLE: { exit: ExitCode.target, next: 'The exit has no route to the target.' },
  RESOLVE_FAILED: { exit: ExitCode.target, next: 'The exit cannot resolve that name; check its spelling.' },
  EXIT_POLICY: { exit: ExitCode.target, next: 'No exit allows that target; `nyx-cli paths nodes` shows the policies.' },
  RESET: { exit: ExitCode.target, next: 'The target closed the connection.' },
  BAD_ADDRESS: { exit: ExitCode.usage, next: 'Addresses begin with nyx-msg: and are copied whole, in one line.' },
  BAD_REPLY_BLOCK: { exit: ExitCode.usage, next: 'Reply blocks begin with nyx-reply: and are copied whole.' },
  MESSAGE_TOO_LARGE: { exit: ExitCode.usage, next: 'Longer ones belong into a stream: `nyx-cli connect`.' },
  REPLY_BLOCK_EXPIRED: { exit: ExitCode.target, next: 'Ask its maker for a fresh one.' },
  REPLY_BLOCK_USED: { exit: ExitCode.target, next: 'Ask its maker for another one.' },
  UNKNOWN_MAILBOX: {
    exit: ExitCode.target,
    next: 'The recipient has to be there from time to time; or ask for a newer address.',
  },
  MESSAGE_NOT_OPENED: { exit: ExitCode.target, next: 'Send it again: newer keys will be fetched.' },
  MESSAGE_NOT_ACKNOWLEDGED: {
    exit: ExitCode.unacknowledged,
    next: 'The recipient may be away; `--timeout` waits longer.',
  },
  RECEIVER_BUSY: { exit: ExitCode.failure, next: 'End the other one first.' },
  NOT_A_CLIENT: { exit: ExitCode.usage, next: 'Talk to a daemon with the role client: --api.' },
  BAD_REQUEST: { exit: ExitCode.usage, next: '`nyx-cli COMMAND --help` shows what is possible.' },
};

export interface Failure {
  readonly exitCode: ExitCode;
  /** Code of the SDK, or `USAGE`, `FAILURE`. */
  readonly code: string;
  readonly message: string;
  /** What to do next; empty when the message already says it. */
  readonly next: string;
  readonly details?: object;
}

/** Any thrown value as one line for people and one object for programs. Never a stack trace. */
export function explainFailure(error: unknown): Failure {
  if (error instanceof CliError) {
    return {
      exitCode: error.exitCode,
      code: error.exitCode === ExitCode.usage ? 'USAGE' : 'FAILURE',
      message: error.message,
      next: '',
      details: error.details,
    };
  }
  if (error instanceof NyxError) {
    const known = byCode[error.code];
    const fields = error.violations.map(({ field, description }) => `${field}: ${description}`).join('; ');
    const message = fields && !error.message.includes(fields) ? `${error.message} (${fields})` : error.message;
    return {
      exitCode: known?.exit ?? ExitCode.failure,
      code: error.code,
      message,
      next: known && !message.includes('nyx-cli') ? known.next : '',
    };
  }
  return {
    exitCode: ExitCode.failure,
    code: 'FAILURE',
    message: error instanceof Error ? error.message : String(error),
    next: '',
  };
}
