/**
 * How authorities come to one view for an epoch: a state machine without clock, sockets or disk.
 *
 * 1. Vote: at a slot's beginning an authority offers its vote to the others.
 * 2. Exchange: who has fetched an offered vote, and every descriptor it names, in time, signs the offer and passes it
 *    on. In phase p an offer needs p signatures (Dolev and Strong 1983), so that no vote can be shown to some only at the
 *    last moment: all honest authorities end with the same votes. A voter of whom two votes were taken has none.
 * 3. Count: consensus.ts makes the view of the votes, the same everywhere.
 * 4. Prepare: everybody says which view came out. 5. Endorse: who sees a threshold agree signs the view, once per epoch
 *    and never another one, and sends the signature with that proof. A threshold of signatures is a view.
 *
 * When a round fails (too few votes, or no agreement because messages came late) the next slot tries again; an
 * authority that has signed already only repeats its signature.
 */
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import type { TimeMs } from '../ports.ts';
import { computeConsensus } from './consensus.ts';
import { nodeIdHex } from './descriptor.ts';
import { DirectoryError } from './directory-error.ts';
import {
  type AuthoritySet,
  type SignedBody,
  signView,
  type ViewBundle,
  type ViewReference,
  type ViewSignature,
  validSigners,
  viewDigest,
} from './view.ts';
import { decodeVote, encodeVote, type FindDescriptor, type Vote, type VoteDraft, voteDigest } from './vote.ts';
import {
  allSigned,
  decodeVotingMessage,
  type EndorseMessage,
  encodeVotingMessage,
  type OfferMessage,
  offerStatement,
  type PrepareMessage,
  prepareStatement,
  type VotingMessage,
} from './voting-messages.ts';
import { nextSlotMs, slotAt, type VotingSchedule, type VotingSlot } from './voting-schedule.ts';

/** Votes of one voter that one authority may bring up in a round: two prove that the voter equivocates. */
const OFFERS_PER_SENDER = 2;
/** Messages of the next slot that each authority may send ahead, as its clock is. */
const EARLY_PER_SENDER = 8;
const MAX_COMPUTED = 8;

export interface VotingOptions {
  readonly authorities: AuthoritySet;
  readonly schedule: VotingSchedule;
  /** The view that this authority signed last, from disk: it never signs another one for that epoch or before. */
  readonly signed?: ViewReference;
  /** Epoch of the last view that a threshold signed. */
  readonly settledEpoch?: number;
}

export interface VotingHost {
  /** What this authority votes for; undefined = it has nothing to say yet. Asked again while there is time. */
  propose(slot: VotingSlot): VoteDraft | undefined;
  /** Descriptors that are here. */
  readonly find: FindDescriptor;
  /** To every other authority. */
  broadcast(message: Uint8Array): void;
  /** Ask authority `from` (hex of its key) for a vote; `handleVote` takes it. */
  fetchVote(from: string, digest: string): void;
  /** Ask for descriptors (hex of digests); `descriptorsArrived` must be called when `find` has more. */
  fetchDescriptors(from: string, digests: readonly string[]): void;
  /** Must be on disk before this returns. */
  signing(view: ViewReference): void;
  /** A view has a threshold of signatures; called again with the same view when there are more. */
  decided(bundle: ViewBundle): void;
  /** Others have decided on a view that could not be computed here: it has to be fetched. */
  decidedElsewhere(signed: SignedBody, sender: string): void;
  onProblem(problem: VotingProblem): void;
}

export type VotingProblem =
  | { readonly kind: 'equivocation'; readonly voter: string; readonly offers: readonly [OfferMessage, OfferMessage] }
  | { readonly kind: 'bad-vote'; readonly voter: string; readonly reason: string }
  | { readonly kind: 'too-few-votes'; readonly epoch: number; readonly votes: number }
  | { readonly kind: 'no-agreement'; readonly epoch: number; readonly prepared: number }
  | { readonly kind: 'fork'; readonly epoch: number; readonly views: readonly [SignedBody, SignedBody] };

/** One vote that somebody offered. */
interface Ballot {
  readonly voter: string;
  readonly voterKey: Uint8Array;
  readonly digest: Uint8Array;
  readonly digestHex: string;
  readonly introducedBy: string;
  readonly signatures: Map<string, ViewSignature>;
  /** Whoever vouched for it, as long as something is still missing. */
  readonly askedFrom: Set<string>;
  bytes: Uint8Array | undefined;
  vote: Vote | undefined;
  state: 'pending' | 'taken' | 'refused';
}

interface Round {
  readonly slot: VotingSlot;
  readonly ballots: Map<string, Ballot>;
  readonly prepares: Map<string, Map<string, ViewSignature>>;
  voted: boolean;
  counted: boolean;
  closed: boolean;
}

/** Signatures gathered for one view. */
interface Tally {
  readonly body: Uint8Array;
  readonly view: SignedBody['view'];
  readonly signatures: Map<string, ViewSignature>;
}

export class Voting {
  readonly #options: VotingOptions;
  readonly #suite: CryptoSuite;
  readonly #key: SignKeyPair;
  readonly #host: VotingHost;
  readonly #self: string;
  readonly #authorities: ReadonlySet<string>;
  #round: Round | undefined;
  #early: VotingMessage[] = [];
  /** By hex of the view's digest, newest last. */
  readonly #computed = new Map<string, ViewBundle>();
  readonly #tallies = new Map<string, Tally>();
  #signed: ViewReference | undefined;
  #endorsement: EndorseMessage | undefined;
  #settledEpoch: number;
  readonly #reported = new Set<string>();

  constructor(options: VotingOptions, key: SignKeyPair, suite: CryptoSuite, host: VotingHost) {
    this.#options = options;
    this.#key = key;
    this.#suite = suite;
    this.#host = host;
    this.#self = nodeIdHex(key.publicKey);
    this.#authorities = new Set(options.authorities.keys.map(nodeIdHex));
    this.#signed = options.signed;
    this.#settledEpoch = options.settledEpoch ?? -1;
  }

  /** Epoch of the newest view with a threshold of signatures, -1 before the first. */
  get settledEpoch(): number {
    return this.#settledEpoch;
  }

  /** A view was taken over from others: no need to vote on its epoch. */
  settle(epoch: number): void {
    this.#settledEpoch = Math.max(this.#settledEpoch, epoch);
  }

  /** The vote with that digest (hex), for others that ask. */
  vote(digest: string): Uint8Array | undefined {
    return this.#round?.ballots.get(digest)?.bytes;
  }

  /** Does what is due. Call at the latest at `nextTimeoutMs`. Times are Unix milliseconds. */
  poll(nowMs: TimeMs): void {
    const slot = slotAt(this.#options.schedule, nowMs);
    if (slot === undefined) this.#close();
    else if (this.#round === undefined || !sameSlot(this.#round.slot, slot)) this.#begin(slot, nowMs);
    const round = this.#round;
    if (round === undefined || round.closed) return;
    this.#propose(round, nowMs);
    if (!round.counted && nowMs >= round.slot.countMs) this.#count(round);
  }

  nextTimeoutMs(nowMs: TimeMs): TimeMs {
    const { schedule } = this.#options;
    const next = nextSlotMs(schedule, nowMs);
    const round = this.#round;
    if (round === undefined || round.closed) return next;
    if (!round.voted && this.#mayVote(round, nowMs)) return Math.min(next, nowMs + Math.max(10, schedule.phaseMs / 8));
    return round.counted ? next : Math.min(next, Math.max(nowMs, round.slot.countMs));
  }

  /** Takes a message of another authority. Throws DirectoryError for one that is malformed. False: of no use (now). */
  handleMessage(bytes: Uint8Array, nowMs: TimeMs): boolean {
    const message = decodeVotingMessage(bytes);
    const sender = nodeIdHex(message.sender);
    if (!this.#authorities.has(sender) || sender === this.#self) return false;
    this.poll(nowMs);
    if (message.type === 'endorse') return this.#endorsed(message, sender);
    const round = this.#round;
    if (round !== undefined && sameSlot(round.slot, message)) return this.#handle(round, message, sender, nowMs);
    return this.#keepEarly(message, nowMs);
  }

  /** Takes a vote that was asked for. Throws DirectoryError for one that is malformed. False: nobody offered it. */
  handleVote(bytes: Uint8Array, nowMs: TimeMs): boolean {
    const digest = nodeIdHex(voteDigest(bytes, this.#suite));
    const round = this.#round;
    const ballot = round?.ballots.get(digest);
    if (round === undefined || ballot === undefined || ballot.vote !== undefined) return false;
    try {
      const vote = decodeVote(bytes);
      if (nodeIdHex(vote.voter) !== ballot.voter || !sameSlot(round.slot, vote)) {
        throw new DirectoryError('BAD_FIELD', 'the vote is of another voter or round than its offer');
      }
      ballot.bytes = new Uint8Array(bytes);
      ballot.vote = vote;
    } catch (error) {
      if (!(error instanceof DirectoryError)) throw error;
      this.#refuse(ballot, error.message);
      return false;
    }
    this.#consider(round, ballot, nowMs);
    return true;
  }

  /** `find` may know more descriptors than before. */
  descriptorsArrived(nowMs: TimeMs): void {
    const round = this.#round;
    if (round === undefined) return;
    for (const ballot of round.ballots.values()) this.#consider(round, ballot, nowMs);
  }

  // --- slots ---

  #begin(slot: VotingSlot, nowMs: TimeMs): void {
    this.#close();
    const closed = slot.epoch <= this.#settledEpoch;
    this.#round = { slot, ballots: new Map(), prepares: new Map(), voted: false, counted: false, closed };
    for (const [digest, { view }] of this.#computed) if (view.epoch < slot.epoch) this.#computed.delete(digest);
    for (const [digest, { view }] of this.#tallies) if (view.epoch < slot.epoch - 1) this.#tallies.delete(digest);
    if (!closed && this.#signed !== undefined && this.#signed.epoch >= slot.epoch) {
      // What is signed can't be taken back: others get the signature again, and nothing else.
      this.#round.voted = true;
      this.#round.counted = true;
      if (this.#endorsement?.epoch === slot.epoch) this.#host.broadcast(encodeVotingMessage(this.#endorsement));
    }
    const early = this.#early;
    this.#early = [];
    for (const message of early) {
      if (message.type === 'endorse' || !sameSlot(slot, message)) continue;
      this.#handle(this.#round, message, nodeIdHex(message.sender), nowMs);
    }
  }

  #close(): void {
    const round = this.#round;
    if (round === undefined || round.closed) return;
    round.closed = true;
    if (!round.counted || round.slot.epoch <= this.#settledEpoch) return;
    const prepared = Math.max(0, ...[...round.prepares.values()].map((signatures) => signatures.size));
    this.#host.onProblem({ kind: 'no-agreement', epoch: round.slot.epoch, prepared });
  }

  #mayVote(round: Round, nowMs: TimeMs): boolean {
    const { schedule, authorities } = this.#options;
    const untilMs = authorities.keys.length === 1 ? round.slot.countMs : round.slot.startMs + schedule.phaseMs / 2;
    return nowMs < untilMs;
  }

  #propose(round: Round, nowMs: TimeMs): void {
    if (round.voted || !this.#mayVote(round, nowMs)) return;
    const { epoch, round: number } = round.slot;
    const draft = this.#host.propose(round.slot);
    if (draft === undefined) return;
    round.voted = true;
    const bytes = encodeVote({ epoch, round: number, voter: this.#key.publicKey, ...draft });
    const ballot = this.#ballot(round, this.#key.publicKey, voteDigest(bytes, this.#suite), this.#self);
    if (ballot === undefined) return;
    ballot.bytes = bytes;
    ballot.vote = decodeVote(bytes);
    this.#take(round, ballot);
    // Alone, there is nobody to wait for.
    if (this.#authorities.size === 1) this.#count(round);
  }

  // --- votes ---

  #handle(round: Round, message: OfferMessage | PrepareMessage, sender: string, nowMs: TimeMs): boolean {
    if (round.closed) return false;
    return message.type === 'offer'
      ? this.#offered(round, message, sender, nowMs)
      : this.#prepared(round, message, sender);
  }

  #offered(round: Round, message: OfferMessage, sender: string, nowMs: TimeMs): boolean {
    if (round.counted) return false;
    const voter = nodeIdHex(message.voter);
    const signers = new Set(message.signatures.map(({ key }) => nodeIdHex(key)));
    if (!signers.has(voter) || !signers.has(sender)) return false;
    const known = round.ballots.get(nodeIdHex(message.digest));
    const fresh = message.signatures.filter(({ key }) => known?.signatures.has(nodeIdHex(key)) !== true);
    if (!allSigned(offerStatement(message), fresh, this.#authorities, this.#suite)) return false;
    const ballot = this.#ballot(round, message.voter, message.digest, sender);
    if (ballot === undefined || ballot.voter !== voter) return false;
    for (const signature of fresh) ballot.signatures.set(nodeIdHex(signature.key), signature);
    if (ballot.state !== 'pending') return true;
    if (ballot.vote === undefined) this.#ask(ballot, sender);
    else this.#consider(round, ballot, nowMs, sender);
    return true;
  }

  /** The ballot of a vote, a new one if `sender` may bring up another. */
  #ballot(round: Round, voterKey: Uint8Array, digest: Uint8Array, sender: string): Ballot | undefined {
    const digestHex = nodeIdHex(digest);
    const known = round.ballots.get(digestHex);
    if (known !== undefined) return known;
    const voter = nodeIdHex(voterKey);
    let introduced = 0;
    for (const other of round.ballots.values()) {
      if (other.voter === voter && other.introducedBy === sender) introduced++;
    }
    if (introduced >= OFFERS_PER_SENDER) return undefined;
    const ballot: Ballot = {
      voter,
      voterKey,
      digest,
      digestHex,
      introducedBy: sender,
      signatures: new Map(),
      askedFrom: new Set(),
      bytes: undefined,
      vote: undefined,
      state: 'pending',
    };
    round.ballots.set(digestHex, ballot);
    return ballot;
  }

  #ask(ballot: Ballot, sender: string): void {
    if (ballot.askedFrom.has(sender)) return;
    ballot.askedFrom.add(sender);
    this.#host.fetchVote(sender, ballot.digestHex);
  }

  /** Takes a vote when everything it names is here and enough others had it in time. */
  #consider(round: Round, ballot: Ballot, nowMs: TimeMs, sender?: string): void {
    if (ballot.state !== 'pending' || ballot.vote === undefined || round.counted || round.closed) return;
    const { schedule } = this.#options;
    const { startMs, countMs } = round.slot;
    if (nowMs >= Math.min(countMs, startMs + ballot.signatures.size * schedule.phaseMs)) return;
    const missing: string[] = [];
    for (const entry of ballot.vote.entries) {
      const digest = nodeIdHex(entry.digest);
      const descriptor = this.#host.find(digest);
      if (descriptor === undefined) missing.push(digest);
      else if (!this.#suite.equal(descriptor.nodeId, entry.nodeId)) {
        this.#refuse(ballot, `its entry for ${nodeIdHex(entry.nodeId)} names the descriptor of another node`);
        return;
      }
    }
    if (missing.length === 0) {
      this.#take(round, ballot);
      return;
    }
    for (const from of sender === undefined ? ballot.askedFrom : [sender]) {
      const key = `descriptors ${from}`;
      if (ballot.askedFrom.has(key) || from.startsWith('descriptors ')) continue;
      ballot.askedFrom.add(key);
      this.#host.fetchDescriptors(from, missing);
    }
  }

  #take(round: Round, ballot: Ballot): void {
    const taken = [...round.ballots.values()].filter(({ voter, state }) => voter === ballot.voter && state === 'taken');
    // Two are proof enough; more change nothing.
    if (taken.length >= OFFERS_PER_SENDER) return;
    ballot.state = 'taken';
    const offer = this.#offerOf(round, ballot);
    const signature = this.#key.sign(offerStatement(offer));
    ballot.signatures.set(this.#self, { key: this.#key.publicKey, signature });
    const message = this.#offerOf(round, ballot);
    if (this.#authorities.size > 1) this.#host.broadcast(encodeVotingMessage(message));
    if (taken.length > 0) {
      const offers = [this.#offerOf(round, taken[0]!), message] as const;
      this.#host.onProblem({ kind: 'equivocation', voter: ballot.voter, offers });
    }
  }

  #offerOf(round: Round, ballot: Ballot): OfferMessage {
    const { epoch, round: number } = round.slot;
    const { voterKey: voter, digest } = ballot;
    const signatures = [...ballot.signatures.values()];
    return { type: 'offer', epoch, round: number, sender: this.#key.publicKey, voter, digest, signatures };
  }

  #refuse(ballot: Ballot, reason: string): void {
    ballot.state = 'refused';
    this.#host.onProblem({ kind: 'bad-vote', voter: ballot.voter, reason });
  }

  // --- the view ---

  #count(round: Round): void {
    round.counted = true;
    const byVoter = Map.groupBy(
      [...round.ballots.values()].filter(({ state }) => state === 'taken'),
      ({ voter }) => voter,
    );
    const votes = [...byVoter.values()].flatMap((ballots) => (ballots.length === 1 ? [ballots[0]!.vote!] : []));
    const { epoch, round: number, validAfter } = round.slot;
    if (votes.length < this.#options.authorities.threshold) {
      // Who has nothing to say yet need not complain that others haven't either.
      if (round.voted) this.#host.onProblem({ kind: 'too-few-votes', epoch, votes: votes.length });
      round.closed = true;
      return;
    }
    const { epochSeconds } = this.#options.schedule;
    const bundle = computeConsensus(votes, { epoch, epochSeconds, validAfter, find: this.#host.find }, this.#suite);
    const digest = viewDigest(bundle.body, this.#suite);
    if (this.#computed.size >= MAX_COMPUTED) this.#computed.delete(this.#computed.keys().next().value!);
    this.#computed.set(nodeIdHex(digest), bundle);
    const signature = this.#key.sign(prepareStatement(epoch, number, digest));
    const message = { type: 'prepare', epoch, round: number, sender: this.#key.publicKey, digest, signature } as const;
    if (this.#authorities.size > 1) this.#host.broadcast(encodeVotingMessage(message));
    this.#addPrepare(round, message, this.#self);
  }

  #prepared(round: Round, message: PrepareMessage, sender: string): boolean {
    const known = [...round.prepares.values()].filter((signatures) => signatures.has(sender)).length;
    if (known >= OFFERS_PER_SENDER) return false;
    const statement = prepareStatement(message.epoch, message.round, message.digest);
    if (!this.#suite.ed25519Verify(message.sender, statement, message.signature)) return false;
    this.#addPrepare(round, message, sender);
    return true;
  }

  #addPrepare(round: Round, { digest, signature, sender: key }: PrepareMessage, sender: string): void {
    const digestHex = nodeIdHex(digest);
    let signatures = round.prepares.get(digestHex);
    if (signatures === undefined) {
      signatures = new Map();
      round.prepares.set(digestHex, signatures);
    }
    signatures.set(sender, { key, signature });
    const bundle = this.#computed.get(digestHex);
    if (bundle === undefined || signatures.size < this.#options.authorities.threshold) return;
    this.#sign(bundle, digest, round.slot.round, [...signatures.values()]);
  }

  /** Signs a view that a threshold has prepared, unless another one was signed for that epoch. */
  #sign(bundle: ViewBundle, digest: Uint8Array, round: number, prepares: readonly ViewSignature[]): void {
    const { epoch } = bundle.view;
    if (this.#signed !== undefined && this.#signed.epoch >= epoch) return;
    this.#signed = { epoch, digest };
    this.#host.signing(this.#signed);
    const { view, body, signatures } = signView(bundle, this.#key);
    this.#endorsement = {
      type: 'endorse',
      epoch,
      round,
      sender: this.#key.publicKey,
      signed: { view, body, signatures },
      prepares,
    };
    if (this.#authorities.size > 1) this.#host.broadcast(encodeVotingMessage(this.#endorsement));
    this.#tally({ view, body, signatures }, this.#self);
  }

  #endorsed({ signed, prepares, epoch, round }: EndorseMessage, sender: string): boolean {
    const current = this.#round?.slot.epoch;
    if (current === undefined || epoch < current - 1 || epoch > current + 1) return false;
    const signers = new Set(signed.signatures.map(({ key }) => nodeIdHex(key)));
    if (signers.size !== signed.signatures.length || !signers.isSubsetOf(this.#authorities)) return false;
    const digest = viewDigest(signed.body, this.#suite);
    const digestHex = nodeIdHex(digest);
    const known = this.#tallies.get(digestHex);
    const isNew = signed.signatures.some(({ key }) => known?.signatures.has(nodeIdHex(key)) !== true);
    if (!isNew) return false;
    const bundle = this.#computed.get(digestHex);
    const { threshold } = this.#options.authorities;
    const mayBeSigned = bundle !== undefined && (this.#signed?.epoch ?? -1) < epoch;
    if (mayBeSigned && prepares.length >= threshold) {
      if (allSigned(prepareStatement(epoch, round, digest), prepares, this.#authorities, this.#suite)) {
        this.#sign(bundle, digest, round, prepares);
      }
    }
    return this.#tally(signed, sender);
  }

  /** Adds valid signatures to a view's tally. False: none was new. */
  #tally(signed: SignedBody, sender: string): boolean {
    const { authorities } = this.#options;
    const signers = validSigners(signed, authorities, this.#suite);
    if (signers.size === 0) return false;
    const digestHex = nodeIdHex(viewDigest(signed.body, this.#suite));
    let tally = this.#tallies.get(digestHex);
    if (tally === undefined) {
      const { epoch } = signed.view;
      // Each authority may have signed one view of an epoch, or two if it lies: the number of tallies is bounded.
      const others = [...this.#tallies.values()].filter(({ view }) => view.epoch === epoch).length;
      if (others >= OFFERS_PER_SENDER * this.#authorities.size) return false;
      tally = { body: signed.body, view: signed.view, signatures: new Map() };
      this.#tallies.set(digestHex, tally);
    }
    const before = tally.signatures.size;
    for (const signature of signed.signatures) {
      const id = nodeIdHex(signature.key);
      if (signers.has(id) && !tally.signatures.has(id)) tally.signatures.set(id, signature);
    }
    if (tally.signatures.size === before) return false;
    if (tally.signatures.size >= authorities.threshold) this.#decide(tally, digestHex, sender);
    return true;
  }

  #decide(tally: Tally, digestHex: string, sender: string): void {
    const { view, body } = tally;
    const signatures = [...tally.signatures.values()];
    this.#settledEpoch = Math.max(this.#settledEpoch, view.epoch);
    if (this.#round?.slot.epoch === view.epoch && this.#round.counted) this.#round.closed = true;
    for (const other of this.#tallies.values()) {
      if (other === tally || other.view.epoch !== view.epoch) continue;
      if (other.signatures.size < this.#options.authorities.threshold || this.#reported.has(digestHex)) continue;
      this.#reported.add(digestHex);
      const second = { view: other.view, body: other.body, signatures: [...other.signatures.values()] };
      this.#host.onProblem({ kind: 'fork', epoch: view.epoch, views: [{ view, body, signatures }, second] });
    }
    const bundle = this.#computed.get(digestHex);
    if (bundle !== undefined) this.#host.decided({ ...bundle, signatures });
    else this.#host.decidedElsewhere({ view, body, signatures }, sender);
  }

  /** A peer's clock is ahead of ours: what it says of the next slot is kept until then. */
  #keepEarly(message: OfferMessage | PrepareMessage, nowMs: TimeMs): boolean {
    const { schedule } = this.#options;
    let next = slotAt(schedule, nextSlotMs(schedule, nowMs));
    // What is left of an epoch after its last round is no slot.
    next ??= slotAt(schedule, nextSlotMs(schedule, nextSlotMs(schedule, nowMs)));
    if (next === undefined || !sameSlot(next, message)) return false;
    const sender = nodeIdHex(message.sender);
    const kept = this.#early.filter((other) => nodeIdHex(other.sender) === sender).length;
    if (kept >= EARLY_PER_SENDER) return false;
    this.#early.push(message);
    return true;
  }
}

function sameSlot(a: { epoch: number; round: number }, b: { epoch: number; round: number }): boolean {
  return a.epoch === b.epoch && a.round === b.round;
}
