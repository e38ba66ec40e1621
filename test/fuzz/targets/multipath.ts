/**
 * A session on several paths (docs/protocol.md §5.5) that gets hostile payloads on each of them: paths ask to join, join,
 * fall silent, are lost; and honest acknowledgements, so that they can do all that.
 */
import { FecBudget } from '@nyx/core/fec/budget.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { schedulers } from '@nyx/core/stream/path-choice.ts';
import { Session } from '@nyx/core/stream/session.ts';
import { type PathHost, PathState, type SessionPath } from '@nyx/core/stream/session-path.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { Frame, writeAck, writeAttach, writeOpaqueFrame } from '@nyx/core/wire/frames.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';
import { frameDictionary, framePayloads } from './wire.ts';

const limits = { maxStreams: 8, streamWindowBytes: 65_536, sessionWindowBytes: 262_144, sendBufferBytes: 65_536 };
const maxBufferedBytes = 4 * 1024 * 1024;
const MAX_PATHS = 5;
const fecResources = () => ({ codecs: [new ReedSolomon()], budget: new FecBudget(), tally: new FecTally() });

/** One path as its circuit sees it. */
interface Leg {
  readonly path: SessionPath;
  readonly challenge: readonly [number, number];
  sent: number;
  received: number;
}

/**
 * First byte: its lowest bit, 1 = we are the client; bits 1 and 2, the scheduler. Steps by op & 7 on leg op >> 3: 0…2 a
 * payload (length (1), or 255 and length (2)); 3 another path; 4 all that was sent there is acknowledged and a challenge
 * answered; 5 time; 6 the owner writes, reads or sends a datagram; 7 the path is lost.
 */
function play(input: Uint8Array): void {
  const tape = new Tape(input);
  const first = tape.byte();
  const role = (first & 1) === 1 ? 'client' : 'server';
  const streams: SessionStream[] = [];
  let nowMs = 1000;
  let closes = 0;
  let admit = true;
  let detached = 0;
  const pathHost: PathHost = { onCryptoMessage() {}, onWantSend() {} };
  const options = { ...limits, capabilities: ['a'], fec: { resources: fecResources(), policy: { ratio: 0.5 } } };
  const session = new Session(
    { ...options, role, scheduler: schedulers[(first >> 1) & 3] },
    {
      ...pathHost,
      onStream: (stream) => void streams.push(stream),
      onDetached: () => detached++,
      onClose: () => check(++closes === 1, 'a session closes once'),
    },
    nowMs,
  );
  const legs: Leg[] = [{ path: session.firstPath, challenge: [0, 0], sent: 0, received: 0 }];
  const stream = role === 'client' ? session.openStream({ kind: 'tcp', host: 'a.example', port: 80 }) : undefined;
  if (stream !== undefined) streams.push(stream);
  stream?.write(new Uint8Array(3000));
  const out = new Uint8Array(PAYLOAD_BYTES);
  const into = new Uint8Array(4096);

  /** Server: a circuit comes, with a session of its own that asks at once to be let into ours. */
  const join = (): void => {
    if (legs.filter(({ path }) => path.state !== PathState.gone).length >= MAX_PATHS || session.closed) return;
    const challenge = [legs.length, 7] as const;
    if (role === 'client') {
      const path = session.addPath(pathHost, new Uint8Array(32).fill(legs.length), challenge, 0, nowMs);
      legs.push({ path, challenge, sent: 0, received: 0 });
      return;
    }
    const newcomer = new Session(
      { ...options, role },
      {
        ...pathHost,
        onAttach: (path) => {
          if (admit && !session.closed) session.adopt(path);
          return admit && !session.closed;
        },
        onClose() {},
      },
      nowMs,
    );
    const leg: Leg = { path: newcomer.firstPath, challenge, sent: 0, received: 0 };
    legs.push(leg);
    const payload = new Uint8Array(PAYLOAD_BYTES);
    writeOpaqueFrame(payload, writeAttach(payload, 0, new Uint8Array(32).fill(5)), Frame.pathChallenge, 1, 2);
    leg.path.handlePayload(leg.received++, payload, nowMs);
  };
  const honest = ({ path, challenge, sent }: Leg): Uint8Array => {
    const payload = new Uint8Array(PAYLOAD_BYTES);
    let at = writeOpaqueFrame(payload, 0, Frame.pathResponse, challenge[0], challenge[1]);
    if (sent > 0) at = writeAck(payload, at, 100, 0, { count: 1, startAt: () => 0, endAt: () => sent });
    check(at <= PAYLOAD_BYTES && path.id >= 0, 'fits');
    return payload;
  };

  for (let steps = 0; tape.left > 0 && steps < 64; steps++) {
    const op = tape.byte();
    const leg = legs[(op >> 3) % legs.length]!;
    const argument = (op & 7) === 4 ? 0 : tape.byte();
    switch (op & 7) {
      case 3:
        admit = (argument & 3) !== 3;
        join();
        break;
      case 4:
        leg.path.handlePayload(leg.received++, honest(leg), nowMs);
        break;
      case 5:
        nowMs += argument < 128 ? argument : (argument - 127) * 64;
        break;
      case 6:
        if (argument < 64) streams[argument % Math.max(1, streams.length)]?.write(into.subarray(0, argument * 64));
        else if (argument < 128) streams[argument % Math.max(1, streams.length)]?.read(into);
        else if (argument < 192) session.sendDatagram(argument, into.subarray(0, argument), argument - 128);
        else if (argument < 250) leg.received += argument - 191;
        else streams[argument % Math.max(1, streams.length)]?.end();
        break;
      case 7:
        if (argument > 127) leg.path.lost(nowMs);
        break;
      default: {
        const payload = new Uint8Array(PAYLOAD_BYTES);
        payload.set(tape.take(Math.min(PAYLOAD_BYTES, argument < 255 ? argument : tape.uint16() & 0x7ff)));
        leg.path.handlePayload(leg.received++, payload, nowMs);
      }
    }
    for (const each of legs) {
      each.path.handleTimeout(nowMs);
      for (let i = 0; i < 64 && each.path.pollPayload(out, each.sent, nowMs); i++) each.sent++;
      check(!Number.isNaN(each.path.nextTimeoutMs()), 'the next time-out is a time');
    }
    const { bufferedBytes, paths, reorderLimitBytes } = session.stats;
    check(bufferedBytes >= 0 && bufferedBytes <= maxBufferedBytes, `buffers hold ${bufferedBytes} bytes`);
    check(paths.length <= MAX_PATHS && new Set(paths.map(({ path }) => path)).size === paths.length, 'each path once');
    check(reorderLimitBytes > 0, 'some room to run ahead');
    check(!session.closed || closes === 1, 'the owner of a closed session was told');
    check(detached <= legs.length, 'as often alone as a path was lost');
    for (const { path } of legs) {
      const { inFlight } = path.recovery;
      check(inFlight >= 0, 'no less than nothing is under way');
      // A session that is closing leaves its packets to themselves.
      const given = path.state === PathState.gone && closes === 0 && path.owner.session === session;
      check(!given || inFlight === 0, 'nothing is under way where no path is');
    }
  }
  session.abandon(0x2b, 'over');
  check(session.closed && session.stats.streams === 0, 'an abandoned session is over');
}

const step = (leg: number, payload: Uint8Array): number[] => [
  leg << 3,
  ...(payload.length < 255 ? [payload.length] : [255, payload.length >> 8, payload.length & 255]),
  ...payload,
];

function seeds(): Uint8Array[] {
  const payloads = framePayloads();
  const joined = [3, 0, 0x0c, 3, 0, 0x14, 4];
  const busy = [6, 20, 5, 10, 0x0c, 0x14, 6, 90, 5, 200];
  return [0, 1, 3, 5, 7].flatMap((first) => [
    Uint8Array.from([first, ...joined, ...busy, 0x0f, 255, ...busy, 7, 255, ...busy, 3, 0, 0x1c, ...busy]),
    Uint8Array.from([first, 3, 3, 0x0c, ...busy, 7, 255, ...busy]),
    Uint8Array.from([first, ...joined, ...payloads.flatMap((payload, i) => step(i % 3, payload)), ...busy]),
  ]);
}

export const sessionPaths: FuzzTarget = {
  name: 'session-paths',
  dictionary: [...frameDictionary, Uint8Array.of(3, 0), Uint8Array.of(0x0c), Uint8Array.of(0x0f, 255)],
  maxBytes: 4096,
  executions: 800,
  seeds,
  run: play,
};
