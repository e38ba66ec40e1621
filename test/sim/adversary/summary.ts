/** The report as a page and as plots. */
import { MIN_PATH_CELLS, pathBits, poissonMixBits } from '@nyx/core/mix/anonymity.ts';
import type { PlotOptions, Series } from '../svg-plot.ts';
import { BATCH } from './carry.ts';
import { type AdversaryReport, modes } from './run.ts';
import type { TrafficModel } from './traffic.ts';

type Rows = readonly (readonly (string | number)[])[];

const percent = (share: number) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
const bits = (value: number | undefined) => (value === undefined ? '–' : value.toFixed(2));

function table(head: readonly string[], rows: Rows): string {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

export function summarize(report: AdversaryReport): string {
  const { options, durationsMs, meanCells, attacks, engines, relays, detections, falseAlarms, published } = report;
  const most = options.users.at(-1)!;
  const list = options.users.map((count) => count.toLocaleString('en')).join(', ');
  const attackTable = (model: TrafficModel) =>
    table(
      [
        'mode',
        ...options.users.map((count) => `right at first guess, ${count} users`),
        'best statistic',
        'TPR at FPR 10⁻⁴',
        '10⁻³',
        '10⁻²',
        'area',
      ],
      modes.map(({ name }) => {
        const ours = attacks.filter((result) => result.mode === name && result.model === model);
        const last = ours.at(-1)!;
        const best = last.byStatistic[last.best];
        const guesses = ours.map(({ byStatistic }) =>
          percent(Math.max(...Object.values(byStatistic).map(({ firstGuess }) => firstGuess))),
        );
        const rates = (['1e-4', '1e-3', '1e-2'] as const).map((rate) => percent(best.truePositiveAt[rate]));
        return [name, ...guesses, last.best, ...rates, best.area.toFixed(3)];
      }),
    );
  const simple = table(
    ['mode', 'counts 0.5 s', 'lagged', 'ranks', 'gaps', 'likelihood'],
    modes.map(({ name }) => {
      const last = attacks.filter((result) => result.mode === name && result.model === 'web').at(-1)!;
      return [
        name,
        ...(['counts 0.5 s', 'lagged', 'ranks', 'gaps', 'likelihood'] as const).map((statistic) =>
          percent(last.byStatistic[statistic].truePositiveAt['1e-3']),
        ),
      ];
    }),
  );
  const hidden = table(
    ['mode', ...options.users.flatMap((count) => [`measured, ${count} users`, 'meter'])],
    modes
      .filter(({ class: circuitClass, cover }) => circuitClass === 'mix' && cover === 'off')
      .map(({ name, delayMs, hops }) => [
        name,
        ...options.users.flatMap((count) => {
          const result = attacks.find((r) => r.mode === name && r.model === 'single' && r.users === count)!;
          return [bits(result.hiddenBits), bits(pathBits((count * 1000) / durationsMs.single, delayMs, hops))];
        }),
      ]),
  );
  return `# What an observer of all links gets out of it

Written by \`npm run sim:adversary\` (seed ${options.seed}, ${report.cpuSeconds.toFixed(0)} CPU seconds); figures in [adversary.json](adversary.json). What the meter's
figures mean: [ADR 22](../adr/0022-measuring-anonymity.md); what to choose: [mixing.md](../mixing.md).

## In short
* **A flow of hundreds of cells is not hidden by delays.** At ${most.toLocaleString('en')} users the observer of both ends finds the right one of all flows of a minute's web browsing
  in nearly every case, in class \`fast\` as in class \`mix\` with delays up to seconds, and in \`cmix\`. Larger means take the simplest statistics away from it (window counts, inter-packet delays), not the likelihood.
* **Chat over two minutes is a flow too**: the pattern of the times of some twenty messages is enough.
* **A single message is hidden as well as the meter says**, and that depends on the traffic of others: see the table below.
* **Cover \`constant\` is what hides flows**: no statistic does better than chance, at any number of users.
* **Adaptive cover does not hide a flow** (it follows it), though it hides single cells on a link.
* **An attacker that blocks or holds back everybody else's cells is noticed in about a minute by clients whose loops pass that relay**, and by nobody else. One that takes a tenth of them goes unnoticed in most cases.

## Setting
One client's link is watched (${Math.min(options.targets, options.users[0]!)} targets, one after the other), and all flows at the exits (${list} users). Exactly one of the flows is the client's. The observer knows the class's law of delays and the
wire's latency. What the exit gets from outside for a user is carried over 3 hops (\`fast\`, \`cmix\`) or 5, through the real mix and cover of \`core/mix\`; the wire adds 30 to 120 ms and up to
some milliseconds of jitter and keeps the order. There is no loss, no other traffic of the client, and no flow control: that makes it easier for the observer than it would be. It ignores the links between relays: that makes it harder.
Traffic: \`web\`, ${durationsMs.web / 1000} s of pages (log-normal, median 60 cells) with pauses of 12 s, ${meanCells.web.toFixed(0)} cells a flow on average; \`chat\`, ${durationsMs.chat / 1000} s of
messages of one to four cells, twelve a minute (${meanCells.chat.toFixed(0)} cells); \`single\`, one cell somewhere in ${durationsMs.single / 1000} s (\`test/sim/adversary/traffic.ts\`). Class \`cmix\`: batches of ${BATCH.cells}, at most ${BATCH.longestWaitMs} ms of waiting, ${BATCH.computeMs} ms of computation,
however many at a time; 20 relays, 40 at 10 000 users. With ${Math.min(options.targets, options.users[0]!)} targets a share has a standard error of up to ${(50 / Math.sqrt(Math.min(options.targets, options.users[0]!))).toFixed(0)} %, an area under chance one of 4 %; a guess at random is right once in as many times as there are users.

The statistics (\`statistics.ts\`): correlation of counts in windows, the same at the best of five shifts, Spearman's rank correlation (RAPTOR's), inter-packet delays, and the likelihood under the known law of delays (Danezis, PET 2004 §3).

## Web browsing
${attackTable('web')}

![ROC](adversary-roc-web.svg) ![first guess](adversary-guess-web.svg)

True positives at one false in a thousand, ${most.toLocaleString('en')} users, by statistic:

${simple}

## Chat
${attackTable('chat')}

## A single message
${attackTable('single')}

![ROC](adversary-roc-single.svg) ![first guess](adversary-guess-single.svg)

What is still hidden of it, in bits, by the observer's own likelihoods (mean of −log₂ of the probability of the true flow), and what the meter's \`pathBits\` says for that rate (– : fewer than ${MIN_PATH_CELLS} cells on the path at a time, no figure):

${hidden}

## One relay: the meter against the observer
The real mix; what the observer of its links is surprised by, beside the meter's figure over windows of ten seconds and the formula at the mean rate. For Poisson arrivals they agree. Cells of few web users come in bursts: there are more cells to hide
among than at the mean rate, and the meter, which averages over ten seconds, says less. That is no comfort: in a burst most of the others are the same user's. Both figures are about cells, not about users.

${table(
  ['arrivals', 'cells/s', 'mean delay', 'observer: surprise', 'entropy', 'meter', 'formula'],
  relays.map((r) => [
    r.arrivals,
    r.cellsPerSecond.toFixed(0),
    `${r.delayMs} ms`,
    bits(r.surpriseBits),
    bits(r.entropyBits),
    bits(r.meterBits),
    bits(r.formulaBits),
  ]),
)}

![entropy](adversary-entropy.svg)

## Real engines
The same attack on ${engines[0]?.users ?? 0} clients with engines of their own over one path, ${engines[0]?.runs ?? 0} runs of 20 s: all datagrams on their links, acknowledgements, control cells and flow control included (an area has a standard error of 3 %).

${table(
  ['mode', 'cells', 'datagrams to clients', 'right at first guess', 'best statistic by area', 'area'],
  engines.map(({ mode, cells, datagrams, byStatistic }) => {
    const [statistic, best] = Object.entries(byStatistic).reduce((a, b) => (b[1].area > a[1].area ? b : a));
    const guess = Math.max(...Object.values(byStatistic).map(({ firstGuess }) => firstGuess));
    return [mode, cells, datagrams, percent(guess), statistic, best.area.toFixed(3)];
  }),
)}

## The n−1 attack
A client of real engines with the daemon's loops (6 a minute over 5 hops of 20 ms); the attacker blocks or holds back what comes to one relay for ten minutes. Share of ${detections[0]?.runs ?? 0} runs with an alarm:

${table(
  ['attack', 'within 30 s', '60 s', '120 s', '600 s', 'median, s'],
  detections.map(({ scenario, within, medianSeconds }) => [
    scenario,
    ...Object.values(within).map(percent),
    medianSeconds?.toFixed(0) ?? '–',
  ]),
)}

All but the second begin at a relay that the loops pass at that moment. "At any relay": one of eight, three of which are on the path; a client notices only what its own loops pass. In a network of R relays a client's loops pass 5 of them for ten minutes.
When nobody attacks:

${table(
  ['loss on each link', 'hours', 'loops', 'lost', 'alarms'],
  falseAlarms.map((r) => [percent(r.wireLossRatio), r.hours, r.loops, r.loopsLost, r.alarms]),
)}

A relay that dies without a word looks like one before which everything is blocked, and raises the alarm too.

## What others have published
Settings differ, and none of these figures is ours. "Read" says where it was read: the paper's text, its abstract, or a summary by others that was not held against the paper.

${table(
  ['system', 'figure', 'setting', 'source', 'read'],
  published.map((p) => [p.system, p.figure, p.setting, p.source, p.read]),
)}

Our formula in the settings of Loopix's Figure 4 (its axis ends at 16 bits):

${table(
  ['μ', ...report.loopixFigure4[0]!.bits.map(([rate]) => `${rate} messages/s`)],
  report.loopixFigure4.map(({ mu, bits: row }) => [mu, ...row.map(([, value]) => bits(value))]),
)}
`;
}

const plotted: Readonly<Record<'web' | 'single', readonly string[]>> = {
  web: ['fast', 'mix 20 ms', 'mix 100 ms', 'mix 500 ms', 'mix 2000 ms', 'mix 20 ms, constant', 'cmix'],
  single: ['fast', 'mix 20 ms', 'mix 100 ms', 'mix 500 ms', 'mix 2000 ms', 'mix 20 ms, constant', 'cmix'],
};

export function rocPlot({ attacks, options }: AdversaryReport, model: 'web' | 'single'): PlotOptions {
  const most = options.users.at(-1)!;
  const series = plotted[model].flatMap((name): Series[] => {
    const result = attacks.find((r) => r.mode === name && r.model === model && r.users === most);
    if (result === undefined) return [];
    return [{ name, points: result.byStatistic[result.best].curve.map(([x, y]) => [Math.max(x, 1e-6), y] as const) }];
  });
  const chance = Array.from({ length: 25 }, (_, i) => 10 ** (-6 + i / 4));
  return {
    title: `${model}: true against false positives, ${most.toLocaleString('en')} users`,
    x: 'false-positive rate',
    y: 'true-positive rate (best statistic)',
    logX: true,
    yTo: 1,
    series: [...series, { name: 'chance', points: chance.map((x) => [x, x] as const), dashed: true }],
  };
}

export function guessPlot({ attacks, options }: AdversaryReport, model: 'web' | 'single'): PlotOptions {
  const series = plotted[model].map(
    (name): Series => ({
      name,
      points: attacks
        .filter((result) => result.mode === name && result.model === model)
        .map(({ users, byStatistic }) => [
          users,
          Math.max(...Object.values(byStatistic).map(({ firstGuess }) => firstGuess)),
        ]),
    }),
  );
  // Published figures for Tor, in their own settings; the number of flows of DeepCorr's is not known to us: drawn as lines.
  const tor: Series[] =
    model === 'single'
      ? []
      : [
          { name: 'RAPTOR, Tor (50)', points: [[50, 0.95]] },
          {
            name: 'DeepCorr, Tor',
            points: [
              [50, 0.96],
              [options.users.at(-1)!, 0.96],
            ],
            dashed: true,
          },
        ];
  return {
    title: `${model}: the right flow at the first guess`,
    x: 'users',
    y: 'share of clients',
    logX: true,
    yTo: 1,
    series: [
      ...series,
      { name: 'at random', points: options.users.map((n) => [n, 1 / n] as const), dashed: true },
      ...tor,
    ],
  };
}

export function entropyPlot({ relays }: AdversaryReport): PlotOptions {
  const cells = Array.from({ length: 60 }, (_, i) => 0.1 * 10 ** (i / 12.8));
  const points = (arrivals: 'poisson' | 'web') =>
    relays
      .filter((r) => r.arrivals === arrivals)
      .map((r) => [(r.cellsPerSecond * r.delayMs) / 1000, r.surpriseBits] as const);
  return {
    title: 'Entropy of a cell in one mix',
    x: 'cells that wait on average (rate × mean delay)',
    y: 'bits',
    logX: true,
    series: [
      { name: 'meter’s formula', points: cells.map((rho) => [rho, poissonMixBits(rho)] as const), marks: false },
      {
        name: 'log₂(e·λ/μ), Danezis',
        points: cells.filter((rho) => rho > 0.4).map((rho) => [rho, Math.log2(Math.E * rho)] as const),
        dashed: true,
      },
      { name: 'observer, Poisson', points: points('poisson'), line: false },
      { name: 'observer, web', points: points('web'), line: false },
    ],
  };
}
