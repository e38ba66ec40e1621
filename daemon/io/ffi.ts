/** Node's own foreign function interface (`node:ffi`), as far as it is used here. */
import { createRequire } from 'node:module';

/** A machine address, or a number in its place. */
export type Address = bigint;

export interface Ffi {
  /** Functions of the running process. Throws when one is missing. */
  dlopen(
    path: null,
    functions: Record<string, { readonly arguments: readonly string[]; readonly return: string }>,
  ): { readonly functions: Readonly<Record<string, (...args: Address[]) => void>> };
  /** Where the view's memory is. The caller keeps the view reachable for as long as the address is used. */
  getRawPointer(view: Uint8Array): Address;
}

/** A function of `count` arguments without a result: what Node calls fastest (docs/adr/0013-packet-crypto-by-ffi.md). */
export function pointers(count: number): { readonly arguments: readonly string[]; readonly return: string } {
  return { arguments: Array<string>(count).fill('pointer'), return: 'void' };
}

/** Throws where this Node has none. It says once per process that FFI is experimental; the operator can do nothing with that. */
export function requireFfi(): Ffi {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => {};
  try {
    return createRequire(import.meta.url)('node:ffi') as Ffi;
  } finally {
    process.emitWarning = emitWarning;
  }
}
