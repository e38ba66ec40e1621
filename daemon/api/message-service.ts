/** nyx.api.v1.MessageService: addresses, messages sent and received, anonymous replies. */
import { status } from '@grpc/grpc-js';
import { ANSWER_BYTES, MAX_ANSWER_PACKETS } from '@nyx/core/messages/answer-seal.ts';
import { MAX_MESSAGE_BYTES } from '@nyx/core/messages/content.ts';
import type {
  AcknowledgeMessagesRequest,
  CreateAddressRequest,
  CreateReplyBlockRequest,
  CreateReplyBlockResponse,
  DeleteAddressRequest,
  DeleteAddressResponse,
  Empty,
  ListAddressesResponse,
  MessageAddress,
  MessageState,
  ReceivedMessage,
  SendMessageRequest,
  SendMessageResponse,
} from '@nyx/proto/types.ts';
import type { AddressInfo, Messages, SentMessage } from '../messages/messages.ts';
import { ApiError, notFound } from './errors.ts';
import { serverStream, unary } from './handlers.ts';
import type { ApiHost } from './host.ts';
import { Validator } from './validate.ts';

const DEFAULT_TIMEOUT_MS = 120_000;
const MIN_TIMEOUT_MS = 1000;
const MAX_TIMEOUT_MS = 3_600_000;
const MAX_LABEL_BYTES = 64;
const MAX_ACKNOWLEDGED_AT_ONCE = 1000;
/** Messages that a reader has and has not acknowledged. */
const MAX_UNACKNOWLEDGED = 64;
const PROGRESS_MS = 500;

const waits: Readonly<Record<MessageState, 'queued' | 'sent' | 'acknowledged'>> = {
  MESSAGE_STATE_UNSPECIFIED: 'sent',
  MESSAGE_STATE_QUEUED: 'queued',
  MESSAGE_STATE_SENT: 'sent',
  MESSAGE_STATE_ACKNOWLEDGED: 'acknowledged',
};

export const messageService = (host: ApiHost) => ({
  CreateAddress: unary<CreateAddressRequest, MessageAddress>(async ({ label, nodeId }) => {
    const validator = new Validator();
    const labelBytes = Buffer.byteLength(label);
    if (labelBytes > MAX_LABEL_BYTES) {
      validator.fail('label', `has ${labelBytes} bytes; must have at most ${MAX_LABEL_BYTES}`);
    }
    if (nodeId !== '') validator.nodeIds('node_id', [nodeId]);
    validator.check();
    return addressOf(await messagesOf(host).createAddress(label, nodeId === '' ? undefined : nodeId));
  }),

  ListAddresses: unary<Empty, ListAddressesResponse>(() => ({
    addresses: messagesOf(host).addresses().map(addressOf),
  })),

  DeleteAddress: unary<DeleteAddressRequest, DeleteAddressResponse>(async ({ address }) => {
    const erasedAtNode = await messagesOf(host).deleteAddress(address);
    if (erasedAtNode === undefined) throw notFound('own address', address.slice(0, 200));
    return { erasedAtNode };
  }),

  SendMessage: serverStream<SendMessageRequest, SendMessageResponse>(async (request, send, signal) => {
    const validator = new Validator();
    const { to, content, timeoutMs } = request;
    if (timeoutMs !== 0) validator.integer('timeout_ms', timeoutMs, MIN_TIMEOUT_MS, MAX_TIMEOUT_MS);
    const wait = waits[request.wait];
    if (wait === undefined) validator.fail('wait', `is ${request.wait}; must be a MessageState`);
    if (content.length > MAX_MESSAGE_BYTES) {
      validator.fail('content', `has ${content.length} bytes; must have at most ${MAX_MESSAGE_BYTES}`);
    }
    validator.check();
    const bytes = new Uint8Array(content);
    const sent = messagesOf(host).send(to, bytes, timeoutMs === 0 ? DEFAULT_TIMEOUT_MS : timeoutMs);
    await follow(sent, wait, send, signal, () => host.state() === 'draining');
  }),

  ReceiveMessages: serverStream<Empty, ReceivedMessage>((_request, send, signal) => {
    const { inbox } = messagesOf(host);
    return new Promise<void>((resolve, reject) => {
      const given = new Set<string>();
      let running = false;
      const run = async () => {
        running = true;
        for (let id = nextOf(inbox.ids(), given); id !== undefined && !signal.aborted; ) {
          given.add(id);
          const message = inbox.read(id);
          if (message !== undefined) {
            await send({
              messageId: id,
              address: (message.mailbox && messagesOf(host).addressOf(message.mailbox)) ?? '',
              replyBlockId: message.replyBlock ?? '',
              receivedUnixMs: message.receivedUnixMs,
              content: Buffer.from(message.content),
            });
          }
          id = nextOf(inbox.ids(), given);
        }
        running = false;
      };
      const wake = () => {
        if (!running) run().catch(reject);
      };
      const unwatch = inbox.watch(wake);
      if (unwatch === undefined) {
        reject(
          new ApiError(
            status.FAILED_PRECONDITION,
            'RECEIVER_BUSY',
            'somebody else receives this node’s messages; one reader at a time',
          ),
        );
        return;
      }
      signal.addEventListener('abort', () => {
        unwatch();
        resolve();
      });
      wake();
    });
  }),

  AcknowledgeMessages: unary<AcknowledgeMessagesRequest, Empty>(({ messageIds }) => {
    const validator = new Validator();
    if (messageIds.length > MAX_ACKNOWLEDGED_AT_ONCE) {
      validator.fail('message_ids', `has ${messageIds.length} entries; at most ${MAX_ACKNOWLEDGED_AT_ONCE} at once`);
    }
    validator.check();
    const { inbox } = messagesOf(host);
    for (const id of messageIds) inbox.acknowledge(id);
    return {};
  }),

  CreateReplyBlock: unary<CreateReplyBlockRequest, CreateReplyBlockResponse>(async (request) => {
    const validator = new Validator();
    const packets = request.packets === 0 ? 1 : request.packets;
    validator.integer('packets', packets, 1, MAX_ANSWER_PACKETS);
    validator.check();
    const { text, id, expires } = await messagesOf(host).createReplyBlock(packets);
    return {
      replyBlock: text,
      replyBlockId: id,
      expiresUnixSeconds: expires,
      maxReplyBytes: packets * ANSWER_BYTES,
    };
  }),
});

const messagesOf = ({ messages }: ApiHost): Messages => {
  if (messages !== undefined) return messages;
  const why = 'this node has no messages of its own; add client to its roles';
  throw new ApiError(status.FAILED_PRECONDITION, 'NOT_A_CLIENT', why);
};

const addressOf = ({
  address,
  label,
  nodeId,
  createdAt,
  state,
  problem,
  refusedPackets,
}: AddressInfo): MessageAddress => ({
  address,
  label,
  nodeId,
  createdUnixSeconds: createdAt,
  state,
  problem,
  refusedPackets,
});

/** The oldest message that was not given yet; undefined: there is none, or the reader has enough to acknowledge. */
const nextOf = (ids: readonly string[], given: Set<string>): string | undefined => {
  let open = 0;
  for (const id of ids) {
    if (!given.has(id)) return open < MAX_UNACKNOWLEDGED ? id : undefined;
    open++;
  }
  // What is not there any more was acknowledged.
  if (given.size > ids.length) {
    const there = new Set(ids);
    for (const id of given) if (!there.has(id)) given.delete(id);
  }
  return undefined;
};

/** Tells how far the message is, until it is as far as was asked for. */
const follow = async (
  message: SentMessage,
  wait: 'queued' | 'sent' | 'acknowledged',
  send: (response: SendMessageResponse) => Promise<void>,
  signal: AbortSignal,
  isDraining: () => boolean,
): Promise<void> => {
  const { id } = message;
  let told = { sent: 0, total: 0 };
  const tell = (state: MessageState) =>
    send({ messageId: id, state, packetsSent: told.sent, packetsTotal: told.total });
  await tell('MESSAGE_STATE_QUEUED');
  if (wait === 'queued') return;
  // A call that ends because the daemon does gives nothing up: the message goes on after the restart.
  const onAbort = () => {
    if (!isDraining()) message.cancel();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  let state: MessageState = 'MESSAGE_STATE_QUEUED';
  const timer = setInterval(() => {
    const progress = message.progress();
    if (progress === undefined || (progress.sent === told.sent && progress.total === told.total)) return;
    told = progress;
    void tell(state);
  }, PROGRESS_MS);
  try {
    await message.sent;
    state = 'MESSAGE_STATE_SENT';
    told = message.progress() ?? told;
    await tell(state);
    if (wait === 'sent') return;
    const end = await message.done;
    if (end === 'acknowledged') await tell('MESSAGE_STATE_ACKNOWLEDGED');
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', onAbort);
  }
};
