/** A session over several circuits to one last hop, in virtual time: circuits come, die and are replaced; streams go on. */
import type { SessionHost, SessionOptions } from '@nyx/core/stream/contract.ts';
import type { Session } from '@nyx/core/stream/session.ts';
import type { SessionPath } from '@nyx/core/stream/session-path.ts';
import { ATTACH_BYTES, SESSION_ID_BYTES } from '@nyx/core/wire/frames.ts';
import { Endpoint, PathEnd, SeededRandom, VirtualClock, type WayOptions } from './stream-sim.ts';

/** Stands for the session's id and for the proof that only its client can make (test/sim knows no keys). */
const SESSION_ID = new Uint8Array(SESSION_ID_BYTES).fill(7);
const PROOF = new Uint8Array(ATTACH_BYTES - SESSION_ID_BYTES).fill(9);

export interface Circuit {
  readonly client: PathEnd;
  readonly server: PathEnd;
}

export interface MultipathOptions {
  readonly seed: number;
  readonly first: WayOptions;
  readonly client?: Partial<SessionOptions>;
  readonly server?: Partial<SessionOptions>;
  readonly serverHost?: Partial<SessionHost>;
}

export class MultipathPair {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly client: Session;
  readonly server: Session;
  readonly circuits: Circuit[] = [];
  readonly closes: { client: number[]; server: number[] } = { client: [], server: [] };
  detached = 0;
  readonly #serverOptions: Partial<SessionOptions>;

  constructor(options: MultipathOptions) {
    this.random = new SeededRandom(options.seed);
    this.#serverOptions = options.server ?? {};
    const client = new Endpoint(
      this.clock,
      this.random,
      options.first,
      { ...options.client, role: 'client' },
      { onDetached: () => void this.detached++, onClose: (code) => void this.closes.client.push(code) },
    );
    const server = new Endpoint(
      this.clock,
      this.random,
      options.first,
      { ...this.#serverOptions, role: 'server' },
      { ...options.serverHost, onDetached: () => {}, onClose: (code) => void this.closes.server.push(code) },
    );
    client.peer = server;
    server.peer = client;
    this.client = client.session;
    this.server = server.session;
    this.circuits.push({ client, server });
  }

  /** A new circuit to the last hop, of which the client asks that its session adopt it. */
  attach(way: WayOptions, id = SESSION_ID, proof = PROOF): Circuit {
    const { clock, random } = this;
    const client = new PathEnd(clock, random, way);
    client.path = this.client.addPath(
      client,
      Uint8Array.of(...id, ...proof),
      [1, this.circuits.length],
      0,
      clock.nowMs,
    );
    const server = new Endpoint(
      clock,
      random,
      way,
      { ...this.#serverOptions, role: 'server' },
      {
        onAttach: (path, sessionId, given) => this.#onAttach(path, sessionId, given),
        onClose: () => {},
      },
    );
    client.peer = server;
    server.peer = client;
    client.wake();
    const circuit = { client, server };
    this.circuits.push(circuit);
    return circuit;
  }

  #onAttach(path: SessionPath, sessionId: Uint8Array, proof: Uint8Array): boolean {
    if (!same(sessionId, SESSION_ID) || !same(proof, PROOF) || this.server.closed) return false;
    this.server.adopt(path);
    return true;
  }

  /** A relay of the circuit dies: nothing passes any more, and each end hears of it after `noticeMs` (or never). */
  kill({ client, server }: Circuit, noticeMs: number): void {
    client.cut = true;
    server.cut = true;
    if (noticeMs === Number.POSITIVE_INFINITY) return;
    for (const end of [client, server])
      this.clock.at(this.clock.nowMs + noticeMs, () => end.path.lost(this.clock.nowMs));
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
