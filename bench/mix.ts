/**
 * What class mix costs a relay: CPU per packet against class fast over the same way through the engine, in turns in one
 * process; and the mix with 100 000 cells in it: memory, CPU per cell and the longest turn. Prints JSON.
 */
import { type MixOwner, PoissonMix } from '@nyx/core/mix/poisson-mix.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { deterministicSuite, Replay, record } from './lib/relay-replay.ts';

const ROUNDS = 3;
const TRANSFER_BYTES = 48 * 1024 * 1024;
/** Until then the mix fills. */
const WARM_UP_STEPS = 300;
const WAITING = 100_000;
/** A pump takes at most 32 buffers per turn. */
const CELLS_PER_TURN = 32 * BATCH_DATAGRAMS;
const RELEASES_PER_FLUSH = 4096;
const MEAN_MS = 1000;
const TURNS = 400;

/**
 * Both classes in turns, batch by batch, so that whatever else the machine does hits both alike; the slowest tenth of the
 * batches (interrupted ones, collections) is left out on both sides.
 */
function measureRelay() {
  const suite = deterministicSuite();
  const recorded = { fast: record(suite, 'fast', TRANSFER_BYTES), mix: record(suite, 'mix', TRANSFER_BYTES) };
  const times = { fast: [] as number[], mix: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    const fast = new Replay(suite, recorded.fast, 'fast');
    const mix = new Replay(suite, recorded.mix, 'mix');
    for (let step = 0; !fast.done && !mix.done; step++) {
      const fastUs = fast.step();
      const mixUs = mix.step();
      // The first round warms up, the first batches fill the mix.
      if (round === 0 || step < WARM_UP_STEPS) continue;
      times.fast.push(fastUs / BATCH_DATAGRAMS);
      times.mix.push(mixUs / BATCH_DATAGRAMS);
    }
  }
  const [fast, mix] = [trimmedMean(times.fast), trimmedMean(times.mix)];
  return { fastUsPerPacket: fast, mixUsPerPacket: mix, throughputRatio: fast / mix };
}

function trimmedMean(values: number[]): number {
  const kept = values.sort((a, b) => a - b).slice(0, Math.ceil(values.length * 0.9));
  return kept.reduce((sum, value) => sum + value, 0) / kept.length;
}

/** A mix that is held at 100 000 cells, at the pace at which they become due, turn by turn as a pump would. */
function measureQueue() {
  globalThis.gc?.();
  const before = process.memoryUsage();
  const mix = new PoissonMix(systemRandom, 131_072, 1);
  const owners: MixOwner[] = Array.from({ length: 64 }, () => ({ mixPlace: -1, release() {} }));
  const cell = new Uint8Array(DATAGRAM_BYTES).fill(0xa5);
  let nowMs = 0;
  let pushed = 0;
  let longestMs = 0;
  let busyMs = 0;
  let turns = 0;
  const turn = (count: number) => {
    nowMs += 1;
    const started = process.threadCpuUsage();
    for (let i = 0; i < count; i++) mix.push(cell, owners[pushed++ % owners.length]!, 0, mix.inward, MEAN_MS, nowMs);
    mix.release(nowMs, RELEASES_PER_FLUSH);
    const { user, system } = process.threadCpuUsage(started);
    // Its own time: on a busy machine a turn also waits for other processes.
    const tookMs = (user + system) / 1000;
    longestMs = Math.max(longestMs, tookMs);
    return tookMs;
  };
  // A burst from empty to full, and then the same number kept.
  while (mix.length < WAITING - CELLS_PER_TURN) turn(CELLS_PER_TURN);
  turn(WAITING - mix.length);
  const peak = process.memoryUsage();
  for (; turns < TURNS; turns++) {
    nowMs += (CELLS_PER_TURN / WAITING) * MEAN_MS - 1;
    busyMs += turn(Math.min(CELLS_PER_TURN, WAITING - mix.length));
    if (turns % 60 === 59) mix.trim();
  }
  // Everything is due at once, as behind a stall.
  nowMs += 100 * MEAN_MS;
  let drainTurns = 0;
  for (; mix.length > 0; drainTurns++) turn(0);
  mix.trim();
  mix.trim();
  return {
    waitingCells: WAITING,
    accountedMb: (peak.arrayBuffers - before.arrayBuffers) / 1e6,
    rssMb: (peak.rss - before.rss) / 1e6,
    keptBytes: mix.memoryBytes,
    usPerCell: (busyMs * 1000) / mix.released,
    longestTurnMs: longestMs,
    drainTurns,
  };
}

const queue = measureQueue();
console.log(JSON.stringify({ bench: 'mix', relay: measureRelay(), queue }));
