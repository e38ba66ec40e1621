/**
 * Second-layer guards: who publishes or visits a service makes many circuits at others' bidding, and each one with a new
 * second hop is a chance for an adversary to be next to the guard and so to learn who it is. So the second hops of such
 * circuits are a few that are kept for days (Tor's vanguards-lite, proposal 333). A state machine without clock or storage.
 */
import type { Random, UnixSeconds } from '../ports.ts';
import { networkOf } from './candidates.ts';
import type { GuardView } from './guards.ts';
import { PathError, PathErrorCode } from './path-error.ts';
import { uniform } from './weighted-choice.ts';

export const secondLayerDefaults = {
  count: 4,
  /** Each is kept for the longer of two times drawn evenly from here. */
  minDays: 1,
  maxDays: 12,
} as const;

const version = 1;
const daySeconds = 86_400;

export interface SecondLayerState {
  readonly version: typeof version;
  readonly members: readonly { readonly nodeId: string; readonly until: UnixSeconds }[];
}

export class SecondLayer {
  #members: { nodeId: string; until: UnixSeconds }[];
  #changed = false;

  /** `state` from parseSecondLayerState, or undefined for a new client. */
  constructor(state?: SecondLayerState) {
    this.#members = (state?.members ?? []).map((member) => ({ ...member }));
  }

  get changed(): boolean {
    return this.#changed;
  }

  state(): SecondLayerState {
    this.#changed = false;
    return { version, members: this.#members.map((member) => ({ ...member })) };
  }

  /** NodeIDs (hex) to draw the second hop from. */
  hops(): string[] {
    return this.#members.map(({ nodeId }) => nodeId);
  }

  /**
   * Takes in a view: who left it or whose time is over is replaced, by weight. `exclude` (hex) are never drawn: ourselves
   * and the guards. The clock counts only within the view's validity, so that a jump does not replace everyone.
   */
  update(view: GuardView, now: UnixSeconds, random: Random, exclude: readonly string[]): void {
    const { relays, byId } = networkOf(view);
    const date = Math.min(Math.max(now, view.view.validAfter), view.view.validUntil);
    const latest = date + secondLayerDefaults.maxDays * daySeconds;
    const kept = this.#members.filter(({ nodeId, until }) => {
      const candidate = byId.get(nodeId);
      return candidate?.descriptor.roles.mix === true && until > date && !exclude.includes(nodeId);
    });
    for (const member of kept) member.until = Math.min(member.until, latest);
    const wanted = Math.min(secondLayerDefaults.count, relays.size);
    // A few draws suffice: there are few to avoid. Where there are not, one less is no harm.
    for (let tries = 0; kept.length < wanted && tries < 64; tries++) {
      const { id } = relays.draw(random)!;
      if (exclude.includes(id) || kept.some(({ nodeId }) => nodeId === id)) continue;
      kept.push({ nodeId: id, until: date + lifetimeSeconds(random) });
      this.#changed = true;
    }
    if (kept.length !== this.#members.length) this.#changed = true;
    this.#members = kept;
  }
}

function lifetimeSeconds(random: Random): number {
  const { minDays, maxDays } = secondLayerDefaults;
  const share = Math.max(uniform(random), uniform(random));
  return Math.floor((minDays + share * (maxDays - minDays)) * daySeconds);
}

/** Checks what was persisted (parsed JSON). Throws PathError BAD_GUARD_STATE. */
export function parseSecondLayerState(value: unknown): SecondLayerState {
  const bad = (problem: string) => new PathError(PathErrorCode.badGuardState, `second-layer state ${problem}`);
  if (typeof value !== 'object' || value === null) throw bad('is not an object');
  const { version: found, members } = value as Record<string, unknown>;
  if (found !== version) throw bad(`has no version ${version}`);
  if (!Array.isArray(members) || members.length > 64) throw bad('must have a list "members" of at most 64');
  const parsed = members.map((member: unknown, i) => {
    const { nodeId, until } = (typeof member === 'object' && member !== null ? member : {}) as Record<string, unknown>;
    if (typeof nodeId !== 'string' || !/^[0-9a-f]{64}$/.test(nodeId)) throw bad(`has a bad members[${i}].nodeId`);
    if (typeof until !== 'number' || !(until >= 0 && until <= Number.MAX_SAFE_INTEGER)) {
      throw bad(`has a bad members[${i}].until`);
    }
    return { nodeId, until };
  });
  if (new Set(parsed.map(({ nodeId }) => nodeId)).size !== parsed.length) throw bad('lists a node twice');
  return { version, members: parsed };
}
