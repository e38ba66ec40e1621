/** What can be wrong with a descriptor, a view or an exit policy that came from outside. */
export const DirectoryErrorCode = {
  tooLarge: 'TOO_LARGE',
  malformed: 'MALFORMED',
  unsupportedVersion: 'UNSUPPORTED_VERSION',
  badField: 'BAD_FIELD',
  badPolicy: 'BAD_POLICY',
  badSignature: 'BAD_SIGNATURE',
  notYetValid: 'NOT_YET_VALID',
  expired: 'EXPIRED',
  tooFewSignatures: 'TOO_FEW_SIGNATURES',
  badRoot: 'BAD_ROOT',
  incomplete: 'INCOMPLETE',
  rollback: 'ROLLBACK',
  fork: 'FORK',
} as const;
export type DirectoryErrorCode = (typeof DirectoryErrorCode)[keyof typeof DirectoryErrorCode];

/** The one error of core/directory. `message` says what was found and what would be right. */
export class DirectoryError extends Error {
  readonly code: DirectoryErrorCode;
  constructor(code: DirectoryErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DirectoryError';
    this.code = code;
  }
}
