/** Cases of one session over several circuits (docs/protocol.md §5.5). */
import { ascii, attachOf, type Bytes, bytes, concat, encodeRoute, equal, PAYLOAD, random, ticketOf } from './codec.ts';
import { type Case, type Context, check, flipped } from './context.ts';
import { frame, pingFrame, TestCircuit } from './peer.ts';
import { SERVICE_HOST } from './services.ts';

const plus = 'Plus' as const;
const PATH_VALIDATION_FAILED = 5;
const VIOLATION = 1;
const MAX_PATHS = 8;

const connectFrame = (stream: number, port: number, host = SERVICE_HOST, kind = 0): Bytes =>
  frame(8, stream, kind, port, host.length, ascii(host));
export const streamFrame = (stream: number, offset: number, data: Uint8Array, fin = false): Bytes =>
  frame(1, stream, offset, Number(fin), data.length, data);

/** A stream to the service that sends everything back, opened on that circuit. */
export async function openEcho(
  context: Context,
  circuit: TestCircuit,
  stream = 0,
  more: Uint8Array = bytes(0),
): Promise<void> {
  const { tcpPort } = await context.services();
  circuit.send(concat(connectFrame(stream, tcpPort), more));
  check((await circuit.frame(9)) !== undefined, 'CONNECTED did not come');
}

const attachFrame = (first: TestCircuit, newcomer: TestCircuit): Bytes =>
  concat(Uint8Array.of(0x35), attachOf(ticketOf(first.shared!), newcomer.options.train.binding));

async function newcomer(context: Context): Promise<TestCircuit> {
  const circuit = TestCircuit.build(await context.link(), encodeRoute({}));
  check(await circuit.ready(), 'a good set-up was not answered');
  return circuit;
}

/** A second circuit that has joined the session of the first. */
async function joined(context: Context, first: TestCircuit): Promise<TestCircuit> {
  const circuit = await newcomer(context);
  const mark = random(8);
  circuit.sendAcked(concat(attachFrame(first, circuit), Uint8Array.of(0x33), mark));
  check((await circuit.frame(0x34, ({ data }) => equal(data, mark))) !== undefined, 'PATH_CHALLENGE was not answered');
  return circuit;
}

/** Whether a PING is answered, on whichever of the session's circuits. */
async function answers(first: TestCircuit): Promise<boolean> {
  const mark = random(8);
  first.sendAcked(pingFrame(mark));
  const isAnswered = () => [...first.link.circuits].some((one) => one instanceof TestCircuit && one.hasPong(mark));
  return await first.link.until(isAnswered);
}

const drop = (circuit: TestCircuit): void => {
  circuit.link.message(2, concat(circuit.forwardCid, Uint8Array.of(0, 0)));
  circuit.link.circuits.delete(circuit);
};

type Run = (context: Context, first: TestCircuit) => Promise<void>;

/** A case of a session that has one circuit, which is made before it and ended behind it. */
const caseOf = (id: string, rule: string, run: Run): Case => ({
  id,
  section: '5.5',
  level: plus,
  rule,
  run: async (context) => {
    const first = await newcomer(context);
    check(await first.ping(), 'PING was not answered');
    await run(context, first);
    drop(first);
  },
});

function attachCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) => cases.push(caseOf(`attach.${id}`, rule, run));
  of('response', 'PATH_RESPONSE has the bytes of PATH_CHALLENGE, on the path that asked', async (context, first) => {
    drop(await joined(context, first));
  });
  of('acknowledged', 'ATTACH is acknowledged on its own path', async (context, first) => {
    const second = await joined(context, first);
    check((await second.frame(2)) !== undefined, 'no ACK came');
    drop(second);
  });
  of('ping', 'PINGs on either path are answered in the session', async (context, first) => {
    const second = await joined(context, first);
    const mark = random(8);
    second.sendAcked(pingFrame(mark));
    check(await second.link.until(() => second.hasPong(mark) || first.hasPong(mark)), 'PING was not answered');
    check(await first.link.until(() => true), 'the link is gone');
    drop(second);
  });
  const refused = (
    id: string,
    rule: string,
    body: (context: Context, first: TestCircuit, second: TestCircuit) => Bytes | Promise<Bytes>,
  ) =>
    of(id, rule, async (context, first) => {
      const second = await newcomer(context);
      second.send(await body(context, first, second));
      const close = await second.closeFrame();
      second.link.circuits.delete(second);
      check(close !== undefined, 'it was let in');
      check(close.fields[0] === PATH_VALIDATION_FAILED, `code ${close.fields[0]}, not ${PATH_VALIDATION_FAILED}`);
      check(await answers(first), 'the session that it asked for is gone');
    });
  for (const at of [17, 24, 32]) {
    refused(`proof.${at - 17}`, 'every byte of a proof counts', (_context, first, second) =>
      flipped(attachFrame(first, second), at),
    );
  }
  refused('unknown', 'a session that is not known is attached to by nobody', (_context, first, second) =>
    flipped(attachFrame(first, second), 1),
  );
  refused('elsewhere', 'a proof for another circuit proves nothing', async (context, first) =>
    attachFrame(first, await newcomer(context)),
  );
  refused('own', 'a circuit does not join the session that began on it', (_context, _first, second) =>
    attachFrame(second, second),
  );
  refused('ninth', 'a session has eight circuits at most', async (context, first, second) => {
    for (let i = 1; i < MAX_PATHS; i++) await joined(context, first);
    return attachFrame(first, second);
  });
  refused('over', 'a session that is over is attached to by nobody', async (context, _first, second) => {
    const over = await newcomer(context);
    check(await over.ping(), 'PING was not answered');
    drop(over);
    await second.link.ping();
    return attachFrame(over, second);
  });
  of('late', 'ATTACH comes before anything else', async (context, first) => {
    const second = await newcomer(context);
    const { tcpPort } = await context.services();
    second.send(concat(connectFrame(0, tcpPort), attachFrame(first, second)));
    const close = await second.closeFrame();
    second.link.circuits.delete(second);
    check(close?.fields[0] === VIOLATION, `code ${close?.fields[0]}, not ${VIOLATION}`);
  });
  of('cut', 'ATTACH that runs over the end of the payload breaks the protocol', async (_context, first) => {
    const pings = concat(...Array.from({ length: 125 }, () => pingFrame(random(8))));
    first.send(concat(pings, Uint8Array.of(0x35), bytes(PAYLOAD - pings.length - 1)));
    check((await first.closeFrame())?.fields[0] === VIOLATION, 'the session goes on');
  });
  of('again', 'ATTACH that is said again, before its ACK came, changes nothing', async (context, first) => {
    const second = await joined(context, first);
    second.sendAcked(attachFrame(first, second));
    const mark = random(8);
    second.sendAcked(pingFrame(mark));
    check(await second.link.until(() => second.hasPong(mark) || first.hasPong(mark)), 'the session is gone');
    drop(second);
  });
  return cases;
}

function dataCases(): Case[] {
  const cases: Case[] = [];
  const of = (id: string, rule: string, run: Run) =>
    cases.push(
      caseOf(`paths.${id}`, rule, async (context, first) => {
        await openEcho(context, first);
        await run(context, first);
      }),
    );
  /** What the stream has brought on all of them. */
  const echoed = (circuits: readonly TestCircuit[], length: number): Bytes => {
    const all = bytes(length);
    const seen = new Set<number>();
    for (const { frames } of circuits) {
      for (const { type, fields, data } of frames) {
        if (type !== 1) continue;
        for (let i = 0; i < data.length; i++) {
          all[fields[1]! + i] = data[i]!;
          seen.add(fields[1]! + i);
        }
      }
    }
    return seen.size >= length ? all : bytes(0);
  };
  const text = ascii('on the second path');
  of('stream', 'what a stream says may come on any path', async (context, first) => {
    const second = await joined(context, first);
    first.sendAcked(streamFrame(0, 0, text.subarray(0, 7)));
    second.sendAcked(streamFrame(0, 7, text.subarray(7)));
    check(
      await first.link.until(() => equal(echoed([first, second], text.length), text)),
      'not all of it was sent back',
    );
    drop(second);
  });
  of('overtaken', 'parts of a stream are put in order over all paths', async (context, first) => {
    const second = await joined(context, first);
    second.sendAcked(streamFrame(0, 7, text.subarray(7)));
    first.sendAcked(streamFrame(0, 0, text.subarray(0, 7)));
    check(
      await first.link.until(() => equal(echoed([first, second], text.length), text)),
      'not all of it was sent back',
    );
    drop(second);
  });
  of('failover', 'a session goes on when one of its circuits ends', async (context, first) => {
    const second = await joined(context, first);
    drop(first);
    second.sendAcked(streamFrame(0, 0, text));
    check(await second.link.until(() => equal(echoed([second], text.length), text)), 'the stream is gone');
    drop(second);
  });
  of(
    'resumption',
    'a session with an open stream waits for another circuit when its last is lost',
    async (context, first) => {
      first.sendAcked(streamFrame(0, 0, text.subarray(0, 7)));
      check(await first.link.until(() => echoed([first], 7).length === 7), 'the stream does not work');
      drop(first);
      await first.link.ping();
      const second = await joined(context, first);
      second.sendAcked(streamFrame(0, 7, text.subarray(7)));
      check(
        await second.link.until(() => equal(echoed([first, second], text.length), text)),
        'the stream did not go on',
      );
      drop(second);
    },
  );
  of('unacknowledged', 'what was lost with a circuit goes out on the next one', async (context, first) => {
    // The answer is on its way when the circuit ends, or comes later: the target can not know that it arrived.
    first.sendAcked(streamFrame(0, 0, text));
    drop(first);
    await first.link.ping();
    const second = await joined(context, first);
    check(await second.link.until(() => equal(echoed([second], text.length), text)), 'it never came');
    drop(second);
  });
  of('redundant', 'scheduler 3: every STREAM frame goes out on two paths', async (context, first) => {
    const second = await joined(context, first);
    first.sendAcked(concat(frame(0x30, 1, 6, 3), streamFrame(0, 0, text)));
    const both = () => [first, second].every((circuit) => equal(echoed([circuit], text.length), text));
    check(await first.link.until(both), 'it came on one path alone');
    drop(second);
  });
  of('acks', 'ACKs travel on the path that they are about', async (context, first) => {
    const second = await joined(context, first);
    second.frames.length = 0;
    const sent = second.index;
    second.sendAcked(pingFrame(random(8)));
    const ack = await second.frame(2, ({ fields }) => fields[0] === sent);
    check(ack !== undefined, 'no ACK of it came there');
    drop(second);
  });
  return cases;
}

export const pathCases = (): Case[] => [...attachCases(), ...dataCases()];
