/** Cells of class cmix through the target and to it, and what it says of their batches (docs/protocol.md §7.1). */
import {
  About,
  circuitTag,
  digestOf,
  type Opening,
  type Proof,
  type Receipt,
  readOpening,
  readProof,
  readReceipt,
  Side,
  type Statement,
} from './batches.ts';
import { end, forward, type Relayed, relayed } from './cases-relay.ts';
import { type Bytes, concat, encodeRoute, equal, makeTrain, random } from './codec.ts';
import { type Context, check } from './context.ts';
import { CellInbox, pingFrame, TestCircuit, type TestLink } from './peer.ts';

export const CMIX = 2;
const BATCH = 9;
/** Cells that were to be in one batch, alone, may have been parted, or have met one that was on its way: then once more. */
const ATTEMPTS = 5;

/** Where a cell begins in a datagram. */
export const cellOf = (datagram: Uint8Array): Bytes => new Uint8Array(datagram.slice(24));

// --- messages about batches

/** What a link has brought of that, in the order it came. */
export const said = (link: TestLink, about: number): Bytes[] =>
  link.messages.filter(({ type, body }) => type === BATCH && body[0] === about).map(({ body }) => body.slice(1));

export const say = (link: TestLink, about: number, record: Uint8Array): void =>
  link.message(BATCH, concat(Uint8Array.of(about), record));

/** Something of that which comes, or has come. */
export async function hear(
  link: TestLink,
  about: number,
  holds: (record: Bytes) => boolean = () => true,
  patienceMs?: number,
): Promise<Bytes | undefined> {
  const find = () => said(link, about).find(holds);
  await link.until(() => find() !== undefined, patienceMs);
  // Says that it has come, or it would come again.
  link.control({ flags: 0 });
  return find();
}

export const names = (digests: readonly Uint8Array[], one: Uint8Array): boolean =>
  digests.some((digest) => equal(digest, one));

/** What a neighbour was told of cells that it gave and got. */
export interface Account {
  readonly link: TestLink;
  readonly receipts: readonly Receipt[];
  readonly proofsIn: readonly Proof[];
  readonly proofsOut: readonly Proof[];
}

/** Waits for receipts of all digests that were given, and for proofs of all that were given and got. */
export async function account(
  link: TestLink,
  given: readonly Uint8Array[],
  got: readonly Uint8Array[],
): Promise<Account> {
  const read = (): Account => {
    const proofs = said(link, About.proof).map(readProof);
    const of = (side: Side, some: readonly Uint8Array[]) =>
      proofs.filter((proof) => proof.side === side && proof.digests.some((digest) => names(some, digest)));
    const receipts = said(link, About.receipt).map(readReceipt);
    return {
      link,
      receipts: receipts.filter(({ digests }) => digests.some((digest) => names(given, digest))),
      proofsIn: of(Side.in, given),
      proofsOut: of(Side.out, got),
    };
  };
  const all = (some: readonly Uint8Array[], in_: readonly { readonly digests: readonly Uint8Array[] }[]) =>
    some.every((one) => in_.some(({ digests }) => names(digests, one)));
  await link.until(() => {
    const { receipts, proofsIn, proofsOut } = read();
    return all(given, receipts) && all(given, proofsIn) && all(got, proofsOut);
  });
  link.control({ flags: 0 });
  const found = read();
  check(all(given, found.receipts), 'no receipt names a cell that was given');
  check(all(given, found.proofsIn), 'no proof names a cell that was given');
  check(all(got, found.proofsOut), 'no proof names a cell that came');
  return found;
}

/** The opening that came for a batch. */
export function openingFor(link: TestLink, { certificate, number }: Statement): Opening {
  const openings = said(link, About.opening).map(readOpening);
  const found = openings.find((opening) => opening.number === number && equal(opening.key, certificate.key));
  check(found !== undefined, 'the batch was not opened');
  return found;
}

// --- cells through the target

export async function batched(context: Context, change: Parameters<typeof relayed>[1] = {}): Promise<Relayed> {
  const circuit = await relayed(context, { class: CMIX, ...change }, await context.newLink());
  // There is much to hear, and more than a case waits for.
  circuit.near.acks = true;
  circuit.far.acks = true;
  return circuit;
}

/** Ends the circuit and the client's link: what nobody reads on a link comes again and again. */
export function takeDown(circuit: Relayed): void {
  circuit.near.message(2, concat(circuit.nearCids[0], Uint8Array.of(0, 0)));
  circuit.near.close();
  end(circuit);
}

/** A cell as it came, with what its header said. */
export type Came = CellInbox['cells'][number];

const MODULUS = 2 ** 48;

/** Digests of a circuit's cells on the links on both sides of the target: as the client gave them, as they came, as the next hop gave them. */
export const gave = ({ train, route }: Relayed, index: number, datagram: Uint8Array): Bytes =>
  digestOf(circuitTag(train.train), 0, { counter: (route.forwardStart + index) % MODULUS }, cellOf(datagram));
export const atNext = ({ body }: Relayed, { header, cell }: Came): Bytes =>
  digestOf(circuitTag(body.subarray(32)), 0, header, cell);
export const gaveBack = ({ body, route }: Relayed, index: number, cell: Uint8Array): Bytes =>
  digestOf(circuitTag(body.subarray(32)), 1, { counter: (route.backwardStart + index) % MODULUS }, cell);
export const atClient = ({ train }: Relayed, { header, cell }: Came): Bytes =>
  digestOf(circuitTag(train.train), 1, header, cell);

/** Gives `count` cells to the target at once; their digests, and what is in them. */
export function give(circuit: Relayed, count: number): { given: Bytes[]; plaintexts: Bytes[] } {
  const plaintexts = Array.from({ length: count }, () => random(1240));
  const first = circuit.index;
  const datagrams = plaintexts.map((plaintext) => forward(circuit, plaintext));
  for (const datagram of datagrams) circuit.near.peer.send(datagram);
  return { given: datagrams.map((datagram, i) => gave(circuit, first + i, datagram)), plaintexts };
}

/** The next cells that come out. */
export async function take(inbox: CellInbox, count: number): Promise<Came[]> {
  const cells: Came[] = [];
  for (let i = 0; i < count; i++) {
    const came = await inbox.next();
    check(came !== undefined, 'a cell did not come out');
    cells.push(came);
  }
  return cells;
}

/** A batch with nothing in it but cells of ours, from all who see it. */
export interface Whole {
  readonly circuit: Relayed;
  readonly given: readonly Bytes[];
  readonly plaintexts: readonly Bytes[];
  readonly cells: readonly Bytes[];
  readonly got: readonly Bytes[];
  readonly near: Account;
  readonly far: Account;
  readonly receipt: Receipt;
  readonly proofIn: Proof;
  readonly proofOut: Proof;
  readonly tookMs: number;
}

/** So many cells as one batch. */
export async function whole(context: Context, count = context.peer.target.cmixCells): Promise<Whole> {
  for (let i = 0; i < ATTEMPTS; i++) {
    const circuit = await batched(context);
    const startedMs = performance.now();
    const { given, plaintexts } = give(circuit, count);
    const came = await take(circuit.atNext, count);
    const tookMs = performance.now() - startedMs;
    const cells = came.map(({ cell }) => cell);
    const got = came.map((one) => atNext(circuit, one));
    const near = await account(circuit.near, given, []);
    const far = await account(circuit.far, [], got);
    takeDown(circuit);
    const [receipt, proofIn, proofOut] = [near.receipts[0]!, near.proofsIn[0]!, far.proofsOut[0]!];
    if (near.receipts.length > 1 || proofIn.statement.cells !== count) continue;
    return { circuit, given, plaintexts, cells, got, near, far, receipt, proofIn, proofOut, tookMs };
  }
  throw new Error(`${count} cells that came at once were not one batch, ${ATTEMPTS} times`);
}

export const sharedWhole = (context: Context): Promise<Whole> => context.shared('whole batch', () => whole(context));

/** Repeats what chance may have spoilt, as it says. */
export async function attempts(run: () => Promise<boolean>, problem: string): Promise<void> {
  for (let i = 0; i < ATTEMPTS; i++) if (await run()) return;
  throw new Error(`${problem}, ${ATTEMPTS} times`);
}

// --- circuits of the class that end at the target

/** A circuit that ends at the target, and one cell more of it. */
export interface Ended {
  readonly link: TestLink;
  readonly circuit: TestCircuit;
  /** Digests of the cell with a PING, and of the first cell that came. */
  readonly asked: Bytes;
  readonly replied: Bytes;
  readonly account: Account;
  readonly ponged: boolean;
}

/** A circuit that has answered. */
export async function taken(context: Context): Promise<Pick<Ended, 'link' | 'circuit' | 'replied'>> {
  const link = await context.newLink();
  link.acks = true;
  const train = makeTrain(context.peer.target, encodeRoute({ class: CMIX }));
  const circuit = new TestCircuit(link, { train, forwardStart: 0, backwardStart: 0 });
  const inbox = new CellInbox(link, circuit.backwardCid);
  circuit.setUp();
  check(await circuit.ready(), 'a good set-up was not answered');
  const { header, cell } = inbox.cells[0]!;
  return { link, circuit, replied: digestOf(circuitTag(train.train), 1, header, cell) };
}

export async function ended(context: Context): Promise<Ended> {
  const { link, circuit, replied } = await taken(context);
  const mark = random(8);
  const datagram = circuit.cell(concat(circuit.ackFrame(), pingFrame(mark)));
  context.peer.send(datagram);
  const { train } = circuit.options;
  const asked = digestOf(circuitTag(train.train), 0, { counter: circuit.index - 1 }, cellOf(datagram));
  const told = await account(link, [asked], [replied]);
  return { link, circuit, asked, replied, account: told, ponged: await circuit.pong(mark) };
}

export function leave({ link, circuit }: Pick<Ended, 'link' | 'circuit'>): void {
  link.message(2, concat(circuit.forwardCid, Uint8Array.of(0, 0)));
  link.close();
}
