import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PumpStats } from '../pump/contract.ts';
import { Meter } from './meter.ts';

/** Figures of a worker; only those of class mix matter here. */
const stats = (mix: Pick<PumpStats, 'mixReleased' | 'mixWaiting' | 'mixWaitedMs'>, cpuSeconds: number): PumpStats => ({
  datagramsIn: 0,
  datagramsOut: 0,
  cellsForward: 0,
  cellsBackward: 0,
  cellsDelivered: 0,
  cellsOriginated: 0,
  setups: 0,
  drops: {},
  links: [],
  relayCircuits: 0,
  coverOut: 0,
  coverIn: 0,
  coverDropOut: 0,
  cover: { links: 0, cellsPerSecond: 0, queued: 0, overflowed: 0, granted: 0, served: 0 },
  cmix: {
    waiting: 0,
    batches: 0,
    cells: 0,
    smallestRecent: undefined,
    proved: 0,
    lost: 0,
    withheld: 0,
    unproved: 0,
    missed: 0,
    exchanged: 0,
    unanswered: 0,
    audited: 0,
    refused: 0,
    cheats: 0,
  },
  cmixDelayMs: undefined,
  messagesIn: 0,
  messagesForward: 0,
  messagesDelivered: 0,
  messagesOriginated: 0,
  messageCoverIn: 0,
  messages: { waiting: 0, held: 0, released: 0, waitedMs: 0 },
  loops: undefined,
  fecSourcesSent: 0,
  fecRepairsSent: 0,
  fecRepairsReceived: 0,
  fecRepairsUsed: 0,
  fecRepairsWasted: 0,
  fecRepairsRejected: 0,
  fecPacketsRecovered: 0,
  fecRecoveredByPeer: 0,
  fecOverBudget: 0,
  exitStreams: 0,
  exitSocketsOpened: 0,
  exitDatagramsDropped: 0,
  handedOver: 0,
  clientCircuits: [],
  streams: [],
  bufferedBytes: 0,
  shedTotal: 0,
  sendErrors: 0,
  cpuSeconds,
  udpMode: 'plain',
  generation: 1,
  ...mix,
});

test('what came into each delay queue lately, worker by worker', () => {
  const meter = new Meter();
  const update = (atMs: number, a: [number, number, number], b: [number, number, number], restarted = -1) =>
    meter.update(
      [a, b].map(([mixReleased, mixWaiting, mixWaitedMs], worker) => ({
        worker,
        stats: stats({ mixReleased, mixWaiting, mixWaitedMs }, worker === restarted ? 0.1 : atMs / 1000),
      })),
      atMs,
      0,
    );
  assert.deepEqual(meter.mixWindows, []);
  update(1000, [100, 10, 2200], [0, 0, 0]);
  assert.deepEqual(meter.mixWindows, [], 'once is no rate');
  update(6000, [590, 20, 12_200], [0, 5, 100]);
  assert.deepEqual(meter.mixWindows, [
    { seconds: 5, cells: 500, waitedMs: 10_000 },
    { seconds: 5, cells: 5, waitedMs: 100 },
  ]);
  // The second worker was restarted and counts from zero again.
  update(8000, [790, 20, 16_200], [1, 0, 20], 1);
  assert.deepEqual(meter.mixWindows, [
    { seconds: 7, cells: 700, waitedMs: 14_000 },
    { seconds: 7, cells: 6, waitedMs: 120 },
  ]);
  // The window moves on.
  update(20_000, [810, 0, 16_200], [1, 0, 20]);
  update(30_000, [810, 0, 16_200], [1, 0, 20]);
  assert.ok(meter.mixWindows.every(({ cells }) => cells === 0));
});
