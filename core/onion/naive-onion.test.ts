/**
 * The cells of docs/protocol.md §3, computed a second time straight from its text: whole keystreams, no caches, no
 * seeking, no in-place work, nothing shared with the code under test but the primitives of another library.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chacha20, chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { Drop } from '../drop-reason.ts';
import { LayeredCell } from '../wire/datagram.ts';
import type { HopSecrets } from './hop-secrets.ts';
import { TestCircuit } from './test-circuit.ts';

const CELLS = 2 ** 19;
const ascii = (s: string) => new TextEncoder().encode(s);
const none = new Uint8Array(0);

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function keysOf(chain0: Uint8Array, n: number): { aead: Uint8Array; prg: Uint8Array } {
  let chain = chain0;
  for (let g = 0; g < Math.floor(n / CELLS); g++) chain = hkdf(sha256, chain, none, ascii('nyx1 ratchet'), 32);
  const okm = hkdf(sha256, chain, none, ascii('nyx1 cell keys'), 64);
  return { aead: okm.slice(0, 32), prg: okm.slice(32) };
}

function nonceOf(n: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(n));
  return nonce;
}

/** tag ‖ ct. */
function seal(key: Uint8Array, n: number, ad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const sealed = chacha20poly1305(key, nonceOf(n), ad).encrypt(plaintext);
  return join(sealed.slice(plaintext.length), sealed.slice(0, plaintext.length));
}

function open(key: Uint8Array, n: number, ad: Uint8Array, cell: Uint8Array): Uint8Array {
  return chacha20poly1305(key, nonceOf(n), ad).decrypt(join(cell.slice(16), cell.slice(0, 16)));
}

/** The keystream that opens a cell goes on behind it. Its block 0 makes the tag's key (RFC 8439 §2.8). */
function pad(key: Uint8Array, n: number): Uint8Array {
  return chacha20(key, nonceOf(n), new Uint8Array(64 + 1240 + 16)).slice(64 + 1240);
}

/** What relay i of the text does forward. */
function relayForward(secrets: HopSecrets, n: number, ad: Uint8Array, cell: Uint8Array): Uint8Array {
  const { aead } = keysOf(secrets.forwardChain, n);
  return join(open(aead, n, ad, cell), pad(aead, n));
}

function relayBackward(secrets: HopSecrets, n: number, ad: Uint8Array, cell: Uint8Array): Uint8Array {
  return seal(keysOf(secrets.backwardChain, n).aead, n, ad, cell.slice(0, 1240));
}

function lastBackward(secrets: HopSecrets, n: number, ad: Uint8Array, payload: Uint8Array): Uint8Array {
  const { aead, prg } = keysOf(secrets.backwardChain, n);
  return seal(aead, n, ad, join(payload, chacha20(prg, nonceOf(n), new Uint8Array(96))));
}

/** Around blocks, around what a cache may hold, and at the same place of several generations. */
const indices = [0, 1, 63, 64, 127, 128, 5000, CELLS - 1, CELLS, CELLS + 1, 2 * CELLS + 1, 3 * CELLS];

for (let hops = 1; hops <= 7; hops++) {
  test(`${hops} hops: cells agree with a second computation from the text`, () => {
    const circuit = new TestCircuit(hops, `naive ${hops}`);
    const { client, last, secrets } = circuit;
    for (const [at, n] of indices.entries()) {
      const type = at & 3;
      const ad = Uint8Array.of(type, at);
      const payload = circuit.payload();
      while (client.nextIndex < n) client.allocateIndex();
      const link = circuit.sealForward(payload, type, at);
      let naive: Uint8Array = link.cell.cell.slice();
      let ours = link;
      for (let hop = 0; hop < hops - 1; hop++) {
        const next = circuit.relayForward(hop, ours);
        assert.ok(typeof next === 'object');
        ours = next;
        naive = relayForward(secrets[hop]!, n, ad, naive);
        assert.deepEqual(ours.cell.cell, naive, `forward cell ${n} after hop ${hop}`);
      }
      const plaintext = open(keysOf(secrets[hops - 1]!.forwardChain, n).aead, n, ad, naive);
      assert.deepEqual(plaintext.slice(0, 1144), payload);
      assert.deepEqual(circuit.openLast(ours), payload);

      const answer = circuit.payload();
      while (last.nextIndex < n) last.allocateIndex();
      let back = circuit.sealBackward(answer, type, at);
      let naiveBack = lastBackward(secrets[hops - 1]!, n, ad, answer);
      assert.deepEqual(back.cell.cell, naiveBack, `backward cell ${n} at the last hop`);
      for (let hop = hops - 2; hop >= 0; hop--) {
        const next = circuit.relayBackward(hop, back);
        assert.ok(typeof next === 'object');
        back = next;
        naiveBack = relayBackward(secrets[hop]!, n, ad, naiveBack);
        assert.deepEqual(back.cell.cell, naiveBack, `backward cell ${n} after hop ${hop}`);
      }
      const scratch = new LayeredCell();
      scratch.cell.set(naiveBack);
      assert.equal(client.openBackward(back.counter, type, at, scratch, 0), Drop.none);
      assert.deepEqual(scratch.layerPayloads[hops - 1]!.slice(), answer);
    }
  });
}
