/** The suites under test, and hex. */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

export const suites: readonly CryptoSuite[] = [createNativeSuite(), createNobleSuite()];

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'ascii'));
