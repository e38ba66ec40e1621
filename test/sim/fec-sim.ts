/** Sessions with error correction over a lossy network in virtual time, and what an application sees of it. */
import type { SessionOptions, SessionStream } from '@nyx/core/stream/contract.ts';
import { Frame, FrameDecoder } from '@nyx/core/wire/frames.ts';
import { MultipathPair } from './multipath-sim.ts';
import { Bottleneck, fillPattern, firstMismatch, SessionPair } from './stream-sim.ts';

export interface FecCondition {
  readonly rttMs: number;
  readonly lossRatio: number;
  /** How long nothing gets through at a time, on average; 0 = each packet is lost on its own. */
  readonly burstMs: number;
  readonly seed: number;
  readonly fec: SessionOptions['fec'];
}

interface Delays {
  readonly p50Ms: number;
  /** Of all that were sent: what never came counts as for ever. */
  readonly p99Ms: number;
  readonly deliveredRatio: number;
  readonly repairsSent: number;
  readonly recovered: number;
}

const RATE_MBIT = 20;
/** Nothing is measured before losses have been. */
const WARM_UP_MS = 8000;
const MEASURED_MS = 40_000;
const GAP_MS = 20;

function connect(condition: FecCondition, onDatagram: (data: Uint8Array, nowMs: number) => void) {
  const { rttMs, lossRatio, burstMs, seed, fec } = condition;
  const way = () => ({
    delayMs: rttMs / 2,
    jitterMs: rttMs / 50,
    ...(burstMs > 0 ? { gilbert: { lossRatio, meanMs: burstMs } } : { lossRatio }),
    bottleneck: new Bottleneck(RATE_MBIT, Math.max(64, (RATE_MBIT * 1000 * rttMs) / 10_240)),
  });
  const pair = new SessionPair({
    seed,
    up: way(),
    down: way(),
    client: { fec },
    server: { fec },
    serverHost: {
      onStream: (stream) => serve(stream),
      onDatagram: (_flow, data) => onDatagram(data, pair.clock.nowMs),
    },
  });
  let serve: (stream: SessionStream) => void = () => {};
  return {
    pair,
    onStream: (served: (stream: SessionStream) => void) => {
      serve = served;
    },
  };
}

function summary(sentAt: readonly number[], arrivedAt: readonly (number | undefined)[], pair: SessionPair): Delays {
  const delays = sentAt
    .map((at, i) => (arrivedAt[i] ?? Number.POSITIVE_INFINITY) - at)
    .filter((_, i) => sentAt[i]! >= WARM_UP_MS)
    .sort((a, b) => a - b);
  const { fec } = pair.client.session.stats;
  return {
    p50Ms: delays[Math.floor(delays.length * 0.5)]!,
    p99Ms: delays[Math.floor(delays.length * 0.99)]!,
    deliveredRatio: delays.filter((delay) => delay < Number.POSITIVE_INFINITY).length / delays.length,
    repairsSent: fec?.repairsSent ?? 0,
    recovered: pair.server.session.stats.fec?.packetsRecovered ?? 0,
  };
}

/** One datagram of 200 bytes every 20 ms. */
export function measureDatagrams(condition: FecCondition): Delays {
  const sentAt: number[] = [];
  const arrivedAt: number[] = [];
  const { pair } = connect(condition, (data, nowMs) => {
    const index = new DataView(data.buffer, data.byteOffset).getUint32(0);
    if (arrivedAt[index] !== undefined) throw new Error(`datagram ${index} came twice`);
    arrivedAt[index] = nowMs;
  });
  const send = () => {
    const data = new Uint8Array(200);
    new DataView(data.buffer).setUint32(0, sentAt.length);
    sentAt.push(pair.clock.nowMs);
    pair.client.session.sendDatagram(1, data);
    if (pair.clock.nowMs < WARM_UP_MS + MEASURED_MS) pair.clock.at(pair.clock.nowMs + GAP_MS, send);
  };
  pair.clock.at(1000, send);
  pair.clock.run(WARM_UP_MS + MEASURED_MS + 5000, () => false);
  return summary(sentAt, arrivedAt, pair);
}

/** One message of 1000 … 4000 bytes on a stream every 20 ms or so; it has arrived when it can be read whole. */
export function measureMessages(condition: FecCondition): Delays {
  const sentAt: number[] = [];
  const ends: number[] = [];
  const arrivedAt: number[] = [];
  const { pair, onStream } = connect(condition, () => {});
  let read = 0;
  const into = new Uint8Array(65_536);
  onStream((stream) => {
    stream.onReadable = () => {
      for (let length = stream.read(into); length > 0; length = stream.read(into)) read += length;
      while (arrivedAt.length < ends.length && ends[arrivedAt.length]! <= read) arrivedAt.push(pair.clock.nowMs);
    };
  });
  const stream = pair.client.session.openStream({ kind: 'tcp', host: 'x', port: 1 })!;
  const send = () => {
    const length = pair.random.integer(1000, 4000);
    if (stream.write(new Uint8Array(length)) !== length) throw new Error('the send buffer is full');
    sentAt.push(pair.clock.nowMs);
    ends.push((ends.at(-1) ?? 0) + length);
    const nextMs = pair.clock.nowMs + GAP_MS * (0.5 + pair.random.next());
    if (nextMs < WARM_UP_MS + MEASURED_MS) pair.clock.at(nextMs, send);
  };
  pair.clock.at(1000, send);
  pair.clock.run(WARM_UP_MS + MEASURED_MS + 10_000, () => false);
  if (pair.client.closes.length > 0) throw new Error(pair.client.closes[0]!.reason);
  return summary(sentAt, arrivedAt, pair);
}

/** A transfer that fills the path. */
export function measureBulk(condition: FecCondition): {
  megabitsPerSecond: number;
  repairsSent: number;
  recovered: number;
} {
  const { pair, onStream } = connect(condition, () => {});
  let read = 0;
  let from = 0;
  const into = new Uint8Array(262_144);
  onStream((stream) => {
    stream.onReadable = () => {
      for (let length = stream.read(into); length > 0; length = stream.read(into)) read += length;
    };
  });
  const stream = pair.client.session.openStream({ kind: 'tcp', host: 'x', port: 1 })!;
  const chunk = new Uint8Array(262_144);
  const fill = () => {
    while (stream.write(chunk) > 0);
  };
  stream.onWritable = fill;
  fill();
  const startMs = 3000;
  const endMs = 15_000;
  pair.clock.at(startMs, () => {
    from = read;
  });
  pair.clock.run(endMs, () => false);
  return {
    megabitsPerSecond: ((read - from) * 8) / (endMs - startMs) / 1000,
    repairsSent: pair.client.session.stats.fec?.repairsSent ?? 0,
    recovered: pair.server.session.stats.fec?.packetsRecovered ?? 0,
  };
}

/** 2 MB over two circuits, the first of which loses a tenth. */
export function transferOverPaths(
  seed: number,
  fec: SessionOptions['fec'],
): { complete: boolean; recovered: number; foreignRepairs: number } {
  const size = 2_000_000;
  let read = 0;
  let right = true;
  const into = new Uint8Array(65_536);
  const pair = new MultipathPair({
    seed,
    first: { delayMs: 20, lossRatio: 0.1, bottleneck: new Bottleneck(10, 100) },
    client: { fec },
    server: { fec },
    serverHost: {
      onStream: (stream) => {
        stream.onReadable = () => {
          for (let length = stream.read(into); length > 0; length = stream.read(into)) {
            right &&= firstMismatch(into, length, seed, read) < 0;
            read += length;
          }
        };
      },
    },
  });
  let written = 0;
  const stream = pair.client.openStream({ kind: 'tcp', host: 'x', port: 1 })!;
  const fill = () => {
    while (written < size) {
      const piece = new Uint8Array(Math.min(16_384, size - written));
      fillPattern(piece, seed, written);
      const taken = stream.write(piece);
      written += taken;
      if (taken < piece.length) return;
    }
  };
  stream.onWritable = fill;
  fill();
  let foreignRepairs = 0;
  pair.clock.at(100, () => {
    const { server } = pair.attach({ delayMs: 22, bottleneck: new Bottleneck(10, 100) });
    const receive = server.receive.bind(server);
    const decoder = new FrameDecoder();
    server.receive = (packetNumber, payload) => {
      decoder.reset(payload);
      // The first circuit is the one that its sender calls 1.
      if (decoder.next() && decoder.type === Frame.fecRepair && payload[decoder.dataStart] === 1) foreignRepairs++;
      receive(packetNumber, payload);
    };
  });
  pair.clock.run(30_000, () => read === size);
  return {
    complete: read === size && right,
    recovered: pair.server.stats.fec?.packetsRecovered ?? 0,
    foreignRepairs,
  };
}
