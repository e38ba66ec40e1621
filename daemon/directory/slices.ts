/** Long work on the main thread in slices, so that API, timers and sockets get their turn in between. */

/** A slice ends after so long; what waits for the thread waits no longer, plus one step. */
const SLICE_MS = 8;
/** Steps between two looks at the clock. */
const STEPS = 16;

/**
 * Runs a generator to its end. Rejects with what it throws, or with the signal's reason. `pause` is waited for between
 * slices.
 */
export const runInSlices = async <T>(
  steps: Generator<void, T>,
  signal?: AbortSignal,
  pause?: () => Promise<void>,
): Promise<T> => {
  for (;;) {
    const endMs = performance.now() + SLICE_MS;
    do {
      for (let i = 0; i < STEPS; i++) {
        const step = steps.next();
        if (step.done) return step.value;
      }
    } while (performance.now() < endMs);
    await new Promise<void>((resolve) => setImmediate(resolve));
    await pause?.();
    signal?.throwIfAborted();
  }
};
