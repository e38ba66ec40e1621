/**
 * Loads RaptorQ's WebAssembly from the package's own file when it is needed first: compiling takes about 2 ms and an
 * instance 2 MB, and a node without loss needs neither.
 */
import { readFileSync } from 'node:fs';
import type { RaptorQModule } from '@nyx/core/fec/raptorq.ts';
import { Decoder, Encoder, initSync } from 'raptorq/raptorq.js';

/** A fresh instance; the one before is gone with all it held. Throws when the package's file can't be read. */
export function loadRaptorQ(): RaptorQModule {
  initSync(readFileSync(new URL('raptorq_bg.wasm', import.meta.resolve('raptorq/raptorq.js'))));
  return { Encoder, Decoder };
}
