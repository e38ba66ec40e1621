/** Every default of the configuration, in one place. Documented in docs/operating.md. */
import { defaultViewParams, ViewParam } from '@nyx/core/directory/params.ts';

export const defaults = {
  dataDir: 'nyx-data',
  roles: ['client'],
  epochSeconds: 3600,
  bandwidthBytesPerSecond: 12_500_000,
  udp: 'auto',
  workers: 1,
  proxies: { socks: '127.0.0.1:9150', httpConnect: '127.0.0.1:9151', allowRemote: false },
  path: {
    hops: 3,
    allowSameSubnet: false,
    allowPrivateTargets: false,
    guards: 3,
    spareCircuits: 2,
    strategy: 'bandwidth',
    latencyBias: 0.5,
    diversity: { as: 'prefer', country: 'prefer', tables: true },
  },
  /** Class mix: hops, and how long each of them holds a packet on average. */
  mix: { hops: 5, delayMs: 20 },
  /** Class cmix: relays mix by batches, full or of what came in the time; hops of our own circuits. What a batch is says the view. */
  cmix: { enabled: true, maxWaitMs: 200, hops: 3 },
  /** Circuits under a session when the application does not say, and how it is spread over them. */
  multipath: { paths: 1, strategy: 'latency_weighted' },
  /** Messages of this client. */
  messages: { packetsPerSecond: 4, cover: 'active', hops: 5, inboxBytes: 16_777_216 },
  /** Mailboxes that a node with this role keeps. */
  mailbox: { maxMailboxes: 4096, packetsPerMailbox: 512, memoryBytes: 67_108_864, holdSeconds: 86_400 },
  /** Error correction of own streams when the application does not say; a share of a core for all coding. */
  fec: { policy: 'adaptive', cpuShare: 0.1 },
  cover: {
    mode: 'off',
    ratio: 0.4,
    baseCellsPerSecond: 0.5,
    constantCellsPerSecond: 20,
    dropCellsPerSecond: 0.1,
    loopsPerMinute: 6,
    budgetBytesPerHour: 0,
    lowPower: false,
    grantCellsPerSecond: 2000,
  },
  exit: {
    /** Closed to what is abused most; the rest of the Internet is reachable. Private ranges are refused by allowPrivate. */
    policy: ['reject *:25', 'reject *:465', 'reject *:587', 'accept *:*'],
    allowPrivate: false,
    maxStreamsPerCircuit: 256,
    connectTimeoutMs: 15_000,
    idleTimeoutMs: 300_000,
    halfClosedTimeoutMs: 120_000,
  },
  /** Authorities that may lie without any two views of one epoch being signed. */
  directory: { authorities: { liars: 0 }, refreshSeconds: 60 },
  p2p: {
    enabled: false,
    mdns: false,
    allowPrivate: false,
    limits: { maxConnections: 256, maxPerSubnet: 32, inboundPerSecond: 5, maxStoredPeers: 4096, maxRecords: 8192 },
  },
  /** The first view waits for so many nodes. */
  authority: {
    minNodes: 3,
    /** Traffic of bandwidth measurements. 256 nodes in an hour, all of 1500 in six. */
    measure: { bytesPerNode: 8_388_608, bytesPerEpoch: 2_147_483_648 },
    /** What this authority votes for; a majority decides. */
    params: {
      maxPerSubnet: defaultViewParams[ViewParam.maxPerSubnet],
      maxPerFamily: defaultViewParams[ViewParam.maxPerFamily],
      rampEpochs: defaultViewParams[ViewParam.rampEpochs],
      maxDeclaredBandwidth: defaultViewParams[ViewParam.maxDeclaredBandwidth],
      puzzleBits: defaultViewParams[ViewParam.puzzleBits],
      puzzleMemoryKib: defaultViewParams[ViewParam.puzzleMemoryKib],
      puzzlePasses: defaultViewParams[ViewParam.puzzlePasses],
      cmixCells: defaultViewParams[ViewParam.cmixCells],
      cmixDelayMs: defaultViewParams[ViewParam.cmixDelayMs],
    },
  },
  limits: {
    maxLinks: 4096,
    maxCircuits: 16_384,
    maxSessions: 1024,
    messagesPerSecond: 1000,
    /** Buffers of one worker. */
    memoryBytes: 268_435_456,
    maxApiStreams: 256,
  },
  log: { level: 'info' },
  shutdown: { drainTimeoutMs: 10_000 },
  debug: { allowCrash: false },
} as const;
