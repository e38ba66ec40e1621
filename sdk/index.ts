/** Nyx for Node applications. See sdk/README.md. */
export type {
  AnonymityFigure,
  Event,
  GetAnonymityResponse,
  GetNodeInfoResponse,
  Path,
  SessionPath,
  Statistics,
  StreamInfo,
  StreamStatistics,
} from '@nyx/proto/types.ts';
export {
  type BuildPathOptions,
  connectNyx,
  NyxClient,
  type NyxClientEvents,
  type NyxEventKind,
  type Reconnected,
} from './client.ts';
export type { ConnectOptions, TlsFiles } from './connection.ts';
export {
  type DatagramInfo,
  type DatagramSocketOptions,
  type DatagramStatistics,
  NyxDatagramSocket,
  type NyxDatagramSocketEvents,
  type SendDatagramOptions,
} from './datagram-socket.ts';
export { type FieldViolation, NyxError, type NyxErrorCode, nyxErrorCodes } from './errors.ts';
export {
  NyxMessages,
  type ReceivedMessage,
  type ReplyBlock,
  type SendMessageOptions,
  type SendResult,
  type SendUntil,
} from './messages.ts';
export type { RetryPolicy } from './retry.ts';
export {
  type DialOptions,
  type LostStream,
  type MultipathStrategyName,
  NyxSocket,
  type PathClassName,
  type PathOptions,
} from './socket.ts';
export { defaultSocketPath } from './socket-path.ts';
