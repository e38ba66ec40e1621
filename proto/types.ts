/**
 * The control API's messages as TypeScript sees them (camelCase, 64-bit integers as numbers, enums as their names,
 * bytes as Buffer: the options of proto/load.ts). `proto/types.test.ts` checks that they agree with nyx.proto.
 * `?` marks what can be absent: proto3 `optional` fields and sub-messages. Requests may leave out any field.
 */
import type {
  CallOptions,
  Client,
  ClientDuplexStream,
  ClientReadableStream,
  ClientUnaryCall,
  Metadata,
  ServiceError,
} from '@grpc/grpc-js';

export type PathStrategy =
  | 'PATH_STRATEGY_UNSPECIFIED'
  | 'PATH_STRATEGY_UNIFORM'
  | 'PATH_STRATEGY_BANDWIDTH'
  | 'PATH_STRATEGY_LATENCY'
  | 'PATH_STRATEGY_SERVICE';

export type PathClass = 'PATH_CLASS_UNSPECIFIED' | 'PATH_CLASS_FAST' | 'PATH_CLASS_MIX' | 'PATH_CLASS_CMIX';

/** A message that carries nothing. */
export type Empty = Record<never, never>;

export interface GetNodeInfoResponse {
  version: string;
  pid: number;
  nodeId: string;
  roles: string[];
  uptimeSeconds: number;
  state: string;
  peers: Peer[];
  streams: StreamInfo[];
  paths: Path[];
  relayCircuits: number;
  exitStreams: number;
  exitSocketsOpened: number;
  traffic?: Traffic | null;
  process?: Process | null;
  udpMode: string;
  supervision?: Supervisor | null;
  addresses?: Addresses | null;
  view?: View | null;
  coverRatio?: number;
  keysEncrypted: boolean;
  workers: number;
  defaultHops: number;
  mixing?: Mixing | null;
  cmix?: Batches | null;
  cover?: Cover | null;
  messages?: OwnMessages | null;
  mailboxes?: Mailboxes | null;
  controlPlane?: ControlPlane | null;
  configuration?: Configuration | null;
}

export interface Cover {
  mode: string;
  links: number;
  cellsPerSecond: number;
  linkCellsSent: number;
  linkCellsReceived: number;
  dropCellsSent: number;
  queuedCells: number;
  overflowedCells: number;
  constantBack: number;
  constantServed: number;
  loops?: Loops | null;
}

export interface Loops {
  sent: number;
  lost: number;
  lossRatio: number;
  meanRttMs?: number;
  alarm: string;
}

export interface Mixing {
  waitingCells: number;
  releasedCells: number;
  meanDelayMs?: number;
  cellsPerSecond?: number;
  bits?: number;
}

export interface Batches {
  waitingCells: number;
  batches: number;
  cells: number;
  smallestRecent?: number;
  delayMs?: number;
  proved: number;
  lost: number;
  withheld: number;
  unproved: number;
  refused: number;
  cheats: Cheat[];
  missed: number;
  exchanged: number;
  audited: number;
  unanswered: number;
  exchangers: string[];
}

export interface Cheat {
  nodeId: string;
  kind: string;
  batch: number;
  file: string;
  foundUnixMs: number;
}

export interface ShareEvidenceRequest {
  evidence: Uint8Array;
}

export interface GetAnonymityRequest {
  assumedCellsPerSecond?: number;
}

export interface GetAnonymityResponse {
  figures: AnonymityFigure[];
  alarm: string;
}

export interface AnonymityFigure {
  pathClass: string;
  observer: string;
  subject: string;
  bits?: number;
  basis: string;
  note: string;
}

export interface Addresses {
  link: string;
  socks: string;
  httpConnect: string;
  api: string;
  metrics: string;
  directory: string;
  p2p: string;
  links: string[];
}

export interface Traffic {
  datagramsIn: number;
  datagramsOut: number;
  bytesIn: number;
  bytesOut: number;
  windowSeconds: number;
  bytesInPerSecond: number;
  bytesOutPerSecond: number;
  cellsForward: number;
  cellsBackward: number;
  cellsDelivered: number;
  cellsOriginated: number;
  setups: number;
  drops: Record<string, number>;
  bufferedBytes: number;
  shed: number;
}

export interface Process {
  rssBytes: number;
  heapUsedBytes: number;
  cpuSeconds: number;
  cpuRatio: number;
  workerCpuSeconds: number[];
}

export interface Supervisor {
  id: string;
  strategy: string;
  children: Child[];
}

export interface Child {
  id: string;
  restart: string;
  status: string;
  restarts: number;
  lastError?: string;
  lastCrashUnixMs?: number;
  uptimeSeconds: number;
  inboxLength: number;
  inboxLimit: number;
  inboxDropped: number;
  machineState?: string;
  supervisor?: Supervisor | null;
}

export interface Peer {
  linkId: number;
  nodeId?: string;
  initiator: boolean;
  address: string;
  rttMs?: number;
  lossRatio?: number;
  bytesIn: number;
  bytesOut: number;
  upSeconds: number;
  state: string;
}

export interface ListPeersResponse {
  peers: Peer[];
  controlPlane?: ControlPlane | null;
}

export interface ControlPlane {
  peerId: string;
  addresses: string[];
  serving: boolean;
  peers: ControlPeer[];
  routingPeers: number;
  storedPeers: number;
  deniedPeers: number;
  records: number;
  refusals: Record<string, number>;
  peersDenied: number;
  connectionsRefused: number;
  descriptorsReceived: number;
  descriptorsRelayed: number;
  descriptorsDelivered: number;
  viewsServed: number;
  viewsFetched: number;
  viewBytesServed: number;
  viewBytesFetched: number;
}

export interface ControlPeer {
  peerId: string;
  nodeId?: string;
  authority: boolean;
  address: string;
  inbound: boolean;
  connectedSeconds: number;
  rttMs?: number;
  protocols: string[];
}

export interface WatchEventsRequest {
  kinds: string[];
}

export interface Event {
  sequence: number;
  timeUnixMs: number;
  kind: string;
  name: string;
  subject: string;
  attributes: Record<string, string>;
  lost: number;
}

export interface WatchStatisticsRequest {
  intervalMs: number;
  details: boolean;
}

export interface Statistics {
  timeUnixMs: number;
  traffic?: Traffic | null;
  process?: Process | null;
  links: number;
  clientCircuits: number;
  relayCircuits: number;
  streams: number;
  exitStreams: number;
  pathList: Path[];
  streamList: StreamInfo[];
}

export interface ShutdownRequest {
  drainTimeoutMs?: number;
}

export interface ReloadConfigRequest {
  partial: boolean;
}

export interface ReloadConfigResponse {
  outcome: string;
  generation: number;
  file: string;
  changed: ConfigKey[];
  needRestart: ConfigKey[];
  issues: ConfigIssue[];
  workersConfirmed: number;
  workersPending: number;
}

export interface ConfigKey {
  key: string;
  line: number;
  column: number;
}

export interface ConfigIssue {
  line: number;
  column: number;
  key: string;
  message: string;
}

export interface Configuration {
  generation: number;
  appliedUnixMs: number;
  lastOutcome?: string;
  lastReloadUnixMs?: number;
  lastError?: string;
  needRestart: string[];
  workerGenerations: number[];
}

export interface CrashActorRequest {
  actor: string;
}

export interface CrashActorResponse {
  restartsBefore: number;
}

export interface StreamOptions {
  hops: number;
  pathClass: PathClass;
  isolation: string;
  pathId: number;
  timeoutMs: number;
  paths: number;
  strategy: MultipathStrategy;
  fec: string;
}

export type MultipathStrategy =
  | 'MULTIPATH_STRATEGY_UNSPECIFIED'
  | 'MULTIPATH_STRATEGY_LATENCY_WEIGHTED'
  | 'MULTIPATH_STRATEGY_LOWEST_LATENCY'
  | 'MULTIPATH_STRATEGY_LOAD_BALANCE'
  | 'MULTIPATH_STRATEGY_REDUNDANT';

/** Exactly one of the fields is set; `request` names it on what was received. */
export interface DataRequest {
  request?: 'open' | 'data' | 'creditBytes' | 'end' | 'reset';
  open?: DataRequestOpen | null;
  data?: Uint8Array;
  creditBytes?: number;
  end?: Empty | null;
  reset?: { code: string } | null;
}

export interface DataRequestOpen {
  host: string;
  port: number;
  options?: StreamOptions | null;
  initialCreditBytes: number;
}

/** Exactly one of the fields is set; `response` names it on what was received. */
export interface DataResponse {
  response?: 'opened' | 'connected' | 'data' | 'creditBytes' | 'end';
  opened?: { streamId: number; initialCreditBytes: number; expectedAddedLatencyMs: number } | null;
  connected?: { address: string; port: number; pathId: number; nodeIds: string[] } | null;
  data?: Uint8Array;
  creditBytes?: number;
  end?: Empty | null;
}

export interface DatagramsRequest {
  request?: 'open' | 'datagram' | 'count';
  open?: DatagramsRequestOpen | null;
  datagram?: Datagram | null;
  count?: Empty | null;
}

export interface DatagramsRequestOpen {
  options?: StreamOptions | null;
  deadlineMs: number;
}

export interface Datagram {
  host: string;
  port: number;
  data: Uint8Array;
  deadlineMs?: number;
}

export interface DatagramsResponse {
  response?: 'opened' | 'datagram' | 'counts';
  opened?: DatagramsOpened | null;
  datagram?: Datagram | null;
  counts?: DatagramCounts | null;
}

export interface DatagramsOpened {
  address: string;
  port: number;
  pathId: number;
  nodeIds: string[];
  expectedAddedLatencyMs: number;
  maxBytes: number;
}

export interface DatagramCounts {
  sent: number;
  expiredSending: number;
  droppedSending: number;
  received: number;
  expiredReceiving: number;
  droppedReceiving: number;
  exitArrived: number;
  exitExpired: number;
  exitDropped: number;
  exitAnswersDropped: number;
}

export interface ListStreamsResponse {
  streams: StreamInfo[];
}

export interface GetStreamRequest {
  streamId: number;
}

export interface StreamInfo {
  streamId: number;
  target: string;
  source: string;
  pathId?: number;
  nodeIds: string[];
  openedAtUnixMs: number;
  bytesSent: number;
  bytesReceived: number;
  state: string;
  bytesAcknowledged: number;
  bytesRetransmitted: number;
}

export interface StatStreamRequest {
  streamId: number;
  intervalMs: number;
}

export interface StreamStatistics {
  timeUnixMs: number;
  stream?: StreamInfo | null;
  path?: Path | null;
}

export interface CloseStreamRequest {
  streamId: number;
}

export interface ResolveRequest {
  query?: 'name' | 'address';
  name?: string;
  address?: string;
  options?: StreamOptions | null;
}

export interface ResolveResponse {
  addresses: ResolvedAddress[];
  name?: string;
}

export interface ResolvedAddress {
  address: string;
  family: number;
  ttlSeconds: number;
}

export interface ListPathsResponse {
  paths: Path[];
}

export interface Path {
  pathId: number;
  nodeIds: string[];
  state: string;
  setupMs?: number;
  rttMs?: number;
  streams: number;
  bytesSent: number;
  bytesReceived: number;
  deliveryRateBytesPerSecond: number;
  lossRatio: number;
  ageSeconds: number;
  pathClass: PathClass;
  expectedAddedLatencyMs: number;
  spuriousRatio: number;
  wantedPaths: number;
  strategy: MultipathStrategy;
  circuits: SessionPath[];
  reorderedBytes: number;
  reorderLimitBytes?: number;
  fec?: FecFigures | null;
}

export interface FecFigures {
  policy: string;
  codecs: string[];
  ratio: number;
  sourcesSent: number;
  repairsSent: number;
  recoveredByPeer: number;
  repairsReceived: number;
  repairsUsed: number;
  repairsWasted: number;
  repairsRejected: number;
  packetsRecovered: number;
  decodeFailures: number;
  overBudget: number;
}

export interface SessionPath {
  circuitId: number;
  nodeIds: string[];
  state: string;
  setupMs?: number;
  rttMs?: number;
  minRttMs?: number;
  jitterMs?: number;
  lossRatio: number;
  packetsSent: number;
  packetsReceived: number;
  packetsInFlight: number;
  windowPackets: number;
  deliveryRateBytesPerSecond: number;
  copiedBytes: number;
  ageSeconds: number;
}

export interface BuildPathRequest {
  hops: number;
  pathClass: PathClass;
  nodeIds: string[];
  exitTarget?: Target | null;
  timeoutMs: number;
  strategy: PathStrategy;
  latencyBias?: number;
  filter?: PathFilter | null;
}

export interface PathFilter {
  excludeCountries: string[];
  includeCountries: string[];
  excludeFamilies: string[];
  includeFamilies: string[];
  excludeNodes: string[];
  includeNodes: string[];
}

export interface Target {
  host: string;
  port: number;
}

export interface BuildPathResponse {
  pathId: number;
  nodeIds: string[];
  setupMs: number;
  expectedAddedLatencyMs: number;
  choice?: PathChoice | null;
}

export interface ChoosePathsRequest {
  path?: BuildPathRequest | null;
  count: number;
}

export interface ChoosePathsResponse {
  paths: PathChoice[];
}

export interface PathChoice {
  hops: PathHop[];
  strategy: string;
  relaxed: string[];
  entropy?: PathEntropy | null;
}

export interface PathHop {
  nodeId: string;
  reasons: string[];
  candidates: number;
  share: number;
  countries: string[];
  asns: number[];
}

export interface PathEntropy {
  positionBits: number[];
  pathBits: number;
  baselineBits: number;
  costBits: number;
  maxCostBits: number;
}

export interface GetTopologyResponse {
  view?: View | null;
  nodes: Node[];
  guards: Guard[];
  edges: Edge[];
  entropy?: PathEntropy | null;
}

export interface Guard {
  nodeId: string;
  primary: boolean;
  sampledUnixSeconds: number;
  confirmedUnixSeconds?: number;
  failures: number;
  retryUnixSeconds: number;
  setups: number;
  built: number;
  used: number;
  held: number;
  verdict: string;
  dropped: boolean;
}

export interface Edge {
  from: string;
  to: string;
  paths: number;
  streams: number;
  bytesSent: number;
  bytesReceived: number;
}

export interface ClosePathRequest {
  pathId: number;
}

export interface View {
  epoch?: number;
  nodes: number;
  mixes: number;
  exits: number;
  ageSeconds?: number;
  validUntilUnixSeconds: number;
  digest: string;
  signatures: number;
  threshold: number;
  freshUntilUnixSeconds: number;
  authorities: AuthorityState[];
  params: Record<string, number>;
  alarms: DirectoryAlarm[];
  forkNeeds: number;
  refused: Record<string, number>;
  voting?: Voting | null;
  viewsAccepted: number;
  deltasAccepted: number;
  deltasRefused: number;
}

export interface Voting {
  nodes: number;
  reachable: number;
  measured: number;
  votes: number;
  views: number;
  roundsFailed: number;
  badVotes: number;
  equivocations: number;
  descriptorsTaken: number;
  descriptorsRefused: Record<string, number>;
  measurements: number;
  measuredBytes: number;
}

export interface AuthorityState {
  key: string;
  signed: boolean;
}

export interface DirectoryAlarm {
  kind: string;
  epoch: number;
  file: string;
  foundUnixMs: number;
}

export interface ListNodesResponse {
  view?: View | null;
  nodes: Node[];
}

export interface Node {
  nodeId: string;
  roles: string[];
  addresses: string[];
  family: string;
  families: string[];
  bandwidthBytesPerSecond: number;
  exitPolicy: string[];
  guard: boolean;
  self: boolean;
  weight: number;
  countries: string[];
  asns: number[];
  linkRttMs?: number;
  latencyMs?: number;
  setupSuccesses: number;
  setupFailures: number;
  flags: string[];
  viewBandwidthBytesPerSecond: number;
  firstEpoch: number;
  compliance: string;
  contact?: string;
}

export interface ListKeysResponse {
  nodeId: string;
  identityPublicKey: string;
  linkX25519PublicKey: string;
  linkKemPublicKeySha256: string;
  mixKeys: MixKey[];
  encrypted: boolean;
}

export interface MixKey {
  epoch: number;
  x25519PublicKey: string;
  kemPublicKeySha256: string;
  notBeforeUnixSeconds: number;
  erasedAfterUnixSeconds: number;
}

export interface RotateEpochKeysResponse {
  mixKeys: MixKey[];
}

export interface OwnMessages {
  addresses: number;
  openMailboxes: number;
  outgoing: number;
  outgoingBytes: number;
  waiting: number;
  waitingBytes: number;
  replyBlocks: number;
  slots: number;
  sentPackets: number;
  coverPackets: number;
  postponedPackets: number;
  receivedPackets: number;
  receivedMessages: number;
  storeProblem: string;
  loops?: Loops | null;
}

export interface Mailboxes {
  mailboxes: number;
  heldPackets: number;
  heldBytes: number;
  accepted: number;
  delivered: number;
  expired: number;
  fetches: number;
  forwards: number;
  dropped: Record<string, number>;
  storeProblem: string;
}

export type MessageState =
  | 'MESSAGE_STATE_UNSPECIFIED'
  | 'MESSAGE_STATE_QUEUED'
  | 'MESSAGE_STATE_SENT'
  | 'MESSAGE_STATE_ACKNOWLEDGED';

export interface CreateAddressRequest {
  label: string;
  nodeId: string;
}

export interface MessageAddress {
  address: string;
  label: string;
  nodeId: string;
  createdUnixSeconds: number;
  state: string;
  problem: string;
  refusedPackets: number;
}

export interface ListAddressesResponse {
  addresses: MessageAddress[];
}

export interface DeleteAddressRequest {
  address: string;
}

export interface DeleteAddressResponse {
  erasedAtNode: boolean;
}

export interface SendMessageRequest {
  to: string;
  content: Buffer;
  wait: MessageState;
  timeoutMs: number;
}

export interface SendMessageResponse {
  messageId: string;
  state: MessageState;
  packetsSent: number;
  packetsTotal: number;
}

export interface ReceivedMessage {
  messageId: string;
  address: string;
  replyBlockId: string;
  receivedUnixMs: number;
  content: Buffer;
}

export interface AcknowledgeMessagesRequest {
  messageIds: string[];
}

export interface CreateReplyBlockRequest {
  packets: number;
}

export interface CreateReplyBlockResponse {
  replyBlock: string;
  replyBlockId: string;
  expiresUnixSeconds: number;
  maxReplyBytes: number;
}

/** Details of an error: google.rpc.ErrorInfo and BadRequest, as decoded by proto/errors.ts. */
export interface ErrorDetails {
  /** Stable code, e.g. NO_PATH; undefined when the server sent no ErrorInfo. */
  reason: string | undefined;
  domain: string | undefined;
  metadata: Record<string, string>;
  fieldViolations: { field: string; description: string }[];
}

type Partially<T> = T extends Uint8Array ? T : T extends object ? { [K in keyof T]?: Partially<T[K]> } : T;
type Callback<Res> = (error: ServiceError | null, response?: Res) => void;

export interface UnaryMethod<Req, Res> {
  (request: Partially<Req>, callback: Callback<Res>): ClientUnaryCall;
  (request: Partially<Req>, metadata: Metadata, callback: Callback<Res>): ClientUnaryCall;
  (request: Partially<Req>, metadata: Metadata, options: CallOptions, callback: Callback<Res>): ClientUnaryCall;
}

export interface ServerStreamMethod<Req, Res> {
  (request: Partially<Req>, options?: CallOptions): ClientReadableStream<Res>;
  (request: Partially<Req>, metadata: Metadata, options?: CallOptions): ClientReadableStream<Res>;
}

export interface BidiMethod<Req, Res> {
  (options?: CallOptions): ClientDuplexStream<Partially<Req>, Res>;
  (metadata: Metadata, options?: CallOptions): ClientDuplexStream<Partially<Req>, Res>;
}

export interface NodeServiceClient extends Client {
  getNodeInfo: UnaryMethod<Empty, GetNodeInfoResponse>;
  listPeers: UnaryMethod<Empty, ListPeersResponse>;
  watchEvents: ServerStreamMethod<WatchEventsRequest, Event>;
  watchStatistics: ServerStreamMethod<WatchStatisticsRequest, Statistics>;
  getAnonymity: UnaryMethod<GetAnonymityRequest, GetAnonymityResponse>;
  reloadConfig: UnaryMethod<ReloadConfigRequest, ReloadConfigResponse>;
  shareEvidence: UnaryMethod<ShareEvidenceRequest, Cheat>;
  shutdown: UnaryMethod<ShutdownRequest, Empty>;
  crashActor: UnaryMethod<CrashActorRequest, CrashActorResponse>;
}

export interface StreamServiceClient extends Client {
  data: BidiMethod<DataRequest, DataResponse>;
  datagrams: BidiMethod<DatagramsRequest, DatagramsResponse>;
  listStreams: UnaryMethod<Empty, ListStreamsResponse>;
  getStream: UnaryMethod<GetStreamRequest, StreamInfo>;
  statStream: ServerStreamMethod<StatStreamRequest, StreamStatistics>;
  closeStream: UnaryMethod<CloseStreamRequest, Empty>;
  resolve: UnaryMethod<ResolveRequest, ResolveResponse>;
}

export interface PathServiceClient extends Client {
  listPaths: UnaryMethod<Empty, ListPathsResponse>;
  buildPath: UnaryMethod<BuildPathRequest, BuildPathResponse>;
  choosePaths: UnaryMethod<ChoosePathsRequest, ChoosePathsResponse>;
  getTopology: UnaryMethod<Empty, GetTopologyResponse>;
  closePath: UnaryMethod<ClosePathRequest, Empty>;
  listNodes: UnaryMethod<Empty, ListNodesResponse>;
}

export interface MessageServiceClient extends Client {
  createAddress: UnaryMethod<CreateAddressRequest, MessageAddress>;
  listAddresses: UnaryMethod<Empty, ListAddressesResponse>;
  deleteAddress: UnaryMethod<DeleteAddressRequest, DeleteAddressResponse>;
  sendMessage: ServerStreamMethod<SendMessageRequest, SendMessageResponse>;
  receiveMessages: ServerStreamMethod<Empty, ReceivedMessage>;
  acknowledgeMessages: UnaryMethod<AcknowledgeMessagesRequest, Empty>;
  createReplyBlock: UnaryMethod<CreateReplyBlockRequest, CreateReplyBlockResponse>;
}

export interface KeyServiceClient extends Client {
  listKeys: UnaryMethod<Empty, ListKeysResponse>;
  rotateEpochKeys: UnaryMethod<Empty, RotateEpochKeysResponse>;
}
