/**
 * Guards: the few first hops that a client keeps for months, so that it does not sooner or later begin a circuit at an
 * adversary's node. A state machine without clock or storage, after Tor's proposal 271, simplified.
 *
 * The sample is drawn once by bandwidth and replenished only as its members leave. A member that has carried a circuit
 * is confirmed; the first three of confirmed (in order of confirmation), then sampled (in order of sampling), are
 * primary. Primaries are tried in order; others only while no primary answers. A failure starts a back-off that doubles.
 * The sample with those who left is bounded, so that an adversary who makes guards go away does not get a client to try
 * the whole network. A guard through which circuits fail too often is dropped (path-bias.ts).
 *
 * Dates are Unix seconds and survive clock jumps: in `update` the clock counts only within the view's validity, and dates
 * that turn out to lie in the future are pulled back.
 */
import { REACH_ALL } from '../directory/address.ts';
import type { DirectoryView } from '../directory/view.ts';
import type { Random, UnixSeconds } from '../ports.ts';
import { type Candidate, type NodeSet, networkOf } from './candidates.ts';
import { addSetup, addUse, type BiasCounts, type BiasVerdict, judgeBias, mayDrop, noBiasCounts } from './path-bias.ts';
import { PathError, PathErrorCode } from './path-error.ts';
import { chooseIndex } from './weighted-choice.ts';

export const GUARD_STATE_VERSION = 2;

export const guardDefaults = {
  /** Members of the sample. */
  sampleSize: 20,
  /** With those who are not listed at present. Only when none is left does one of these make room for another. */
  maxSampled: 60,
  primaryCount: 3,
  /** A member that never carried a circuit leaves after this. */
  sampledLifetimeDays: 120,
  /** A confirmed one leaves after this, counted from its confirmation. */
  confirmedLifetimeDays: 180,
  /** A member missing in the views for this long leaves. */
  unlistedLifetimeDays: 20,
  retryFirstSeconds: 5,
  retryMaxSeconds: 1800,
} as const;

export type GuardOptions = { readonly [K in keyof typeof guardDefaults]: number };

/** One member of the sample, as it is persisted. */
export interface GuardRecord {
  /** NodeID, lower-case hex. */
  readonly nodeId: string;
  readonly sampledAt: UnixSeconds;
  readonly confirmedAt: UnixSeconds | null;
  /** When the views began to lack it; null = listed in the last one. */
  readonly unlistedSince: UnixSeconds | null;
  /** Failures since the last success. */
  readonly failures: number;
  /** Not before this, unless nobody else is left. */
  readonly retryAt: UnixSeconds;
  /** What became of circuits through it. */
  readonly bias: BiasCounts;
  /** Dropped for that: never used again, but it stays in the sample for its time, so that it is not drawn anew. */
  readonly droppedAt: UnixSeconds | null;
}

/** JSON-able. Order of `sampled` is the order of sampling. */
export interface GuardState {
  readonly version: typeof GUARD_STATE_VERSION;
  readonly sampled: readonly GuardRecord[];
}

/** What of a verified view is looked at. */
export interface GuardView extends NodeSet {
  readonly view: Pick<DirectoryView, 'validAfter' | 'validUntil'>;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const daySeconds = 86_400;
const maxRecords = 200;
/** What is read: version 1 had no bias counts. */
const oldestVersion = 1;

/** Something to tell the user of a guard. */
export interface GuardWarning {
  readonly nodeId: string;
  readonly verdict: BiasVerdict;
  readonly dropped: boolean;
  readonly counts: BiasCounts;
}

/** A client's guards. The owner persists `state()` whenever `changed` is true. */
export class GuardSet {
  #options: GuardOptions;
  #records: Mutable<GuardRecord>[];
  #changed = false;
  #counted = false;
  /** Members that are listed, but only with addresses of a family that this machine does not have at present. */
  #away: ReadonlySet<string> = new Set();

  /** `state` from parseGuardState, or undefined for a new client. */
  constructor(state?: GuardState, options: Partial<GuardOptions> = {}) {
    this.#options = { ...guardDefaults, ...options };
    this.#records = (state?.sampled ?? []).map((record) => ({ ...record }));
  }

  /** True since a change that `state()` has not been called for. */
  get changed(): boolean {
    return this.#changed;
  }

  /** The same of mere counts: no harm if the last ones are lost. */
  get counted(): boolean {
    return this.#counted;
  }

  /** The state to persist. A copy. */
  state(): GuardState {
    this.#changed = false;
    this.#counted = false;
    return { version: GUARD_STATE_VERSION, sampled: this.#records.map((record) => ({ ...record })) };
  }

  /**
   * Takes in a new view: marks who is listed, drops who is too old or gone too long, draws new members if the sample is
   * short. `exclude` (hex NodeIDs) are never drawn: ourselves. `reach`: ways that this machine has (bits of Reach); members that it
   * does not lead to stay in the sample and are not used.
   */
  update(
    view: GuardView,
    now: UnixSeconds,
    random: Random,
    exclude: readonly string[] = [],
    reach: number = REACH_ALL,
  ): void {
    const eligible = new Map<string, Candidate>();
    for (const candidate of networkOf(view).candidates) {
      if (candidate.descriptor.roles.mix && !exclude.includes(candidate.id)) eligible.set(candidate.id, candidate);
    }
    // A clock that jumped must not make a client change all its guards: long-term dates are never outside what was signed.
    const date = Math.min(Math.max(now, view.view.validAfter), view.view.validUntil);
    this.#clampDates(date, now);
    for (const record of this.#records) this.#markListed(record, eligible.has(record.nodeId), date);
    this.#dropOld(date);
    const reachable = [...eligible.values()].filter((candidate) => (candidate.reach & reach) !== 0);
    const near = new Set(reachable.map(({ id }) => id));
    this.#away = new Set(this.#records.map(({ nodeId }) => nodeId).filter((id) => !near.has(id)));
    this.#replenish(reachable, date, random);
  }

  /**
   * Guards to try, best first (hex NodeIDs): primaries that are not backing off; then the others of the sample that are
   * not. When all are backing off, everyone, who is due soonest first: having no guard at all is worse than trying early.
   */
  usable(now: UnixSeconds): string[] {
    const ready = this.#ranked().filter((record) => record.retryAt <= now);
    return ready.length > 0 ? ready.map((record) => record.nodeId) : this.listed(now);
  }

  /** All of the sample that are listed: those to try now as usable() has them, then those backing off, due soonest first. */
  listed(now: UnixSeconds): string[] {
    const ranked = this.#ranked();
    const ready = ranked.filter((record) => record.retryAt <= now);
    const waiting = ranked.filter((record) => record.retryAt > now).sort((a, b) => a.retryAt - b.retryAt);
    return [...ready, ...waiting].map((record) => record.nodeId);
  }

  /** So many of the sample are primary from now on; the sample itself stays. */
  setPrimaryCount(primaryCount: number): void {
    this.#options = { ...this.#options, primaryCount };
  }

  /** The primary guards, in order, backing off or not. */
  primaries(): string[] {
    return this.#ranked()
      .slice(0, this.#options.primaryCount)
      .map((record) => record.nodeId);
  }

  /**
   * A circuit through this guard was built. If it is not primary and had failed before, then all seemed down and the
   * network is back: the primaries that are backing off become due.
   */
  noteSuccess(nodeId: string, now: UnixSeconds): void {
    const record = this.#find(nodeId);
    if (record === undefined) return;
    const wasDown = record.failures > 0;
    if (!this.primaries().includes(record.nodeId) && wasDown) {
      for (const primary of this.#ranked().slice(0, this.#options.primaryCount)) {
        primary.retryAt = Math.min(primary.retryAt, now);
      }
    }
    if (wasDown || record.confirmedAt === null) this.#changed = true;
    record.failures = 0;
    record.retryAt = 0;
    // The larger, because a clock that is far behind would make the confirmation look too old at once.
    record.confirmedAt ??= Math.max(now, record.sampledAt);
  }

  /** The guard did not answer, or refused the link. Failures further along the circuit are not the guard's. */
  noteFailure(nodeId: string, now: UnixSeconds): void {
    const record = this.#find(nodeId);
    if (record === undefined) return;
    const { retryFirstSeconds, retryMaxSeconds } = this.#options;
    // 2^31 doublings would overflow into Infinity, which JSON has no word for.
    const waitSeconds = Math.min(retryFirstSeconds * 2 ** Math.min(record.failures, 30), retryMaxSeconds);
    record.failures = Math.min(record.failures + 1, 1000);
    record.retryAt = now + waitSeconds;
    this.#changed = true;
  }

  /** A set-up that the guard took succeeded, or failed behind it. Returns a warning when that changes what to think of it. */
  noteSetup(nodeId: string, succeeded: boolean, hops: number, now: UnixSeconds): GuardWarning | undefined {
    return this.#note(nodeId, (counts) => addSetup(counts, succeeded, hops), now);
  }

  /** A circuit through this guard carried something or was ended by us, or broke off before it did. */
  noteUse(nodeId: string, succeeded: boolean, hops: number, now: UnixSeconds): GuardWarning | undefined {
    return this.#note(nodeId, (counts) => addUse(counts, succeeded, hops), now);
  }

  /** What circuits through it say of a guard; `fine` for who is none. */
  verdictOf(nodeId: string): BiasVerdict {
    return judgeBias(this.#find(nodeId)?.bias ?? noBiasCounts);
  }

  /** Of every member that is listed, best first, and of those that were dropped. */
  records(): readonly GuardRecord[] {
    return [...this.#ranked(), ...this.#records.filter((record) => record.droppedAt !== null)];
  }

  #note(nodeId: string, add: (counts: BiasCounts) => BiasCounts, now: UnixSeconds): GuardWarning | undefined {
    const record = this.#find(nodeId);
    if (record === undefined || record.droppedAt !== null) return undefined;
    const before = judgeBias(record.bias);
    record.bias = add(record.bias);
    this.#counted = true;
    const verdict = judgeBias(record.bias);
    const drops = this.#records.flatMap(({ droppedAt }) => droppedAt ?? []);
    const dropped = verdict === 'hostile' && mayDrop(drops, now);
    if (dropped) record.droppedAt = Math.max(now, record.sampledAt);
    if (verdict !== before) this.#changed = true;
    const worse = verdict !== before && verdict !== 'fine' && before !== 'hostile';
    return dropped || worse ? { nodeId: record.nodeId, verdict, dropped, counts: record.bias } : undefined;
  }

  #find(nodeId: string): Mutable<GuardRecord> | undefined {
    const id = nodeId.toLowerCase();
    return this.#records.find((record) => record.nodeId === id);
  }

  /** Listed members: confirmed by date of confirmation, then sampled by date of sampling. */
  #ranked(): Mutable<GuardRecord>[] {
    const listed = this.#records.filter(
      ({ nodeId, unlistedSince, droppedAt }) => unlistedSince === null && droppedAt === null && !this.#away.has(nodeId),
    );
    const confirmed = listed.filter((record) => record.confirmedAt !== null);
    // Array.prototype.sort is stable: equal dates keep the order of sampling.
    confirmed.sort((a, b) => a.confirmedAt! - b.confirmedAt!);
    return [...confirmed, ...listed.filter((record) => record.confirmedAt === null)];
  }

  /** After the clock went back, dates may lie in the future and would never pass. */
  #clampDates(date: UnixSeconds, now: UnixSeconds): void {
    const latestRetry = now + this.#options.retryMaxSeconds;
    for (const record of this.#records) {
      if (record.sampledAt > date) this.#set(record, 'sampledAt', date);
      if (record.confirmedAt !== null && record.confirmedAt > date) this.#set(record, 'confirmedAt', date);
      if (record.unlistedSince !== null && record.unlistedSince > date) this.#set(record, 'unlistedSince', date);
      if (record.droppedAt !== null && record.droppedAt > date) this.#set(record, 'droppedAt', date);
      if (record.retryAt > latestRetry) this.#set(record, 'retryAt', latestRetry);
    }
  }

  #markListed(record: Mutable<GuardRecord>, listed: boolean, now: UnixSeconds): void {
    if (listed) this.#set(record, 'unlistedSince', null);
    else this.#set(record, 'unlistedSince', record.unlistedSince ?? now);
  }

  #dropOld(now: UnixSeconds): void {
    const { sampledLifetimeDays, confirmedLifetimeDays, unlistedLifetimeDays } = this.#options;
    const kept = this.#records.filter((record) => {
      if (record.unlistedSince !== null && now - record.unlistedSince > unlistedLifetimeDays * daySeconds) return false;
      return record.confirmedAt === null
        ? now - record.sampledAt <= sampledLifetimeDays * daySeconds
        : now - record.confirmedAt <= confirmedLifetimeDays * daySeconds;
    });
    if (kept.length < this.#records.length) this.#changed = true;
    this.#records = kept;
  }

  /**
   * Draws by weight, without replacement, until the listed members are `sampleSize` or nobody is left. Who is not fit to
   * be a guard is drawn only in a network that has fewer fit ones than that.
   */
  #replenish(eligible: readonly Candidate[], now: UnixSeconds, random: Random): void {
    const members = new Set(this.#records.map((record) => record.nodeId));
    let listedCount = this.#ranked().length;
    const fit = eligible.filter(({ fitGuard }) => fitGuard);
    const from = fit.length >= this.#options.sampleSize ? fit : eligible;
    const free = from.filter((candidate) => !members.has(candidate.id));
    const weights = free.map((candidate) => candidate.weight);
    while (listedCount < this.#options.sampleSize) {
      if (this.#records.length >= this.#options.maxSampled && !this.#makeRoom(listedCount)) return;
      const index = chooseIndex(weights, random);
      if (index < 0) return;
      weights[index] = 0;
      this.#records.push({
        nodeId: free[index]!.id,
        sampledAt: now,
        confirmedAt: null,
        unlistedSince: null,
        failures: 0,
        retryAt: 0,
        bias: noBiasCounts,
        droppedAt: null,
      });
      listedCount++;
      this.#changed = true;
    }
  }

  /** Only for a client that has none left: who has been gone longest leaves before his time. */
  #makeRoom(listedCount: number): boolean {
    if (listedCount >= this.#options.primaryCount) return false;
    const gone = this.#records.filter((record) => record.unlistedSince !== null);
    const oldest = gone.sort((a, b) => a.unlistedSince! - b.unlistedSince!)[0];
    if (oldest === undefined) return false;
    this.#records = this.#records.filter((record) => record !== oldest);
    return true;
  }

  #set<K extends keyof GuardRecord>(record: Mutable<GuardRecord>, key: K, value: GuardRecord[K]): void {
    if (record[key] === value) return;
    record[key] = value;
    this.#changed = true;
  }
}

/**
 * Checks what was persisted (parsed JSON). Throws PathError BAD_GUARD_STATE that says what is wrong and where; the owner
 * decides whether to start afresh, which costs anonymity and should be told to the user.
 */
export function parseGuardState(value: unknown): GuardState {
  if (typeof value !== 'object' || value === null) throw badState('is not an object');
  const { version, sampled } = value as Record<string, unknown>;
  if (version !== GUARD_STATE_VERSION && version !== oldestVersion) {
    const found = typeof version === 'number' ? String(version) : typeof version;
    throw badState(`has version ${found}; this node reads versions ${oldestVersion} to ${GUARD_STATE_VERSION}`);
  }
  if (!Array.isArray(sampled) || sampled.length > maxRecords) {
    throw badState(`must have a list "sampled" of at most ${maxRecords}`);
  }
  const records = sampled.map((record, i) => parseRecord(record, i, version));
  if (new Set(records.map((record) => record.nodeId)).size !== records.length) throw badState('lists a guard twice');
  return { version: GUARD_STATE_VERSION, sampled: records };
}

function parseRecord(value: unknown, index: number, version: number): GuardRecord {
  const at = `sampled[${index}]`;
  if (typeof value !== 'object' || value === null) throw badState(`has ${at}, which is not an object`);
  const record = value as Record<string, unknown>;
  if (typeof record.nodeId !== 'string' || !/^[0-9a-f]{64}$/.test(record.nodeId)) {
    throw badState(`has ${at}.nodeId, which is not 64 lower-case hex digits`);
  }
  return {
    nodeId: record.nodeId,
    sampledAt: parseDate(record.sampledAt, `${at}.sampledAt`),
    confirmedAt: record.confirmedAt === null ? null : parseDate(record.confirmedAt, `${at}.confirmedAt`),
    unlistedSince: record.unlistedSince === null ? null : parseDate(record.unlistedSince, `${at}.unlistedSince`),
    failures: parseDate(record.failures, `${at}.failures`),
    retryAt: parseDate(record.retryAt, `${at}.retryAt`),
    bias: version === oldestVersion ? noBiasCounts : parseBias(record.bias, `${at}.bias`),
    droppedAt:
      version === oldestVersion || record.droppedAt === null ? null : parseDate(record.droppedAt, `${at}.droppedAt`),
  };
}

function parseBias(value: unknown, at: string): BiasCounts {
  if (typeof value !== 'object' || value === null) throw badState(`has ${at}, which is not an object`);
  const { setups, built, used, held } = value as Record<string, unknown>;
  const counts = {
    setups: parseDate(setups, `${at}.setups`),
    built: parseDate(built, `${at}.built`),
    used: parseDate(used, `${at}.used`),
    held: parseDate(held, `${at}.held`),
  };
  if (counts.built > counts.setups || counts.held > counts.used)
    throw badState(`has ${at} with more successes than tries`);
  return counts;
}

function parseDate(value: unknown, at: string): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) {
    throw badState(`has ${at}, which is not a number from 0 on`);
  }
  return value;
}

function badState(problem: string): PathError {
  return new PathError(PathErrorCode.badGuardState, `guard state ${problem}`);
}
