/** The node's state as messages of the API. */

import { familyKeysOf } from '@nyx/core/directory/descriptor.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { fecPolicyText } from '@nyx/core/fec/policy.ts';
import type { FecStats } from '@nyx/core/fec/stats.ts';
import { anonymityReport, measuredMix } from '@nyx/core/mix/anonymity-report.ts';
import { batchRulesOf } from '@nyx/core/mix/batch-records.ts';
import type {
  Batches,
  Child,
  Configuration,
  ControlPlane,
  FecFigures,
  GetAnonymityResponse,
  GetNodeInfoResponse,
  Mixing,
  Node,
  Path,
  Peer,
  Process,
  SessionPath,
  Statistics,
  StreamInfo,
  Supervisor,
  Traffic,
  View,
  Voting,
} from '@nyx/proto/types.ts';
import { globalId } from '../actors/pump-pool.ts';
import { formatAddress } from '../config/address.ts';
import type { PumpStats } from '../pump/contract.ts';
import type { ChildSnapshot, SupervisorSnapshot } from '../supervision/supervise.ts';
import type { ApiHost } from './host.ts';
import { strategyNames } from './validate.ts';

export const nodeInfo = async (host: ApiHost): Promise<GetNodeInfoResponse> => {
  await host.measure();
  const { meter, context } = host;
  const plane = controlPlane(host);
  return {
    ...(plane === undefined ? {} : { controlPlane: plane }),
    version: host.version,
    pid: process.pid,
    nodeId: host.nodeId,
    roles: rolesOf(host),
    uptimeSeconds: (performance.now() - host.startedAtMs) / 1000,
    state: host.state(),
    peers: peers(host),
    streams: streams(host),
    paths: paths(host),
    relayCircuits: meter.sum((stats) => stats.relayCircuits),
    exitStreams: meter.sum((stats) => stats.exitStreams),
    exitSocketsOpened: meter.totals.exitSocketsOpened,
    traffic: traffic(host),
    process: processView(host),
    udpMode: host.pool.udpMode,
    supervision: supervisor(host.supervisor().snapshot()),
    addresses: host.addresses(),
    view: view(host),
    keysEncrypted: host.encrypted,
    workers: context.config.workers,
    defaultHops: context.config.path.hops,
    mixing: mixing(host),
    cmix: batches(host),
    ...cover(host),
    configuration: configuration(host),
    ...(host.messages === undefined ? {} : { messages: host.messages.figures }),
    ...(host.mailboxes === undefined ? {} : { mailboxes: host.mailboxes.figures }),
  };
};

const configuration = (host: ApiHost): Configuration => {
  const { generation, appliedUnixMs, last, lastError, needRestart } = host.reloader.state;
  return {
    generation,
    appliedUnixMs,
    ...(last === undefined ? {} : { lastOutcome: last.outcome, lastReloadUnixMs: last.atUnixMs }),
    ...(lastError === undefined ? {} : { lastError }),
    needRestart: [...needRestart],
    workerGenerations: host.meter.latest.map(({ stats }) => stats.generation),
  };
};

export const statistics = (host: ApiHost, details: boolean): Statistics => ({
  pathList: details ? paths(host) : [],
  streamList: details ? streams(host) : [],
  timeUnixMs: host.context.unixMs(),
  traffic: traffic(host),
  process: processView(host),
  links: host.meter.sum((stats) => stats.links.length),
  clientCircuits: host.meter.sum((stats) => stats.clientCircuits.length),
  relayCircuits: host.meter.sum((stats) => stats.relayCircuits),
  streams: host.meter.sum((stats) => stats.streams.length),
  exitStreams: host.meter.sum((stats) => stats.exitStreams),
});

export const peers = (host: ApiHost): Peer[] => {
  const nowUnixMs = host.context.unixMs();
  return host.meter.latest.flatMap(({ worker, stats }) =>
    stats.links.map((link) => {
      const linkId = globalId(worker, link.link);
      return {
        linkId,
        ...(link.nodeId === undefined ? {} : { nodeId: link.nodeId }),
        initiator: link.initiator,
        address: host.addressOfLink(linkId),
        ...(link.rttMs === undefined ? {} : { rttMs: link.rttMs }),
        ...(link.lossRatio === undefined ? {} : { lossRatio: link.lossRatio }),
        bytesIn: link.bytesIn,
        bytesOut: link.bytesOut,
        upSeconds: Math.max(0, nowUnixMs - link.upSinceUnixMs) / 1000,
        state: link.state,
      };
    }),
  );
};

export const controlPlane = (host: ApiHost): ControlPlane | undefined => {
  const state = host.controlPlane?.state();
  if (state === undefined) return undefined;
  const nowUnixMs = host.context.unixMs();
  const { counters, peers: connected, ...rest } = state;
  return {
    ...rest,
    ...counters,
    addresses: [...state.addresses],
    refusals: Object.fromEntries(Object.entries(counters.refusals).filter(([, count]) => count > 0)),
    peers: connected.map(({ nodeId, rttMs, isAuthority, connectedAtUnixMs, protocols, ...peer }) => ({
      ...peer,
      ...(nodeId === undefined ? {} : { nodeId }),
      ...(rttMs === undefined ? {} : { rttMs }),
      authority: isAuthority,
      connectedSeconds: Math.max(0, nowUnixMs - connectedAtUnixMs) / 1000,
      protocols: [...protocols],
    })),
  };
};

export const streams = (host: ApiHost): StreamInfo[] =>
  host.meter.latest.flatMap(({ worker, stats }) =>
    stats.streams.map((stream) => ({
      streamId: stream.id,
      target: stream.target,
      source: stream.source,
      ...(stream.circuit === undefined ? {} : { pathId: globalId(worker, stream.circuit) }),
      nodeIds: [...stream.path],
      openedAtUnixMs: stream.openedAtUnixMs,
      bytesSent: stream.bytesSent,
      bytesReceived: stream.bytesReceived,
      state: stream.state,
      bytesAcknowledged: stream.bytesAcknowledged,
      bytesRetransmitted: stream.bytesRetransmitted,
    })),
  );

const classNames = { fast: 'PATH_CLASS_FAST', mix: 'PATH_CLASS_MIX', cmix: 'PATH_CLASS_CMIX' } as const;

export const paths = (host: ApiHost): Path[] =>
  host.meter.latest.flatMap(({ worker, stats }) =>
    stats.clientCircuits.map((circuit) => ({
      pathId: globalId(worker, circuit.circuit),
      nodeIds: [...circuit.path],
      state: circuit.state,
      ...(circuit.setupMs === undefined ? {} : { setupMs: circuit.setupMs }),
      ...(circuit.rttMs === undefined ? {} : { rttMs: circuit.rttMs }),
      streams: circuit.streams,
      bytesSent: circuit.bytesSent,
      bytesReceived: circuit.bytesReceived,
      deliveryRateBytesPerSecond: circuit.deliveryRateBytesPerSecond,
      lossRatio: circuit.lossRatio,
      ageSeconds: circuit.ageMs / 1000,
      pathClass: classNames[circuit.class],
      expectedAddedLatencyMs: circuit.addedLatencyMs,
      spuriousRatio: circuit.spuriousRatio,
      wantedPaths: circuit.wantedPaths,
      strategy: strategyNames[circuit.strategy],
      ...(circuit.fec === undefined ? {} : { fec: fecView(circuit.fec) }),
      reorderedBytes: circuit.reorderedBytes,
      ...(circuit.reorderLimitBytes === undefined ? {} : { reorderLimitBytes: Math.round(circuit.reorderLimitBytes) }),
      circuits: circuit.paths.map((path) => sessionPath(worker, path)),
    })),
  );

const fecView = ({ policy, codecs, ratio, ...counts }: FecStats): FecFigures => ({
  policy: fecPolicyText(policy),
  codecs: [...codecs],
  ratio,
  sourcesSent: counts.sourcesSent,
  repairsSent: counts.repairsSent,
  recoveredByPeer: counts.recoveredByPeer,
  repairsReceived: counts.repairsReceived,
  repairsUsed: counts.repairsUsed,
  repairsWasted: counts.repairsUnneeded + counts.repairsWasted,
  repairsRejected: counts.repairsRejected,
  packetsRecovered: counts.packetsRecovered,
  decodeFailures: counts.decodeFailures,
  overBudget: counts.blocksSkipped + counts.overBudget,
});

const sessionPath = (
  worker: number,
  {
    circuit,
    path,
    ageMs,
    setupMs,
    rttMs,
    minRttMs,
    jitterMs,
    ...figures
  }: PumpStats['clientCircuits'][number]['paths'][number],
): SessionPath => ({
  ...figures,
  circuitId: globalId(worker, circuit),
  nodeIds: [...path],
  ageSeconds: ageMs / 1000,
  ...(setupMs === undefined ? {} : { setupMs }),
  ...(rttMs === undefined ? {} : { rttMs }),
  ...(minRttMs === undefined ? {} : { minRttMs }),
  ...(jitterMs === undefined ? {} : { jitterMs }),
});

export const view = (host: ApiHost): View => {
  const held = host.directory.view;
  const signers = new Set(held?.signers);
  const base = {
    threshold: host.directory.threshold,
    authorities: host.directory.authorities.map((key) => ({ key, signed: signers.has(key) })),
    alarms: host.directory.evidence.map((alarm) => ({ ...alarm })),
    forkNeeds: Math.max(0, 2 * host.directory.threshold - host.directory.authorities.length),
    refused: Object.fromEntries(host.directory.client.refused),
    viewsAccepted: host.directory.client.accepted,
    deltasAccepted: host.directory.client.deltasAccepted,
    deltasRefused: host.directory.client.deltasRefused,
    ...(host.directory.voting === undefined ? {} : { voting: voting(host.directory.voting) }),
  };
  if (held === undefined) {
    const none = { nodes: 0, mixes: 0, exits: 0, validUntilUnixSeconds: 0, freshUntilUnixSeconds: 0, signatures: 0 };
    return { ...base, ...none, digest: '', params: {} };
  }
  const { nodes, view: signed, epoch } = held.verified;
  return {
    ...base,
    epoch,
    nodes: nodes.length,
    mixes: nodes.filter((node) => node.roles.mix).length,
    exits: nodes.filter((node) => node.roles.exit).length,
    ageSeconds: Math.max(0, host.context.unixMs() / 1000 - signed.validAfter),
    validUntilUnixSeconds: signed.validUntil,
    freshUntilUnixSeconds: signed.freshUntil,
    params: { ...signed.params },
    digest: held.digest,
    signatures: held.signatures,
  };
};

const voting = ({ size, reachable, measured, counters }: NonNullable<ApiHost['directory']['voting']>): Voting => ({
  nodes: size,
  reachable,
  measured,
  ...counters,
  descriptorsRefused: { ...counters.descriptorsRefused },
});

export const nodes = (host: ApiHost): Node[] => {
  const guards = new Set(host.paths.guards);
  const verified = host.directory.view?.verified;
  return (verified?.nodes ?? []).map((node, i) => {
    const nodeId = Buffer.from(node.nodeId).toString('hex');
    const status = verified!.statuses[i]!;
    return {
      nodeId,
      roles: [
        ...(node.roles.mix ? ['mix'] : []),
        ...(node.roles.exit ? ['exit'] : []),
        ...(node.roles.mailbox ? ['mailbox'] : []),
      ],
      addresses: node.addresses.map(({ address, port }) => formatAddress({ host: address, port })),
      family: node.family.join(' '),
      families: familyKeysOf(node),
      bandwidthBytesPerSecond: node.bandwidthBytesPerSecond,
      exitPolicy: [...node.exitPolicy],
      guard: guards.has(nodeId),
      self: nodeId === host.nodeId,
      ...measured(host, nodeId),
      flags: Object.entries(NodeFlag).flatMap(([name, flag]) => (status.flags & flag ? [name] : [])),
      viewBandwidthBytesPerSecond: status.bandwidthBytesPerSecond,
      firstEpoch: status.firstEpoch,
      compliance: node.compliance,
      ...(node.contact === undefined ? {} : { contact: node.contact }),
    };
  });
};

const cover = ({ meter, context }: ApiHost): Pick<GetNodeInfoResponse, 'cover' | 'coverRatio'> => {
  const { mode } = context.config.cover;
  const { coverOut, coverIn, coverDropOut, datagramsOut } = meter.totals;
  const sent = coverOut + coverDropOut;
  const coverRatio = sent === 0 ? {} : { coverRatio: sent / Math.max(1, datagramsOut) };
  if (mode === 'off') return coverRatio;
  const loops = meter.latest.find(({ stats }) => stats.loops !== undefined)?.stats.loops;
  return {
    ...coverRatio,
    cover: {
      mode,
      links: meter.sum((stats) => stats.cover.links),
      cellsPerSecond: meter.sum((stats) => stats.cover.cellsPerSecond),
      linkCellsSent: coverOut,
      linkCellsReceived: coverIn,
      dropCellsSent: coverDropOut,
      queuedCells: meter.sum((stats) => stats.cover.queued),
      overflowedCells: meter.sum((stats) => stats.cover.overflowed),
      constantBack: meter.sum((stats) => stats.cover.granted),
      constantServed: meter.sum((stats) => stats.cover.served),
      ...(loops === undefined ? {} : { loops: { ...loops, alarm: loops.alarm ?? '' } }),
    },
  };
};

const mixing = ({ meter }: ApiHost): Mixing => {
  const { mixReleased, mixWaitedMs } = meter.totals;
  const measured = measuredMix(meter.mixWindows);
  return {
    waitingCells: meter.sum((stats) => stats.mixWaiting),
    releasedCells: mixReleased,
    ...(mixReleased === 0 ? {} : { meanDelayMs: mixWaitedMs / mixReleased }),
    ...(measured === undefined ? {} : { cellsPerSecond: measured.cellsPerSecond, bits: measured.bits }),
  };
};

const batches = ({ meter, cheats }: ApiHost): Batches => {
  const sum = (value: (stats: PumpStats['cmix']) => number) => meter.sum(({ cmix }) => value(cmix));
  const smallest = meter.latest.flatMap(({ stats }) => stats.cmix.smallestRecent ?? []);
  const delayMs = meter.latest.flatMap(({ stats }) => stats.cmixDelayMs ?? []);
  return {
    waitingCells: sum(({ waiting }) => waiting),
    batches: sum((stats) => stats.batches),
    cells: sum(({ cells }) => cells),
    ...(smallest.length === 0 ? {} : { smallestRecent: Math.min(...smallest) }),
    ...(delayMs.length === 0 ? {} : { delayMs: Math.max(...delayMs) }),
    proved: sum(({ proved }) => proved),
    lost: sum(({ lost }) => lost),
    withheld: sum(({ withheld }) => withheld),
    unproved: sum(({ unproved }) => unproved),
    missed: sum(({ missed }) => missed),
    exchanged: sum(({ exchanged }) => exchanged),
    audited: sum(({ audited }) => audited),
    unanswered: sum(({ unanswered }) => unanswered),
    exchangers: [...cheats.exchangers],
    refused: sum(({ refused }) => refused),
    cheats: cheats.all.map((cheat) => ({ ...cheat })),
  };
};

export const anonymity = async (
  host: ApiHost,
  assumedCellsPerSecond: number | undefined,
): Promise<GetAnonymityResponse> => {
  await host.measure();
  const { meter, context, paths } = host;
  const { roles, cover, mix } = context.config;
  const isRelay = roles.includes('mix') || roles.includes('exit');
  const figures = anonymityReport({
    relay: isRelay
      ? {
          windows: meter.mixWindows,
          constantLinks: meter.sum((stats) => stats.cover.served),
          grantsConstant: cover.grantCellsPerSecond > 0,
          smallestBatch: batches(host).smallestRecent,
        }
      : undefined,
    client: roles.includes('client')
      ? {
          mixHops: mix.hops,
          mixDelayMs: mix.delayMs,
          exitBits: paths.entropy()?.positionBits.at(-1),
          constant:
            cover.mode === 'constant'
              ? {
                  links: meter.sum((stats) => stats.cover.links - stats.cover.served),
                  bothWays: meter.sum((stats) => stats.cover.granted),
                }
              : undefined,
        }
      : undefined,
    assumedCellsPerSecond,
    batchCells: batchRulesOf(host.directory.view?.verified.view.params ?? {}).cells,
  });
  const loops = meter.latest.find(({ stats }) => stats.loops !== undefined)?.stats.loops;
  return {
    figures: figures.map(({ class: pathClass, bits, ...figure }) => ({
      ...figure,
      pathClass,
      ...(bits === undefined ? {} : { bits }),
    })),
    alarm: loops?.alarm ?? '',
  };
};

/** What the view and this client know of a node beyond its descriptor. */
const measured = (host: ApiHost, nodeId: string) => {
  const { weight, countries, asns } = host.paths.originOf(nodeId);
  const { linkMs, latencyMs, successes, failures } = host.paths.measuresOf(nodeId);
  return {
    weight,
    countries: [...countries],
    asns: [...asns],
    ...(linkMs === undefined ? {} : { linkRttMs: linkMs }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
    setupSuccesses: successes,
    setupFailures: failures,
  };
};

export const traffic = ({ meter }: ApiHost): Traffic => {
  const { totals, rates } = meter;
  return {
    datagramsIn: totals.datagramsIn,
    datagramsOut: totals.datagramsOut,
    bytesIn: meter.bytesIn,
    bytesOut: meter.bytesOut,
    windowSeconds: rates.windowSeconds,
    bytesInPerSecond: rates.bytesInPerSecond,
    bytesOutPerSecond: rates.bytesOutPerSecond,
    cellsForward: totals.cellsForward,
    cellsBackward: totals.cellsBackward,
    cellsDelivered: totals.cellsDelivered,
    cellsOriginated: totals.cellsOriginated,
    setups: totals.setups,
    drops: Object.fromEntries(Object.entries(totals.drops).filter(([, count]) => count > 0)),
    bufferedBytes: meter.sum((stats) => stats.bufferedBytes),
    shed: totals.shedTotal,
  };
};

const processView = ({ meter }: ApiHost): Process => {
  const { rss, heapUsed } = process.memoryUsage();
  const cpu = process.cpuUsage();
  return {
    rssBytes: rss,
    heapUsedBytes: heapUsed,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    cpuRatio: meter.rates.cpuRatio,
    workerCpuSeconds: meter.latest.map(({ stats }) => stats.cpuSeconds),
  };
};

export const rolesOf = (host: ApiHost): string[] => [
  ...host.context.config.roles,
  ...(host.isAuthority ? ['authority'] : []),
];

const supervisor = (snapshot: SupervisorSnapshot): Supervisor => ({
  id: snapshot.id,
  strategy: snapshot.strategy,
  children: snapshot.children.map(child),
});

const child = (snapshot: ChildSnapshot): Child => ({
  id: snapshot.id,
  restart: snapshot.restart,
  status: snapshot.status,
  restarts: snapshot.restarts,
  ...(snapshot.lastError === undefined ? {} : { lastError: snapshot.lastError }),
  ...(snapshot.lastCrashUnixMs === undefined ? {} : { lastCrashUnixMs: snapshot.lastCrashUnixMs }),
  uptimeSeconds: snapshot.uptimeMs / 1000,
  inboxLength: snapshot.inboxLength,
  inboxLimit: snapshot.inboxLimit,
  inboxDropped: snapshot.inboxDropped,
  ...(snapshot.machineState === undefined ? {} : { machineState: snapshot.machineState }),
  ...(snapshot.supervisor === undefined ? {} : { supervisor: supervisor(snapshot.supervisor) }),
});
