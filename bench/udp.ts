/**
 * Datagrams per second over loopback in both modes of daemon/io/udp.ts, sender and receiver on threads of their own,
 * batches of 51. Prints one JSON object. `node bench/udp.ts [seconds per mode]`
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { openUdp, type UdpMode } from '@nyx/daemon/io/udp.ts';

export interface UdpBench {
  readonly mode: UdpMode;
  readonly sentPerSecond: number;
  /** What arrived: the figure that counts. */
  readonly receivedPerSecond: number;
  readonly gbitPerSecond: number;
}

/** One mode for `durationMs`. Rejects where the platform lacks the mode. */
export async function benchUdp(mode: UdpMode, durationMs: number): Promise<UdpBench> {
  const receiver = new Worker(new URL(import.meta.url), { workerData: { mode } });
  const address = await once<{ address: string; port: number }>(receiver);
  const ignore = () => undefined;
  const socket = await openUdp({
    host: '127.0.0.1',
    port: 0,
    mode,
    reusePort: false,
    onDatagrams: ignore,
    onError: (error) => {
      throw error;
    },
  });
  const batch = new Uint8Array(BATCH_DATAGRAMS * DATAGRAM_BYTES);
  const beganMs = performance.now();
  while (performance.now() - beganMs < durationMs) {
    for (let i = 0; i < 4; i++) socket.send(address, batch, batch.length, ignore);
    await new Promise(setImmediate); // callbacks run, and the queue is bounded by what the kernel takes
  }
  const seconds = (performance.now() - beganMs) / 1000;
  const sent = socket.counters.datagramsSent;
  receiver.postMessage('stop');
  const received = await once<number>(receiver);
  await socket.close();
  await receiver.terminate();
  return {
    mode,
    sentPerSecond: Math.round(sent / seconds),
    receivedPerSecond: Math.round(received / seconds),
    gbitPerSecond: Number(((received * DATAGRAM_BYTES * 8) / seconds / 1e9).toFixed(2)),
  };
}

function once<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function receive(): Promise<void> {
  const socket = await openUdp({
    host: '127.0.0.1',
    port: 0,
    mode: (workerData as { mode: UdpMode }).mode,
    reusePort: false,
    onDatagrams: () => undefined,
    onError: (error) => {
      throw error;
    },
  });
  parentPort!.once('message', () => {
    parentPort!.postMessage(Math.floor(socket.counters.bytesReceived / DATAGRAM_BYTES));
    void socket.close();
  });
  parentPort!.postMessage(socket.address);
}

if (!isMainThread && (workerData as { mode?: string } | null)?.mode !== undefined) await receive();
else if (import.meta.main) {
  const durationMs = Number(process.argv[2] ?? 2) * 1000;
  const plain = await benchUdp('plain', durationMs);
  const gso = await benchUdp('gso', durationMs);
  console.log(
    JSON.stringify({ plain, gso, ratio: Number((gso.receivedPerSecond / plain.receivedPerSecond).toFixed(1)) }),
  );
}
