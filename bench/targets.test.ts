import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkMeasures } from './network.ts';
import type { TorMeasures } from './peers/tor/measure.ts';
import { checkTargets } from './targets.ts';

const spread = (p50: number) => ({ count: 1, min: p50, p50, p90: p50, p99: p50, max: p50, mean: p50 });
const throughput = (mbitPerSecond: number) => ({ mbitPerSecond, bytes: 1, seconds: 1, streams: 1, processes: [] });
const tor = (mbit: number, echo: number): TorMeasures => ({
  variant: 'tuned',
  version: '0',
  oneStream: throughput(mbit),
  fourStreams: throughput(mbit),
  echo: spread(echo),
  streamOpen: spread(1),
  circuitBuild: spread(1),
});
const network = (mbit: number, idleBytes: number | undefined): NetworkMeasures => ({
  idleRelayRssBytes: 119e6,
  byHops: [
    {
      hops: 3,
      cold: throughput(mbit),
      oneStream: throughput(mbit),
      upload: throughput(mbit),
      fourStreams: throughput(mbit),
      echo: spread(1),
      streamOpen: spread(1),
      firstDial: spread(1),
      readyDial: spread(1),
      setup: spread(4),
      setupInside: spread(5.1),
      middleCpuSecondsPerGb: 4.9,
    },
  ],
  idleCircuits: { count: 1, bytesPerCircuit: idleBytes, buildsPerSecond: 1 },
  stalledReader: { stallMs: 1, bytes: 1, rssGrowthBytes: 0 },
  failed: {},
});

test('each target passes or fails by its own bound', () => {
  const results = checkTargets({
    network: network(522, 8193),
    torStock: tor(50, 8),
    torTuned: tor(261, 1),
    echoToTor: 1,
    relayToOpen: 3,
    slowestPathMs: 1.1,
    mix: {
      saturated: [
        { neighbours: 1, throughputRatio: 0.81 },
        { neighbours: 8, throughputRatio: 0.79 },
      ],
      queue: { rssMb: 256, longestTurnMs: 21 },
    },
    delayCheckShare: 0.051,
  });
  assert.deepEqual(
    results.map(({ status }) => status),
    [
      'pass',
      'pass',
      'pass',
      'pass',
      'fail',
      'pass',
      'fail',
      'pass',
      'pass',
      'fail',
      'pass',
      'fail',
      'pass',
      'fail',
      'fail',
    ],
  );
});

test('what was not measured is neither passed nor failed', () => {
  assert.ok(checkTargets({}).every(({ status, value }) => status === 'not measured' && value === undefined));
  const alone = checkTargets({ network: network(10_000, undefined) });
  assert.deepEqual(
    alone.filter(({ status }) => status === 'not measured').map(({ name }) => name),
    [
      'one stream over 3 hops / tuned Tor',
      'one stream over 3 hops / stock Tor',
      '64-byte echo p50 / tuned Tor, in turns',
      'memory per idle circuit',
      'relay per packet / one AEAD open',
      'choosing a path from 10 000 nodes',
      'relay throughput in mix / in fast',
      'memory of 100 000 waiting cells',
      'checking a delay / computing it',
      'longest turn with 100 000 waiting cells',
    ],
  );
});
