/** The suites under test, and hex. */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { loadPacketCipher } from '@nyx/daemon/io/openssl-packet.ts';

/** The native suite as the daemon uses it, the portable one, and the native one with either way of doing packets. */
export const suites: readonly CryptoSuite[] = [
  createNativeSuite(),
  createNobleSuite(),
  createNativeSuite(null),
  createNativeSuite(loadPacketCipher(), 0),
];

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'ascii'));
