/** core/fec: repair symbols from the peer, decoded and put together beside packets that are there, late or missing. */
import { MAX_REPAIRS, MAX_SOURCES, MAX_SPAN, SYMBOL_BYTES, Symbols } from '@nyx/core/fec/block-codec.ts';
import { FecBudget } from '@nyx/core/fec/budget.ts';
import { FecReceiver, type RecoveredPacket } from '@nyx/core/fec/receiver.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { hasBit, RepairDecoder, setBit, writeRepair } from '@nyx/core/wire/fec-frames.ts';
import { Frame, FrameDecoder } from '@nyx/core/wire/frames.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';

const codec = new ReedSolomon();
/** What an honest path may hold: kept packets, symbols of open blocks, and the arrays around them. */
const MAX_MEMORY_BYTES = (2 * MAX_SPAN + 4 * MAX_REPAIRS) * SYMBOL_BYTES + 65_536;

/** A source symbol that shows its number. */
function sourceOf(packetNumber: number): Uint8Array {
  const symbol = new Uint8Array(SYMBOL_BYTES);
  for (let i = 0; i < SYMBOL_BYTES; i++) symbol[i] = Math.imul(packetNumber + 1, 2 * i + 1) >>> 5;
  return symbol;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);

/** FEC_REPAIR of honest symbols over the packets from `first` on that `bits` (a byte each eight) says. */
function honestRepair(first: number, bits: Uint8Array, index: number): Uint8Array | undefined {
  const numbers: number[] = [];
  for (let i = 0; i < bits.length * 8; i++) if (i === 0 || hasBit(bits, i)) numbers.push(first + i);
  if (numbers.length > MAX_SOURCES) return undefined;
  const sources = new Symbols(numbers.length);
  for (const [at, number] of numbers.entries()) sources.set(at, sourceOf(number));
  const repairs = new Symbols(index + 1);
  codec.encode(sources, numbers.length, index + 1, repairs);
  const span = numbers.at(-1)! - first + 1;
  const bitmap = new Uint8Array((span + 7) >>> 3);
  for (const number of numbers) setBit(bitmap, number - first);
  const payload = new Uint8Array(PAYLOAD_BYTES);
  writeRepair(payload, 0, { path: 0, codec: codec.id, first, span, bitmap }, index, repairs.at(index));
  return payload;
}

function play(input: Uint8Array): void {
  const tape = new Tape(input);
  const arrived = new Set<number>();
  const tally = new FecTally();
  let largest = -1;
  const receiver = new FecReceiver(
    [codec],
    new FecBudget(),
    {
      get largest() {
        return largest;
      },
      isDuplicate: (number) => arrived.has(number),
    },
    tally,
  );
  const recovered: RecoveredPacket[] = [];
  const frames = new FrameDecoder();
  const repair = new RepairDecoder();
  let nowMs = 0;
  let honest = true;
  const give = (payload: Uint8Array): void => {
    frames.reset(payload);
    if (!frames.next() || frames.type !== Frame.fecRepair) return;
    if (!repair.decode(payload, frames.dataStart, frames.dataLength)) return;
    check(repair.sources >= 1 && repair.sources <= MAX_SOURCES, 'a block has 1…64 packets');
    check(repair.symbolStart + SYMBOL_BYTES <= payload.length, 'the symbol is there');
    receiver.onRepair(repair, payload, nowMs, recovered);
  };
  while (tape.left > 0) {
    const kind = tape.byte();
    if (kind < 96) {
      const number = tape.byte() * 2 + (kind & 1);
      if (arrived.has(number)) continue;
      arrived.add(number);
      largest = Math.max(largest, number);
      receiver.onSource(number, sourceOf(number), nowMs, recovered);
    } else if (kind < 192) {
      const first = tape.byte() * 2;
      const index = tape.byte() % 8;
      const payload = honestRepair(first, tape.take(kind % 9), index);
      if (payload !== undefined) give(payload);
    } else if (kind < 240) {
      honest = false;
      const payload = new Uint8Array(PAYLOAD_BYTES);
      payload.set(tape.take(tape.byte()).subarray(0, PAYLOAD_BYTES));
      payload[0] = Frame.fecRepair;
      give(payload);
    } else {
      nowMs += tape.byte() * 100;
      receiver.poll(nowMs);
    }
    check(receiver.memoryBytes <= MAX_MEMORY_BYTES, `${receiver.memoryBytes} bytes are held`);
    for (const { packetNumber, payload } of recovered) {
      check(!arrived.has(packetNumber), 'what has arrived does not come back');
      check(payload.length === SYMBOL_BYTES, 'a recovered payload is a symbol');
      // Nobody but a lying peer can make a wrong byte.
      if (honest) check(same(payload, sourceOf(packetNumber)), `packet ${packetNumber} came back as it was`);
      arrived.add(packetNumber);
    }
    recovered.length = 0;
  }
  const { counts } = tally;
  const settled = counts.repairsUsed + counts.repairsUnneeded + counts.repairsWasted + counts.repairsRejected;
  check(settled <= counts.repairsReceived, 'no symbol is counted twice');
}

export const fecRepairs: FuzzTarget = {
  name: 'fec-repairs',
  dictionary: [Uint8Array.of(Frame.fecRepair)],
  maxBytes: 4096,
  seeds: () => [
    // Packets 0, 2 and 4 of five, then two repair symbols over all of them.
    Uint8Array.of(0, 0, 0, 1, 0, 2, 96 + 7, 0, 0, 0xf8, 96 + 7, 0, 1, 0xf8),
    Uint8Array.of(103, 0, 0, 0x80, 0, 0, 240, 30, 103, 1, 5, 0xff),
    Uint8Array.of(200, 20, 0x36, 0x44, 0x5f, 0, 0, 8, 1, 0, 0xff, 1, 2, 3),
  ],
  run: play,
};
