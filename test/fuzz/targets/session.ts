/**
 * A live session that gets hostile payloads: the input is a list of `kind ‖ length ‖ payload`, played to a client or a
 * server that has streams, questions and datagrams under way and whose owner reads, writes and answers meanwhile.
 */
import { FecBudget } from '@nyx/core/fec/budget.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import type { SessionApi, SessionHost, SessionStream } from '@nyx/core/stream/contract.ts';
import { Session } from '@nyx/core/stream/session.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { check, type FuzzTarget, Tape } from '../fuzzer.ts';
import { frameDictionary, framePayloads } from './wire.ts';

const limits = { maxStreams: 8, streamWindowBytes: 65_536, sessionWindowBytes: 262_144, sendBufferBytes: 65_536 };
/** Everything the windows allow, what the writer below queues, and the queues of control frames and datagrams. */
const maxBufferedBytes = 3 * 1024 * 1024;

const fecResources = () => ({ codecs: [new ReedSolomon()], budget: new FecBudget(), tally: new FecTally() });

class Owner implements SessionHost {
  readonly streams: SessionStream[] = [];
  closes = 0;
  session: SessionApi | undefined;
  onCryptoMessage(): void {}
  onWantSend(): void {}
  onReady(): void {}
  onDatagram(): void {}
  onStream(stream: SessionStream): void {
    check(this.closes === 0, 'no stream of a session that is over');
    this.watch(stream);
    if (this.streams.length % 2 === 0) stream.connected(4, '192.0.2.7', 4000);
  }
  onResolve(requestId: number): void {
    this.session?.resolved(requestId, 0, [{ family: 4, address: '192.0.2.9', ttlSeconds: 60 }]);
  }
  onClose(): void {
    this.closes++;
    check(this.closes === 1, 'a session closes once');
  }
  watch(stream: SessionStream): void {
    let closes = 0;
    stream.onClose = () => check(++closes === 1, 'a stream closes once');
    stream.onReadable = () => check(closes === 0, 'nothing to read after the close');
    this.streams.push(stream);
  }
}

/** kind 0…127: a payload in order; 128…: the owner does something, or time passes. */
function play(role: 'client' | 'server', input: Uint8Array): void {
  const tape = new Tape(input);
  const owner = new Owner();
  let nowMs = 1000;
  const session = new Session(
    { ...limits, role, capabilities: ['a'], fec: { resources: fecResources(), policy: { ratio: 0.5 } } },
    owner,
    nowMs,
  );
  owner.session = session;
  if (role === 'client') {
    const stream = session.openStream({ kind: 'tcp', host: 'a.example', port: 80 });
    if (stream !== undefined) {
      owner.watch(stream);
      stream.write(new Uint8Array(2000));
    }
    session.resolve('name', 'a.example', () => {});
    session.ping(() => {});
  }
  session.sendDatagram(1, new Uint8Array(100));
  const out = new Uint8Array(PAYLOAD_BYTES);
  const into = new Uint8Array(4096);
  let received = 0;
  let sent = 0;
  const poll = (): void => {
    for (let i = 0; i < 64 && session.firstPath.pollPayload(out, sent, nowMs); i++) sent++;
  };
  poll();
  for (let steps = 0; tape.left > 0 && steps < 64; steps++) {
    const kind = tape.byte();
    if (kind < 0x80) {
      const payload = new Uint8Array(PAYLOAD_BYTES);
      payload.set(tape.take(Math.min(PAYLOAD_BYTES, kind < 0x70 ? kind : tape.uint16() & 0x7ff)));
      session.firstPath.handlePayload(received++, payload, nowMs);
    } else {
      const stream = owner.streams[kind % Math.max(1, owner.streams.length)];
      const argument = tape.byte();
      switch ((kind >> 3) & 7) {
        case 0:
          nowMs += argument;
          break;
        case 1:
          nowMs += argument * 256;
          break;
        case 2:
          stream?.write(into.subarray(0, argument * 16));
          break;
        case 3:
          stream?.read(into);
          break;
        case 4:
          stream?.end();
          break;
        case 5:
          if (argument > 200) stream?.reset(0x20);
          else session.sendDatagram(argument, into.subarray(0, argument));
          break;
        case 6:
          received += argument;
          break;
        default:
          if (argument > 250) session.close(0, 'over');
      }
      session.firstPath.handleTimeout(nowMs);
    }
    poll();
    const { bufferedBytes, streams } = session.stats;
    check(bufferedBytes >= 0 && bufferedBytes <= maxBufferedBytes, `buffers hold ${bufferedBytes} bytes`);
    check(streams <= 64 + limits.maxStreams, `${streams} streams are open`);
    check(!session.closed || owner.closes === 1, 'the owner of a closed session was told');
    check(!Number.isNaN(session.firstPath.nextTimeoutMs()), 'the next time-out is a time');
  }
  for (const stream of owner.streams) {
    const { bytesAcked, bytesWritten } = stream.stats;
    check(bytesAcked <= bytesWritten, 'acknowledged what was not written');
  }
  // Whatever was said, time ends it: no timer fires without end.
  for (let i = 0; i < 200 && !session.closed; i++) {
    const next = session.firstPath.nextTimeoutMs();
    if (next === Number.POSITIVE_INFINITY) break;
    nowMs = Math.max(nowMs + 1, next);
    session.firstPath.handleTimeout(nowMs);
    poll();
  }
  session.abandon(0x2b, 'over');
  check(session.closed, 'an abandoned session is closed');
  check(session.stats.streams === 0, 'an abandoned session has no streams');
}

const step = (payload: Uint8Array): Uint8Array =>
  payload.length < 0x70
    ? Uint8Array.of(payload.length, ...payload)
    : Uint8Array.of(0x70, payload.length >> 8, payload.length, ...payload);

function seeds(): Uint8Array[] {
  const payloads = framePayloads();
  const all = payloads.map((payload) => [...step(payload)]);
  const busy = [0x80, 10, 0x90, 200, 0x98, 1, 0x88, 4, 0xa0, 0, 0xb0, 3, 0xa8, 40];
  return [
    ...all.map((one) => Uint8Array.from([...one, ...busy])),
    Uint8Array.from(all.flat()),
    Uint8Array.from(all.flatMap((one) => [...one, ...busy])),
    Uint8Array.from([...all[1]!, ...all[0]!, ...all[6]!, ...busy, ...all[4]!]),
  ];
}

const target = (role: 'client' | 'server'): FuzzTarget => ({
  name: `session-${role}`,
  dictionary: frameDictionary,
  maxBytes: 4096,
  executions: 1500,
  seeds,
  run: (input) => play(role, input),
});

export const sessionClient = target('client');
export const sessionServer = target('server');
