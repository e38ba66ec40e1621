/**
 * Circuits coming and going at the request of neighbours: SETUP, SETUP_REFUSED and DESTROY from a link's control
 * channel. Public-key work is done only for what passed every cheap check, and under load only for those who have
 * paid with a puzzle (docs/protocol.md §4).
 */
import { Drop } from '../drop-reason.ts';
import { type PledgedCircuit, pledgedCircuit } from '../mix/circuit-pledge.ts';
import type { HopSecrets } from '../onion/hop-secrets.ts';
import { LastHop } from '../onion/last-hop.ts';
import { PuzzleIssuer } from '../onion/puzzle.ts';
import { RelayHop } from '../onion/relay-hop.ts';
import { circuitTag, type HopRoute, type MixKeyRing, processTrain } from '../onion/setup-train.ts';
import type { TimeMs } from '../ports.ts';
import type { CircuitEntry, EngineCircuit, EngineContext } from './circuit.ts';
import { randomCid, Travel } from './circuit.ts';
import { ClientCircuit } from './client-circuit.ts';
import { CircuitEnd, type NodeContact } from './contract.ts';
import { LastHopCircuit } from './last-hop-circuit.ts';
import type { LinkSlot } from './link-slot.ts';
import { decodeDestroy, decodeRefused, decodeSetup, LinkMessage, type SetupMessage, sendRefused } from './messages.ts';
import { RelayCircuit } from './relay-circuit.ts';

const DEFAULT_SETUPS_PER_SECOND = 1000;

export interface AdmissionDependencies {
  readonly context: EngineContext;
  readonly circuits: ReadonlySet<EngineCircuit>;
  /** An up or opening link to that node. */
  linkTo(contact: NodeContact, nowMs: TimeMs): LinkSlot | undefined;
  admit(circuit: EngineCircuit): void;
  nextHandle(): number;
  /** A node asked for a puzzle: remembered for the next circuit through it. */
  onPuzzle(nodeId: Uint8Array, difficulty: number, challenge: Uint8Array, nowMs: TimeMs): void;
}

export class Admission {
  readonly keys: MixKeyRing;
  readonly #deps: AdmissionDependencies;
  readonly #puzzles: PuzzleIssuer;
  readonly #setupsPerSecond: number;
  #tokens: number;
  #refilledMs: TimeMs = 0;

  constructor(keys: MixKeyRing, deps: AdmissionDependencies) {
    this.keys = keys;
    this.#deps = deps;
    this.#setupsPerSecond = deps.context.options.setupsPerSecond ?? DEFAULT_SETUPS_PER_SECOND;
    this.#tokens = this.#setupsPerSecond;
    this.#puzzles = new PuzzleIssuer(deps.context.suite, deps.context.random);
  }

  handleMessage(slot: LinkSlot, type: number, body: Uint8Array, nowMs: TimeMs): Drop {
    if (type === LinkMessage.setup) return this.#setup(slot, body, nowMs);
    if (type === LinkMessage.destroy) return this.#destroy(slot, body, nowMs);
    if (type === LinkMessage.setupRefused) return this.#refused(slot, body, nowMs);
    return Drop.badType;
  }

  #setup(slot: LinkSlot, body: Uint8Array, nowMs: TimeMs): Drop {
    const message = decodeSetup(body);
    if (message === undefined) return Drop.badSetup;
    const { context, circuits } = this.#deps;
    const { options } = context;
    if (!options.relay && !options.exit) return this.#refuse(slot, message, CircuitEnd.refused, Drop.notAllowed);
    // Who opened a link asks over it for circuits; the other side opens a link of its own.
    if (slot.link.initiator) return this.#refuse(slot, message, CircuitEnd.refused, Drop.notAllowed);
    if (circuits.size >= options.maxCircuits) return this.#refuse(slot, message, CircuitEnd.limit, Drop.limit);
    if (context.memoryTight()) return this.#refuse(slot, message, CircuitEnd.memory, Drop.memory);
    const excess = this.#takeToken(nowMs);
    if (excess > 0) {
      const { difficulty, challenge } = this.#puzzles.current(excess, nowMs);
      const epk = message.train.subarray(0, 32);
      if (!this.#puzzles.verify(epk, message.puzzleSolution, difficulty, nowMs)) {
        sendRefused(slot.link, message.backwardCid, CircuitEnd.puzzle, options.secrets.nodeId, difficulty, challenge);
        return Drop.limit;
      }
    }
    const result = processTrain(context.suite, this.keys, message.train);
    if (result.drop !== Drop.none) return this.#refuse(slot, message, CircuitEnd.refused, result.drop);
    context.counters.setups++;
    const { route, secrets } = result;
    if (context.host.unixSeconds() > route.expiry) {
      return this.#refuse(slot, message, CircuitEnd.expired, Drop.expired);
    }
    if (route.class === 'cmix' && !context.batches.accepts)
      return this.#refuse(slot, message, CircuitEnd.refused, Drop.notAllowed);

    const pledged = route.class === 'cmix' ? this.#pledged(secrets, route, message.train, result.next) : undefined;
    if (route.nextNodeId !== undefined) {
      const hop = new RelayHop(context.suite, secrets, route);
      return this.#relay(slot, message, hop, route, pledged, result.next, nowMs);
    }
    if (!options.exit || route.action !== 'exit' || result.clientFresh === undefined) {
      return this.#refuse(slot, message, CircuitEnd.refused, Drop.notAllowed);
    }
    const binding = secrets.binding.slice();
    const circuit = new LastHopCircuit(
      context,
      this.#deps.nextHandle(),
      new LastHop(context.suite, secrets, route),
      binding,
      route,
      slot,
      message.forwardCid,
      message.backwardCid,
      pledged,
      nowMs,
    );
    if (!circuit.open(result.clientFresh)) return this.#refuse(slot, message, CircuitEnd.protocol, Drop.badSetup);
    this.#deps.admit(circuit);
    return Drop.none;
  }

  #pledged(secrets: HopSecrets, route: HopRoute, train: Uint8Array, next: Uint8Array): PledgedCircuit {
    const { suite } = this.#deps.context;
    const outward = route.nextNodeId === undefined ? undefined : circuitTag(suite, next);
    return pledgedCircuit(suite, secrets, route, circuitTag(suite, train), outward);
  }

  #relay(
    slot: LinkSlot,
    message: SetupMessage,
    hop: RelayHop,
    route: HopRoute,
    pledged: PledgedCircuit | undefined,
    next: Uint8Array,
    nowMs: TimeMs,
  ): Drop {
    const { context } = this.#deps;
    const { suite, random, host, options } = context;
    const nextNodeId = route.nextNodeId!;
    // A circuit that comes back to us or to where it came from serves nobody but an amplifier.
    const circular =
      suite.equal(nextNodeId, options.secrets.nodeId) ||
      (slot.link.nodeId !== undefined && suite.equal(nextNodeId, slot.link.nodeId));
    const contact = circular || !options.relay ? undefined : host.resolve(nextNodeId);
    const out = contact && this.#deps.linkTo(contact, nowMs);
    if (out === undefined || out.link.state === 'closed') {
      hop.wipe();
      return this.#refuse(slot, message, CircuitEnd.unreachable, Drop.noRoute);
    }
    const outForward = randomCid(random);
    const outBackward = randomCid(random);
    const circuit = new RelayCircuit(
      context,
      hop,
      route,
      slot,
      message.forwardCid,
      message.backwardCid,
      out,
      outForward,
      outBackward,
      pledged,
      nowMs,
    );
    if (!circuit.open()) {
      hop.wipe();
      return this.#refuse(slot, message, CircuitEnd.protocol, Drop.badSetup);
    }
    this.#deps.admit(circuit);
    if (!circuit.passOn(route.nextPuzzleSolution, next, nowMs)) {
      circuit.refuse(CircuitEnd.limit, options.secrets.nodeId, 0, undefined);
      return Drop.sendQueueFull;
    }
    return Drop.none;
  }

  #refuse(slot: LinkSlot, message: SetupMessage, reason: CircuitEnd, drop: Drop): Drop {
    sendRefused(slot.link, message.backwardCid, reason, this.#deps.context.options.secrets.nodeId, 0, undefined);
    return drop;
  }

  /** How far set-ups exceed what is free of charge; 0 = a token was there. */
  #takeToken(nowMs: TimeMs): number {
    const earned = ((nowMs - this.#refilledMs) / 1000) * this.#setupsPerSecond;
    this.#refilledMs = nowMs;
    this.#tokens = Math.min(this.#setupsPerSecond, this.#tokens + earned) - 1;
    // The debt is bounded, or a flood would be held against honest clients long after it ended.
    this.#tokens = Math.max(this.#tokens, -4 * this.#setupsPerSecond);
    return this.#tokens >= 0 ? 0 : Math.ceil(-this.#tokens);
  }

  #destroy(slot: LinkSlot, body: Uint8Array, nowMs: TimeMs): Drop {
    const message = decodeDestroy(body);
    if (message === undefined) return Drop.badSetup;
    const entry: CircuitEntry | undefined = this.#deps.context.cids.get(message.cid, slot);
    if (entry === undefined) return Drop.unknownCircuit;
    if (entry.travel !== message.direction) return Drop.notAllowed;
    entry.circuit.end(message.reason, slot, nowMs);
    return Drop.none;
  }

  #refused(slot: LinkSlot, body: Uint8Array, nowMs: TimeMs): Drop {
    const message = decodeRefused(body);
    if (message === undefined) return Drop.badSetup;
    const entry = this.#deps.context.cids.get(message.backwardCid, slot);
    if (entry === undefined) return Drop.unknownCircuit;
    // A refusal travels towards the client; from that side it would leave the hops behind us with a dead circuit.
    if (entry.travel !== Travel.backward) return Drop.notAllowed;
    const { circuit } = entry;
    if (circuit instanceof ClientCircuit) {
      // A relay may ask for work in the name of others, but not of nodes that have nothing to do with this circuit.
      if (message.reason === CircuitEnd.puzzle && circuit.hasHop(message.refuser)) {
        this.#deps.onPuzzle(message.refuser, message.difficulty, message.challenge, nowMs);
      }
      circuit.refused(message.reason, message.refuser, nowMs);
    } else if (circuit instanceof RelayCircuit) {
      circuit.refuse(message.reason, message.refuser, message.difficulty, message.challenge);
    } else {
      return Drop.badSetup;
    }
    return Drop.none;
  }
}
