/** The inputs that are kept: `corpus/<target>/` reaches much of a decoder, `regressions/<target>/` once broke it. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = import.meta.dirname;

export interface CorpusEntry {
  readonly file: string;
  readonly bytes: Uint8Array;
}

export type CorpusKind = 'corpus' | 'regressions';

/** Entries of a target in the order of their file names. */
export function readCorpus(kind: CorpusKind, target: string): CorpusEntry[] {
  const folder = join(root, kind, target);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => ({ file: join(folder, name), bytes: new Uint8Array(readFileSync(join(folder, name))) }));
}

/** Writes an entry named by its content; returns its path. */
export function writeEntry(kind: CorpusKind, target: string, bytes: Uint8Array): string {
  const folder = join(root, kind, target);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, createHash('sha256').update(bytes).digest('hex').slice(0, 16));
  writeFileSync(file, bytes);
  return file;
}

/** Folders below `kind`, to find those that no target claims. */
export function corpusFolders(kind: CorpusKind): string[] {
  const folder = join(root, kind);
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}
