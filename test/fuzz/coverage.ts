/** Block coverage of the project's own sources, from V8 (Chrome DevTools protocol, Profiler domain). */
import { type Profiler, Session } from 'node:inspector';
import { pathToFileURL } from 'node:url';

const root = `${pathToFileURL(new URL('../..', import.meta.url).pathname).href.replace(/\/$/, '')}/`;
const measured = /^(?:core|daemon|sdk|cli|proto)\/(?!node_modules)/;

export class Coverage {
  readonly #session = new Session();
  /** By function: one byte for each character of its source, 1 = has run. Inner functions have their own. */
  readonly #functions = new Map<string, Uint8Array>();
  readonly #blocks = new Set<string>();
  #scratch = new Int32Array(0);

  /** To be made before the code to be measured is loaded: V8 counts blocks only of functions compiled afterwards. */
  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Distinct blocks that have run since forget(): file from the checkout's root on ‖ ':' ‖ offset. */
  get blocks(): string[] {
    return [...this.#blocks];
  }

  /** What has run so far, loading for instance, is none of the blocks; it still counts as known. */
  forget(): void {
    this.take();
    this.#blocks.clear();
  }

  /** Takes in what ran since the last call; true when some of it had never run before. */
  take(): boolean {
    return this.#poll(true);
  }

  /** Whether something that never ran before ran since the last call; it still counts as new. */
  peek(): boolean {
    return this.#poll(false);
  }

  close(): void {
    this.#session.disconnect();
  }

  #poll(mark: boolean): boolean {
    let news = false;
    // The inspector of one's own thread answers within the call.
    this.#session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error;
      for (const script of result) if (this.#add(script, mark)) news = true;
    });
    return news;
  }

  #add({ url, functions }: Profiler.ScriptCoverage, mark: boolean): boolean {
    if (!url.startsWith(root) || !measured.test(url.slice(root.length))) return false;
    let news = false;
    for (const { ranges } of functions) {
      const whole = ranges[0]!;
      if (whole.count === 0) continue;
      if (this.#addFunction(url, ranges, whole, mark)) news = true;
    }
    return news;
  }

  /** Ranges are nested, outer ones first: the last that contains a character has its count. */
  #addFunction(
    url: string,
    ranges: readonly Profiler.CoverageRange[],
    whole: Profiler.CoverageRange,
    mark: boolean,
  ): boolean {
    const start = whole.startOffset;
    const length = whole.endOffset - start;
    if (this.#scratch.length < length) this.#scratch = new Int32Array(length * 2);
    const counts = this.#scratch;
    for (const range of ranges) {
      counts.fill(range.count, range.startOffset - start, range.endOffset - start);
      if (mark && range.count > 0) this.#blocks.add(`${url.slice(root.length)}:${range.startOffset}`);
    }
    const seen = this.#marks(`${url}:${start}:${whole.endOffset}`, length);
    let news = false;
    for (let i = 0; i < length; i++) {
      if (counts[i]! > 0 && seen[i] === 0) {
        if (!mark) return true;
        seen[i] = 1;
        news = true;
      }
    }
    return news;
  }

  #marks(key: string, length: number): Uint8Array {
    const marks = this.#functions.get(key) ?? new Uint8Array(length);
    this.#functions.set(key, marks);
    return marks;
  }
}
