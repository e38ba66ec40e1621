/**
 * Runs on a client's host and measures through a SOCKS proxy at 127.0.0.1:PROXY-PORT. One JSON line.
 *
 *   download HOST PORT PROXY-PORT USERNAME BYTES MS       as probe-process.ts, with the arrival times of the data
 *   messages HOST PORT PROXY-PORT USERNAME COUNT GAP-MS BYTES   numbered messages to an echo, one each GAP-MS, and how long each took
 *
 * With 0 for PROXY-PORT there is no proxy: plain TCP to the same target.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { socksConnect } from '@nyx/cli/measure/socks.ts';
import { download } from '@nyx/cli/measure/transfers.ts';

export interface DownloadReport {
  readonly bytes: number;
  /** From the request to the last byte, or to the end of the time. */
  readonly tookMs: number;
  readonly dialMs: number;
  /** Bytes in each tenth of a second. */
  readonly tenths: readonly number[];
  /** Longest time in which nothing came. */
  readonly longestStallMs: number;
  /** All times without data of MIN_STALL_MS and more, on the machine's monotonic clock. */
  readonly stalls: readonly Stall[];
}

export interface Stall {
  readonly fromMs: number;
  readonly toMs: number;
}

const MIN_STALL_MS = 30;

export interface MessagesReport {
  readonly dialMs: number;
  /** Of each message: from writing to the whole of it being back. */
  readonly timesMs: readonly number[];
}

const [mode, host, portText, proxyPortText, username, ...rest] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  ...string[],
];
const target = { host, port: Number(portText) };
const proxy = { host: '127.0.0.1', port: Number(proxyPortText) };
const DIAL_MS = 60_000;

async function dial(): Promise<Socket> {
  if (proxy.port !== 0) {
    return await socksConnect(proxy, target, { auth: { username, password: 'x' }, timeoutMs: DIAL_MS });
  }
  const socket = connect({ ...target, noDelay: true });
  await once(socket, 'connect');
  return socket;
}

async function measureDownload(sizeBytes: number, stopAfterMs: number): Promise<DownloadReport> {
  const dialledMs = performance.now();
  const socket = await dial();
  const startMs = performance.now();
  const tenths: number[] = [];
  let lastMs = startMs;
  let longestStallMs = 0;
  const stalls: Stall[] = [];
  const noteGap = (nowMs: number) => {
    const gapMs = nowMs - lastMs;
    longestStallMs = Math.max(longestStallMs, gapMs);
    if (gapMs < MIN_STALL_MS) return;
    const toMs = Number(process.hrtime.bigint()) / 1e6;
    stalls.push({ fromMs: toMs - gapMs, toMs });
  };
  const bytes = await download(socket, sizeBytes, {
    signal: AbortSignal.timeout(stopAfterMs + 30_000),
    stopAfterMs,
    onBytes: (size) => {
      const nowMs = performance.now();
      noteGap(nowMs);
      lastMs = nowMs;
      const tenth = Math.floor((nowMs - startMs) / 100);
      while (tenths.length <= tenth) tenths.push(0);
      tenths[tenth]! += size;
    },
  });
  const endMs = performance.now();
  socket.destroy();
  if (bytes < sizeBytes) noteGap(endMs);
  return { bytes, tookMs: endMs - startMs, dialMs: startMs - dialledMs, tenths, longestStallMs, stalls };
}

async function measureMessages(count: number, gapMs: number, sizeBytes: number): Promise<MessagesReport> {
  const dialledMs = performance.now();
  const socket = await dial();
  const dialMs = performance.now() - dialledMs;
  socket.write(Uint8Array.of(0x45));
  const writtenMs: number[] = [];
  const timesMs: number[] = [];
  let received = 0;
  const done = Promise.withResolvers<void>();
  socket.on('data', (chunk: Buffer) => {
    for (let i = 0; i < chunk.length; i++) {
      if (chunk[i] !== (Math.floor((received + i) / sizeBytes) & 255))
        done.reject(new Error('a message came back changed'));
    }
    received += chunk.length;
    while (timesMs.length < Math.floor(received / sizeBytes)) {
      timesMs.push(performance.now() - writtenMs[timesMs.length]!);
    }
    if (timesMs.length === count) done.resolve();
  });
  socket.on('error', done.reject);
  socket.on('close', () => done.reject(new Error(`closed after ${timesMs.length} of ${count} messages`)));
  socket.resume();
  const startMs = performance.now();
  for (let i = 0; i < count; i++) {
    await delay(Math.max(0, startMs + i * gapMs - performance.now()));
    writtenMs.push(performance.now());
    socket.write(Buffer.alloc(sizeBytes, i & 255));
  }
  const timer = setTimeout(() => done.reject(new Error('messages did not come back in 60 s')), 60_000);
  await done.promise;
  clearTimeout(timer);
  socket.destroy();
  return { dialMs, timesMs };
}

const numbers = rest.map(Number) as [number, number, number];
const report = mode === 'download' ? await measureDownload(numbers[0], numbers[1]) : await measureMessages(...numbers);
console.log(JSON.stringify(report));
