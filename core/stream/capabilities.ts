/** CBOR (RFC 8949) in the session: the CAPS array and the PLUGIN header. Hostile bytes give undefined. */
import { decode, encode } from 'cborg';

const MAX_CAPABILITIES = 64;
const MAX_NAME_LENGTH = 64;
const MAX_CAPS_BYTES = 4096;
const STRICT = { allowIndefinite: false, allowUndefined: false, allowBigInt: false, rejectDuplicateMapKeys: true };

export function encodeCapabilities(names: readonly string[]): Uint8Array {
  return encode([...names]);
}

export function decodeCapabilities(body: Uint8Array): readonly string[] | undefined {
  if (body.length > MAX_CAPS_BYTES) return undefined;
  const value = tryDecode(body);
  if (!Array.isArray(value) || value.length > MAX_CAPABILITIES) return undefined;
  const valid = value.every((name) => typeof name === 'string' && name.length >= 1 && name.length <= MAX_NAME_LENGTH);
  return valid ? (value as string[]) : undefined;
}

/** PLUGIN `{id: u32, flags: u8, data: bytes}`. */
export interface PluginHeader {
  readonly id: number;
  readonly required: boolean;
}

const PLUGIN_REQUIRED = 0x01;

export function decodePlugin(body: Uint8Array): PluginHeader | undefined {
  const value = tryDecode(body);
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, flags, data } = value as Record<string, unknown>;
  if (!isUint(id, 0xffff_ffff) || !isUint(flags, 0xff) || !(data instanceof Uint8Array)) return undefined;
  return { id, required: (flags & PLUGIN_REQUIRED) !== 0 };
}

function isUint(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}

function tryDecode(body: Uint8Array): unknown {
  try {
    return decode(body, STRICT);
  } catch {
    // Not CBOR: the caller treats it like any other malformed frame.
    return undefined;
  }
}
