/** Looks into other processes of ours, to prove what they do not know. Linux only (/proc). */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';

const CHUNK_BYTES = 1 << 20;

/** How often `needle` stands in the writable memory of a process. */
export function countInMemory(pid: number, needle: Buffer): number {
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1');
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const buffer = Buffer.alloc(CHUNK_BYTES + needle.length - 1);
  let found = 0;
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
        for (let i = buffer.indexOf(needle); i >= 0 && i + needle.length <= got; i = buffer.indexOf(needle, i + 1)) {
          found++;
        }
      }
    }
  } finally {
    closeSync(memory);
  }
  if (readBytes < CHUNK_BYTES) throw new Error(`only ${readBytes} bytes of process ${pid} could be read`);
  return found;
}

/** Which of the processes owns the local TCP socket that is connected from `localPort` to `remotePort`. */
export function ownerOfConnection(pids: readonly number[], localPort: number, remotePort: number): number | undefined {
  const inode = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, 'latin1')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((f) => f.length > 9 && portOf(f[1]!) === localPort && portOf(f[2]!) === remotePort)
      .map((f) => f[9]!),
  )[0];
  if (inode === undefined) return undefined;
  return pids.find((pid) => {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
      } catch {
        return false; // closed between the listing and the look
      }
    });
  });
}

function portOf(hexAddress: string): number {
  return Number.parseInt(hexAddress.slice(hexAddress.lastIndexOf(':') + 1), 16);
}
