/** Floods UDP ports from a thread of its own, as fast as one thread can: rubbish of all kinds, and what was captured. */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';

export interface FloodData {
  readonly ports: readonly number[];
  /** Datagrams that passed on the wire before. */
  readonly captured: readonly Uint8Array[];
}

const DATAGRAM_BYTES = 1280;
const BURST = 64;

if (parentPort !== null) {
  const { ports, captured } = workerData as FloodData;
  const port = parentPort;
  const sockets = await Promise.all(
    ports.map(
      (target) =>
        new Promise<ReturnType<typeof createSocket>>((resolve) => {
          const socket = createSocket({ type: 'udp4', sendBufferSize: 4 << 20 });
          socket.on('error', () => {}); // a full queue is a part of a flood
          socket.connect(target, '127.0.0.1', () => resolve(socket));
        }),
    ),
  );
  const rubbish = Array.from({ length: 64 }, (_, i) => {
    // Random; as a handshake (link id 0); too short; not a whole one behind whole ones.
    const size = i % 8 === 5 ? 1 + i * 19 : i % 8 === 6 ? DATAGRAM_BYTES + 1 + i : i % 8 === 7 ? 9000 : DATAGRAM_BYTES;
    const datagram = randomBytes(size);
    if (i % 4 === 1) datagram.fill(0, 0, Math.min(4, size));
    return datagram;
  });
  let sent = 0;
  let stopped = false;
  port.on('message', () => {
    stopped = true;
  });
  const burst = () => {
    if (stopped) {
      for (const socket of sockets) socket.close();
      port.postMessage(sent);
      port.close();
      return;
    }
    for (let i = 0; i < BURST; i++) {
      const from = sent % 2 === 0 || captured.length === 0 ? rubbish : captured;
      const datagram = from[(sent >> 1) % from.length]!;
      // Half of it changed somewhere, so that nothing is merely repeated.
      if (from === rubbish) datagram[sent % datagram.length]! ^= 1 + (sent & 127);
      for (const socket of sockets) if (socket.getSendQueueSize() < 1 << 20) socket.send(datagram);
      sent++;
    }
    setImmediate(burst);
  };
  burst();
}
