/**
 * A control API for the SDK's tests that knows no network: every stream goes straight to a local TCP server. It holds
 * the client to the API's rules: a byte beyond the credit granted, or a message too large, ends the call. Real daemons
 * are the subject of test/e2e/sdk.test.ts.
 */
import { createSocket } from 'node:dgram';
import { rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { Metadata, Server, ServerCredentials, type ServerDuplexStream, status } from '@grpc/grpc-js';
import { encodeStatusDetails, STATUS_DETAILS_KEY } from '@nyx/proto/errors.ts';
import { loadApi } from '@nyx/proto/load.ts';
import type { DatagramsRequest, DatagramsResponse, DataRequest, DataResponse, Event } from '@nyx/proto/types.ts';

export const SERVER_WINDOW_BYTES = 256 * 1024;

export interface TestDaemon {
  /** Most bytes that were under way to the client beyond what it granted: must stay 0. */
  readonly violations: string[];
  /** Largest number of bytes a client had not yet taken, over all streams. */
  emit(event: Partial<Event>): void;
  /** Resets received, by code. */
  readonly resets: string[];
  /** Deadlines of those that came, by the datagram's text; `resume` lets a stalled association go on. */
  readonly datagrams: { readonly deadlines: [string, number | undefined][]; resume: () => void };
  stop(): Promise<void>;
}

type DatagramsCall = ServerDuplexStream<DatagramsRequest, Partial<DatagramsResponse>>;
type Call = ServerDuplexStream<DataRequest, Partial<DataResponse>>;

/** `dialable` maps host names to local ports; other hosts fail with HOST_UNREACHABLE, port 1 with CONNECTION_REFUSED. */
export async function startTestDaemon(socketPath: string, pid = process.pid): Promise<TestDaemon> {
  const violations: string[] = [];
  const resets: string[] = [];
  const watchers = new Set<{ write(event: Partial<Event>): boolean; end(): void }>();
  const api = loadApi();
  const server = new Server();
  const datagrams: TestDaemon['datagrams'] = { deadlines: [], resume: () => {} };
  let streams = 0;
  const data = (call: Call) => {
    streams += 1;
    serveStream(call, streams, violations, resets);
  };
  const unimplemented = (_call: unknown, callback: (error: object) => void) => callback({ code: status.UNIMPLEMENTED });
  server.addService(api.StreamService.service, {
    Data: data,
    Datagrams: (call: DatagramsCall) => serveDatagrams(call, datagrams, violations),
    ListStreams: unimplemented,
    GetStream: unimplemented,
    CloseStream: unimplemented,
    Resolve: unimplemented,
  });
  server.addService(api.NodeService.service, {
    GetNodeInfo: (_call: unknown, callback: (error: null, answer: object) => void) =>
      callback(null, { pid, state: 'ready' }),
    WatchEvents: (call: {
      write(event: Partial<Event>): boolean;
      end(): void;
      on(name: string, act: () => void): void;
    }) => {
      watchers.add(call);
      call.on('cancelled', () => watchers.delete(call));
    },
    ListPeers: unimplemented,
    WatchStatistics: unimplemented,
    Shutdown: unimplemented,
    ReloadConfig: unimplemented,
    CrashActor: unimplemented,
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  return {
    violations,
    resets,
    datagrams,
    emit: (event) => {
      for (const watcher of watchers) watcher.write(event);
    },
    stop: async () => {
      server.forceShutdown();
      rmSync(socketPath, { force: true });
    },
  };
}

export function failure(code: status, reason: string, message: string): object {
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS_KEY, encodeStatusDetails(code, message, reason, { hop: '2' }, []));
  return { code, details: message, metadata };
}

function serveStream(call: Call, streamId: number, violations: string[], resets: string[]): void {
  let target: Socket | undefined;
  let granted = SERVER_WINDOW_BYTES;
  let clientCredit = 0;
  const sendUp = () => {
    while (target && clientCredit > 0) {
      const chunk = target.read(Math.min(clientCredit, 65_536, target.readableLength || 65_536)) as Buffer | null;
      if (chunk === null) return;
      clientCredit -= chunk.length;
      call.write({ data: chunk });
    }
  };
  const open = (request: NonNullable<DataRequest['open']>) => {
    clientCredit = request.initialCreditBytes;
    if (request.host !== 'local') {
      call.emit('error', failure(status.UNAVAILABLE, 'HOST_UNREACHABLE', 'no such host'));
      return;
    }
    const expectedAddedLatencyMs = request.options?.pathClass === 'PATH_CLASS_MIX' ? 100 : 0;
    call.write({ opened: { streamId, initialCreditBytes: SERVER_WINDOW_BYTES, expectedAddedLatencyMs } });
    target = connect({ host: '127.0.0.1', port: request.port, allowHalfOpen: true });
    target.on('connect', () =>
      call.write({ connected: { address: '192.0.2.1', port: 4242, pathId: 7, nodeIds: ['aa', 'bb', 'cc'] } }),
    );
    target.on('readable', sendUp);
    target.on('end', () => call.write({ end: {} }));
    target.on('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'ECONNREFUSED' ? 'CONNECTION_REFUSED' : 'RESET';
      call.emit('error', failure(status.UNAVAILABLE, reason, error.message));
    });
  };
  call.on('data', (message: DataRequest) => {
    if (message.open) open(message.open);
    else if (message.request === 'data' && message.data) {
      granted -= message.data.length;
      if (granted < 0) violations.push('data beyond the credit');
      if (message.data.length > 65_536) violations.push(`a message of ${message.data.length} bytes`);
      const size = message.data.length;
      target?.write(message.data, () => {
        granted += size;
        call.write({ creditBytes: size });
      });
    } else if (message.request === 'creditBytes') {
      clientCredit += message.creditBytes ?? 0;
      sendUp();
    } else if (message.end) target?.end();
    else if (message.reset) {
      resets.push(message.reset.code ?? '');
      target?.destroy();
    }
  });
  call.on('end', () => {
    target?.destroySoon();
    call.end();
  });
  call.on('cancelled', () => target?.destroy());
}

const MAX_BYTES = 1087;

/**
 * Isolation `refuse`: there is no path. `stall`: reads nothing until `resume`. Datagrams to `local` go to 127.0.0.1; one to
 * `flood` brings as many as its port says, from 192.0.2.9 and ports from 1 on.
 */
function serveDatagrams(call: DatagramsCall, known: TestDaemon['datagrams'], violations: string[]): void {
  const socket = createSocket('udp4');
  let sent = 0;
  const close = () => {
    call.off('data', onRequest);
    socket.close();
  };
  const onRequest = ({ open, datagram, count }: DatagramsRequest) => {
    if (open) {
      if (open.options?.isolation === 'refuse') {
        call.emit('error', failure(status.UNAVAILABLE, 'NO_PATH', 'no path'));
        return;
      }
      if (open.options?.isolation === 'stall') {
        known.resume = () => call.resume();
        call.pause();
      }
      known.deadlines.push(['open', open.deadlineMs]);
      const path = { pathId: 7, nodeIds: ['aa', 'bb', 'cc'], expectedAddedLatencyMs: 0 };
      call.write({ opened: { address: '192.0.2.1', port: 4242, ...path, maxBytes: MAX_BYTES } });
    } else if (datagram) {
      const { host, port, data, deadlineMs } = datagram;
      sent++;
      known.deadlines.push([String(data), deadlineMs]);
      if (host.length + data.length > MAX_BYTES) violations.push(`${data.length} bytes to ${host}`);
      if (host === 'local') socket.send(data, port, '127.0.0.1');
      for (let i = 1; host === 'flood' && i <= port; i++) {
        call.write({ datagram: { host: '192.0.2.9', port: i, data: Buffer.from(`${i}`) } });
      }
    } else if (count) {
      const none = { expiredSending: 1, droppedSending: 2, expiredReceiving: 3, droppedReceiving: 4 };
      const atExit = { exitArrived: 5, exitExpired: 6, exitDropped: 7, exitAnswersDropped: 8 };
      call.write({ counts: { sent, received: 999, ...none, ...atExit } });
    }
  };
  socket.on('message', (data, { address, port }) => call.write({ datagram: { host: address, port, data } }));
  call.on('data', onRequest);
  call.once('end', () => call.end());
  call.once('cancelled', close);
}
