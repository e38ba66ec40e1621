/** Messages: addresses, sending, receiving, anonymous replies (`client.messages`). */
import type { Client, ClientReadableStream, Metadata } from '@grpc/grpc-js';
import type {
  DeleteAddressResponse,
  MessageAddress,
  MessageServiceClient,
  MessageState,
  SendMessageResponse,
  UnaryMethod,
  ReceivedMessage as WireMessage,
} from '@nyx/proto/types.ts';
import { NyxError } from './errors.ts';

/** How the client makes calls. */
export interface MessageCalls {
  readonly service: MessageServiceClient;
  unary<Req, Res>(
    service: Client,
    method: UnaryMethod<Req, Res>,
    request: Parameters<UnaryMethod<Req, Res>>[0],
    options: { readonly signal?: AbortSignal },
  ): Promise<Res>;
  /** Ends with the connection. */
  readOnce<Message>(
    open: (metadata: Metadata) => ClientReadableStream<Message>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Message, void, undefined>;
  /** Goes on over a lost connection. */
  readAcross<Message>(
    open: (metadata: Metadata) => ClientReadableStream<Message>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Message, void, undefined>;
}

export type { MessageAddress } from '@nyx/proto/types.ts';

export type SendUntil = 'queued' | 'sent' | 'acknowledged';

export interface SendMessageOptions {
  /** When the promise resolves. Default `acknowledged`; over a reply block `sent`, for more can't be known of it. */
  readonly until?: SendUntil;
  /** For the acknowledgement: 1000…3 600 000, default 120 000. */
  readonly timeoutMs?: number;
  /** Every half second or so while packets leave. `packetsSent` counts repetitions; both are 0 until the recipient's keys are here. */
  readonly onProgress?: (progress: { readonly packetsSent: number; readonly packetsTotal: number }) => void;
  /** Gives the message up. */
  readonly signal?: AbortSignal;
}

export interface SendResult {
  readonly messageId: string;
  /** What was reached. */
  readonly state: SendUntil;
  readonly packetsSent: number;
}

export interface ReceivedMessage {
  readonly id: string;
  readonly content: Buffer;
  /** Which of our addresses it came to; undefined: it is an anonymous reply. */
  readonly address: string | undefined;
  /** Which of our reply blocks it came over. */
  readonly replyBlockId: string | undefined;
  readonly receivedAt: Date;
  /** The daemon may forget it. Without this it comes again to the next reader. */
  acknowledge(): Promise<void>;
}

export interface ReplyBlock {
  /** To give away, in confidence. */
  readonly replyBlock: string;
  /** As `ReceivedMessage.replyBlockId` has it. */
  readonly id: string;
  readonly expiresAt: Date;
  readonly maxReplyBytes: number;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

const REPLY_PREFIX = 'nyx-reply:';

const waitNames = {
  queued: 'MESSAGE_STATE_QUEUED',
  sent: 'MESSAGE_STATE_SENT',
  acknowledged: 'MESSAGE_STATE_ACKNOWLEDGED',
} as const satisfies Record<SendUntil, MessageState>;

const stateNames: Readonly<Record<MessageState, SendUntil>> = {
  MESSAGE_STATE_UNSPECIFIED: 'queued',
  MESSAGE_STATE_QUEUED: 'queued',
  MESSAGE_STATE_SENT: 'sent',
  MESSAGE_STATE_ACKNOWLEDGED: 'acknowledged',
};

export class NyxMessages {
  readonly #calls: () => MessageCalls;

  /** Applications use `client.messages`. */
  constructor(calls: () => MessageCalls) {
    this.#calls = calls;
  }

  /** Makes an address, and waits up to 30 s for its mailbox to open; `state` says whether it has. */
  createAddress(
    options: Abortable & { readonly label?: string; readonly nodeId?: string } = {},
  ): Promise<MessageAddress> {
    const { service, unary } = this.#calls();
    const { label = '', nodeId = '' } = options;
    return unary(service, service.createAddress, { label, nodeId }, options);
  }

  async addresses(options: Abortable = {}): Promise<MessageAddress[]> {
    const { service, unary } = this.#calls();
    return (await unary(service, service.listAddresses, {}, options)).addresses;
  }

  /**
   * Its keys are erased: what is on its way to it can't be read any more. `erasedAtNode`: its mailbox is gone as well, and
   * who asks for its keys is told so; false when its node could not be reached, which then keeps it until it expires.
   */
  async deleteAddress(address: string, options: Abortable = {}): Promise<DeleteAddressResponse> {
    const { service, unary } = this.#calls();
    return unary(service, service.deleteAddress, { address }, options);
  }

  /**
   * Sends 0…65 536 bytes to an address, or an anonymous reply over a reply block. Rejects with NyxError: BAD_ADDRESS,
   * UNKNOWN_MAILBOX, MESSAGE_TOO_LARGE, MESSAGE_NOT_ACKNOWLEDGED, REPLY_BLOCK_USED, REPLY_BLOCK_EXPIRED, LIMIT, …
   */
  async send(to: string, content: Uint8Array | string, options: SendMessageOptions = {}): Promise<SendResult> {
    const { service, readOnce } = this.#calls();
    const until = options.until ?? (to.trimStart().startsWith(REPLY_PREFIX) ? 'sent' : 'acknowledged');
    const request = {
      to,
      content: Buffer.from(content as Uint8Array),
      wait: waitNames[until],
      timeoutMs: options.timeoutMs ?? 0,
    };
    options.signal?.throwIfAborted();
    let last: SendMessageResponse | undefined;
    for await (const response of readOnce((metadata) => service.sendMessage(request, metadata), options.signal)) {
      last = response;
      const { packetsSent, packetsTotal } = response;
      options.onProgress?.({ packetsSent, packetsTotal });
    }
    if (options.signal?.aborted) throw new NyxError('CANCELLED', 'the message was given up');
    if (last === undefined) throw new NyxError('INTERNAL', 'the daemon said nothing of the message');
    return { messageId: last.messageId, state: stateNames[last.state], packetsSent: last.packetsSent };
  }

  /**
   * Messages that wait, then those that come, until `signal` ends the loop or the client is closed. Acknowledge each one
   * when it is dealt with: what is not acknowledged comes again, here after a lost connection or to the next reader. At most
   * 64 are out unacknowledged. Throws NyxError RECEIVER_BUSY while somebody else receives.
   */
  async *receive(options: Abortable = {}): AsyncGenerator<ReceivedMessage, void, undefined> {
    const { service, readAcross } = this.#calls();
    const open = (metadata: Metadata) => service.receiveMessages({}, metadata);
    for await (const message of readAcross(open, options.signal)) yield this.#received(message);
  }

  /** A token for one anonymous reply of up to `packets` packets (1…16, default 1; `maxReplyBytes` says what fits). */
  async createReplyBlock(options: Abortable & { readonly packets?: number } = {}): Promise<ReplyBlock> {
    const { service, unary } = this.#calls();
    const made = await unary(service, service.createReplyBlock, { packets: options.packets ?? 1 }, options);
    return {
      replyBlock: made.replyBlock,
      id: made.replyBlockId,
      expiresAt: new Date(made.expiresUnixSeconds * 1000),
      maxReplyBytes: made.maxReplyBytes,
    };
  }

  #received(message: WireMessage): ReceivedMessage {
    const { messageId: id, content, address, replyBlockId, receivedUnixMs } = message;
    return {
      id,
      content,
      address: address || undefined,
      replyBlockId: replyBlockId || undefined,
      receivedAt: new Date(receivedUnixMs),
      acknowledge: async () => {
        const { service, unary } = this.#calls();
        await unary(service, service.acknowledgeMessages, { messageIds: [id] }, {});
      },
    };
  }
}
