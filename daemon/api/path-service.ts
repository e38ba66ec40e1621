/** nyx.api.v1.PathService */
import type {
  BuildPathRequest,
  BuildPathResponse,
  ClosePathRequest,
  Empty,
  ListNodesResponse,
  ListPathsResponse,
} from '@nyx/proto/types.ts';
import { globalId, handleOf, workerOf } from '../actors/pump-pool.ts';
import type { Config } from '../config/load.ts';
import type { PathConstraints } from '../pump/contract.ts';
import { notFound } from './errors.ts';
import { unary } from './handlers.ts';
import type { ApiHost } from './host.ts';
import { Validator } from './validate.ts';
import { nodes, paths, view } from './views.ts';

const DEFAULT_TIMEOUT_MS = 30_000;

export const pathService = (host: ApiHost) => ({
  ListPaths: unary<Empty, ListPathsResponse>(async () => {
    await host.measure();
    return { paths: paths(host) };
  }),

  BuildPath: unary<BuildPathRequest, BuildPathResponse>(async (request) => {
    const constraints = checkBuild(request, host.context.config);
    const hops = host.paths.select(constraints);
    const { worker, pump } = host.pool.choose();
    const timeoutMs = request.timeoutMs === 0 ? DEFAULT_TIMEOUT_MS : request.timeoutMs;
    const built = await pump.build(constraints, hops, timeoutMs);
    return {
      pathId: globalId(worker, built.circuit),
      nodeIds: [...built.path],
      setupMs: built.setupMs,
      expectedAddedLatencyMs: built.addedLatencyMs,
    };
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

const checkBuild = (request: BuildPathRequest, config: Config): PathConstraints => {
  const validator = new Validator();
  const { nodeIds, exitTarget } = request;
  validator.hops('hops', request.hops);
  const pathClass = validator.pathClass('path_class', request.pathClass) ?? 'fast';
  const defaultHops = pathClass === 'mix' ? config.mix.hops : config.path.hops;
  if (nodeIds.length > 0) {
    validator.nodeIds('node_ids', nodeIds);
    if (nodeIds.length < 3 || nodeIds.length > 7) {
      validator.fail('node_ids', `has ${nodeIds.length} entries; must have 3…7, or none for a chosen path`);
    }
    if (request.hops !== 0 && request.hops !== nodeIds.length) {
      validator.fail('hops', `is ${request.hops}, but node_ids has ${nodeIds.length} entries; leave one of them out`);
    }
  }
  if (exitTarget != null) {
    validator.host('exit_target.host', exitTarget.host);
    validator.port('exit_target.port', exitTarget.port);
  }
  validator.timeoutMs('timeout_ms', request.timeoutMs);
  validator.check();
  return {
    hops: nodeIds.length > 0 ? nodeIds.length : request.hops === 0 ? defaultHops : request.hops,
    class: pathClass,
    needExit: exitTarget == null ? undefined : { host: exitTarget.host, port: exitTarget.port },
    ...(nodeIds.length === 0 ? {} : { nodeIds }),
  };
};
