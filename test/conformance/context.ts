/** What cases share: the target, a peer, a link and a circuit that are known to work, and fences. */
import { encodeRoute, equal } from './codec.ts';
import type { TestNode } from './node.ts';
import { type Attempt, answerTo, attempt, Peer, type Target, TestCircuit, TestLink } from './peer.ts';
import { Services } from './services.ts';

export type Level = 'Core' | 'Plus' | 'Full';

export interface Case {
  readonly id: string;
  /** Section of docs/protocol.md. */
  readonly section: string;
  readonly level: Level;
  readonly rule: string;
  /** Throws what is wrong. */
  readonly run: (context: Context) => Promise<void>;
}

export function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(problem);
}

/** A response is repeated for 10 s. */
const FENCE_LIFE_MS = 7000;
const REPEAT_PATIENCE_MS = 1000;
/** When a node begins to ask whether a link is alive on which it has sent cells (§2.3). */
const LINK_SILENCE_MS = 1000;
/** Handshakes a second that the target takes without asking for a cookie, with room to spare. */
const HANDSHAKES_PER_SECOND = 150;

export class Context {
  readonly peer: Peer;
  /** The other node of the target's view. */
  readonly node: TestNode;
  #fence: { attempt: Attempt; response: Uint8Array; madeMs: number } | undefined;
  #link: TestLink | undefined;
  #circuit: TestCircuit | undefined;
  #linkUsedMs = 0;
  #handshakes: number[] = [];
  #services: Services | undefined;
  readonly #shared = new Map<string, Promise<unknown>>();

  private constructor(peer: Peer, node: TestNode) {
    this.peer = peer;
    this.node = node;
  }

  static async open(target: Target, node: TestNode): Promise<Context> {
    return new Context(await Peer.open(target), node);
  }

  close(): void {
    this.peer.close();
    this.#services?.close();
  }

  /** What the target is asked to connect to. */
  async services(): Promise<Services> {
    this.#services ??= await Services.open();
    return this.#services;
  }

  /** Keeps handshakes below the rate at which the target asks for cookies. */
  async pace(): Promise<void> {
    const now = performance.now();
    this.#handshakes = this.#handshakes.filter((time) => time > now - 1000);
    if (this.#handshakes.length >= HANDSHAKES_PER_SECOND) await sleep(this.#handshakes[0]! + 1000 - now);
    this.#handshakes.push(performance.now());
  }

  /**
   * Returns when the target has dealt with every handshake datagram sent before: it answers in order, and an init that
   * was answered is answered again.
   */
  async fence(): Promise<void> {
    if (this.#fence === undefined || performance.now() - this.#fence.madeMs > FENCE_LIFE_MS) await this.#makeFence();
    const { attempt: made, response } = this.#fence!;
    this.peer.send(made.datagrams[0]);
    const again = await this.peer.next([made.id], REPEAT_PATIENCE_MS);
    // On a machine that stands still for seconds a response may have been forgotten: a new one comes in order as well.
    if (again === undefined) await this.#makeFence();
    else check(equal(again, response), 'a repeated init got another response');
  }

  async #makeFence(): Promise<void> {
    await this.pace();
    const made = attempt(this.peer);
    for (const datagram of made.datagrams) this.peer.send(datagram);
    const response = await this.peer.next([made.id]);
    check(response !== undefined, 'a good init was not answered');
    this.#fence = { attempt: made, response, madeMs: performance.now() };
  }

  /** Sends what must not be answered under `id`, and finds out. */
  async refused(datagrams: readonly Uint8Array[], id: Uint8Array): Promise<void> {
    for (const datagram of datagrams) this.peer.send(datagram);
    await this.fence();
    check(this.peer.count(id) === 0, 'it was answered');
    this.peer.forget(id);
  }

  /** Sends an init and reads its answer, which must come. */
  async answered(made: Attempt): Promise<NonNullable<Awaited<ReturnType<typeof answerTo>>>> {
    await this.pace();
    for (const datagram of made.datagrams) this.peer.send(datagram);
    const answer = await answerTo(this.peer, made);
    check(answer !== undefined, 'it was not answered');
    return answer;
  }

  /** A link that works, shared by cases that leave it so. Of one that was silent for longer the target may think that it is dead. */
  async link(): Promise<TestLink> {
    if (performance.now() - this.#linkUsedMs > LINK_SILENCE_MS) {
      this.#link = undefined;
      this.#circuit = undefined;
    }
    this.#linkUsedMs = performance.now();
    this.#link ??= await this.newLink();
    return this.#link;
  }

  async newLink(): Promise<TestLink> {
    await this.pace();
    return await TestLink.open(this.peer);
  }

  /** A circuit that works and is past its reply, shared by cases that leave it so. */
  async circuit(): Promise<TestCircuit> {
    await this.link();
    this.#circuit ??= await this.newCircuit();
    return this.#circuit;
  }

  async newCircuit(): Promise<TestCircuit> {
    const circuit = TestCircuit.build(await this.link(), encodeRoute({}));
    check(await circuit.ready(), 'a good set-up was not answered');
    return circuit;
  }

  /** What takes its time to make, and does for several cases. */
  shared<T>(name: string, make: () => Promise<T>): Promise<T> {
    const made = (this.#shared.get(name) as Promise<T> | undefined) ?? make();
    this.#shared.set(name, made);
    return made;
  }

  /** After a case that may have broken them. */
  forgetLink(): void {
    this.#shared.clear();
    this.#link = undefined;
    this.#circuit = undefined;
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A copy with one bit changed. */
export function flipped(original: Uint8Array, at: number, bit = at % 8): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(original);
  copy[at]! ^= 1 << bit;
  return copy;
}

/** `count` places in [from, to), the first and the last among them. */
export function spread(from: number, to: number, count: number): number[] {
  const places = Array.from(
    { length: count },
    (_, i) => from + Math.round((i * (to - 1 - from)) / Math.max(1, count - 1)),
  );
  return [...new Set(places)];
}
