/**
 * What a node can say of the anonymity that the classes give, from its own parameters and its own measurements. A figure
 * whose inputs are not known is absent, with the reason; nothing is filled in. Definitions and limits: docs/adr/0022.
 */
import { MIN_PATH_CELLS, pathBits, poissonMixBits, uniformBits } from './anonymity.ts';

/** Where a figure comes from. `design`: it follows from what the class does, whatever the traffic is. */
export type AnonymityBasis = 'measured' | 'configured' | 'assumed' | 'design' | 'unknown';

export interface AnonymityFigure {
  readonly class: 'fast' | 'mix' | 'constant' | 'cmix';
  /** What the observer sees. */
  readonly observer: string;
  /** What the bits are about. */
  readonly subject: string;
  /** Undefined: not known, and `note` says why. */
  readonly bits: number | undefined;
  readonly basis: AnonymityBasis;
  readonly note: string;
}

/** One mix over a time: as many as the node has workers, since cells of one do not mix with those of another. */
export interface MixWindow {
  readonly seconds: number;
  /** Cells that came in. */
  readonly cells: number;
  /** Time that cells have waited meanwhile, all together. */
  readonly waitedMs: number;
}

export interface AnonymityInputs {
  /** Undefined: this node is no relay. */
  readonly relay:
    | {
        readonly windows: readonly MixWindow[];
        readonly constantLinks: number;
        readonly grantsConstant: boolean;
        /** Cells of the smallest of the last batches of class cmix; undefined: there were none. */
        readonly smallestBatch: number | undefined;
      }
    | undefined;
  /** Undefined: this node is no client. */
  readonly client:
    | {
        readonly mixHops: number;
        readonly mixDelayMs: number;
        /** Entropy of the last hop's choice; undefined while there is no view to choose from. */
        readonly exitBits: number | undefined;
        /** Undefined: cover is not constant. */
        readonly constant: { readonly links: number; readonly bothWays: number } | undefined;
      }
    | undefined;
  /** Cells a second of class mix at each relay of a path, as the caller supposes; a client can't see them. */
  readonly assumedCellsPerSecond: number | undefined;
  /** Cells of a full batch of class cmix, as configured here. */
  readonly batchCells: number;
}

/** Cells below which a window is too short to speak of a rate. */
const MIN_WINDOW_CELLS = 30;

export interface MixMeasure {
  readonly bits: number;
  readonly cellsPerSecond: number;
  /** Mean of what cells waited. */
  readonly delayMs: number;
}

/**
 * Bits of one cell at this relay: mean over its queues, weighted by their cells, with the rates of the time measured. Cover
 * cells of links are not counted, which makes it a lower bound. Undefined: too few cells have come.
 */
export function measuredMix(windows: readonly MixWindow[]): MixMeasure | undefined {
  let bits = 0;
  let cells = 0;
  let waitedMs = 0;
  let cellsPerSecond = 0;
  for (const window of windows) {
    if (window.cells <= 0 || window.seconds <= 0) continue;
    bits += window.cells * poissonMixBits(window.waitedMs / 1000 / window.seconds);
    cells += window.cells;
    waitedMs += window.waitedMs;
    cellsPerSecond += window.cells / window.seconds;
  }
  if (cells < MIN_WINDOW_CELLS) return undefined;
  return { bits: bits / cells, cellsPerSecond, delayMs: waitedMs / cells };
}

export function anonymityReport(inputs: AnonymityInputs): AnonymityFigure[] {
  return [...fast(inputs), ...mix(inputs), ...constant(inputs), ...cmix(inputs)];
}

function fast({ client }: AnonymityInputs): AnonymityFigure[] {
  const exit = {
    class: 'fast',
    observer: "sees the client's link, or any one place",
    subject: 'the last hop',
  } as const;
  return [
    {
      class: 'fast',
      observer: 'sees both ends of a path',
      subject: 'one cell',
      bits: 0,
      basis: 'design',
      note: 'cells keep their order and leave at once: times and counts match',
    },
    client === undefined
      ? unknown(exit, 'this node is no client and chooses no paths')
      : client.exitBits === undefined
        ? unknown(exit, 'there is no view of the network to choose from yet')
        : {
            ...exit,
            bits: client.exitBits,
            basis: 'configured',
            note: 'entropy of the choice of last hop under the configured strategy',
          },
  ];
}

function mix({ relay, client, assumedCellsPerSecond: assumed }: AnonymityInputs): AnonymityFigure[] {
  const here = { class: 'mix', observer: 'sees all links', subject: 'one cell, at this relay' } as const;
  const honest = {
    class: 'mix',
    observer: 'sees all links',
    subject: 'one cell, one honest relay on the path',
  } as const;
  const ends = {
    class: 'mix',
    observer: 'sees both ends of a path',
    subject: 'one cell, over the whole path',
  } as const;
  return [relay === undefined ? unknown(here, 'this node is no relay') : atRelay(), ...onPath()];

  function atRelay(): AnonymityFigure {
    const measured = measuredMix(relay!.windows);
    if (measured === undefined) {
      const { cells, seconds } = relay!.windows.reduce(
        (sum, window) => ({ cells: sum.cells + window.cells, seconds: Math.max(sum.seconds, window.seconds) }),
        { cells: 0, seconds: 0 },
      );
      return unknown(here, `${cells} cells in ${seconds.toFixed(0)} s are too few to measure a rate`);
    }
    const { bits, cellsPerSecond, delayMs } = measured;
    return {
      ...here,
      bits,
      basis: 'measured',
      note: `${cellsPerSecond.toFixed(1)} cells/s held for ${delayMs.toFixed(1)} ms on average; link cover is not counted`,
    };
  }

  function onPath(): AnonymityFigure[] {
    if (client === undefined)
      return [unknown(honest, 'this node is no client'), unknown(ends, 'this node is no client')];
    if (assumed === undefined) {
      const why = "a client can't see how many cells of others pass the relays; name a rate to see what it would give";
      return [unknown(honest, why), unknown(ends, why)];
    }
    const { mixHops, mixDelayMs } = client;
    const supposed = `if ${assumed} cells/s pass each relay and wait ${mixDelayMs} ms on average`;
    const whole = pathBits(assumed, mixDelayMs, mixHops);
    return [
      { ...honest, bits: poissonMixBits((assumed * mixDelayMs) / 1000), basis: 'assumed', note: supposed },
      whole === undefined
        ? unknown(ends, `fewer than ${MIN_PATH_CELLS} cells would be on the path at a time: the estimate does not hold`)
        : { ...ends, bits: whole, basis: 'assumed', note: `${supposed}, and all take the same ${mixHops} relays` },
    ];
  }
}

function constant({ relay, client }: AnonymityInputs): AnonymityFigure[] {
  const activity = { class: 'constant', observer: "sees the client's link", subject: 'what the client does' } as const;
  const links = { class: 'constant', observer: "sees this relay's links", subject: 'which client is active' } as const;
  const figures: AnonymityFigure[] = [];
  if (client === undefined) figures.push(unknown(activity, 'this node is no client'));
  else if (client.constant === undefined) figures.push(unknown(activity, 'cover is not constant here: activity shows'));
  else {
    const { links: count, bothWays } = client.constant;
    const state = `${bothWays} of ${count} links constant both ways`;
    figures.push(unknown(activity, `${state}; how many other clients have such links is not known to a client`));
  }
  if (relay === undefined) figures.push(unknown(links, 'this node is no relay'));
  else if (!relay.grantsConstant) figures.push(unknown(links, 'this relay grants no constant rates'));
  else if (relay.constantLinks === 0) figures.push(unknown(links, 'no client has a constant link here now'));
  else {
    const note = `${relay.constantLinks} clients have constant links here now`;
    figures.push({ ...links, bits: uniformBits(relay.constantLinks), basis: 'measured', note });
  }
  return figures;
}

function cmix({ relay, batchCells }: AnonymityInputs): AnonymityFigure[] {
  const here = { class: 'cmix', observer: 'sees all links', subject: 'one cell, in a batch of this relay' } as const;
  const full = { class: 'cmix', observer: 'sees all links', subject: 'one cell, in a full batch' } as const;
  const fewer = 'fewer when other cells of a batch are of the same sender or of the observer';
  const figure: AnonymityFigure = {
    ...full,
    bits: uniformBits(batchCells),
    basis: 'configured',
    note: `batches of ${batchCells}; ${fewer}`,
  };
  if (relay === undefined) return [unknown(here, 'this node is no relay'), figure];
  if (relay.smallestBatch === undefined) return [unknown(here, 'no batch has left this relay yet'), figure];
  const note = `${relay.smallestBatch} cells in the smallest of the last 64 batches; ${fewer}`;
  return [{ ...here, bits: uniformBits(relay.smallestBatch), basis: 'measured', note }, figure];
}

function unknown(about: Pick<AnonymityFigure, 'class' | 'observer' | 'subject'>, note: string): AnonymityFigure {
  return { ...about, bits: undefined, basis: 'unknown', note };
}
