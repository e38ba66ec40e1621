/**
 * Runs on a host of the lab and measures the network by itself, with plain sockets.
 *
 *   udp-sink HOST PORT                 prints "ready"; then one line with what came, once stdin ends
 *   udp-source HOST PORT RATE COUNT BYTES   RATE packets a second, numbered and stamped with the machine's monotonic clock
 *   tcp-target HOST PORT               source, sink and echo (cli/measure/target.ts); prints "ready"
 *   tcp-download HOST PORT BYTES MS    prints one line: bytes, milliseconds
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { startTarget } from '@nyx/cli/measure/target.ts';
import { download } from '@nyx/cli/measure/transfers.ts';

export interface UdpReport {
  readonly received: number;
  readonly highest: number;
  readonly duplicates: number;
  /** Arrived after a higher number. */
  readonly reordered: number;
  /** One way, milliseconds. */
  readonly delaysMs: readonly number[];
  /** Lengths of runs of missing numbers. */
  readonly gaps: readonly number[];
  /** From first to last arrival. */
  readonly spanMs: number;
  readonly bytes: number;
}

export interface TransferReport {
  readonly bytes: number;
  readonly tookMs: number;
}

const [mode, host, portText, ...rest] = process.argv.slice(2) as [string, string, string, ...string[]];
const port = Number(portText);
const family = host.includes(':') ? 'udp6' : 'udp4';
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

switch (mode) {
  case 'udp-sink':
    await udpSink();
    break;
  case 'udp-source':
    await udpSource(Number(rest[0]), Number(rest[1]), Number(rest[2]));
    break;
  case 'tcp-target':
    await startTarget(host, port);
    console.log('ready');
    // It ends with whoever started it.
    process.stdin.resume().once('end', () => process.exit(0));
    break;
  case 'tcp-download':
    await tcpDownload(Number(rest[0]), Number(rest[1]));
    break;
  default:
    throw new Error(`no mode ${mode}`);
}

async function udpSink(): Promise<void> {
  const socket = createSocket({ type: family, recvBufferSize: 8 << 20 });
  const seen = new Set<number>();
  const delaysMs: number[] = [];
  let highest = -1;
  let duplicates = 0;
  let reordered = 0;
  let firstMs = 0;
  let lastMs = 0;
  let bytes = 0;
  socket.on('message', (message) => {
    const at = nowMs();
    const number = message.readUInt32BE();
    if (seen.has(number)) {
      duplicates++;
      return;
    }
    seen.add(number);
    if (number < highest) reordered++;
    highest = Math.max(highest, number);
    delaysMs.push(at - message.readDoubleBE(4));
    if (firstMs === 0) firstMs = at;
    lastMs = at;
    bytes += message.length;
  });
  socket.bind(port, host);
  await once(socket, 'listening');
  console.log('ready');
  process.stdin.resume();
  await once(process.stdin, 'end');
  socket.close();
  const gaps: number[] = [];
  let gap = 0;
  for (let number = 0; number <= highest; number++) {
    if (!seen.has(number)) gap++;
    else if (gap > 0) {
      gaps.push(gap);
      gap = 0;
    }
  }
  const report: UdpReport = {
    received: seen.size,
    highest,
    duplicates,
    reordered,
    delaysMs,
    gaps,
    spanMs: lastMs - firstMs,
    bytes,
  };
  console.log(JSON.stringify(report));
}

async function udpSource(packetsPerSecond: number, count: number, sizeBytes: number): Promise<void> {
  const socket = createSocket(family);
  socket.connect(port, host);
  await once(socket, 'connect');
  const startMs = nowMs();
  for (let sent = 0; sent < count; ) {
    const due = Math.min(count, Math.floor(((nowMs() - startMs) * packetsPerSecond) / 1000) + 1);
    for (; sent < due; sent++) {
      const message = Buffer.alloc(sizeBytes);
      message.writeUInt32BE(sent);
      message.writeDoubleBE(nowMs(), 4);
      socket.send(message);
    }
    await delay(1);
  }
  await delay(50); // for what Node still holds
  socket.close();
}

async function tcpDownload(sizeBytes: number, stopAfterMs: number): Promise<void> {
  const socket = connect({ host, port, noDelay: true });
  await once(socket, 'connect');
  const startMs = nowMs();
  const bytes = await download(socket, sizeBytes, {
    signal: AbortSignal.timeout(stopAfterMs + 60_000),
    stopAfterMs,
  });
  const report: TransferReport = { bytes, tookMs: nowMs() - startMs };
  console.log(JSON.stringify(report));
  socket.destroy();
}
