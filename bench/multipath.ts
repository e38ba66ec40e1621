/**
 * CPU that sessions themselves take over 1, 2, 4 and 8 paths, both ends in one process, without crypto and sockets: ms
 * for each delivered MB of a bulk stream, by scheduler. Prints JSON.
 */
import { Scheduler } from '@nyx/core/stream/path-choice.ts';
import { Session } from '@nyx/core/stream/session.ts';
import type { PathHost, SessionPath } from '@nyx/core/stream/session-path.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { ATTACH_BYTES } from '@nyx/core/wire/frames.ts';

const BATCH = 32;
/** One way. */
const TICK_MS = 1;
const totalBytes = Number(process.argv[2] ?? 200_000_000);

interface Ends {
  readonly near: SessionPath;
  readonly far: SessionPath;
  nearNumber: number;
  farNumber: number;
  /** On their way for one tick. */
  readonly there: Uint8Array[];
  readonly back: Uint8Array[];
  sent: number;
  replied: number;
}

const buffers = () => Array.from({ length: BATCH }, () => new Uint8Array(PAYLOAD_BYTES));

function ends(near: SessionPath, far: SessionPath): Ends {
  return { near, far, nearNumber: 0, farNumber: 0, there: buffers(), back: buffers(), sent: 0, replied: 0 };
}

const quiet: PathHost = { onCryptoMessage: () => {}, onWantSend: () => {} };

function measure(count: number, scheduler: Scheduler) {
  let received = 0;
  let now = 0;
  const into = new Uint8Array(262_144);
  const client = new Session({ role: 'client', scheduler }, { ...quiet, onClose: () => {} }, 0);
  const server = new Session(
    { role: 'server' },
    {
      ...quiet,
      onClose: () => {},
      onStream: (stream) => {
        stream.onReadable = () => {
          for (let n = stream.read(into); n > 0; n = stream.read(into)) received += n;
        };
      },
    },
    0,
  );
  server.firstPath.sendCryptoMessage(2, new Uint8Array(1120));
  const paths = [ends(client.firstPath, server.firstPath)];
  for (let i = 1; i < count; i++) {
    const newcomer = new Session(
      { role: 'server' },
      {
        ...quiet,
        onClose: () => {},
        onAttach: (path) => {
          server.adopt(path);
          return true;
        },
      },
      0,
    );
    const near = client.addPath(quiet, new Uint8Array(ATTACH_BYTES), [i, i], 0, 0);
    paths.push(ends(near, newcomer.firstPath));
  }
  const stream = client.openStream({ kind: 'tcp', host: 'bench', port: 1 })!;
  const chunk = new Uint8Array(65_536).fill(7);
  let written = 0;
  const fill = () => {
    while (written < totalBytes) {
      const n = stream.write(chunk);
      written += n;
      if (n < chunk.length) return;
    }
  };
  stream.onWritable = fill;
  fill();
  const arrive = (path: Ends) => {
    const { near, far, there, back, sent, replied } = path;
    for (let i = 0; i < sent; i++) far.handlePayload(path.nearNumber - sent + i, there[i]!, now);
    for (let i = 0; i < replied; i++) near.handlePayload(path.farNumber - replied + i, back[i]!, now);
  };
  const leave = (path: Ends) => {
    const { near, far, there, back } = path;
    if (near.nextTimeoutMs() <= now) near.handleTimeout(now);
    if (far.nextTimeoutMs() <= now) far.handleTimeout(now);
    path.sent = 0;
    path.replied = 0;
    while (path.sent < BATCH && near.pollPayload(there[path.sent]!, path.nearNumber, now)) {
      path.nearNumber++;
      path.sent++;
    }
    while (path.replied < BATCH && far.pollPayload(back[path.replied]!, path.farNumber, now)) {
      path.farNumber++;
      path.replied++;
    }
  };
  const started = process.cpuUsage();
  const before = received;
  // Virtual time: what is slow here is the work, and it is what is measured.
  while (stream.stats.bytesAcked < totalBytes - 65_536) {
    now += TICK_MS;
    if (now > 3_600_000) throw new Error(`${count} paths, ${scheduler}: ${received} bytes only`);
    for (const path of paths) arrive(path);
    for (const path of paths) leave(path);
  }
  const { user, system } = process.cpuUsage(started);
  return {
    paths: count,
    scheduler,
    cpuMsPerMegabyte: Math.round(((user + system) / 1000 / ((received - before) / 1e6)) * 1000) / 1000,
    payloads: paths.reduce((sum, { nearNumber }) => sum + nearNumber, 0),
    share: paths.map(({ nearNumber }) => Math.round((100 * nearNumber * PAYLOAD_BYTES) / totalBytes) / 100),
  };
}

measure(1, Scheduler.latencyWeighted); // the compiler's
const results = [];
for (const scheduler of [Scheduler.latencyWeighted, Scheduler.loadBalance, Scheduler.redundant]) {
  for (const count of [1, 2, 4, 8]) results.push(measure(count, scheduler));
}
console.log(JSON.stringify({ benchmark: 'multipath', totalBytes, results }));
