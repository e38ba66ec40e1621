/**
 * What a reload does with each key of the configuration (docs/operating.md has the same by name). A key of the schema without
 * an entry here does not compile, and fails the test besides.
 */
import type { Config } from './schema.ts';

export const ReloadClass = {
  /** In force as soon as the reload is accepted; what was begun before goes on as it began. */
  live: 'live',
  /** As `live`, and the node's descriptor says it: a new one is published at once. */
  republished: 'republished',
  /** In force after a restart. A reload that changes it is refused, or leaves it as it was. */
  restart: 'restart',
} as const;
export type ReloadClass = (typeof ReloadClass)[keyof typeof ReloadClass];

type Leaf = string | number | boolean | readonly unknown[] | { readonly host: string; readonly port: number };
/** Key paths of everything that is no section. */
type LeafOf<T> = {
  [K in keyof T & string]-?: NonNullable<T[K]> extends Leaf ? K : `${K}.${LeafOf<NonNullable<T[K]>>}`;
}[keyof T & string];
export type ConfigKey = LeafOf<Config>;

const { live, republished, restart } = ReloadClass;

export const reloadClasses: Readonly<Record<ConfigKey, ReloadClass>> = {
  dataDir: restart,
  roles: restart,
  listen: restart,
  announce: republished,
  addressFamilies: restart,
  family: republished,
  familyKeyFiles: republished,
  contact: republished,
  region: republished,
  bandwidthBytesPerSecond: republished,
  epochSeconds: restart,
  udp: restart,
  workers: restart,
  'proxies.socks': restart,
  'proxies.httpConnect': restart,
  'proxies.allowRemote': restart,
  'path.hops': live,
  'path.allowSameSubnet': live,
  'path.allowPrivateTargets': live,
  'path.guards': live,
  'path.spareCircuits': live,
  'path.strategy': live,
  'path.latencyBias': live,
  'path.diversity.as': live,
  'path.diversity.country': live,
  // The tables are opened once.
  'path.diversity.tables': restart,
  'mix.hops': live,
  'mix.delayMs': live,
  // Batches are the affair of a thread that is calibrated for them, and of a key that lives as long as it.
  'cmix.enabled': restart,
  'cmix.maxWaitMs': restart,
  'cmix.hops': live,
  'multipath.paths': live,
  'multipath.strategy': live,
  'fec.policy': live,
  'fec.cpuShare': live,
  // The other ends of the links there are go by the mode, the constant rate and the pace of keep-alives that they were told.
  'cover.mode': restart,
  'cover.constantCellsPerSecond': restart,
  'cover.lowPower': restart,
  'cover.ratio': live,
  'cover.baseCellsPerSecond': live,
  'cover.dropCellsPerSecond': live,
  'cover.loopsPerMinute': live,
  'cover.budgetBytesPerHour': live,
  'cover.grantCellsPerSecond': live,
  'messages.packetsPerSecond': live,
  'messages.cover': live,
  'messages.hops': live,
  'messages.inboxBytes': live,
  'mailbox.maxMailboxes': live,
  'mailbox.packetsPerMailbox': live,
  'mailbox.memoryBytes': live,
  'mailbox.holdSeconds': live,
  'exit.policy': republished,
  'exit.allowPrivate': live,
  'exit.maxStreamsPerCircuit': live,
  'exit.connectTimeoutMs': live,
  'exit.idleTimeoutMs': live,
  'exit.halfClosedTimeoutMs': live,
  'exit.dnsServers': live,
  // Whom to believe is nothing to change under way: what was believed so far stays in memory and on disk.
  'directory.authorities.threshold': restart,
  'directory.authorities.liars': restart,
  'directory.authorities.keys': restart,
  'directory.sources': republished,
  'directory.listen': restart,
  'directory.refreshSeconds': live,
  'p2p.enabled': restart,
  'p2p.listen': restart,
  'p2p.announce': restart,
  'p2p.bootstrap': restart,
  'p2p.mdns': restart,
  'p2p.allowPrivate': restart,
  'p2p.limits.maxConnections': restart,
  'p2p.limits.maxPerSubnet': restart,
  'p2p.limits.inboundPerSecond': restart,
  'p2p.limits.maxStoredPeers': restart,
  'p2p.limits.maxRecords': restart,
  // Authorities agree on these beforehand; a round of voting that is under way goes by those that it began with.
  'authority.keyFile': restart,
  'authority.minNodes': restart,
  'authority.peers': restart,
  'authority.phaseMs': restart,
  'authority.measure.bytesPerNode': restart,
  'authority.measure.bytesPerEpoch': restart,
  'authority.params.maxPerSubnet': restart,
  'authority.params.maxPerFamily': restart,
  'authority.params.rampEpochs': restart,
  'authority.params.maxDeclaredBandwidth': restart,
  'authority.params.puzzleBits': restart,
  'authority.params.puzzleMemoryKib': restart,
  'authority.params.puzzlePasses': restart,
  'authority.params.cmixCells': restart,
  'authority.params.cmixDelayMs': restart,
  'keys.passphraseFile': restart,
  'keys.passphraseEnv': restart,
  'api.socket': restart,
  'api.listen': restart,
  'api.tls.certFile': restart,
  'api.tls.keyFile': restart,
  'api.tls.clientCaFile': restart,
  'api.tokenFile': restart,
  'metrics.listen': restart,
  'limits.maxLinks': live,
  'limits.maxCircuits': live,
  'limits.maxSessions': live,
  'limits.messagesPerSecond': live,
  // Delay queues are laid out by it.
  'limits.memoryBytes': restart,
  'limits.maxApiStreams': live,
  'log.level': live,
  'shutdown.drainTimeoutMs': restart,
  'debug.allowCrash': restart,
};

/** The class of a key that `config` gives another value. */
export const reloadClassOf = (key: ConfigKey, config: Config): ReloadClass =>
  // In constant mode the budget is a bound of the rate, which the other ends were told.
  key === 'cover.budgetBytesPerHour' && config.cover.mode === 'constant' ? restart : reloadClasses[key];
