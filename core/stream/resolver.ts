/** RESOLVE and RESOLVED: the client's questions and the server's answers, each until it is acknowledged. */
import type { ResolvedEntry } from '../wire/frames.ts';
import { resolvedSize } from '../wire/frames.ts';
import type { ResolvedAddress, SessionApi } from './contract.ts';
import { SessionError } from './contract.ts';

const MAX_QUESTIONS = 64;
/** A peer that asks more than this at once breaks the protocol. */
const MAX_PEER_QUESTIONS = 256;
const MAX_ANSWER_BYTES = 1000;

type OnResult = Parameters<SessionApi['resolve']>[2];

interface Question {
  readonly kind: number;
  readonly value: string;
  readonly onResult: OnResult;
}

interface Answer {
  readonly status: number;
  readonly entries: readonly ResolvedEntry[];
}

/** The client's side. */
export class Questions {
  readonly #open = new Map<number, Question>();
  /** Ids that wait to be sent (again). */
  readonly queue: number[] = [];
  #nextId = 0;

  /** False when too many are open. */
  ask(kind: number, value: string, onResult: OnResult): boolean {
    if (this.#open.size >= MAX_QUESTIONS) return false;
    const id = this.#nextId++;
    this.#open.set(id, { kind, value, onResult });
    this.queue.push(id);
    return true;
  }

  get(id: number): Question | undefined {
    return this.#open.get(id);
  }

  onLost(id: number): void {
    if (this.#open.has(id)) this.queue.push(id);
  }

  /** True for ids that were never used: only a broken peer answers those. */
  neverAsked(id: number): boolean {
    return id >= this.#nextId;
  }

  answer(id: number, status: number, entries: readonly ResolvedEntry[]): void {
    const question = this.#open.get(id);
    if (question === undefined) return;
    this.#open.delete(id);
    if (status !== SessionError.noError) {
      question.onResult(undefined, undefined, status);
      return;
    }
    const addresses: ResolvedAddress[] = [];
    let name: string | undefined;
    for (const { family, value, ttlSeconds } of entries) {
      if (family === 4 || family === 6) addresses.push({ family, address: value, ttlSeconds });
      else name = value;
    }
    question.onResult(addresses, name, SessionError.noError);
  }

  /** Every open question fails with `code`. */
  failAll(code: number): void {
    this.queue.length = 0;
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const question of open) question.onResult(undefined, undefined, code);
  }
}

/** The server's side. */
export class Answers {
  /** undefined = asked, not answered yet. */
  readonly #open = new Map<number, Answer | undefined>();
  readonly queue: number[] = [];

  /** 'new' = ask the host; 'known' = a repetition; 'tooMany' = the peer broke the limit. */
  onQuestion(id: number): 'new' | 'known' | 'tooMany' {
    if (this.#open.has(id)) return 'known';
    if (this.#open.size >= MAX_PEER_QUESTIONS) return 'tooMany';
    this.#open.set(id, undefined);
    return 'new';
  }

  /** Leaves out the last addresses when they do not fit one frame. False for an unknown or answered id. */
  answer(id: number, status: number, entries: ResolvedEntry[]): boolean {
    if (!this.#open.has(id) || this.#open.get(id) !== undefined) return false;
    while (resolvedSize(entries) > MAX_ANSWER_BYTES) entries.pop();
    this.#open.set(id, { status, entries });
    this.queue.push(id);
    return true;
  }

  get(id: number): Answer | undefined {
    return this.#open.get(id);
  }

  onAcked(id: number): void {
    this.#open.delete(id);
  }

  onLost(id: number): void {
    if (this.#open.get(id) !== undefined) this.queue.push(id);
  }

  clear(): void {
    this.#open.clear();
    this.queue.length = 0;
  }
}
