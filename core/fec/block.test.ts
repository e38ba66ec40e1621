/** Sender and receiver of one path together: what is lost between them comes back, whatever else arrives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { RepairDecoder, writeRepair } from '../wire/fec-frames.ts';
import { Frame, FrameDecoder } from '../wire/frames.ts';
import { MAX_REPAIRS, MAX_SPAN, SYMBOL_BYTES } from './block-codec.ts';
import { FecBudget } from './budget.ts';
import { LossProcess } from './loss-process.ts';
import { fecTunings } from './policy.ts';
import { FecReceiver, type RecoveredPacket, RepairResult } from './receiver.ts';
import { ReedSolomon } from './reed-solomon.ts';
import { FecSender } from './sender.ts';
import { FecTally } from './stats.ts';

const RTT_MS = 40;

class Arrived {
  readonly numbers = new Set<number>();
  largest = -1;
  add(number: number): void {
    this.numbers.add(number);
    this.largest = Math.max(this.largest, number);
  }
  isDuplicate(number: number): boolean {
    return this.numbers.has(number);
  }
}

function payloadOf(number: number): Uint8Array {
  const payload = new Uint8Array(PAYLOAD_BYTES);
  createSeededRandom(number).fill(payload.subarray(0, SYMBOL_BYTES));
  return payload;
}

function rig(ratio = 0.25, budget = new FecBudget(1e9)) {
  const codec = new ReedSolomon();
  const tally = new FecTally();
  const sender = new FecSender(
    { policy: { ratio }, codecs: [codec] },
    budget,
    fecTunings.fast,
    0,
    tally,
    new LossProcess(),
  );
  const arrived = new Arrived();
  const receiver = new FecReceiver([codec], budget, arrived, tally);
  const decoder = new FrameDecoder();
  const repair = new RepairDecoder();
  const recovered: RecoveredPacket[] = [];
  const packet = new Uint8Array(PAYLOAD_BYTES);
  return {
    tally,
    sender,
    receiver,
    recovered,
    arrived,
    send(number: number, nowMs: number, lost: boolean) {
      const payload = payloadOf(number);
      sender.onSource(number, payload, RTT_MS, nowMs);
      if (lost) return;
      arrived.add(number);
      receiver.onSource(number, payload, nowMs, recovered);
    },
    /** Gives the next repair symbol to the receiver, or not. */
    repair(nowMs: number, lost: boolean): RepairResult | undefined {
      packet.fill(0);
      sender.writeRepair(packet);
      if (lost) return undefined;
      return this.give(packet, nowMs);
    },
    give(payload: Uint8Array, nowMs: number): RepairResult | undefined {
      decoder.reset(payload);
      assert.ok(decoder.next());
      assert.equal(decoder.type, Frame.fecRepair);
      if (!repair.decode(payload, decoder.dataStart, decoder.dataLength)) return undefined;
      return receiver.onRepair(repair, payload, nowMs, recovered);
    },
  };
}

test('blocks with gaps and losses: missing packets come back once, byte for byte', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ gap: fc.integer({ min: 1, max: 5 }), lost: fc.boolean() }), { minLength: 1, maxLength: 40 }),
      fc.array(fc.boolean(), { minLength: 64, maxLength: 64 }),
      (packets, repairLost) => {
        const { sender, ...rest } = rig(0.5);
        const lost = new Map<number, number>();
        let number = 7;
        let block = 0;
        const budgetByBlock: number[] = [];
        const lostByBlock: number[] = [];
        let drawn = 0;
        const drain = (nowMs: number) => {
          while (sender.queued(nowMs)) {
            const gone = repairLost[drawn++ % repairLost.length]!;
            if (!gone) budgetByBlock[block] = (budgetByBlock[block] ?? 0) + 1;
            rest.repair(nowMs, gone);
          }
        };
        for (const [i, packet] of packets.entries()) {
          number += packet.gap;
          rest.send(number, i, packet.lost);
          if (packet.lost) {
            lost.set(number, block);
            lostByBlock[block] = (lostByBlock[block] ?? 0) + 1;
          }
          sender.poll(i, RTT_MS);
          if (sender.queued(i)) {
            drain(i);
            block++;
          }
        }
        sender.poll(1000, RTT_MS);
        drain(1000);
        const expected = [...lost].filter(([, of]) => (budgetByBlock[of] ?? 0) >= lostByBlock[of]!).map(([n]) => n);
        const numbers = rest.recovered.map(({ packetNumber }) => packetNumber);
        assert.equal(new Set(numbers).size, numbers.length, 'one came back twice');
        assert.ok(numbers.every((n) => lost.has(n)));
        // Blocks that reach back over earlier packets may mend those too, or have to: then they need more.
        assert.deepEqual(
          expected.filter((n) => !numbers.includes(n) && !reachesLost(lost, n)),
          [],
        );
        for (const { packetNumber, payload } of rest.recovered) {
          assert.deepEqual(payload, payloadOf(packetNumber).subarray(0, SYMBOL_BYTES));
        }
      },
    ),
    { numRuns: 150 },
  );
});

/** An older packet that a block with this one reaches back to is lost too. */
function reachesLost(lost: ReadonlyMap<number, number>, number: number): boolean {
  const own = lost.get(number)!;
  return [...lost].some(([, block]) => block < own);
}

test('nothing is made while nothing is lost', () => {
  const codec = new ReedSolomon();
  const sender = new FecSender(
    { policy: 'adaptive', codecs: [codec] },
    new FecBudget(),
    fecTunings.fast,
    0,
    new FecTally(),
    new LossProcess(),
  );
  assert.equal(sender.armed(0), false);
  assert.equal(sender.ratio(0), 0);
  sender.loss.onArrived(100);
  for (let i = 0; i < 5; i++) {
    sender.loss.onLost(1);
    sender.loss.onArrived(20);
  }
  assert.equal(sender.armed(2), true);
  assert.ok(sender.ratio(2) > 0);
  assert.equal(sender.armed(60_000), false);
  const off = new FecSender(
    { policy: 'off', codecs: [codec] },
    new FecBudget(),
    fecTunings.fast,
    0,
    new FecTally(),
    new LossProcess(),
  );
  for (let i = 0; i < 5; i++) off.loss.onLost(1);
  assert.equal(off.armed(2), false);
});

test("where losses come in runs, most of a message's repair symbols leave when the run is over", () => {
  const make = (runs: number) => {
    const loss = new LossProcess();
    for (let i = 0; i < 20; i++) {
      loss.onArrived(60);
      for (let k = 0; k < runs; k++) loss.onLost(0);
    }
    const tally = new FecTally();
    const wish = { policy: 'adaptive', codecs: [new ReedSolomon()] } as const;
    return new FecSender(wish, new FecBudget(1e9), fecTunings.fast, 0, tally, loss);
  };
  const out = new Uint8Array(PAYLOAD_BYTES);
  const drain = (sender: FecSender, nowMs: number) => {
    let count = 0;
    for (; sender.queued(nowMs); count++) sender.writeRepair(out);
    return count;
  };
  const message = (sender: FecSender, nowMs: number) => {
    for (let n = 0; n < 3; n++) sender.onSource(n, payloadOf(n), RTT_MS, nowMs);
    const closesMs = sender.nextTimeoutMs;
    sender.poll(closesMs, RTT_MS);
    return closesMs;
  };

  const runs = make(4);
  const closedMs = message(runs, 100);
  assert.equal(drain(runs, closedMs), 1);
  const lateMs = runs.nextTimeoutMs;
  assert.equal(lateMs, closedMs + 20);
  assert.equal(drain(runs, lateMs - 1), 0);
  runs.poll(lateMs, RTT_MS);
  assert.ok(runs.nextTimeoutMs > lateMs + 1000, 'what could not leave at its time does not ask for the time again');
  assert.equal(drain(runs, lateMs), 5);

  const single = make(1);
  const doneMs = message(single, 100);
  assert.ok(drain(single, doneMs) >= 2);
  assert.ok(single.nextTimeoutMs > doneMs + 1000, 'all of them at once');
});

test('a repair that comes before a straggler waits for it', () => {
  const { sender, receiver, recovered, ...rest } = rig(0.5);
  rest.send(1, 0, true);
  rest.send(2, 0, true);
  sender.poll(100, RTT_MS);
  rest.repair(100, false);
  assert.equal(recovered.length, 0);
  rest.arrived.add(2);
  receiver.onSource(2, payloadOf(2), 101, recovered);
  assert.deepEqual(
    recovered.map(({ packetNumber }) => packetNumber),
    [1],
  );
});

test('without leave of the budget nothing is coded, and that is counted', () => {
  const { tally, ...rest } = rig(1, new FecBudget(0));
  for (let i = 0; i < 400; i++) rest.send(i, i, false);
  assert.ok(tally.counts.blocksSkipped > 0);
});

test('hostile repair symbols: rejected, bounded, and never a throw', () => {
  const { receiver, ...rest } = rig();
  const packet = new Uint8Array(PAYLOAD_BYTES);
  rest.send(10_000, 0, false);
  // Far from anything that was sent.
  const bitmap = new Uint8Array(MAX_SPAN / 8).fill(0xff, 0, 4);
  writeRepair(packet, 0, { path: 0, codec: 0, first: 2 ** 40, span: 32, bitmap }, 0, new Uint8Array(SYMBOL_BYTES));
  assert.equal(rest.give(packet, 1), RepairResult.rejected);
  // A code that was never agreed on.
  writeRepair(packet, 0, { path: 0, codec: 1, first: 10_001, span: 32, bitmap }, 0, new Uint8Array(SYMBOL_BYTES));
  assert.equal(rest.give(packet, 1), RepairResult.rejected);
  // The same block told in another way, and the same symbol twice.
  const header = { path: 0, codec: 0, first: 10_001, span: 32, bitmap } as const;
  writeRepair(packet, 0, header, 0, new Uint8Array(SYMBOL_BYTES));
  assert.equal(rest.give(packet, 1), RepairResult.taken);
  assert.equal(rest.give(packet, 1), RepairResult.rejected);
  const other = Uint8Array.of(0xff, 0x7f, 0xff, 0xff);
  writeRepair(packet, 0, { ...header, bitmap: other }, 1, new Uint8Array(SYMBOL_BYTES));
  assert.equal(rest.give(packet, 1), RepairResult.rejected);
  // A flood of blocks.
  for (let first = 10_100; first < 12_000; first++) {
    for (let index = 0; index < 2; index++) {
      writeRepair(packet, 0, { ...header, first }, index, new Uint8Array(SYMBOL_BYTES));
      rest.give(packet, 2);
    }
  }
  assert.ok(receiver.memoryBytes < 4 * MAX_REPAIRS * SYMBOL_BYTES, `${receiver.memoryBytes} bytes`);
  assert.equal(rest.recovered.length, 0);
  receiver.poll(60_000);
  assert.equal(receiver.memoryBytes, 0);
});

test('frames that say nothing that makes sense are refused', () => {
  const decoder = new RepairDecoder();
  const packet = new Uint8Array(PAYLOAD_BYTES);
  const symbol = new Uint8Array(SYMBOL_BYTES);
  const header = { path: 0, codec: 0, first: 5, span: 9, bitmap: Uint8Array.of(0x80, 0x80) } as const;
  const end = writeRepair(packet, 0, header, 3, symbol);
  assert.ok(decoder.decode(packet, 3, end - 3));
  assert.equal(decoder.sources, 2);
  assert.equal(decoder.decode(packet, 3, end - 4), false, 'too short');
  assert.equal(decoder.decode(packet, 3, end - 2), false, 'too long');
  for (const [at, value] of [
    [4, 2],
    [5, 0],
    [5, MAX_SPAN + 1],
    [6, MAX_REPAIRS],
    [8, 0x00],
    [9, 0x00],
    [9, 0x81],
  ] as const) {
    const bad = packet.slice();
    bad[at] = value;
    assert.equal(decoder.decode(bad, 3, end - 3), false, `byte ${at} = ${value}`);
  }
});
