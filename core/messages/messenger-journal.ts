/**
 * What of a messenger outlives a restart: messages on their way, anonymous replies that have not left, reply blocks of others
 * that were used, and which messages came already. Reply blocks of our own do not: their secrets are never written down, and
 * whoever waits for a status asks again over another one.
 */
import type { TimeMs, UnixSeconds } from '../ports.ts';
import type { MessageState } from './answer-seal.ts';

export type KeptEntry =
  /** A message that waits for its recipient's keys. `name`: hex of its id. */
  | {
      readonly kind: 'waiting';
      readonly name: string;
      readonly nodeId: Uint8Array;
      readonly mailboxId: Uint8Array;
      readonly deadlineMs: TimeMs;
      readonly content: Uint8Array;
    }
  /** One that is sealed: its fragments must be the same ones again. In place of `waiting` under the same name. */
  | {
      readonly kind: 'outgoing';
      readonly name: string;
      readonly nodeId: Uint8Array;
      readonly mailboxId: Uint8Array;
      readonly x25519: Uint8Array;
      readonly deadlineMs: TimeMs;
      readonly blob: Uint8Array;
    }
  /** All of its fragments have left once. */
  | { readonly kind: 'sent'; readonly name: string }
  /** A packet of an anonymous reply. `name`: that of the reply ‖ `:` ‖ its place in it. */
  | { readonly kind: 'answer'; readonly name: string; readonly payload: Uint8Array; readonly last: boolean }
  | { readonly kind: 'used'; readonly name: string; readonly expires: UnixSeconds }
  /** A message that came, by mailbox ‖ `:` ‖ id: stored, or not to be opened. */
  | { readonly kind: 'finished'; readonly name: string; readonly state: MessageState };

export type KeptKind = KeptEntry['kind'];

/** What it is told may be written later, in this order. */
export interface MessengerJournal {
  keep(entry: KeptEntry): void;
  forget(kind: KeptKind, name: string): void;
}

export const noJournal: MessengerJournal = { keep: () => {}, forget: () => {} };
