/** The suite passes against our own node, and finds faults that are put into a copy of it. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { patience } from './peer.ts';
import { summarize } from './report.ts';
import { allCases, runCases, startOwn } from './suite.ts';

const root = join(import.meta.dirname, '..', '..');

test('every case passes', async () => {
  const cases = allCases();
  assert.ok(cases.length >= 500, `${cases.length} cases`);
  assert.equal(new Set(cases.map(({ id }) => id)).size, cases.length, 'each has an id of its own');
  const own = await startOwn();
  const outcomes = await runCases(own.target, cases, own.node);
  await own.stop();
  const failed = outcomes.filter(({ passed }) => !passed).map(({ id, reason }) => `${id}: ${reason}`);
  assert.deepEqual(failed, []);
  assert.equal(summarize(outcomes, true).reaches, 'Full', 'our node reaches the highest level');
});

interface Fault {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly put: string;
  /** The case that has to fail. */
  readonly caughtBy: string;
}

const faults: readonly Fault[] = [
  {
    name: 'a backward cell does not end in T(n)',
    file: 'core/onion/last-hop.ts',
    find: '    cell.ct.set(tailScratch, PAYLOAD_BYTES);\n',
    put: '',
    caughtBy: 'reply.tail',
  },
  {
    name: 'no replay check of control cells',
    file: 'core/link/link.ts',
    find: '    if (seen !== Drop.none) return seen;\n',
    put: '',
    caughtBy: 'control.replayed',
  },
  {
    name: 'a train opens as often as it comes',
    file: 'core/onion/setup-train.ts',
    find: '  if (noted !== Drop.none) return refuse(noted);\n',
    put: '',
    caughtBy: 'train.replayed',
  },
  {
    name: 'window of segments off by one',
    file: 'core/link/control-receiver.ts',
    find: 'seq >= this.#nextSeq + ACK_SPAN',
    put: 'seq > this.#nextSeq + ACK_SPAN',
    caughtBy: 'ack.beyond',
  },
  {
    name: 'length of a segment off by one',
    file: 'core/link/control-cell.ts',
    find: 'this.length <= SEGMENT_BYTES',
    put: 'this.length <= SEGMENT_BYTES + 1',
    caughtBy: 'link.ends.segment.length.1217',
  },
  {
    name: "a route's first zero is not looked at",
    file: 'core/onion/hop-route.ts',
    find: 'for (let i = USED_BYTES; i',
    put: 'for (let i = USED_BYTES + 1; i',
    caughtBy: 'route.tail.0',
  },
  {
    name: 'unknown flags of an init are taken',
    file: 'core/link/handshake-messages.ts',
    find: 'plaintext[1]! > flagNamed',
    put: 'plaintext[1]! > 127',
    caughtBy: 'init.flags.4',
  },
  {
    name: 'reserved bytes of a handshake header are not looked at',
    file: 'core/link/handshake-datagram.ts',
    find: '    for (let i = 12; i < 20; i++) if (this.header[i] !== 0) return false;\n',
    put: '',
    caughtBy: 'handshake.header.reserved.12',
  },
  {
    name: 'a generation further ahead is followed',
    file: 'core/onion/direction-keys.ts',
    find: 'MAX_GENERATIONS_AHEAD = 4',
    put: 'MAX_GENERATIONS_AHEAD = 5',
    caughtBy: 'generation.ahead.5',
  },
  {
    name: 'DESTROY is taken from either side',
    file: 'core/engine/admission.ts',
    find: '    if (entry.travel !== message.direction) return Drop.notAllowed;\n',
    put: '',
    caughtBy: 'destroy.direction',
  },
  {
    name: 'flow control off by one',
    file: 'core/stream/receive-buffer.ts',
    find: 'if (end > limit)',
    put: 'if (end > limit + 1)',
    caughtBy: 'frame.stream.window',
  },
  {
    name: 'circuits whose time is over are taken',
    file: 'core/engine/admission.ts',
    find: 'context.host.unixSeconds() > route.expiry',
    put: 'context.host.unixSeconds() < 0',
    caughtBy: 'route.expiry.0',
  },
  {
    name: 'a receipt leaves out a cell',
    file: 'core/mix/batch-work.ts',
    find: 'encodeReceipt(certificate, key, batch, tag, digests)',
    put: 'encodeReceipt(certificate, key, batch, tag, digests.slice(1))',
    caughtBy: 'cmix.receipt.cells',
  },
  {
    name: 'an opening has something else in the place of a cell',
    file: 'core/mix/batch-work.ts',
    find: 'job.salt, digestsOf(job.inputs), digestsOf(job.outputs))',
    put: 'job.salt, digestsOf(job.inputs), digestsOf(job.outputs).map((one, i) => (i > 0 ? one : suite.sha256(one))))',
    caughtBy: 'cmix.opening.out',
  },
  {
    name: 'a cell is named by all of its bytes, those that fall off too',
    file: 'core/mix/batch-records.ts',
    find: 'travel === Direction.forward ? cell : cell.subarray(0, CT_BYTES)',
    put: 'cell',
    caughtBy: 'cmix.cells.fallen',
  },
  {
    name: 'a packet of the message lane is taken as often as it comes',
    file: 'core/sphinx/relay.ts',
    find: '    if (noted !== Drop.none) return noted === Drop.setupReplayed ? Drop.messageReplayed : noted;\n',
    put: '',
    caughtBy: 'message.replayed',
  },
];

/** A copy of what the target is made of, with the fault in it. Returns the target's script. */
function faultyTarget(context: TestContext, { file, find, put }: Fault): string {
  // Below the checkout, so that the packages are found; in a folder that nothing else looks at.
  mkdirSync(join(root, '.nyx'), { recursive: true });
  const folder = mkdtempSync(join(root, '.nyx', 'faulty-'));
  context.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'node_modules', '@nyx'), { recursive: true });
  for (const part of ['core', 'daemon', 'test']) {
    mkdirSync(join(folder, part));
    cpSync(join(root, part, 'package.json'), join(folder, part, 'package.json'));
    symlinkSync(join(folder, part), join(folder, 'node_modules', '@nyx', part));
  }
  cpSync(join(root, 'core'), join(folder, 'core'), { recursive: true });
  for (const part of ['io', 'exit', 'pump', 'directory'])
    cpSync(join(root, 'daemon', part), join(folder, 'daemon', part), { recursive: true });
  for (const part of ['sim', 'conformance'])
    cpSync(join(root, 'test', part), join(folder, 'test', part), { recursive: true });
  const path = join(folder, file);
  const parts = readFileSync(path, 'utf8').split(find);
  assert.equal(parts.length, 2, `"${find}" is in ${file} once`);
  writeFileSync(path, parts.join(put));
  return join(folder, 'test', 'conformance', 'target.ts');
}

test('faults are caught', { concurrency: 2 }, async (context) => {
  // What is awaited in vain need not be awaited for long.
  patience.ms = 1000;
  const cases = allCases();
  const tests = faults.map((fault) =>
    context.test(fault.name, async (subtest) => {
      const own = await startOwn(faultyTarget(subtest, fault));
      const [outcome] = await runCases(
        own.target,
        cases.filter(({ id }) => id === fault.caughtBy),
        own.node,
      );
      await own.stop();
      assert.equal(outcome?.passed, false, `${fault.caughtBy} passed`);
      assert.doesNotMatch(outcome?.reason ?? '', /handshake/, 'the target does not even work');
    }),
  );
  await Promise.all(tests);
});
