/**
 * What a node does with a Sphinx packet that it is given (Danezis and Goldberg 2009, §3.6), step by step:
 *
 * 1. the secret shared with the sender, under each epoch's mix key that is held, newest first; γ tells which is right;
 * 2. the packet is remembered by a tag, and refused when it was here before;
 * 3. the first block of β is what to do, the rest with 56 zeros behind is the next hop's β, under the keystream;
 * 4. one layer of the payload comes off, and α is blinded for the next hop.
 */
import { ZERO_NONCE } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { SetupMemory } from '../engine/contract.ts';
import type { HopContext, HopKeys } from './hop-keys.ts';
import {
  ALPHA_BYTES,
  BETA_AT,
  BETA_BYTES,
  BLOCK_BYTES,
  BLOCK_GAMMA_AT,
  CHECK_BYTES,
  COMMAND_AT,
  Command,
  DELAY_AT,
  DELTA_AT,
  GAMMA_AT,
  GAMMA_BYTES,
  MAX_MESSAGE_DELAY_MS,
  NODE_ID_BYTES,
  PACKET_BYTES,
  REPLY_ID_BYTES,
} from './layout.ts';
import { Lioness } from './lioness.ts';
import { hasCheck } from './reply-block.ts';

export { Command } from './layout.ts';

/** One epoch's mix key as the message lane uses it. */
export interface MessageKeys {
  readonly dh: { agree(alpha: Uint8Array): Uint8Array | undefined };
  readonly context: HopContext;
  /** The packets seen under this key, for as long as it lives. */
  readonly seenMessages: SetupMemory;
}

/**
 * Processes packets in memory of its own. After `Drop.none` the fields below tell what to do; all views are the
 * relay's, and good until the next call.
 */
export class SphinxRelay {
  readonly #suite: CryptoSuite;
  readonly #lioness: Lioness;
  readonly #wide = new Uint8Array(BETA_BYTES + BLOCK_BYTES);
  readonly #wideView = new DataView(this.#wide.buffer);
  readonly #nextBeta = this.#wide.subarray(BLOCK_BYTES);
  readonly #nextGamma = this.#wide.subarray(BLOCK_GAMMA_AT, BLOCK_BYTES);
  readonly #mac = new Uint8Array(GAMMA_BYTES);
  readonly #packet = new Uint8Array(PACKET_BYTES);
  readonly #alpha = this.#packet.subarray(0, ALPHA_BYTES);
  readonly #beta = this.#packet.subarray(BETA_AT, BETA_AT + BETA_BYTES);
  readonly #gamma = this.#packet.subarray(GAMMA_AT, GAMMA_AT + GAMMA_BYTES);
  readonly #delta = this.#packet.subarray(DELTA_AT);

  command: Command = Command.forward;
  /** How long to hold the packet, or what it brought, at this hop: 0…600 000. */
  delayMs = 0;
  /** `forward`: the next hop, 32 bytes. */
  readonly nextNodeId = this.#wide.subarray(0, NODE_ID_BYTES);
  /** `reply`: which of its maker's blocks, 16 bytes. */
  readonly replyId = this.#wide.subarray(0, REPLY_ID_BYTES);
  /** `forward`: the packet for the next hop, 1240 bytes. */
  readonly next = this.#packet;
  /** `deliver`: the message, 784 bytes. */
  readonly message = this.#packet.subarray(DELTA_AT + CHECK_BYTES);
  /** `reply`: what openReply() takes, 800 bytes. */
  readonly reply = this.#delta;

  constructor(suite: CryptoSuite) {
    this.#suite = suite;
    this.#lioness = new Lioness(suite);
  }

  /**
   * Borrows `packet`. `badMessage`: no key that is held fits (made for another epoch or node, or changed on the way), or
   * what it says can't be; `messageReplayed`; `limit`: the epoch's memory of packets is full.
   */
  process(keysByAge: readonly MessageKeys[], packet: Uint8Array): Drop {
    if (packet.length !== PACKET_BYTES) return Drop.badMessage;
    this.#packet.set(packet);
    for (let i = 0; i < keysByAge.length; i++) {
      const epochKeys = keysByAge[i]!;
      const shared = epochKeys.dh.agree(this.#alpha);
      // Of low order: the result would be zero under every key.
      if (shared === undefined) return Drop.badMessage;
      const keys = epochKeys.context.derive(this.#suite, shared, this.#alpha);
      this.#suite.blake2b(this.#mac, keys.mac, this.#beta);
      const fits = this.#suite.equal(this.#mac, this.#gamma);
      const drop = fits ? this.#open(keys, epochKeys.seenMessages) : Drop.badMessage;
      this.#suite.wipe(shared, keys.all);
      if (fits) return drop;
    }
    return Drop.badMessage;
  }

  #open(keys: HopKeys, seen: SetupMemory): Drop {
    const wide = this.#wide;
    wide.set(this.#beta);
    wide.fill(0, BETA_BYTES);
    this.#suite.chacha20Xor(wide, wide, ZERO_NONCE, 0, keys.stream);
    if (!this.#readBlock()) return Drop.badMessage;
    const noted = seen.note(keys.replayTag);
    if (noted !== Drop.none) return noted === Drop.setupReplayed ? Drop.messageReplayed : noted;
    if (this.command === Command.drop) return Drop.none;
    this.#lioness.decrypt(keys.payload, this.#delta);
    if (this.command === Command.deliver) return hasCheck(this.#delta) ? Drop.none : Drop.badMessage;
    if (this.command === Command.reply) return Drop.none;
    // The blinded α of a point that is not of low order is none either.
    this.#suite.x25519Multiply(this.#alpha, keys.blinding, this.#alpha);
    this.#beta.set(this.#nextBeta);
    this.#gamma.set(this.#nextGamma);
    return Drop.none;
  }

  #readBlock(): boolean {
    const wide = this.#wide;
    const command = wide[COMMAND_AT]!;
    if (command > Command.drop || (wide[COMMAND_AT + 1]! | wide[COMMAND_AT + 2]! | wide[COMMAND_AT + 3]!) !== 0) {
      return false;
    }
    this.command = command as Command;
    this.delayMs = this.#wideView.getUint32(DELAY_AT);
    if (this.delayMs > MAX_MESSAGE_DELAY_MS) return false;
    let idBits = 0;
    const used = this.command === Command.forward ? NODE_ID_BYTES : this.command === Command.reply ? REPLY_ID_BYTES : 0;
    for (let i = used; i < NODE_ID_BYTES; i++) idBits |= wide[i]!;
    return idBits === 0;
  }
}
