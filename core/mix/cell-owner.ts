import type { TimeMs } from '../ports.ts';

/** Whose cells wait. */
export interface CellOwner {
  /**
   * A cell's time has come. `bytes` (the 1280 that were given to push) is borrowed until the call returns; `note` is
   * what push got.
   */
  release(bytes: Uint8Array, note: number, nowMs: TimeMs): void;
}
