/** Paths, guards and the network as this client sees it, as messages of the API. */
import { judgeBias } from '@nyx/core/path/path-bias.ts';
import type { Edge, GetTopologyResponse, Guard, PathChoice, PathEntropy } from '@nyx/proto/types.ts';
import type { BuiltPath, GuardInfo } from '../actors/path-builder.ts';
import type { ApiHost } from './host.ts';
import { nodes, paths, view } from './views.ts';

type EntropyFigures = {
  readonly [K in keyof PathEntropy]: PathEntropy[K] extends number[] ? readonly number[] : number;
};

export const pathChoice = ({ hops, strategy, relaxed, entropy: figures }: BuiltPath): PathChoice => ({
  hops: hops.map(({ nodeId, reasons, candidates, share, countries, asns }) => ({
    nodeId,
    reasons: [...reasons],
    candidates,
    share,
    countries: [...countries],
    asns: [...asns],
  })),
  strategy,
  relaxed: [...relaxed],
  entropy: entropy(figures),
});

export const topology = (host: ApiHost): GetTopologyResponse => {
  const figures = host.paths.entropy();
  return {
    view: view(host),
    nodes: nodes(host),
    guards: host.paths.guardInfos().map(guard),
    edges: edges(host),
    ...(figures === undefined ? {} : { entropy: entropy(figures) }),
  };
};

const entropy = ({ positionBits, ...rest }: EntropyFigures): PathEntropy => ({
  ...rest,
  positionBits: [...positionBits],
});

const guard = (info: GuardInfo): Guard => ({
  nodeId: info.nodeId,
  primary: info.primary,
  sampledUnixSeconds: info.sampledAt,
  ...(info.confirmedAt === null ? {} : { confirmedUnixSeconds: Math.floor(info.confirmedAt) }),
  failures: info.failures,
  retryUnixSeconds: Math.floor(info.retryAt),
  ...info.bias,
  verdict: judgeBias(info.bias),
  dropped: info.droppedAt !== null,
});

/** One per pair of neighbours; what goes over a path goes over each of its edges. */
const edges = (host: ApiHost): Edge[] => {
  const byPair = new Map<string, Edge>();
  for (const { nodeIds, streams, bytesSent, bytesReceived } of paths(host)) {
    nodeIds.forEach((to, i) => {
      const from = i === 0 ? '' : nodeIds[i - 1]!;
      const edge = byPair.get(`${from}>${to}`) ?? { from, to, paths: 0, streams: 0, bytesSent: 0, bytesReceived: 0 };
      byPair.set(`${from}>${to}`, edge);
      edge.paths++;
      edge.streams += streams;
      edge.bytesSent += bytesSent;
      edge.bytesReceived += bytesReceived;
    });
  }
  return [...byPair.values()];
};
