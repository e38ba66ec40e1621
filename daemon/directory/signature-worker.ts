/** A thread that checks Ed25519 signatures for signature-checker.ts: packed in, the index of the first bad one out. */
import { parentPort } from 'node:worker_threads';
import { createNativeSuite } from '../io/native-suite.ts';
import type { SignatureBatch, SignatureVerdict } from './signature-checker.ts';

const port = parentPort!;
/** libsodium alone: no packets are sealed here. */
const suite = createNativeSuite(null);
port.on('message', ({ batch, packed }: SignatureBatch) => {
  const verdict: SignatureVerdict = { batch, bad: firstBad(Buffer.from(packed)) };
  port.postMessage(verdict);
});

/** `(message length (4) ‖ key (32) ‖ signature (64) ‖ message)*`. −1: all hold. */
function firstBad(packed: Buffer): number {
  let at = 0;
  for (let index = 0; at < packed.length; index++) {
    const length = packed.readUInt32BE(at);
    const key = packed.subarray(at + 4, at + 36);
    const signature = packed.subarray(at + 36, at + 100);
    const message = packed.subarray(at + 100, at + 100 + length);
    if (!suite.ed25519Verify(key, message, signature)) return index;
    at += 100 + length;
  }
  return -1;
}
