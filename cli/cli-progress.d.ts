/** The part of cli-progress that is used here; the package brings no types. */
declare module 'cli-progress' {
  export class SingleBar {
    constructor(options: {
      format?: string;
      stream?: NodeJS.WritableStream;
      clearOnComplete?: boolean;
      hideCursor?: boolean;
      barCompleteChar?: string;
      barIncompleteChar?: string;
    });
    start(total: number, startValue: number, payload?: Record<string, unknown>): void;
    increment(step: number): void;
    stop(): void;
  }
}
