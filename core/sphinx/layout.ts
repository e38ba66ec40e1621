/**
 * Where things are in a Sphinx packet (docs/protocol.md §9): the plaintext of one message cell, 1240 bytes.
 *
 *   0     32                          424   440                              1240
 *   | α   | β: 7 blocks of 56         | γ   | δ: zeros (16) ‖ payload (784)   |
 *
 *   block = NodeID of the next hop, or at the last one a reply id ‖ zeros (32)
 *           ‖ delay ms (4) ‖ command (1) ‖ zeros (3) ‖ γ for the next hop (16)
 */
import { CT_BYTES, MAX_HOPS } from '../wire/datagram.ts';

export const ALPHA_BYTES = 32;
export const BLOCK_BYTES = 56;
export const BETA_BYTES = MAX_HOPS * BLOCK_BYTES;
export const GAMMA_BYTES = 16;
export const BETA_AT = 32;
export const GAMMA_AT = BETA_AT + BETA_BYTES;
export const DELTA_AT = GAMMA_AT + GAMMA_BYTES;
/** All that stands before the payload. */
export const HEADER_BYTES = ALPHA_BYTES + BETA_BYTES + GAMMA_BYTES;
/** A whole packet. */
export const PACKET_BYTES = CT_BYTES;
export const DELTA_BYTES = PACKET_BYTES - DELTA_AT;
/** Zeros at the beginning of a payload that the last hop checks. */
export const CHECK_BYTES = 16;
/** What a message carries, for every number of hops. */
export const MESSAGE_BYTES = DELTA_BYTES - CHECK_BYTES;

export const NODE_ID_BYTES = 32;
export const REPLY_ID_BYTES = 16;
// Within a block.
export const DELAY_AT = 32;
export const COMMAND_AT = DELAY_AT + 4;
export const BLOCK_GAMMA_AT = BLOCK_BYTES - GAMMA_BYTES;

/** How long a sender may have a hop hold a packet. */
export const MAX_MESSAGE_DELAY_MS = 600_000;

/**
 * What a hop does with a packet. `forward`: passes it on; `deliver`: it is the last one, and checks the payload; `reply`:
 * the last one of a reply block, whose payload only the block's maker can open; `drop`: cover, ends here.
 */
export const Command = { forward: 0, deliver: 1, reply: 2, drop: 3 } as const;
export type Command = (typeof Command)[keyof typeof Command];
