/** Evidence against mixes of class cmix (core/mix/batch-evidence.ts): found here or told by neighbours, kept on disk for anybody to check. */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { cheatName, MAX_EVIDENCE_BYTES, verifyEvidence } from '@nyx/core/mix/batch-evidence.ts';
import { BatchRecords } from '@nyx/core/mix/batch-records.ts';
import { RSA_2048, RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { createNativePowMod } from '../io/modular-power.ts';
import { writeAtomically } from './sealed-files.ts';

/** More tell nothing new, and the disk is bounded. */
const MAX_FILES = 256;
/** And of one node. */
const MAX_FILES_OF_ONE = 4;
const NAME = /^([0-9a-f]{64})-([a-z]+)-(\d{1,16})-[0-9a-f]{16}\.cheat$/;

export interface KnownCheat {
  /** NodeID of the mix, hex. */
  readonly nodeId: string;
  /** What it did. */
  readonly kind: string;
  /** Of its batch. */
  readonly batch: number;
  readonly file: string;
  readonly foundUnixMs: number;
}

export class CheatStore {
  readonly #folder: string;
  readonly #suite: CryptoSuite;
  readonly #records: BatchRecords;
  readonly #known = new Map<string, KnownCheat>();
  /** Known without evidence for others, or ahead of it: until this daemon ends. */
  readonly #excluded = new Set<string>();

  /** Evidence of former runs counts when it holds, and is left alone when it does not. */
  constructor(folder: string, suite: CryptoSuite) {
    this.#folder = folder;
    this.#suite = suite;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#records = new BatchRecords(suite, new RsaGroup(RSA_2048, createNativePowMod()));
    for (const name of readdirSync(folder).sort()) {
      const match = NAME.exec(name);
      if (match === null || this.#known.size >= MAX_FILES) continue;
      const file = join(folder, name);
      const { size, mtimeMs } = statSync(file);
      const cheat = size > MAX_EVIDENCE_BYTES ? undefined : this.read(readFileSync(file));
      if (cheat === undefined || cheat.nodeId !== match[1]) continue;
      this.#known.set(name, { ...cheat, file, foundUnixMs: Math.floor(mtimeMs) });
    }
  }

  /** What evidence shows; undefined: nothing. */
  read(evidence: Uint8Array): Pick<KnownCheat, 'nodeId' | 'kind' | 'batch'> | undefined {
    const cheat = verifyEvidence(this.#records, evidence);
    if (cheat === undefined) return undefined;
    return { nodeId: hex(cheat.nodeId), kind: cheatName(cheat.kind), batch: cheat.number };
  }

  get all(): readonly KnownCheat[] {
    return [...this.#known.values()];
  }

  /** NodeIDs, hex, that are to be on no path of ours. */
  get nodeIds(): readonly string[] {
    return [...new Set([...this.all.map(({ nodeId }) => nodeId), ...this.#excluded])];
  }

  /** Those of them that this node knows to have exchanged cells. */
  get exchangers(): readonly string[] {
    return [...this.#excluded];
  }

  /** A mix that this node knows to have cheated, whether or not others can be shown. False: it is known already, or there is no room. */
  exclude(nodeId: string): boolean {
    if (this.#excluded.has(nodeId) || this.#excluded.size >= MAX_FILES) return false;
    this.#excluded.add(nodeId);
    return true;
  }

  /** Keeps evidence that was verified. Undefined: it is here already, or there is no room. */
  keep(
    cheat: { readonly nodeId: string; readonly kind: string; readonly batch: number },
    evidence: Uint8Array,
    nowUnixMs: number,
  ): KnownCheat | undefined {
    const id = hex(this.#suite.sha256(evidence)).slice(0, 16);
    const name = `${cheat.nodeId}-${cheat.kind}-${cheat.batch}-${id}.cheat`;
    const ofNode = this.all.filter(({ nodeId }) => nodeId === cheat.nodeId).length;
    if (this.#known.has(name) || this.#known.size >= MAX_FILES || ofNode >= MAX_FILES_OF_ONE) return undefined;
    const file = join(this.#folder, name);
    writeAtomically(file, evidence);
    const known = { ...cheat, file, foundUnixMs: nowUnixMs };
    this.#known.set(name, known);
    return known;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
