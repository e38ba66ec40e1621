/** The simulation of path-scale/, small: what its figures must not fall behind. Deterministic (seed "test"). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulate } from './path-scale/run.ts';
import { summarize } from './path-scale/summary.ts';
import { plot } from './svg-plot.ts';

const options = {
  nodes: 300,
  churnPerHour: 0.2,
  hours: 4,
  clients: 30,
  pathsPerHour: 10,
  loadPaths: 20_000,
  seed: 'test',
} as const;

test('300 nodes, a fifth of them leaving every hour', async () => {
  const report = await simulate({ ...options, churnShape: 'even' }, () => {});
  const { directory, clients, load, latency } = report;
  const summary = summarize({ even: report, skewed: report });
  assert.match(summary, /300 nodes/);
  assert.doesNotMatch(summary, /NaN|undefined|Infinity/);

  assert.equal(directory.nodesListed, 300);
  const [one, , three] = directory.deltaBytes;
  assert.ok(one!.bytes < 0.6 * directory.fullViewBytes, `delta ${one!.bytes} of ${directory.fullViewBytes}`);
  assert.ok(three!.bytes > one!.bytes && three!.bytes < directory.fullViewBytes);

  assert.ok(clients.paths > 1000);
  assert.ok(clients.atAttempt[0]! > 0.7, `${clients.atAttempt}`);
  assert.ok(clients.failed < 0.01, `${clients.failed} without a path after four attempts`);
  assert.equal(clients.guardsDroppedWrongly, 0);
  assert.ok(clients.viewAgeSeconds.max < 3600 + 60 && clients.viewAgeSeconds.mean < 2000);
  assert.ok(clients.distinctGuards.at(-1)!.mean < 4, 'guards are kept as long as they are there');
  assert.equal(clients.afterAway.withoutPath, 0);
  assert.ok(clients.afterAway.sampledGuardsStillListed >= 3);

  const [uniform, bandwidth, half, full] = load;
  for (const { loadPerBandwidth } of bandwidth!.deciles.slice(3)) {
    assert.ok(loadPerBandwidth > 0.4 && loadPerBandwidth < 2.5, `bandwidth: ${loadPerBandwidth}`);
  }
  assert.ok(uniform!.deciles[0]!.loadPerBandwidth > 3, 'uniform loads the slow ones');
  assert.ok(uniform!.entropy.pathBits > bandwidth!.entropy.pathBits);
  assert.ok(bandwidth!.entropy.pathBits > half!.entropy.pathBits && half!.entropy.pathBits > full!.entropy.pathBits);
  assert.ok(bandwidth!.newcomers.load < 0.7 * bandwidth!.newcomers.bandwidth, 'newcomers get weight gradually');

  const [none] = latency;
  const fastest = latency.at(-1)!;
  assert.ok(fastest.rttMs.mean < 0.75 * none!.rttMs.mean, `${fastest.rttMs.mean} of ${none!.rttMs.mean} ms`);
  for (const { bias, costBits, maxCostBits } of latency) {
    assert.ok(costBits >= -1e-9 && costBits <= maxCostBits + 1, `bias ${bias}: ${costBits}`);
  }
});

test('where most nodes are steady, guards last and paths stand at once', async () => {
  const { clients } = await simulate({ ...options, churnShape: 'skewed' }, () => {});
  assert.ok(clients.atAttempt[0]! > 0.7, `${clients.atAttempt}`);
  assert.ok(clients.distinctGuards.at(-1)!.mean < 3);
  assert.equal(clients.guardsDroppedWrongly, 0);
});

test('plots are SVG with every series in them', () => {
  const svg = plot({
    title: 'a < b',
    x: 'x',
    y: 'y',
    series: [
      {
        name: 'one',
        points: [
          [1, 2],
          [3, 4],
        ],
      },
      {
        name: 'two',
        points: [
          [1, 0],
          [3, 1],
        ],
      },
    ],
  });
  assert.match(svg, /^<svg [\s\S]*a &lt; b[\s\S]*<\/svg>\n$/);
  assert.equal(svg.match(/<polyline/g)!.length, 2);
  assert.doesNotMatch(svg, /NaN|Infinity/);
});
