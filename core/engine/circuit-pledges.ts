/**
 * Pledges of class cmix on their way back along a circuit that is being set up (core/mix/circuit-pledge.ts): the last hop begins
 * with its own, each hop before it puts its own in front as soon as it is signed.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { joinBytes } from '../directory/bytes.ts';
import { Drop } from '../drop-reason.ts';
import { LinkMessage } from '../link/contract.ts';
import type { Link } from '../link/link.ts';
import { addPledge, PLEDGE_TRAIN_BYTES, type PledgedCircuit } from '../mix/circuit-pledge.ts';
import type { Random } from '../ports.ts';
import { CID_BYTES } from '../wire/datagram.ts';
import { Cid } from './cid-table.ts';

export interface PledgesMessage {
  readonly backwardCid: Cid;
  readonly train: Uint8Array;
}

/** `cid backward (12) ‖ pledges (1456)` */
export function decodePledges(body: Uint8Array): PledgesMessage | undefined {
  if (body.length !== CID_BYTES + PLEDGE_TRAIN_BYTES) return undefined;
  return { backwardCid: Cid.read(body, 0), train: body.slice(CID_BYTES) };
}

export function sendPledges(link: Link, backwardCid: Cid, train: Uint8Array): void {
  const cid = new Uint8Array(CID_BYTES);
  backwardCid.write(cid, 0);
  // A full control channel means a peer that does not read; it finds out by the pledges that it waits for.
  link.send(LinkMessage.pledges, joinBytes(cid, train));
}

/** One hop's part in it. */
export class HopPledge {
  readonly #suite: CryptoSuite;
  readonly #trainKey: Uint8Array;
  readonly #send: (train: Uint8Array) => void;
  #own: Uint8Array | undefined = undefined;
  #later: Uint8Array | undefined = undefined;
  #done = false;

  /** @param send gets the train for the hop before, once. */
  constructor(suite: CryptoSuite, { trainKey }: PledgedCircuit, send: (train: Uint8Array) => void) {
    this.#suite = suite;
    this.#trainKey = trainKey;
    this.#send = send;
  }

  /** Our own is signed. */
  signed(slot: Uint8Array): void {
    this.#own ??= slot;
    this.#passOn();
  }

  /** Those of later hops are here. Keeps them. */
  take(later: Uint8Array): Drop {
    if (this.#later !== undefined || this.#done) return Drop.notAllowed;
    this.#later = later;
    this.#passOn();
    return Drop.none;
  }

  /** There are no later hops: nobody on the way is to see that. */
  endHere(random: Random): void {
    const later = new Uint8Array(PLEDGE_TRAIN_BYTES);
    random.fill(later);
    this.take(later);
  }

  /** The circuit is gone. */
  wipe(): void {
    this.#done = true;
    this.#suite.wipe(this.#trainKey);
  }

  #passOn(): void {
    const own = this.#own;
    const later = this.#later;
    if (own === undefined || later === undefined || this.#done) return;
    this.#done = true;
    // Circuits live for long.
    this.#own = undefined;
    this.#later = undefined;
    this.#send(addPledge(this.#suite, this.#trainKey, own, later));
  }
}
