/**
 * Stream data that one path has sent and another one is to send as well (scheduler `redundant`). The newest so many
 * frames: a path that can't keep up leaves out the oldest, which the other one will repair if need be. No allocation
 * after the first frame.
 */
const MAX_COPIES = 512;

export class CopyQueue {
  /** Of the oldest frame; valid while there is one. */
  id = 0;
  offset = 0;
  length = 0;
  fin = false;
  readonly #ids = new Float64Array(MAX_COPIES);
  readonly #offsets = new Float64Array(MAX_COPIES);
  readonly #lengths = new Uint16Array(MAX_COPIES);
  readonly #fins = new Uint8Array(MAX_COPIES);
  #first = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  push(id: number, offset: number, length: number, fin: boolean): void {
    if (this.#count === MAX_COPIES) this.shift();
    const at = (this.#first + this.#count++) % MAX_COPIES;
    this.#ids[at] = id;
    this.#offsets[at] = offset;
    this.#lengths[at] = length;
    this.#fins[at] = fin ? 1 : 0;
    if (this.#count === 1) this.#load();
  }

  /** The oldest one is done with. */
  shift(): void {
    this.#first = (this.#first + 1) % MAX_COPIES;
    this.#count--;
    if (this.#count > 0) this.#load();
  }

  /** The oldest one begins at `offset` now. */
  cut(offset: number): void {
    const end = this.offset + this.length;
    this.offset = offset;
    this.length = end - offset;
    this.#offsets[this.#first] = offset;
    this.#lengths[this.#first] = this.length;
  }

  #load(): void {
    const at = this.#first;
    this.id = this.#ids[at]!;
    this.offset = this.#offsets[at]!;
    this.length = this.#lengths[at]!;
    this.fin = this.#fins[at] === 1;
  }
}
