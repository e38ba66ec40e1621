/** Proof of what authorities must not do (two views for one epoch, two votes in one round), kept on disk for people. */
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { encodeSignedBody, type SignedBody } from '@nyx/core/directory/view.ts';
import { writeAtomically } from './sealed-files.ts';

/** More tell nothing new, and the disk is bounded. */
const MAX_FILES = 100;

export type EvidenceKind = 'fork' | 'equivocation';

export interface Evidence {
  readonly kind: EvidenceKind;
  readonly epoch: number;
  readonly file: string;
  readonly foundUnixMs: number;
}

export class EvidenceStore {
  readonly #folder: string;
  readonly #found = new Map<string, Evidence>();

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(folder).sort()) {
      const match = /^(fork|equivocation)-(\d{1,15})-[0-9a-f]{1,64}\.bin$/.exec(name);
      if (match === null) continue;
      const file = join(folder, name);
      const foundUnixMs = Math.floor(statSync(file).mtimeMs);
      this.#found.set(name, { kind: match[1] as EvidenceKind, epoch: Number(match[2]), file, foundUnixMs });
    }
  }

  get all(): readonly Evidence[] {
    return [...this.#found.values()];
  }

  /** Keeps `content`, once for each `id` (hex). Undefined: it is here already, or there is no room. */
  keep(kind: EvidenceKind, epoch: number, id: string, content: Uint8Array, nowUnixMs: number): Evidence | undefined {
    const name = `${kind}-${epoch}-${id.slice(0, 64)}.bin`;
    if (this.#found.has(name) || this.#found.size >= MAX_FILES) return undefined;
    const file = join(this.#folder, name);
    writeAtomically(file, content);
    const evidence = { kind, epoch, file, foundUnixMs: nowUnixMs };
    this.#found.set(name, evidence);
    return evidence;
  }
}

/** Two views of one epoch: both signed bodies (view.ts), one after the other. */
export const forkEvidence = (views: readonly [SignedBody, SignedBody]): Uint8Array =>
  Buffer.concat(views.map(encodeSignedBody));
