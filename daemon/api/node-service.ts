/** nyx.api.v1.NodeService */
import { status } from '@grpc/grpc-js';
import type {
  Cheat,
  CrashActorRequest,
  CrashActorResponse,
  Empty,
  Event,
  GetAnonymityRequest,
  GetAnonymityResponse,
  GetNodeInfoResponse,
  ListPeersResponse,
  ReloadConfigRequest,
  ReloadConfigResponse,
  ShareEvidenceRequest,
  ShutdownRequest,
  Statistics,
  WatchEventsRequest,
  WatchStatisticsRequest,
} from '@nyx/proto/types.ts';
import { EventKind, type NodeEvent } from '../actors/event-bus.ts';
import { ApiError, notFound } from './errors.ts';
import { pause, serverStream, unary } from './handlers.ts';
import type { ApiHost } from './host.ts';
import { Validator } from './validate.ts';
import { anonymity, controlPlane, nodeInfo, peers, statistics } from './views.ts';

const DEFAULT_INTERVAL_MS = 1000;
/** More than any relay passes. */
const MAX_ASSUMED_CELLS = 1e7;
/** Events that wait for a slow reader. */
const MAX_QUEUED_EVENTS = 1000;

export const nodeService = (host: ApiHost) => ({
  GetNodeInfo: unary<Empty, GetNodeInfoResponse>(() => nodeInfo(host)),

  ListPeers: unary<Empty, ListPeersResponse>(async () => {
    await host.measure();
    const plane = controlPlane(host);
    return { peers: peers(host), ...(plane === undefined ? {} : { controlPlane: plane }) };
  }),

  WatchEvents: serverStream<WatchEventsRequest, Event>((request, send, signal) => {
    const known = Object.values(EventKind) as string[];
    const validator = new Validator();
    request.kinds.forEach((kind, index) => {
      if (!known.includes(kind)) {
        validator.fail(`kinds[${index}]`, `is "${kind.slice(0, 50)}"; must be one of ${known.join(', ')}`);
      }
    });
    validator.check();
    const queue: NodeEvent[] = [];
    let lost = 0;
    let writing = false;
    const drain = async () => {
      writing = true;
      while (queue.length > 0 && !signal.aborted) {
        const event = queue.shift()!;
        const message = { ...event, attributes: { ...event.attributes }, lost };
        lost = 0;
        await send(message);
      }
      writing = false;
    };
    return new Promise<void>((resolve, reject) => {
      const unsubscribe = host.context.events.subscribe((event) => {
        if (request.kinds.length > 0 && !request.kinds.includes(event.kind)) return;
        if (queue.length >= MAX_QUEUED_EVENTS) {
          queue.shift();
          lost++;
        }
        queue.push(event);
        if (!writing) drain().catch(reject);
      });
      signal.addEventListener('abort', () => {
        unsubscribe();
        resolve();
      });
    });
  }),

  WatchStatistics: serverStream<WatchStatisticsRequest, Statistics>(async (request, send, signal) => {
    const validator = new Validator();
    if (request.intervalMs !== 0) validator.integer('interval_ms', request.intervalMs, 100, 60_000);
    validator.check();
    const intervalMs = request.intervalMs === 0 ? DEFAULT_INTERVAL_MS : request.intervalMs;
    while (!signal.aborted) {
      await host.measure();
      await send(statistics(host, request.details));
      await pause(intervalMs, signal);
    }
  }),

  GetAnonymity: unary<GetAnonymityRequest, GetAnonymityResponse>((request) => {
    const assumed = request.assumedCellsPerSecond;
    const validator = new Validator();
    if (assumed !== undefined && !(assumed >= 0 && assumed <= MAX_ASSUMED_CELLS)) {
      validator.fail('assumed_cells_per_second', `is ${assumed}; must be 0…${MAX_ASSUMED_CELLS}`);
    }
    validator.check();
    return anonymity(host, assumed);
  }),

  ReloadConfig: unary<ReloadConfigRequest, ReloadConfigResponse>(async ({ partial }) => {
    const { outcome, generation, changed, needRestart, issues, workers } = await host.reloader.reload(partial);
    return {
      outcome,
      generation,
      file: host.reloader.path,
      changed: [...changed],
      needRestart: [...needRestart],
      issues: issues.map(({ line, column, path, message }) => ({ line, column, key: path, message })),
      workersConfirmed: workers.confirmed,
      workersPending: workers.pending,
    };
  }),

  ShareEvidence: unary<ShareEvidenceRequest, Cheat>(({ evidence }) => {
    const shown = host.cheats.read(evidence);
    const validator = new Validator();
    if (shown === undefined) validator.fail('evidence', 'shows nothing: it is not evidence, or was changed');
    validator.check();
    const known = host.cheats.keep(shown!, evidence, host.context.unixMs());
    host.pool.send({ type: 'share-evidence', evidence });
    return known === undefined ? { ...shown!, file: '', foundUnixMs: host.context.unixMs() } : { ...known };
  }),

  Shutdown: unary<ShutdownRequest, Empty>((request) => {
    const validator = new Validator();
    if (request.drainTimeoutMs !== undefined) validator.integer('drain_timeout_ms', request.drainTimeoutMs, 0, 600_000);
    validator.check();
    // After the answer is out.
    setTimeout(() => host.shutdown(request.drainTimeoutMs), 50);
    return {};
  }),

  CrashActor: unary<CrashActorRequest, CrashActorResponse>((request) => {
    if (!host.context.config.debug.allowCrash) {
      throw new ApiError(
        status.PERMISSION_DENIED,
        'CRASH_NOT_ALLOWED',
        'crashing actors is not allowed here; set debug.allowCrash: true in the configuration of a test network',
      );
    }
    const supervisor = host.supervisor();
    const validator = new Validator();
    if (request.actor === '' || request.actor.length > 200) {
      validator.fail('actor', `is "${request.actor.slice(0, 50)}"; must be the path of a child, e.g. pumps/pump-0`);
    }
    validator.check();
    const restartsBefore = supervisor.crash(request.actor, 'crashed on request');
    if (restartsBefore === undefined) throw notFound('running actor', request.actor);
    return { restartsBefore };
  }),
});
