/** From what pumps report to actors, events and logs. */

import type { CheatStore } from '../directory/cheat-store.ts';
import type { PumpClient } from '../pump/pump-client.ts';
import type { NodeContext } from './context.ts';
import { globalId, workerOf } from './pump-pool.ts';
import type { LifecycleRegistry } from './registry.ts';

export interface PumpEventsParts {
  readonly context: NodeContext;
  readonly links: LifecycleRegistry;
  readonly circuits: LifecycleRegistry;
  readonly sessions: LifecycleRegistry;
  readonly streams: LifecycleRegistry;
  /** To the path builder's inbox. */
  readonly toPaths: (message: unknown) => void;
  readonly cheats: CheatStore;
}

export class PumpEvents {
  readonly #parts: PumpEventsParts;
  /** Peer's address by global link id. */
  readonly #addresses = new Map<number, string>();

  constructor(parts: PumpEventsParts) {
    this.#parts = parts;
  }

  attach(worker: number, pump: PumpClient): void {
    const { context, links, circuits, sessions, streams, toPaths } = this.#parts;
    const { events, log } = context;
    pump.on('log', ({ level, message, fields }) => log(level, message, { worker, ...fields }));
    pump.on('link', (event) => {
      const link = globalId(worker, event.link);
      links.handle(link, event.kind);
      if (event.kind === 'closed') this.#addresses.delete(link);
      else this.#addresses.set(link, event.address);
      const { initiator, nodeId, address, rttMs, reason } = event;
      if (event.kind === 'up' && initiator) toPaths({ type: 'link', link, nodeId });
      else if (event.kind === 'closed' && initiator) toPaths({ type: 'link', link, nodeId: undefined });
      events.publish('link', event.kind, link, { initiator: String(initiator), nodeId, address, rttMs, reason });
    });
    pump.on('circuit', (event) => {
      const circuit = globalId(worker, event.circuit);
      circuits.handle(circuit, event.kind === 'ended' ? 'closed' : event.kind);
      const { path, setupMs, reason, hop } = event;
      events.publish('circuit', event.kind, circuit, { path: path.join(','), setupMs, reason, hop });
      toPaths({ type: 'circuit', worker, event });
    });
    pump.on('path', ({ kind, session, circuit, path, paths, reason }) => {
      const facts = { circuit: globalId(worker, circuit), path: path.join(','), paths, reason };
      events.publish('path', kind, globalId(worker, session), facts);
    });
    pump.on('session', ({ kind, session, reason }) => {
      const id = globalId(worker, session);
      sessions.handle(id, kind);
      events.publish('session', kind, id, { reason });
    });
    pump.on('stream', ({ kind, stream, reason }) => {
      streams.handle(stream.id, kind);
      const circuit = stream.circuit === undefined ? undefined : globalId(worker, stream.circuit);
      const { source, bytesSent, bytesReceived } = stream;
      if (kind === 'connected' && circuit !== undefined) toPaths({ type: 'carried', circuit });
      events.publish('stream', kind, stream.id, { source, circuit, bytesSent, bytesReceived, reason });
    });
    pump.on('cover', ({ kind, alarm, loops }) => {
      const { sent, lost, lossRatio, meanRttMs } = loops;
      const facts = { reason: alarm, lossRatio, meanRttMs, loops: sent, lost };
      if (kind === 'alarm') log('warn', 'loops are dropped or held back', facts);
      else log('info', 'loops come back as they should again', facts);
      events.publish('cover', kind, worker, facts);
    });
    pump.on('cheat', ({ nodeId, kind, batch, evidence, found }) => {
      const known = this.#parts.cheats.keep({ nodeId, kind, batch }, evidence, context.unixMs());
      if (known === undefined) return;
      const facts = { nodeId, reason: kind, batch, evidence: known.file, found: String(found) };
      log('error', 'a mix of class cmix cheated', facts);
      events.publish('cmix', 'cheat', nodeId, facts);
    });
    pump.on('suspect', ({ nodeId, counts }) => {
      log('warn', 'a mix of class cmix does not prove what became of cells', { nodeId, ...counts });
      events.publish('cmix', 'suspect', nodeId, { nodeId, ...counts });
    });
    pump.on('exchanged', ({ nodeId }) => {
      if (!this.#parts.cheats.exclude(nodeId)) return;
      log('error', 'a mix of class cmix exchanged a cell of ours', { nodeId });
      events.publish('cmix', 'exchanged', nodeId, { nodeId });
    });
    pump.on('path-request', ({ request, constraints }) =>
      toPaths({ type: 'path-request', worker, request, constraints }),
    );
  }

  addressOfLink(link: number): string {
    return this.#addresses.get(link) ?? '';
  }

  workerLost(worker: number): void {
    const { links, circuits, sessions, streams } = this.#parts;
    for (const registry of [links, circuits, sessions, streams]) registry.workerLost(worker);
    for (const link of this.#addresses.keys()) if (workerOf(link) === worker) this.#addresses.delete(link);
    this.#parts.toPaths({ type: 'worker-lost', worker });
  }
}
