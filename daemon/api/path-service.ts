/** nyx.api.v1.PathService */

import type { PathStrategy } from '@nyx/core/path/constraints.ts';
import type {
  BuildPathRequest,
  BuildPathResponse,
  ChoosePathsRequest,
  ChoosePathsResponse,
  ClosePathRequest,
  Empty,
  GetTopologyResponse,
  ListNodesResponse,
  ListPathsResponse,
} from '@nyx/proto/types.ts';
import type { BuiltPath, PathWishes } from '../actors/path-builder.ts';
import { globalId, handleOf, workerOf } from '../actors/pump-pool.ts';
import type { Config } from '../config/load.ts';
import type { PathConstraints } from '../pump/contract.ts';
import { notFound } from './errors.ts';
import { unary } from './handlers.ts';
import type { ApiHost } from './host.ts';
import { pathChoice, topology } from './path-views.ts';
import { Validator } from './validate.ts';
import { nodes, paths, view } from './views.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_CHOSEN_PATHS = 8;
const MAX_FILTER_ENTRIES = 256;

export const pathService = (host: ApiHost) => ({
  ListPaths: unary<Empty, ListPathsResponse>(async () => {
    await host.measure();
    return { paths: paths(host) };
  }),

  BuildPath: unary<BuildPathRequest, BuildPathResponse>(async (request) => {
    const validator = new Validator();
    const { constraints, wishes } = checkBuild(validator, '', request, host.context.config);
    validator.check();
    const [chosen] = host.paths.build(constraints, wishes) as [BuiltPath];
    const hops = chosen.contacts;
    const { worker, pump } = host.pool.choose();
    const timeoutMs = request.timeoutMs === 0 ? DEFAULT_TIMEOUT_MS : request.timeoutMs;
    const built = await pump.build(constraints, hops, timeoutMs);
    return {
      pathId: globalId(worker, built.circuit),
      nodeIds: [...built.path],
      setupMs: built.setupMs,
      expectedAddedLatencyMs: built.addedLatencyMs,
      choice: pathChoice(chosen),
    };
  }),

  ChoosePaths: unary<ChoosePathsRequest, ChoosePathsResponse>(({ path, count }) => {
    const validator = new Validator();
    if (count !== 0) validator.integer('count', count, 1, MAX_CHOSEN_PATHS);
    const { constraints, wishes } = checkBuild(validator, 'path.', path ?? emptyRequest, host.context.config);
    validator.check();
    return { paths: host.paths.build(constraints, wishes, count === 0 ? 1 : count).map(pathChoice) };
  }),

  GetTopology: unary<Empty, GetTopologyResponse>(async () => {
    await host.measure();
    return topology(host);
  }),

  ClosePath: unary<ClosePathRequest, Empty>(async ({ pathId }) => {
    const validator = new Validator();
    validator.id('path_id', pathId);
    validator.check();
    await host.measure();
    if (!paths(host).some((path) => path.pathId === pathId)) throw notFound('path', pathId);
    host.pool.get(workerOf(pathId))?.closeCircuit(handleOf(pathId));
    return {};
  }),

  ListNodes: unary<Empty, ListNodesResponse>(() => ({ view: view(host), nodes: nodes(host) })),
});

/** What a request without `path` asks for: all defaults. */
const emptyRequest: BuildPathRequest = {
  hops: 0,
  pathClass: 'PATH_CLASS_UNSPECIFIED',
  nodeIds: [],
  timeoutMs: 0,
  strategy: 'PATH_STRATEGY_UNSPECIFIED',
};

const strategies: Readonly<Record<string, PathStrategy>> = {
  PATH_STRATEGY_UNIFORM: 'uniform',
  PATH_STRATEGY_BANDWIDTH: 'bandwidth',
  PATH_STRATEGY_LATENCY: 'latency',
  PATH_STRATEGY_SERVICE: 'service',
};

interface CheckedRequest {
  readonly constraints: PathConstraints;
  readonly wishes: PathWishes;
}

/** Says to `validator` what is wrong; `at` stands before the names of fields. */
const checkBuild = (validator: Validator, at: string, request: BuildPathRequest, config: Config): CheckedRequest => {
  const { nodeIds, exitTarget } = request;
  validator.hops(`${at}hops`, request.hops);
  const pathClass = validator.pathClass(`${at}path_class`, request.pathClass) ?? 'fast';
  const defaultHops = pathClass === 'mix' ? config.mix.hops : config.path.hops;
  if (nodeIds.length > 0) {
    validator.nodeIds(`${at}node_ids`, nodeIds);
    if (nodeIds.length < 3 || nodeIds.length > 7) {
      validator.fail(`${at}node_ids`, `has ${nodeIds.length} entries; must have 3…7, or none for a chosen path`);
    }
    if (request.hops !== 0 && request.hops !== nodeIds.length) {
      validator.fail(
        `${at}hops`,
        `is ${request.hops}, but node_ids has ${nodeIds.length} entries; leave one of them out`,
      );
    }
  }
  if (exitTarget != null) {
    validator.host(`${at}exit_target.host`, exitTarget.host);
    validator.port(`${at}exit_target.port`, exitTarget.port);
  }
  validator.timeoutMs(`${at}timeout_ms`, request.timeoutMs);
  return {
    constraints: {
      hops: nodeIds.length > 0 ? nodeIds.length : request.hops === 0 ? defaultHops : request.hops,
      class: pathClass,
      needExit: exitTarget == null ? undefined : { host: exitTarget.host, port: exitTarget.port },
      ...(nodeIds.length === 0 ? {} : { nodeIds }),
    },
    wishes: checkWishes(validator, at, request),
  };
};

const checkWishes = (validator: Validator, at: string, request: BuildPathRequest): PathWishes => {
  const strategy = strategies[request.strategy];
  if (strategy === undefined && request.strategy !== 'PATH_STRATEGY_UNSPECIFIED') {
    validator.fail(
      `${at}strategy`,
      `is ${request.strategy}; must be PATH_STRATEGY_UNIFORM, BANDWIDTH, LATENCY or SERVICE`,
    );
  }
  const { latencyBias, filter } = request;
  if (latencyBias !== undefined && !(latencyBias >= 0 && latencyBias <= 1)) {
    validator.fail(`${at}latency_bias`, `is ${latencyBias}; must be 0…1`);
  }
  const list = (name: string, values: readonly string[] | undefined, pattern: RegExp, meaning: string) => {
    const given = values ?? [];
    if (given.length > MAX_FILTER_ENTRIES) {
      validator.fail(`${at}filter.${name}`, `has ${given.length} entries; must have at most ${MAX_FILTER_ENTRIES}`);
    }
    given.slice(0, MAX_FILTER_ENTRIES).forEach((value, i) => {
      if (!pattern.test(value)) {
        validator.fail(`${at}filter.${name}[${i}]`, `is "${value.slice(0, 70)}"; must be ${meaning}`);
      }
    });
    return given;
  };
  const country = [/^[A-Z]{2}$/, 'a country code of two capital letters'] as const;
  const family = [/^[\x21-\x7e]{1,64}$/, '1 to 64 printable characters'] as const;
  const node = [/^[0-9a-f]{64}$/, '64 lower-case hex digits'] as const;
  return {
    ...(strategy === undefined ? {} : { strategy }),
    ...(latencyBias === undefined ? {} : { latencyBias }),
    excludeCountries: list('exclude_countries', filter?.excludeCountries, ...country),
    includeCountries: list('include_countries', filter?.includeCountries, ...country),
    excludeFamilies: list('exclude_families', filter?.excludeFamilies, ...family),
    includeFamilies: list('include_families', filter?.includeFamilies, ...family),
    excludeNodes: list('exclude_nodes', filter?.excludeNodes, ...node),
    includeNodes: list('include_nodes', filter?.includeNodes, ...node),
  };
};
