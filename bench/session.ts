/**
 * Session work per payload in one process, without crypto and sockets: µs to send (pollPayload and the ACKs it takes
 * in) and to receive (handlePayload, read, and the ACKs it sends) one payload of a bulk stream. Prints JSON.
 */
import { Session } from '@nyx/core/stream/session.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';

const BATCH = 48;
const totalBytes = Number(process.argv[2] ?? 1_000_000_000);

const host = { onCryptoMessage: () => {}, onWantSend: () => {}, onClose: () => {} };
const client = new Session({ role: 'client' }, host, 0);
let receivedBytes = 0;
const into = new Uint8Array(262_144);
const server = new Session(
  { role: 'server' },
  {
    ...host,
    onStream: (stream) => {
      stream.onReadable = () => {
        if (stream.readableBytes < 32_768 && !stream.readEnded) return;
        for (let n = stream.read(into); n > 0; n = stream.read(into)) receivedBytes += n;
      };
    },
  },
  0,
);
server.firstPath.sendCryptoMessage(2, new Uint8Array(1120));

const stream = client.openStream({ kind: 'tcp', host: 'bench', port: 1 })!;
const chunk = new Uint8Array(65_536).fill(7);
let writtenBytes = 0;
function fill(): void {
  while (writtenBytes < totalBytes) {
    const n = stream.write(chunk);
    writtenBytes += n;
    if (n < chunk.length) return;
  }
}
stream.onWritable = fill;

const payloads = Array.from({ length: BATCH }, () => new Uint8Array(PAYLOAD_BYTES));
const reply = new Uint8Array(PAYLOAD_BYTES);
const numbers = { client: 0, server: 0 };
const spent = { send: 0, receive: 0 };
let payloadsSent = 0;
const started = performance.now();
let mark = started;
fill();
while (performance.now() - started < 60_000) {
  let now = performance.now();
  if (client.firstPath.nextTimeoutMs() <= now) client.firstPath.handleTimeout(now);
  let count = 0;
  while (count < BATCH && client.firstPath.pollPayload(payloads[count]!, numbers.client, now)) {
    numbers.client++;
    count++;
  }
  payloadsSent += count;
  mark = performance.now();
  spent.send += mark - now;
  now = mark;
  if (server.firstPath.nextTimeoutMs() <= now) server.firstPath.handleTimeout(now);
  for (let i = 0; i < count; i++) server.firstPath.handlePayload(numbers.client - count + i, payloads[i]!, now);
  const replied = server.firstPath.pollPayload(reply, numbers.server, now);
  mark = performance.now();
  spent.receive += mark - now;
  if (replied) {
    now = mark;
    client.firstPath.handlePayload(numbers.server++, reply, now);
    spent.send += performance.now() - now;
  }
  if (stream.stats.bytesAcked >= totalBytes - 65_536) break;
}
const seconds = (performance.now() - started) / 1000;
console.log(
  JSON.stringify({
    benchmark: 'session',
    payloads: payloadsSent,
    receivedBytes,
    ackPayloads: numbers.server,
    sendUsPerPayload: round((spent.send * 1000) / payloadsSent),
    receiveUsPerPayload: round((spent.receive * 1000) / payloadsSent),
    payloadsPerSecond: Math.round(payloadsSent / seconds),
    megabitsPerSecond: Math.round((receivedBytes * 8) / seconds / 1e6),
    packetsLost: client.stats.packetsLost,
    heapMebibytes: round(process.memoryUsage().heapUsed / 2 ** 20),
  }),
);

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
