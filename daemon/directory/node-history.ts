/** What an authority remembers of nodes over time: since when it knows them, and how well they answered. */
import { existsSync, readFileSync } from 'node:fs';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { MAX_VIEW_NODES } from '@nyx/core/directory/view.ts';
import { writeAtomically } from './sealed-files.ts';

/** Weight of the newest probe in a node's record. */
const NEWEST = 0.1;
const STABLE_PROBES = 16;
const STABLE_RECORD = 0.9;
/** Who was not in a view for so long is a newcomer again. */
const FORGET_SECONDS = 7 * 86_400;
const MAX_ENTRIES = 2 * MAX_VIEW_NODES;
/** Of so many measurements the middle one counts: neither one good nor one bad hour decides. */
const MAX_SPEEDS = 5;

interface Entry {
  firstEpoch: number;
  lastEpoch: number;
  probes: number;
  /** Part of the probes that were answered, newer ones count more. */
  record: number;
  /** The last measurements, bytes per second, the oldest first. */
  speeds?: number[];
  /** When the last of them was. */
  measuredMs?: number;
}

export class NodeHistory {
  readonly #file: string;
  readonly #entries = new Map<string, Entry>();

  /** Takes up what is on disk. Throws Error when the file is damaged. */
  constructor(file: string) {
    this.#file = file;
    if (!existsSync(file)) return;
    const stored = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Partial<Entry>>;
    for (const [id, entry] of Object.entries(stored)) {
      const { firstEpoch, lastEpoch, probes, record } = entry;
      const { speeds = [], measuredMs = 0 } = entry;
      const all = [
        firstEpoch,
        lastEpoch,
        probes,
        record,
        measuredMs,
        ...(Array.isArray(speeds) ? speeds : [Number.NaN]),
      ];
      const numbers = all.every((value) => Number.isFinite(value));
      if (!/^[0-9a-f]{64}$/.test(id) || !numbers) throw new Error(`${file} is damaged at ${id.slice(0, 64)}`);
      this.#entries.set(id, entry as Entry);
    }
  }

  /** The epoch in which the node was first seen: this one, if it was not known. */
  seen(id: string, epoch: number): number {
    const entry = this.#entry(id, epoch);
    entry.lastEpoch = Math.max(entry.lastEpoch, epoch);
    return Math.min(entry.firstEpoch, epoch);
  }

  /** Others have known the node for longer. */
  learn(id: string, firstEpoch: number): void {
    const entry = this.#entry(id, firstEpoch);
    entry.firstEpoch = Math.min(entry.firstEpoch, firstEpoch);
  }

  probed(id: string, epoch: number, reachable: boolean): void {
    const entry = this.#entry(id, epoch);
    entry.record = entry.probes === 0 ? Number(reachable) : entry.record * (1 - NEWEST) + (reachable ? NEWEST : 0);
    entry.probes++;
  }

  /** 0 = it let nothing through. */
  measured(id: string, epoch: number, bytesPerSecond: number, nowMs: number): void {
    const entry = this.#entry(id, epoch);
    entry.speeds = [...(entry.speeds ?? []), bytesPerSecond].slice(-MAX_SPEEDS);
    entry.measuredMs = nowMs;
  }

  /** The middle of the last measurements, the higher one of two; undefined: never measured. */
  speed(id: string): number | undefined {
    const speeds = this.#entries.get(id)?.speeds;
    return speeds?.toSorted((a, b) => a - b)[speeds.length >> 1];
  }

  measuredMs(id: string): number | undefined {
    return this.#entries.get(id)?.measuredMs;
  }

  /** NodeFlag.stable and NodeFlag.guard, as far as a node has earned them. */
  flags(id: string, epoch: number, rampEpochs: number): number {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.probes < STABLE_PROBES || entry.record < STABLE_RECORD) return 0;
    const old = epoch - entry.firstEpoch >= rampEpochs / 4;
    return old ? NodeFlag.stable | NodeFlag.guard : NodeFlag.stable;
  }

  /** Writes to disk, less what is forgotten. */
  save(epoch: number, epochSeconds: number): void {
    const oldest = epoch - Math.max(24, Math.ceil(FORGET_SECONDS / epochSeconds));
    for (const [id, entry] of this.#entries) if (entry.lastEpoch < oldest) this.#entries.delete(id);
    writeAtomically(this.#file, Buffer.from(JSON.stringify(Object.fromEntries(this.#entries))));
  }

  #entry(id: string, epoch: number): Entry {
    let entry = this.#entries.get(id);
    if (entry === undefined) {
      // The oldest is the first in the map; a flood of new ones has to push out new ones.
      if (this.#entries.size >= MAX_ENTRIES) this.#entries.delete([...this.#entries.keys()].at(-1)!);
      entry = { firstEpoch: epoch, lastEpoch: epoch, probes: 0, record: 0 };
      this.#entries.set(id, entry);
    }
    return entry;
  }
}
