/** For tests of the exit only: two real sessions whose payloads reach each other within the process. */
import type { TestContext } from 'node:test';
import type { SessionApi, SessionOptions } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import type { Exit } from '../exit.ts';

export interface SessionPair {
  readonly client: SessionApi;
  readonly server: SessionApi;
  /** Set by the test. */
  onDatagram: (flowId: number, data: Uint8Array) => void;
}

/** A client session on `circuit` of the exit. */
export function connectToExit(
  test: TestContext,
  exit: Exit,
  circuit: number,
  options: Partial<SessionOptions> = {},
): SessionPair {
  const payload = new Uint8Array(PAYLOAD_BYTES);
  const numbers = [0, 0];
  let scheduled = false;
  let timer: NodeJS.Timeout | undefined;
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(pump);
  };
  const pump = () => {
    scheduled = false;
    const nowMs = performance.now();
    const [client, server] = ends;
    client.handleTimeout(nowMs);
    server.handleTimeout(nowMs);
    // A bounded batch a turn, as a pump takes from its socket.
    let moved = 0;
    for (let i = 0; i < 256; i++) {
      const before = moved;
      if (client.pollPayload(payload, ++numbers[0]!, nowMs))
        moved += 1 + server.handlePayload(numbers[0]!, payload, nowMs);
      if (server.pollPayload(payload, ++numbers[1]!, nowMs))
        moved += 1 + client.handlePayload(numbers[1]!, payload, nowMs);
      if (moved === before) break;
    }
    if (moved > 0) schedule();
    clearTimeout(timer);
    const next = Math.min(client.nextTimeoutMs(), server.nextTimeoutMs());
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
  const ends = [client, server] as const;
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
