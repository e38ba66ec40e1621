/** Why something about messages was refused. The codes reach the API, the SDK and the CLI as they are. */
export const MessageErrorCode = {
  /** No address, or one of another version, or mistyped. */
  badAddress: 'BAD_ADDRESS',
  badReplyBlock: 'BAD_REPLY_BLOCK',
  /** Reply blocks live for two epochs at most. */
  replyBlockExpired: 'REPLY_BLOCK_EXPIRED',
  /** Each reply block can be used once. */
  replyBlockUsed: 'REPLY_BLOCK_USED',
  tooLarge: 'MESSAGE_TOO_LARGE',
  /** The mailbox node is there, but has no such mailbox (any more). */
  unknownMailbox: 'UNKNOWN_MAILBOX',
  /** The recipient got the message, and none of its keys opens it. */
  notOpened: 'MESSAGE_NOT_OPENED',
  /** Not acknowledged until its deadline: it may have arrived or not. */
  notAcknowledged: 'MESSAGE_NOT_ACKNOWLEDGED',
  cancelled: 'CANCELLED',
  limit: 'LIMIT',
} as const;
export type MessageErrorCode = (typeof MessageErrorCode)[keyof typeof MessageErrorCode];

export class MessageError extends Error {
  readonly code: MessageErrorCode;
  constructor(code: MessageErrorCode, message: string) {
    super(message);
    this.name = 'MessageError';
    this.code = code;
  }
}
