import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { ANSWER_BYTES } from './answer-seal.ts';
import { MAX_MESSAGE_BYTES } from './content.ts';
import { MessageError } from './message-error.ts';
import { replyTokenName } from './reply-token.ts';
import { type TestClient, TestLane } from './testing.ts';

const quiet = { loss: 0, duplicate: 0, delayMs: 20 };

const outcome = (client: TestClient, name: string): string | undefined => {
  const events = client.events.filter((event) => event.name === name && event.kind !== 'sent');
  assert.ok(events.length <= 1, 'a message ends once');
  const [event] = events;
  return event?.kind === 'failed' ? event.error.code : event?.kind;
};

test('messages of 0, 1, 20 000 and 65 536 bytes arrive as they were, with real keys', () => {
  const lane = new TestLane(1, quiet, createNobleSuite());
  const alice = lane.join('alice', { packetsPerSecond: 100 });
  const bob = lane.join('bob', { packetsPerSecond: 100 });
  const contents = [0, 1, 20_000, MAX_MESSAGE_BYTES].map((length) => lane.bytes(length));
  const names = contents.map((content) => alice.messenger.send(bob.address, content, 60_000, lane.nowMs));
  lane.run(60_000, () => names.every((name) => outcome(alice, name) !== undefined));
  assert.deepEqual(
    names.map((name) => outcome(alice, name)),
    names.map(() => 'acknowledged'),
  );
  const bySize = bob.received.toSorted((a, b) => a.content.length - b.content.length);
  assert.deepEqual(
    bySize.map(({ content }) => Buffer.from(content).toString('hex')),
    contents.map((content) => Buffer.from(content).toString('hex')),
  );
  assert.throws(
    () => alice.messenger.send(bob.address, new Uint8Array(MAX_MESSAGE_BYTES + 1), 1000, lane.nowMs),
    (error) => error instanceof MessageError && error.code === 'MESSAGE_TOO_LARGE',
  );
});

test('a thousand schedules of loss, repetition and reordering: each message once, or an error', () => {
  let acknowledged = 0;
  let failed = 0;
  for (let seed = 0; seed < 1000; seed++) {
    const lane = new TestLane(seed, quiet);
    lane.faults = { loss: lane.chance() * 0.5, duplicate: lane.chance(), delayMs: lane.chance() * 1500 };
    const alice = lane.join('alice', { packetsPerSecond: 20, cover: 'off' });
    const bob = lane.join('bob', { packetsPerSecond: 20, cover: 'off' });
    const names: string[] = [];
    const messages = 1 + (seed % 2);
    for (let i = 0; i < messages; i++) {
      names.push(alice.messenger.send(bob.address, lane.bytes(Math.floor(lane.chance() * 1500)), 60_000, lane.nowMs));
    }
    lane.run(70_000, () => names.every((name) => outcome(alice, name) !== undefined));
    const ids = bob.received.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, `seed ${seed}: stored once`);
    for (const name of names) {
      const end = outcome(alice, name);
      assert.ok(end === 'acknowledged' || end === 'MESSAGE_NOT_ACKNOWLEDGED', `seed ${seed}: ${end}`);
      if (end === 'acknowledged') assert.ok(ids.includes(name), `seed ${seed}: acknowledged and not there`);
      if (end === 'acknowledged') acknowledged++;
      else failed++;
    }
  }
  assert.ok(acknowledged > 1200 && failed > 0, `both ends occur: ${acknowledged}, ${failed}`);
});

test('sender, recipient and mailbox node die at any time: each message is still stored once, and its sender hears of it', () => {
  let repeated = 0;
  for (let seed = 0; seed < 30; seed++) {
    const lane = new TestLane(`deaths ${seed}`, quiet);
    lane.faults = { loss: lane.chance() * 0.2, duplicate: lane.chance() * 0.3, delayMs: lane.chance() * 400 };
    const alice = lane.join('alice', { packetsPerSecond: 20, cover: 'off' });
    const bob = lane.join('bob', { packetsPerSecond: 20, cover: 'off' });
    const names = [0, 1].map((i) => alice.messenger.send(bob.address, lane.bytes(1 + 900 * i), 300_000, lane.nowMs));
    const over = () => names.every((name) => outcome(alice, name) !== undefined);
    const deaths = [() => lane.restart(alice), () => lane.restart(bob), () => lane.restartNode()];
    for (let i = 0; i < 6; i++) {
      lane.run(lane.nowMs + lane.chance() * 1500, over);
      deaths[Math.floor(lane.chance() * deaths.length)]!();
    }
    lane.run(400_000, over);
    assert.deepEqual(
      names.map((name) => outcome(alice, name)),
      ['acknowledged', 'acknowledged'],
      `seed ${seed}`,
    );
    assert.deepEqual(bob.received.map(({ id }) => id).toSorted(), names.toSorted(), `seed ${seed}`);
    // What comes of them later finds that they were here.
    lane.restart(bob);
    for (const payload of alice.payloads) lane.deliver(payload);
    lane.run(lane.nowMs + 5000);
    repeated += bob.messenger.receiver.counters.repeated;
    assert.equal(bob.received.length, 2, `seed ${seed}: again`);
    const left = [...alice.disk.entries.values()].filter(({ kind }) => kind !== 'finished');
    assert.deepEqual(left, [], `seed ${seed}: nothing is kept of what is over`);
  }
  assert.ok(repeated > 0);
});

test('an anonymous reply that has not left does so after a restart, and its block stays used', () => {
  const lane = new TestLane(14, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  const token = alice.messenger.createReplyToken(3)!;
  const answer = lane.bytes(3 * ANSWER_BYTES);
  const name = bob.messenger.reply(token, answer, lane.nowMs);
  lane.restart(bob);
  assert.throws(
    () => bob.messenger.reply(token, answer, lane.nowMs),
    (error) => error instanceof MessageError && error.code === 'REPLY_BLOCK_USED',
  );
  lane.run(20_000);
  assert.deepEqual(
    alice.answers.map(({ content }) => content),
    [answer],
  );
  assert.deepEqual(bob.events, [{ kind: 'sent', name }]);
  lane.restart(bob);
  lane.run(lane.nowMs + 3_700_000);
  assert.deepEqual([...bob.disk.entries.keys()], [], 'until it expires');
});

test('a message whose time is over when its sender comes back has failed, and is kept no longer', () => {
  const lane = new TestLane(15, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  lane.goOffline(bob);
  const name = alice.messenger.send(bob.address, new Uint8Array(1), 30_000, lane.nowMs);
  lane.run(10_000);
  alice.messenger.stop();
  lane.run(40_000);
  assert.equal(outcome(alice, name), undefined);
  lane.restart(alice);
  lane.run(50_000);
  assert.equal(outcome(alice, name), 'MESSAGE_NOT_ACKNOWLEDGED');
  assert.equal(alice.disk.entries.size, 0);
});

const covered = (seed: string, name = 'alice') => {
  const lane = new TestLane(seed, quiet);
  return { lane, alice: lane.join(name, { cover: 'always' }) };
};

test('loops come back to their sender, who sees that all is well: half of the cover, and the mean time', () => {
  const { lane, alice } = covered('loops');
  lane.run(60_000);
  const { counters, loops } = alice.messenger;
  const { sent, lost, meanRttMs } = loops.stats;
  assert.ok(Math.abs(sent - counters.coverPackets / 2) < 5 * Math.sqrt(counters.coverPackets / 4), `${sent} loops`);
  assert.deepEqual([lost, alice.alarms], [0, []]);
  assert.ok(meanRttMs! > 15 && meanRttMs! < 60, `${meanRttMs} ms`);
});

test('loops raise an alarm when packets are dropped or held back, and say when that is over', () => {
  for (const [seed, faults, first] of [
    ['dropped', { ...quiet, loss: 0.4 }, 'loss raised'],
    ['all dropped', { ...quiet, loss: 1 }, 'loss raised'],
    ['held back beyond all', { ...quiet, delayMs: 5000 }, 'loss raised'],
    ['held back', { ...quiet, delayMs: 550 }, 'delay raised'],
  ] as const) {
    const { lane, alice } = covered(seed);
    lane.run(15_000);
    assert.deepEqual([alice.alarms, alice.messenger.loops.stats.sent > 40], [[], true], seed);
    lane.faults = faults;
    lane.run(35_000);
    assert.ok(alice.alarms.length > 0, `${seed}: no alarm`);
    if (first === 'loss raised') assert.equal(alice.alarms[0], first, seed);
    lane.faults = quiet;
    lane.run(70_000);
    assert.match(alice.alarms.at(-1)!, /cleared/, seed);
    assert.equal(alice.messenger.loops.stats.alarm, undefined);
  }
});

test('loops that are lost to our own network, or lie in a mailbox that we left, are no alarm', () => {
  const { lane, alice } = covered('offline');
  lane.run(15_000);
  lane.silent = true;
  lane.faults = { ...quiet, loss: 1 };
  lane.run(35_000);
  assert.deepEqual(alice.alarms, []);
  lane.silent = false;
  lane.faults = quiet;
  // What was under way when nothing was heard was too old to be judged, or was forgotten with the visit.
  lane.goOffline(alice);
  alice.messenger.loops.abandon();
  lane.goOnline(alice);
  lane.run(60_000);
  assert.deepEqual([alice.alarms, alice.messenger.loops.stats.lost], [[], 0]);
});

/** Of two samples: the largest difference of their distributions, times what makes it comparable for any size. */
const kolmogorovSmirnov = (a: readonly number[], b: readonly number[]): number => {
  const [x, y] = [a.toSorted((p, q) => p - q), b.toSorted((p, q) => p - q)];
  let [i, j, largest] = [0, 0, 0];
  while (i < x.length && j < y.length) {
    if (x[i]! <= y[j]!) i++;
    else j++;
    largest = Math.max(largest, Math.abs(i / x.length - j / y.length));
  }
  return largest * Math.sqrt((x.length * y.length) / (x.length + y.length));
};

const gapsOf = (times: readonly number[]): number[] => times.slice(1).map((at, i) => at - times[i]!);

/** Ten minutes of slots, and when replies came. */
const sendingTimes = (seed: string, deaf: boolean, idle: boolean): { sent: number[]; replied: number[] } => {
  const lane = new TestLane(seed, quiet);
  const alice = lane.join('alice', { cover: 'always' });
  const bob = lane.join('bob');
  // The keys come first: without them there is nothing to acknowledge.
  alice.messenger.send(bob.address, new Uint8Array(1), 30_000, 0);
  lane.run(30_000);
  alice.deaf = deaf;
  alice.sentAtMs.length = 0;
  alice.repliedAtMs.length = 0;
  while (lane.nowMs < 630_000) {
    if (!idle) alice.messenger.send(bob.address, lane.bytes(100), 60_000, lane.nowMs);
    lane.run(lane.nowMs + 1500);
  }
  const ends = alice.events.filter(({ kind }) => kind === 'acknowledged').length;
  assert.ok(deaf || idle ? ends === 1 : ends > 380, `acknowledgements came, or did not: ${ends}`);
  return { sent: alice.sentAtMs, replied: alice.repliedAtMs };
};

test('the times of sending are the same whether acknowledgements come, are all lost, or nothing is sent', () => {
  const answered = sendingTimes('answered', false, false);
  const unanswered = sendingTimes('unanswered', true, false);
  const idle = sendingTimes('idle', false, true);
  // 1.95: one in a thousand pairs of equal distributions is above it; the seeds are fixed.
  assert.ok(kolmogorovSmirnov(gapsOf(answered.sent), gapsOf(unanswered.sent)) < 1.95, 'answered, unanswered');
  assert.ok(kolmogorovSmirnov(gapsOf(answered.sent), gapsOf(idle.sent)) < 1.95, 'answered, idle');
  for (const { sent } of [answered, unanswered, idle]) {
    const expected = 600 * 10;
    assert.ok(Math.abs(sent.length - expected) < 4 * Math.sqrt(expected), `${sent.length} packets`);
  }
  // From a reply to the next packet it is as long as from any packet to the next: the process has no memory.
  const waits = answered.replied.flatMap((at) => {
    const next = answered.sent.find((sentAt) => sentAt >= at);
    return next === undefined ? [] : [next - at];
  });
  assert.ok(waits.length > 380, `${waits.length} replies`);
  assert.ok(kolmogorovSmirnov(waits, gapsOf(idle.sent)) < 1.95, 'after a reply');
});

test('in mode active cover ends at the deadline, whenever the acknowledgement comes', () => {
  const run = (deaf: boolean): number[] => {
    const lane = new TestLane(5, quiet);
    const alice = lane.join('alice');
    const bob = lane.join('bob');
    alice.deaf = deaf;
    alice.messenger.send(bob.address, new Uint8Array(3000), 120_000, 0);
    lane.run(200_000);
    return alice.sentAtMs;
  };
  const answered = run(false);
  const unanswered = run(true);
  assert.ok(answered.at(-1)! <= 121_000 && unanswered.at(-1)! <= 121_000, 'cover ends at the deadline either way');
  assert.ok(answered.at(-1)! > 110_000, 'and not before it');
});

test('a recipient who is away gets it when he is back, and only then is it acknowledged', () => {
  const lane = new TestLane(7, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  lane.goOffline(bob);
  const name = alice.messenger.send(bob.address, Uint8Array.of(42), 300_000, lane.nowMs);
  lane.run(60_000);
  assert.deepEqual([outcome(alice, name), bob.received.length], [undefined, 0]);
  assert.ok(alice.events.some((event) => event.kind === 'sent' && event.name === name));
  lane.goOnline(bob);
  lane.run(200_000, () => outcome(alice, name) !== undefined);
  assert.equal(outcome(alice, name), 'acknowledged');
  assert.deepEqual([...bob.received[0]!.content], [42]);
});

test('a message that finds no room is taken later, and once', () => {
  const lane = new TestLane(8, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  bob.full = true;
  const name = alice.messenger.send(bob.address, lane.bytes(2000), 300_000, lane.nowMs);
  lane.run(20_000);
  assert.equal(outcome(alice, name), undefined);
  bob.full = false;
  lane.run(300_000, () => outcome(alice, name) !== undefined);
  assert.deepEqual([outcome(alice, name), bob.received.length], ['acknowledged', 1]);
});

test('nobody there: an unknown mailbox is said, a silent one runs out, a message can be given up', () => {
  const lane = new TestLane(9, quiet);
  const alice = lane.join('alice');
  const nobody = { nodeId: lane.nodeId, mailboxId: new Uint8Array(32) };
  const unknown = alice.messenger.send(nobody, new Uint8Array(1), 60_000, lane.nowMs);
  lane.run(30_000, () => outcome(alice, unknown) !== undefined);
  assert.equal(outcome(alice, unknown), 'UNKNOWN_MAILBOX');

  lane.faults = { ...quiet, loss: 1 };
  const bob = lane.join('bob');
  const lost = alice.messenger.send(bob.address, new Uint8Array(1), 10_000, lane.nowMs);
  lane.run(lane.nowMs + 11_000);
  assert.equal(outcome(alice, lost), 'MESSAGE_NOT_ACKNOWLEDGED');
  const givenUp = alice.messenger.send(bob.address, new Uint8Array(1), 10_000, lane.nowMs);
  assert.ok(alice.messenger.cancel(givenUp));
  assert.ok(!alice.messenger.cancel(givenUp));
  assert.equal(outcome(alice, givenUp), 'CANCELLED');
  assert.deepEqual(alice.messenger.outgoing, { messages: 0, bytes: 0 });
});

test('an anonymous reply arrives whole; a block is good for one, and not for ever', () => {
  const lane = new TestLane(10, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  const token = alice.messenger.createReplyToken(3)!;
  const answer = lane.bytes(2 * ANSWER_BYTES + 5);
  const refused = (code: string) => (error: unknown) => error instanceof MessageError && error.code === code;
  assert.throws(
    () => bob.messenger.reply(token, new Uint8Array(3 * ANSWER_BYTES + 1), lane.nowMs),
    refused('MESSAGE_TOO_LARGE'),
  );
  bob.messenger.reply(token, answer, lane.nowMs);
  assert.throws(() => bob.messenger.reply(token, answer, lane.nowMs), refused('REPLY_BLOCK_USED'));
  lane.run(20_000);
  assert.deepEqual(alice.answers, [{ token: replyTokenName(token, lane.suite), content: answer }]);
  // Somebody else tries the same block: its maker has forgotten it.
  const carol = lane.join('carol');
  carol.messenger.reply(token, answer, lane.nowMs);
  const before = alice.messenger.counters.repliesNotOurs;
  lane.run(lane.nowMs + 20_000);
  assert.equal(alice.answers.length, 1);
  assert.ok(alice.messenger.counters.repliesNotOurs > before);

  const late = alice.messenger.createReplyToken(1)!;
  lane.run(lane.nowMs + 3_601_000);
  assert.throws(() => bob.messenger.reply(late, answer.slice(0, 5), lane.nowMs), refused('REPLY_BLOCK_EXPIRED'));
  assert.equal(alice.messenger.replyBlocks, 0, 'expired blocks are wiped');
});

test('outstanding messages and reply blocks are bounded', () => {
  const lane = new TestLane(11, quiet);
  const alice = lane.join('alice');
  const bob = lane.join('bob');
  const limit = (error: unknown) => error instanceof MessageError && error.code === 'LIMIT';
  for (let i = 0; i < 64; i++) alice.messenger.send(bob.address, new Uint8Array(1), 60_000, lane.nowMs);
  assert.throws(() => alice.messenger.send(bob.address, new Uint8Array(1), 60_000, lane.nowMs), limit);
  assert.throws(() => {
    for (let i = 0; i < 1000; i++) alice.messenger.createReplyToken(16);
  }, limit);
  assert.ok(alice.messenger.replyBlocks <= 512);
});

test('all that a mailbox node sees of packets to one mailbox has one length and nothing in common but the mailbox', () => {
  const lane = new TestLane(12, quiet, createNobleSuite());
  const alice = lane.join('alice', { packetsPerSecond: 100 });
  const bob = lane.join('bob', { packetsPerSecond: 100 });
  const name = alice.messenger.send(bob.address, new Uint8Array(4000), 20_000, lane.nowMs);
  lane.run(20_000, () => outcome(alice, name) !== undefined);
  const toBob = alice.payloads.filter(
    (payload) => payload[0] === 1 && Buffer.from(payload.subarray(1, 33)).equals(bob.address.mailboxId),
  );
  assert.ok(toBob.length >= 8, `${toBob.length} packets`);
  for (const [i, one] of toBob.entries()) {
    assert.equal(one.length, 784);
    for (const other of toBob.slice(i + 1)) {
      let equal = 0;
      for (let at = 33; at < one.length; at++) if (one[at] === other[at]) equal++;
      assert.ok(equal < 20, `${equal} bytes in common`);
    }
  }
});
