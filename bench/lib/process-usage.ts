/** CPU time and memory of other processes, from /proc (proc(5)). Linux only; elsewhere `undefined`, never a guess. */
import { readFileSync } from 'node:fs';

/** USER_HZ of proc(5): 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface ProcessUsage {
  /** User plus system time of all threads since the process began. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

export function processUsage(pid: number): ProcessUsage | undefined {
  try {
    const stat = parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    const rss = parseStatus(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return stat === undefined || rss === undefined ? undefined : { cpuSeconds: stat, rssBytes: rss };
  } catch {
    return undefined; // no such process, or no /proc: the caller reports the value as missing
  }
}

/** utime + stime, fields 14 and 15; the name in field 2 may itself hold spaces and brackets. */
export function parseStat(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks / TICKS_PER_SECOND : undefined;
}

export function parseStatus(status: string): number | undefined {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
