/** The ramp against a line: a rate, a round trip and a queue, on virtual time. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type RampRates, SendRamp } from './send-ramp.ts';

const LOOK_MS = 5;
const FIRST: RampRates = { firstPerMs: 0.1, knownPerMs: undefined };

interface Line {
  readonly cellsPerMs: number;
  readonly rttMs: number;
  readonly queueCells: number;
}

interface Outcome {
  readonly sent: number;
  readonly lost: number;
  /** Longest wait in the queue. */
  readonly longestMs: number;
  /** Share of the line's rate that was used in the last half of the time. */
  readonly used: number;
  readonly fastestPerMs: number;
}

/** Cells go one after the other; a lost one is noticed a round trip and a quarter after it was sent. */
function measure(line: Line, rates: RampRates = FIRST, durationMs = 3000): Outcome {
  const ramp = new SendRamp(rates, 0);
  const done: { readonly atMs: number; readonly rttMs: number }[] = [];
  const missed: number[] = [];
  let [sent, acknowledged, lost, served] = [0, 0, 0, 0];
  let freeAtMs = 0;
  let smoothedRttMs: number | undefined;
  let [longestMs, fastestPerMs] = [0, 0];
  for (let nowMs = 0; nowMs < durationMs; nowMs += LOOK_MS) {
    while (done.length > 0 && done[0]!.atMs <= nowMs) {
      const { rttMs } = done.shift()!;
      acknowledged++;
      smoothedRttMs = smoothedRttMs === undefined ? rttMs : smoothedRttMs + (rttMs - smoothedRttMs) / 8;
    }
    while (missed.length > 0 && missed[0]! <= nowMs) {
      missed.shift();
      lost++;
    }
    while (ramp.take(nowMs)) {
      sent++;
      const waitMs = Math.max(0, freeAtMs - nowMs);
      if (waitMs * line.cellsPerMs >= line.queueCells) missed.push(nowMs + 1.25 * (line.rttMs + waitMs));
      else {
        longestMs = Math.max(longestMs, waitMs);
        freeAtMs = Math.max(freeAtMs, nowMs) + 1 / line.cellsPerMs;
        if (nowMs >= durationMs / 2) served++;
        done.push({ atMs: freeAtMs + line.rttMs, rttMs: freeAtMs + line.rttMs - nowMs });
      }
    }
    ramp.observe(nowMs, { sent, acknowledged, lost, smoothedRttMs });
    fastestPerMs = Math.max(fastestPerMs, ramp.cellsPerMs);
  }
  const used = served / ((durationMs / 2) * line.cellsPerMs);
  return { sent, lost: lost + missed.length, longestMs, used, fastestPerMs };
}

describe('the rate of a measurement', () => {
  for (const cellsPerMs of [0.2, 0.8, 4, 40]) {
    for (const rttMs of [5, 30, 100]) {
      test(`a line of ${cellsPerMs} cells/ms and ${rttMs} ms, is filled, and little is lost`, () => {
        const line = { cellsPerMs, rttMs, queueCells: Math.max(50, 20 * cellsPerMs) };
        const first = measure(line);
        // What a queue of less than a round trip gets too much of is known too late to save it all.
        const isDeep = line.queueCells >= 2 * cellsPerMs * rttMs;
        assert.ok(first.lost <= (isDeep ? 0.01 : 0.1) * first.sent, JSON.stringify(first));
        assert.ok(first.used > 0.9, JSON.stringify(first));
      });
    }
  }

  test('who was measured before is neared slowly: a shorter queue, and nothing lost', () => {
    const line = { cellsPerMs: 0.8, rttMs: 30, queueCells: 50 };
    const blind = measure(line);
    const knowing = measure(line, { firstPerMs: 0.2, knownPerMs: 0.8 });
    assert.ok(knowing.fastestPerMs < blind.fastestPerMs && knowing.longestMs < 0.7 * blind.longestMs);
    assert.equal(knowing.lost, 0);
    assert.ok(knowing.used > 0.9, JSON.stringify(knowing));
  });

  test('a line that has become faster is found to be', () => {
    const { used } = measure({ cellsPerMs: 20, rttMs: 30, queueCells: 400 }, { firstPerMs: 0.2, knownPerMs: 0.8 });
    assert.ok(used > 0.5, `${used}`);
  });

  test('whatever the line: most of what is sent comes through', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 2, max: 500 }),
        (cellsPerMs, rttMs, queueCells) => {
          const { sent, lost } = measure({ cellsPerMs, rttMs, queueCells });
          assert.ok(lost <= 0.4 * sent + 20, `${lost} of ${sent}`);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('nothing comes through: the rate stays as it began', () => {
    const ramp = new SendRamp(FIRST, 0);
    for (let nowMs = 0; nowMs < 3000; nowMs += LOOK_MS) {
      while (ramp.take(nowMs));
      const progress = { sent: nowMs / 10, acknowledged: 0, lost: nowMs / 12 };
      ramp.observe(nowMs, { ...progress, smoothedRttMs: 20 });
    }
    assert.equal(ramp.cellsPerMs, FIRST.firstPerMs);
  });
});
