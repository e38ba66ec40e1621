/** For tests of the exit only: two real sessions whose payloads reach each other within the process. */
import type { TestContext } from 'node:test';
import type { SessionOptions } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import type { Exit } from '../exit.ts';

export interface SessionPair {
  readonly client: Session;
  readonly server: Session;
  /** Set by the test. */
  onDatagram: (flowId: number, data: Uint8Array) => void;
}

interface Way {
  readonly from: Session;
  readonly to: Session;
  next: number;
  travelling: { readonly number: number; readonly payload: Uint8Array }[];
}

/** A client session on `circuit` of the exit. */
export function connectToExit(
  test: TestContext,
  exit: Exit,
  circuit: number,
  options: Partial<SessionOptions> = {},
): SessionPair {
  let scheduled = false;
  let timer: NodeJS.Timeout | undefined;
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(pump);
  };
  /** A turn of the event loop brings what the turn before sent: a round trip takes time, as the sessions expect. */
  const pump = () => {
    scheduled = false;
    let moved = 0;
    for (const way of ways) {
      const { from, to, travelling } = way;
      way.travelling = [];
      for (const { number, payload } of travelling) to.firstPath.handlePayload(number, payload, performance.now());
      from.firstPath.handleTimeout(performance.now());
      for (let i = 0; i < 256; i++) {
        const payload = new Uint8Array(PAYLOAD_BYTES);
        if (!from.firstPath.pollPayload(payload, way.next, performance.now())) break;
        way.travelling.push({ number: way.next++, payload });
      }
      moved += way.travelling.length;
    }
    if (moved > 0) schedule();
    clearTimeout(timer);
    const next = Math.min(client.firstPath.nextTimeoutMs(), server.firstPath.nextTimeoutMs());
    if (next < Number.POSITIVE_INFINITY) timer = setTimeout(pump, Math.max(0, next - performance.now()));
  };
  const owner = { current: {} as ReturnType<Exit['serve']> };
  const pair = { onDatagram: (_flowId: number, _data: Uint8Array) => {} };
  const client = new Session(
    { ...options, role: 'client' },
    {
      onCryptoMessage() {},
      onWantSend: schedule,
      onClose() {},
      onDatagram: (flowId, data) => pair.onDatagram(flowId, data),
    },
    performance.now(),
  );
  const server = new Session(
    { ...options, role: 'server' },
    {
      onCryptoMessage() {},
      onWantSend: schedule,
      onStream: (stream) => owner.current.onStream?.(stream),
      onResolve: (requestId, kind, value) => owner.current.onResolve?.(requestId, kind, value),
      onDatagram: (flowId, data) => owner.current.onDatagram?.(flowId, data),
      onClose: (code, reason, remote) => owner.current.onClose(code, reason, remote),
    },
    performance.now(),
  );
  const ways: Way[] = [
    { from: client, to: server, next: 0, travelling: [] },
    { from: server, to: client, next: 0, travelling: [] },
  ];
  owner.current = exit.serve(server, circuit);
  test.after(() => {
    clearTimeout(timer);
    client.abandon(0, 'test over');
    server.abandon(0, 'test over');
    clearTimeout(timer);
  });
  schedule();
  return Object.assign(pair, { client, server });
}
