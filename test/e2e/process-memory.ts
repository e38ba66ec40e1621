/** Looks into other processes of ours, to prove what they do not know. Linux only (/proc). */
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const CHUNK_BYTES = 1 << 20;

/**
 * How often each of the needles stands in the writable memory of each process: `result[process][needle]`. Done on a
 * thread of its own, since whoever asks may be a part of the network that is looked at.
 */
export async function countInMemory(pids: readonly number[], needles: readonly Buffer[]): Promise<number[][]> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { pids, needles } });
  const [counts] = (await once(worker, 'message')) as [number[][]];
  return counts;
}

if (!isMainThread && workerData?.needles !== undefined) {
  const { pids, needles } = workerData as { pids: number[]; needles: Uint8Array[] };
  const wanted = needles.map((needle) => Buffer.from(needle));
  parentPort!.postMessage(pids.map((pid) => countIn(pid, wanted)));
}

function countIn(pid: number, needles: readonly Buffer[]): number[] {
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1');
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const longest = Math.max(...needles.map(({ length }) => length));
  const buffer = Buffer.alloc(CHUNK_BYTES + longest - 1);
  const found = needles.map(() => 0);
  let readBytes = 0;
  try {
    for (const line of maps.split('\n')) {
      const match = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
      if (match === null) continue;
      const end = Number.parseInt(match[2]!, 16);
      for (let at = Number.parseInt(match[1]!, 16); at < end; at += CHUNK_BYTES) {
        const want = Math.min(buffer.length, end - at);
        let got: number;
        try {
          got = readSync(memory, buffer, 0, want, at);
        } catch {
          // Pages that went away, or that the kernel keeps to itself ([vvar]).
          continue;
        }
        readBytes += got;
        // What begins in the overlap is counted with the next chunk.
        const seen = buffer.subarray(0, got);
        for (const [n, needle] of needles.entries()) {
          for (let i = seen.indexOf(needle); i >= 0 && i < CHUNK_BYTES; i = seen.indexOf(needle, i + 1)) found[n]!++;
        }
      }
    }
  } finally {
    closeSync(memory);
  }
  if (readBytes < CHUNK_BYTES) throw new Error(`only ${readBytes} bytes of process ${pid} could be read`);
  return found;
}

/** The processes among `pids` that hold a TCP socket connected to `host:port` (IPv4), each once for every such socket. */
export function ownersOfConnectionsTo(pids: readonly number[], host: string, port: number): number[] {
  const remote = `${Buffer.from(host.split('.').map(Number)).reverse().toString('hex')}:${port.toString(16).padStart(4, '0')}`;
  const remotes = new Set([remote.toUpperCase(), `0000000000000000FFFF0000${remote.toUpperCase()}`]);
  const sockets = new Set(
    ['tcp', 'tcp6'].flatMap((table) =>
      readFileSync(`/proc/net/${table}`, 'latin1')
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(/\s+/))
        .filter((fields) => fields.length > 9 && remotes.has(fields[2]!) && fields[9] !== '0')
        .map((fields) => `socket:[${fields[9]}]`),
    ),
  );
  if (sockets.size === 0) return [];
  return pids.flatMap((pid) => openFiles(pid).flatMap((file) => (sockets.has(file) ? [pid] : [])));
}

/** Local ports of the UDP sockets of a process. */
export function udpPortsOf(pid: number): Set<number> {
  const files = new Set(openFiles(pid));
  const ports = ['udp', 'udp6'].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, 'latin1')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields.length > 9 && files.has(`socket:[${fields[9]}]`))
      .map((fields) => Number.parseInt(fields[1]!.slice(fields[1]!.lastIndexOf(':') + 1), 16)),
  );
  return new Set(ports);
}

/** Resident memory. */
export function rssBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  if (line === null) throw new Error(`process ${pid} has no resident memory: it has ended`);
  return Number(line[1]) * 1024;
}

function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed between the listing and the look
    }
  });
}
