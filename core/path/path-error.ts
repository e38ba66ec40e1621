/** Why no path could be chosen, or a guard state could not be used. */
export const PathErrorCode = {
  badRequest: 'BAD_REQUEST',
  unknownNode: 'UNKNOWN_NODE',
  tooFewNodes: 'TOO_FEW_NODES',
  noExit: 'NO_EXIT',
  noGuard: 'NO_GUARD',
  noMiddle: 'NO_MIDDLE',
  conflict: 'CONFLICT',
  badGuardState: 'BAD_GUARD_STATE',
} as const;
export type PathErrorCode = (typeof PathErrorCode)[keyof typeof PathErrorCode];

/** The one error of core/path. `message` says how many candidates there were and what left none. */
export class PathError extends Error {
  readonly code: PathErrorCode;
  constructor(code: PathErrorCode, message: string) {
    super(message);
    this.name = 'PathError';
    this.code = code;
  }
}
