/**
 * Wycheproof (C2SP/wycheproof) lies beside the repository, in ../shared/vectors/wycheproof, where it exists at all. When
 * the folder is there, each file must be, and must hold the cases that it says it holds.
 */
import { existsSync, readFileSync } from 'node:fs';

const folder = new URL('../../../shared/vectors/wycheproof/', import.meta.url);

export const wycheproofPresent = existsSync(folder);

export interface WycheproofCase {
  readonly tcId: number;
  readonly comment?: string;
  readonly result: 'valid' | 'invalid' | 'acceptable';
  /** Fields of the algorithm: hex strings and numbers. */
  readonly [field: string]: unknown;
}

interface WycheproofGroup {
  readonly tests: readonly WycheproofCase[];
  readonly [field: string]: unknown;
}

/** Calls `each` for every case; returns how many there were. Throws when the file is missing, empty or short. */
export function forEachCase(file: string, each: (test: WycheproofCase, group: WycheproofGroup) => void): number {
  const data = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as {
    numberOfTests: number;
    testGroups: WycheproofGroup[];
  };
  let count = 0;
  for (const group of data.testGroups) {
    for (const test of group.tests) {
      try {
        each(test, group);
      } catch (error) {
        throw new Error(`${file} tcId ${test.tcId} (${test.result}, ${test.comment ?? ''})`, { cause: error });
      }
      count++;
    }
  }
  if (count === 0 || count !== data.numberOfTests) {
    throw new Error(`${file}: ran ${count} cases; the file says ${data.numberOfTests}`);
  }
  return count;
}
