/** Calling a decoder that may refuse its input in one documented way. */
import { check, prototypesClean } from '../fuzzer.ts';

/** Runs `decode`; undefined when it throws its documented error. Any other error is the finding. */
export function attempt<T>(decode: () => T, documented: abstract new (...args: never[]) => Error): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof documented)) throw error;
    check(error.message.length <= 4096, `an error of ${error.message.length} characters`);
    return undefined;
  } finally {
    check(prototypesClean(), 'prototypes are untouched');
  }
}
