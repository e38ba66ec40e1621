/**
 * When the own descriptors were published: every one later than the one before, over restarts too, so that of any two
 * everybody takes the same one for the newer.
 */
import type { UnixSeconds } from '@nyx/core/ports.ts';
import type { SealedFiles } from './sealed-files.ts';

const FILE = 'published.time';
const SIZE_BYTES = 8;
/** What others allow a descriptor to be ahead of their clocks (core/directory/descriptor.ts). */
const MAX_AHEAD_SECONDS = 60;

export class PublicationTimes {
  readonly #files: Pick<SealedFiles, 'read' | 'write'>;
  #last: number;

  /** Throws KeyStoreError when the file can't be opened. */
  constructor(files: Pick<SealedFiles, 'read' | 'write'>) {
    this.#files = files;
    const bytes = files.read(FILE);
    // A file of another size tells no time; a descriptor of this second costs no more than a tie.
    this.#last = bytes?.length === SIZE_BYTES ? Number(bytes.readBigUInt64BE()) : 0;
  }

  /**
   * For the next descriptor: now, or the second after the last. It is on disk when this returns. A last one that is further
   * ahead than anybody would have taken comes from a clock that has been set back, and counts no more.
   */
  next(now: UnixSeconds): UnixSeconds {
    const after = this.#last + 1;
    this.#last = after > now + MAX_AHEAD_SECONDS ? now : Math.max(now, after);
    const bytes = Buffer.alloc(SIZE_BYTES);
    bytes.writeBigUInt64BE(BigInt(this.#last));
    this.#files.write(FILE, bytes);
    return this.#last;
  }
}
