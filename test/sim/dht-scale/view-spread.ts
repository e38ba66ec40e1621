/**
 * How a new view gets around: a model of the polling of daemon/p2p/node.ts and view-exchange.ts. A node asks up to three of
 * its connections in turn, then waits 250 ms and ever longer up to 10 s; a node serves eight at a time and says "busy" to
 * others; transfers share the bandwidth of who serves and end after 60 s.
 */
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import type { Random } from '@nyx/core/ports.ts';

const ASKED = 3;
const MAX_TRANSFERS = 8;
const TRANSFER_TIMEOUT_MS = 60_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;
const TICK_MS = 50;
const HORIZON_MS = 3_600_000;

export interface SpreadOptions {
  readonly bytes: number;
  readonly nodes: readonly { readonly bandwidth: number; readonly connections: readonly number[] }[];
  /** Those that have the view at the beginning. */
  readonly sources: readonly number[];
  readonly random: Random;
}

export interface Spread {
  /** When each node had it, ms; Infinity: not within the hour. */
  readonly atMs: readonly number[];
  readonly timeouts: number;
  readonly busy: number;
}

interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly startedMs: number;
  left: number;
}

export function spreadView({ bytes, nodes, sources, random }: SpreadOptions): Spread {
  const atMs = nodes.map(() => Number.POSITIVE_INFINITY);
  for (const source of sources) atMs[source] = 0;
  const serving = new Array<number>(nodes.length).fill(0);
  const waitMs = new Array<number>(nodes.length).fill(FIRST_WAIT_MS);
  // Nodes look once a second while their view is current.
  const askMs = nodes.map(() => 1000 * uniform(random));
  let waiting = nodes.map((_, i) => i).filter((i) => atMs[i] !== 0);
  let transfers: Transfer[] = [];
  let timeouts = 0;
  let busy = 0;
  for (let nowMs = 0; nowMs < HORIZON_MS && (waiting.length > 0 || transfers.length > 0); nowMs += TICK_MS) {
    const still: Transfer[] = [];
    for (const transfer of transfers) {
      const { from, to, startedMs } = transfer;
      const rate = Math.min(nodes[from]!.bandwidth / serving[from]!, nodes[to]!.bandwidth);
      transfer.left -= (rate * TICK_MS) / 1000;
      if (transfer.left <= 0) atMs[to] = nowMs;
      else if (nowMs - startedMs >= TRANSFER_TIMEOUT_MS) {
        timeouts++;
        askMs[to] = nowMs + waitMs[to]!;
        waiting.push(to);
      } else {
        still.push(transfer);
        continue;
      }
      serving[from]!--;
    }
    transfers = still;
    const next: number[] = [];
    for (const node of waiting) {
      if (askMs[node]! > nowMs) {
        next.push(node);
        continue;
      }
      const { connections } = nodes[node]!;
      let from: number | undefined;
      for (let i = 0; i < ASKED && from === undefined && connections.length > 0; i++) {
        const peer = connections[Math.floor(uniform(random) * connections.length)]!;
        if (atMs[peer]! > nowMs) continue;
        if (serving[peer]! < MAX_TRANSFERS) from = peer;
        else busy++;
      }
      if (from === undefined) {
        askMs[node] = nowMs + waitMs[node]!;
        waitMs[node] = Math.min(LONGEST_WAIT_MS, waitMs[node]! * 1.5);
        next.push(node);
      } else {
        serving[from]!++;
        transfers.push({ from, to: node, startedMs: nowMs, left: bytes });
      }
    }
    waiting = next;
  }
  return { atMs, timeouts, busy };
}
