/**
 * The other authorities over HTTP. Messages are signed, votes and descriptors are known by their digests, so whoever
 * answers can only refuse. Every exchange is bounded in time and size.
 */

import { ByteReader, ByteWriter } from '@nyx/core/directory/bytes.ts';
import { MAX_DESCRIPTOR_BYTES } from '@nyx/core/directory/descriptor.ts';
import { MAX_VOTE_BYTES } from '@nyx/core/directory/vote.ts';
import { exchange } from './directory-source.ts';

/** Tries, and the pause before the next one. */
const TRIES = 3;
const PAUSE_MS = 300;
const TIMEOUT_MS = 10_000;
/** Descriptors in one answer. */
export const MAX_ASKED_DESCRIPTORS = 1000;
const MAX_ANSWER_BYTES = MAX_ASKED_DESCRIPTORS * (4 + MAX_DESCRIPTOR_BYTES);

export interface AuthorityPeer {
  /** Ed25519 public key, lower-case hex. */
  readonly key: string;
  /** http:// or https:// */
  readonly url: string;
}

export interface AuthorityPeersHost {
  readonly onVote: (bytes: Uint8Array) => void;
  readonly onDescriptors: (descriptors: readonly Uint8Array[]) => Promise<void>;
  readonly onProblem: (message: string) => void;
}

export class AuthorityPeers {
  readonly #peers: readonly AuthorityPeer[];
  readonly #host: AuthorityPeersHost;
  /** Every exchange ends by itself, soon: there is nothing to stop. */
  readonly #never = new AbortController().signal;

  constructor(peers: readonly AuthorityPeer[], host: AuthorityPeersHost) {
    this.#peers = peers;
    this.#host = host;
  }

  broadcast(message: Uint8Array): void {
    for (const { url } of this.#peers) {
      this.#run(async () => {
        await this.#ask(url, '/authority/message', message, 0);
      });
    }
  }

  fetchVote(from: string, digest: string): void {
    this.#run(async () => {
      this.#host.onVote(await this.#ask(this.#urlOf(from), `/authority/vote/${digest}`, undefined, MAX_VOTE_BYTES));
    });
  }

  fetchDescriptors(from: string, digests: readonly string[]): void {
    this.#run(async () => {
      const url = this.#urlOf(from);
      for (let at = 0; at < digests.length; at += MAX_ASKED_DESCRIPTORS) {
        const asked = Buffer.from(digests.slice(at, at + MAX_ASKED_DESCRIPTORS).join(''), 'hex');
        const answer = await this.#ask(url, '/authority/descriptors', asked, MAX_ANSWER_BYTES);
        await this.#host.onDescriptors(decodeDescriptorList(answer));
      }
    });
  }

  #urlOf(key: string): string {
    const peer = this.#peers.find((each) => each.key === key);
    if (peer === undefined) throw new Error(`authority ${key} has no address in authority.peers`);
    return peer.url;
  }

  async #ask(url: string, path: string, body: Uint8Array | undefined, limitBytes: number): Promise<Uint8Array> {
    for (let tries = 1; ; tries++) {
      try {
        const { status, body: answer } = await exchange(url, path, {
          method: body === undefined ? 'GET' : 'POST',
          body,
          limitBytes,
          timeoutMs: TIMEOUT_MS,
          signal: this.#never,
        });
        if (status === 200 || status === 204) return answer;
        throw new Error(`${url} answered ${status}: ${Buffer.from(answer).toString('utf8').trim()}`);
      } catch (error) {
        if (tries >= TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * tries));
      }
    }
  }

  /** What fails is said and otherwise no more than a message that was lost. */
  #run(task: () => Promise<void>): void {
    task().catch((error: Error) => this.#host.onProblem(error.message));
  }
}

/** `(length (4) ‖ descriptor)*`; those that are not known are left out. */
export const encodeDescriptorList = (descriptors: readonly Uint8Array[]): Uint8Array => {
  const writer = new ByteWriter();
  for (const descriptor of descriptors) writer.number(descriptor.length, 4).bytes(descriptor);
  return writer.finish();
};

/** Throws DirectoryError. */
export const decodeDescriptorList = (bytes: Uint8Array): Uint8Array[] => {
  const reader = new ByteReader(bytes, 'list of descriptors');
  const descriptors: Uint8Array[] = [];
  while (reader.left > 0) descriptors.push(reader.take(reader.length(MAX_DESCRIPTOR_BYTES, 'descriptor')));
  return descriptors;
};
