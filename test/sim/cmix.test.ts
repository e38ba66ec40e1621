/** Circuits of class cmix in networks of real engines: batches, and mixes that lie about them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { CircuitEnd, type SessionOwner } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import { CheatKind, encodeEvidence, MAX_EVIDENCE_BYTES, verifyEvidence } from '@nyx/core/mix/batch-evidence.ts';
import { smallRecords, TEST_RULES, type TestMix, testMix } from '@nyx/core/mix/batch-testing.ts';
import type { BatchJob, BatchProgress } from '@nyx/core/mix/batch-work.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { CELL_OFFSET, CT_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type Lie, runBatches, SimBatches, settle, silent } from './batch-host.ts';
import { type NodeOptions, type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const CELLS = TEST_RULES.cells;
const MAX_WAIT_MS = 50;

/** An engine that says what its relay circuits open: they alone need the pad. */
function watched(onOpened: (out: Uint8Array) => void): NodeOptions['engine'] {
  const watching = Object.assign(Object.create(suite) as CryptoSuite, {
    aeadOpenPadded(...args: Parameters<CryptoSuite['aeadOpenPadded']>): boolean {
      const isOpen = suite.aeadOpenPadded(...args);
      if (isOpen) onOpened(args[0]);
      return isOpen;
    },
  });
  return (options, deps) => new Engine(options, { ...deps, suite: watching });
}

interface Part {
  readonly node: SimNode;
  readonly host: SimBatches;
  readonly mix: TestMix;
}

function sink(onBytes: (count: number) => void): SessionOwner {
  const into = new Uint8Array(65536);
  return {
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1);
      const read = () => {
        for (let n = stream.read(into); n > 0; n = stream.read(into)) onBytes(n);
      };
      stream.onReadable = read;
      read();
    },
    onClose() {},
  };
}

function build(
  seed: number,
  lossRatio = 0,
  onOpened?: (out: Uint8Array) => void,
  exitKnows = () => true,
  middleEngine?: NodeOptions['engine'],
) {
  const network = new VirtualNetwork(suite, seed, { latencyMs: 1, jitterMs: 0, lossRatio, duplicateRatio: 0 });
  const state = { received: 0 };
  const add = (name: string, kind: 'client' | 'mix' | 'exit'): Part => {
    const mix = testMix(suite, `${name} ${seed}`);
    const host = new SimBatches(network, mix);
    const node = network.add(name, {
      relay: kind !== 'client',
      exit: kind === 'exit',
      nodeId: mix.nodeId,
      engineOptions: kind === 'client' ? {} : { cmix: { maxWaitMs: MAX_WAIT_MS } },
      host: {
        cmix: host,
        ...(kind === 'exit' ? { resolve: (id) => (exitKnows() ? network.resolve(id) : undefined) } : {}),
      },
      ...(onOpened && name === 'guard' ? { engine: watched(onOpened) } : {}),
      ...(middleEngine && name === 'middle' ? { engine: middleEngine } : {}),
      serve: () =>
        sink((n) => {
          state.received += n;
        }),
    });
    host.node = node;
    return { node, host, mix };
  };
  const client = add('client', 'client');
  const guard = add('guard', 'mix');
  const middle = add('middle', 'mix');
  const exit = add('exit', 'exit');
  /** On no path but where a test says so. */
  const side = add('side', 'mix');
  const parts = [client, guard, middle, exit, side];
  return { network, client, guard, middle, exit, side, state, hosts: parts.map(({ host }) => host) };
}

type World = ReturnType<typeof build>;

function dial({ network, client, guard, middle, exit }: World, hops = [guard, middle, exit]) {
  return client.node.engine.buildCircuit(
    {
      hops: hops.map(({ node }) => node.contact),
      class: 'cmix',
      delayMeanUs: 0,
      batchMs: MAX_WAIT_MS + 150,
      expiry: network.unixSeconds + 3600,
    },
    { onClose() {} },
    network.nowMs,
  );
}

function write(session: SessionApi, total: number): void {
  const stream = session.openStream({ kind: 'tcp', host: 'sink.test', port: 1 })!;
  const chunk = new Uint8Array(65536);
  let left = total;
  const more = () => {
    while (left > 0) {
      const accepted = stream.write(chunk.subarray(0, Math.min(left, chunk.length)));
      if (accepted === 0) return;
      left -= accepted;
    }
    stream.end();
  };
  stream.onWritable = more;
  more();
}

const TOTAL = 20_000;

function transfer(world: World, total = TOTAL): void {
  write(dial(world).session, total);
  const done = runBatches(world.network, world.hosts, 120_000, () => world.state.received >= total);
  assert.ok(done, `seed ${world.network.seed}: ${world.state.received} of ${total} bytes`);
  runBatches(world.network, world.hosts, 2000);
}

describe('honest mixes', () => {
  test('carry bytes, prove every cell to both neighbours, and nobody is accused', () => {
    const world = build(101);
    transfer(world);
    const { guard, middle, exit, client } = world;
    for (const { node, host } of [guard, middle, exit]) {
      const { batches, cells, waiting, refused, cheats } = node.engine.cmix;
      assert.ok(batches >= 3, `${node.name}: ${batches} batches`);
      assert.ok(cells >= 20);
      assert.equal(waiting, 0);
      assert.equal(refused + cheats, 0);
      assert.ok(host.jobs.every(({ inputs }) => inputs.flatMap(({ digests }) => digests).length <= CELLS));
    }
    // Everything that was given and got has been proved long before it would count as lost.
    const given = client.node.engine.counters.cellsOriginated + client.node.engine.counters.cellsDelivered;
    assert.equal(client.node.engine.cmix.proved, given);
    settle(world.network, world.hosts);
    for (const { node, host } of [client, guard, middle, exit]) {
      const { lost, withheld, unproved, cheats } = node.engine.cmix;
      assert.deepEqual(
        { lost, withheld, unproved, cheats },
        { lost: 0, withheld: 0, unproved: 0, cheats: 0 },
        node.name,
      );
      assert.equal(host.cheats.length + host.suspects.length, 0);
    }
  });

  test('open the batches of every hop to the client, and hold', () => {
    const world = build(107, 0.01);
    transfer(world, 5 * TOTAL);
    runBatches(world.network, world.hosts, 20_000);
    const { audited, exchanged, unanswered } = world.client.node.engine.cmix;
    assert.ok(audited >= 4, `${audited}`);
    assert.equal(exchanged, 0);
    assert.ok(unanswered <= audited, `${unanswered} of ${audited}: of cells that were lost`);
    assert.equal(world.client.host.exchangers.length + world.client.host.cheats.length, 0);
    // Questions are few, and do not beget each other.
    const { cellsDelivered } = world.client.node.engine.counters;
    runBatches(world.network, world.hosts, 60_000);
    assert.ok(world.client.node.engine.counters.cellsDelivered - cellsDelivered < 60);
    // All hops have pledged, or it would have ended by now.
    assert.ok(world.client.node.circuitEvents.every(({ kind }) => kind === 'ready'));
  });

  test('go by what the view says; other rules are no proof', () => {
    const world = build(108);
    const { client, guard, middle, exit } = world;
    for (const { host } of [client, guard, exit]) host.views = [{ cells: 9, delayMs: 100 }];
    // In between a view has come to all but the middle.
    middle.host.views = [{ cells: 8, delayMs: 100 }];
    write(dial(world).session, TOTAL);
    runBatches(world.network, world.hosts, 8000);
    assert.ok(guard.node.engine.cmix.refused > 0 && exit.node.engine.cmix.refused > 0);
    settle(world.network, world.hosts);
    assert.ok(guard.host.suspects.some(({ nodeId }) => Buffer.compare(nodeId, middle.mix.nodeId) === 0));
    assert.equal(client.host.suspects.length, 0);
    assert.equal(client.node.engine.cmix.refused, 0);
    assert.ok(guard.host.jobs.every(({ rules }) => rules.cells === 9));
  });

  test('send the cells of a batch together, in another order than they came', () => {
    /** Cells as a relay opens them, in the order of their coming; the next hop knows them by this tag. */
    const opened: string[] = [];
    const world = build(102, 0, (out) => opened.push(Buffer.from(out.subarray(0, 16)).toString('hex')));
    const outOrder: string[] = [];
    const { guard, middle, network } = world;
    const tagOf = (bytes: Uint8Array, offset: number) =>
      Buffer.from(bytes.subarray(offset, offset + 16)).toString('hex');
    network.tap = (datagram, from, to) => {
      if (from === guard.node && to === middle.node) outOrder.push(tagOf(datagram, CELL_OFFSET));
      return true;
    };
    transfer(world);
    const { batches, cells } = guard.node.engine.cmix;
    assert.ok(cells / batches > 2, `${cells} cells in ${batches} batches`);
    const sizes = guard.host.jobs.map(({ outputs }) => outputs.flatMap(({ digests }) => digests).length);
    assert.equal(Math.max(...sizes), CELLS);
    // Which cell became which only the guard knows: it is asked through its crypto.
    const places = outOrder.map((cell) => opened.indexOf(cell)).filter((place) => place >= 0);
    assert.ok(places.length > 18);
    const turned = places.filter((place, i) => i > 0 && place < places[i - 1]!).length;
    assert.ok(turned > places.length / 5, `${places}`);
  });

  test('lose cells on the way: that is counted as loss, and accuses nobody', () => {
    const world = build(103, 0.02);
    transfer(world);
    settle(world.network, world.hosts);
    let lost = 0;
    for (const { node, host } of [world.client, world.guard, world.middle, world.exit]) {
      lost += node.engine.cmix.lost;
      assert.equal(node.engine.cmix.unproved + node.engine.cmix.withheld, 0, node.name);
      assert.equal(host.cheats.length, 0);
    }
    assert.ok(lost > 0);
  });

  test('a batch that does not fill leaves when its time is up, and says how few it is', () => {
    const world = build(104);
    const { session } = dial(world);
    let rttMs: number | undefined;
    session.ping((ms) => {
      rttMs = ms;
    });
    assert.ok(runBatches(world.network, world.hosts, 10_000, () => rttMs !== undefined));
    const least = 6 * (MAX_WAIT_MS + 100);
    assert.ok(rttMs! >= least && rttMs! < least + 1000, `${rttMs}`);
    assert.ok(world.guard.node.engine.cmix.smallestRecent! <= 3);
  });
});

test('a neighbour that sends changed what falls off at the next mix makes nobody doubt that mix', () => {
  // Engines alone: the middle seals as any relay, and then spoils the last 16 bytes of what it gives back to the guard.
  let spoilt = 0;
  const world = build(109, 0, undefined, undefined, (options, deps) => {
    const spoiling = Object.assign(Object.create(suite) as CryptoSuite, {
      aeadSeal(...args: Parameters<CryptoSuite['aeadSeal']>): void {
        suite.aeadSeal(...args);
        const [out, , plaintext] = args;
        if (out.length !== CT_BYTES || out === plaintext) return;
        out[CT_BYTES - 1]! ^= 1;
        spoilt++;
      },
    });
    return new Engine(options, { ...deps, suite: spoiling });
  });
  transfer(world);
  assert.ok(spoilt >= 3, `${spoilt}`);
  const { exchanged, proved } = world.client.node.engine.cmix;
  assert.ok(proved > 20);
  assert.equal(exchanged + world.client.host.exchangers.length, 0);
});

test('a mix that is a client too sends its own cells in its batches, and is not suspected', () => {
  const world = build(106);
  const { network, hosts, side, guard, middle, exit, state } = world;
  const { session } = side.node.engine.buildCircuit(
    {
      hops: [guard, middle, exit].map(({ node }) => node.contact),
      class: 'cmix',
      delayMeanUs: 0,
      batchMs: MAX_WAIT_MS + 150,
      expiry: network.unixSeconds + 3600,
    },
    { onClose() {} },
    network.nowMs,
  );
  write(session, 4000);
  assert.ok(runBatches(network, hosts, 20_000, () => state.received >= 4000));
  assert.ok(side.node.engine.cmix.cells >= 4);
  settle(network, hosts);
  assert.ok(guard.node.engine.cmix.proved > 0);
  for (const { node, host } of [side, guard, middle, exit]) {
    assert.equal(node.engine.cmix.unproved + node.engine.cmix.withheld, 0, node.name);
    assert.equal(host.suspects.length + host.cheats.length, 0, node.name);
  }
});

test('a relay without batches refuses the class, and a client that can not check it does not ask for it', () => {
  const network = new VirtualNetwork(suite, 105);
  const client = network.add('client', { relay: false });
  const path = [network.add('a'), network.add('b'), network.add('c', { exit: true })];
  const options = {
    hops: path.map((node) => node.contact),
    class: 'cmix',
    delayMeanUs: 0,
    expiry: network.unixSeconds + 3600,
  } as const;
  assert.throws(() => client.engine.buildCircuit(options, { onClose() {} }, network.nowMs), RangeError);
  const mix = testMix(suite, 'checks');
  const checking = network.add('checking', { relay: false, host: { cmix: new SimBatches(network, mix) } });
  checking.engine.buildCircuit(options, { onClose() {} }, network.nowMs);
  network.run(network.nowMs + 5000);
  assert.equal(path[0]!.engine.counters.drops[Drop.notAllowed], 1);
  assert.equal(checking.circuitEvents.at(-1)?.kind, 'ended');
});

/** What the mix of this name tells when it has not computed its delays: any element in the place of the result. */
function lazy(truth: readonly BatchProgress[], name: string): BatchProgress[] {
  const records = smallRecords(suite);
  const { certificate, key } = testMix(suite, name).signer;
  return truth.map((progress) => {
    if (progress.kind !== 'proofs') return progress;
    const messages = progress.messages.map(({ neighbour, bytes }) => {
      const { statement, side, tag, digests, witness, quotient } = records.readProof(bytes)!;
      const claimed = records.encodeStatement(certificate, key, statement, statement.inputs, statement.outputs);
      return { neighbour, bytes: records.encodeProof(claimed, key, side, tag, digests, witness, quotient) };
    });
    return { ...progress, messages };
  });
}

describe('a lying mix', () => {
  /** The mix in the middle lies; who finds out, and what evidence is there. */
  function caught(seed: number, lie: Lie): World {
    const world = build(seed);
    world.middle.host.lie = lie;
    // Guard and exit are neighbours too, by another circuit: they tell each other what they have heard.
    const { side, guard, exit } = world;
    dial(world, [side, guard, exit]).session.openStream({ kind: 'tcp', host: 'sink.test', port: 2 });
    write(dial(world).session, TOTAL);
    runBatches(world.network, world.hosts, 8000);
    return world;
  }

  function assertCaught(world: World, kind: CheatKind, finders: readonly Part[]): void {
    for (const { host, node } of finders) {
      const first = host.cheats.find(({ found }) => found);
      assert.equal(first?.cheat.kind, kind, `seed ${world.network.seed}: ${node.name}`);
    }
    for (const { host, node } of [world.client, world.guard, world.exit]) {
      assert.ok(host.cheats.length > 0, `${node.name} heard of it`);
      for (const { cheat, evidence } of host.cheats) {
        assert.deepEqual(cheat.nodeId, world.middle.mix.nodeId);
        // By somebody who was not there.
        const shown = verifyEvidence(smallRecords(createNobleSuite()), evidence);
        assert.deepEqual(shown?.nodeId, world.middle.mix.nodeId);
      }
    }
  }

  test('that does not compute the delay', () => {
    const world = caught(111, (job, honest) => lazy(honest(job), 'middle 111'));
    assertCaught(world, CheatKind.delay, [world.guard, world.exit]);
  });

  test('that cheats in every batch is told of once, and leaves room for what others have done', () => {
    const world = caught(127, (job, honest) => lazy(honest(job), 'middle 127'));
    const { client, guard, side, middle, network, hosts } = world;
    const heard = () => client.host.cheats.filter(({ found }) => !found).map(({ cheat }) => cheat.nodeId);
    assert.ok(guard.host.cheats.length > 4, `seed 127: the guard knows of ${guard.host.cheats.length} batches`);
    assert.deepEqual(heard(), [middle.mix.nodeId]);
    // Of another mix, found by the guard's other neighbour and told within the same minute.
    const records = smallRecords(suite);
    const [{ evidence } = assert.fail('the guard has evidence')] = guard.host.cheats;
    const statement = records.readStatement(evidence.subarray(evidence.length - records.statementBytes))!;
    const { certificate, key } = side.mix.signer;
    const signed = records.encodeStatement(certificate, key, statement, statement.inputs, statement.outputs);
    world.exit.node.engine.shareEvidence(encodeEvidence(CheatKind.delay, signed), network.nowMs);
    runBatches(network, hosts, 500);
    assert.deepEqual(heard(), [middle.mix.nodeId, side.mix.nodeId]);
  });

  test('that has a name in the view only after its link came up', () => {
    let knows = false;
    const world = build(118, 0, undefined, () => knows);
    write(dial(world).session, TOTAL);
    runBatches(world.network, world.hosts, 100);
    knows = true;
    const { exit, middle } = world;
    assert.ok(exit.node.linkEvents.some(({ kind, nodeId }) => kind === 'up' && nodeId === undefined));
    middle.host.lie = (job, honest) => lazy(honest(job), `middle ${world.network.seed}`);
    runBatches(world.network, world.hosts, 8000);
    const first = exit.host.cheats.find(({ found }) => found);
    assert.deepEqual(first?.cheat.nodeId, middle.mix.nodeId);
    assert.equal(exit.node.engine.cmix.unproved + exit.node.engine.cmix.withheld, 0);
  });

  test('that tells its neighbours different batches', () => {
    const world = caught(112, (job, honest) => {
      const truth = honest(job);
      const other = honest({ ...job, closedAt: job.closedAt + 1 });
      // One neighbour gets the one, the rest the other.
      const odd = job.outputs[0]!.neighbour;
      return truth.map((progress, i) => {
        const alternative = other[i]!;
        if (progress.kind !== 'proofs' || alternative.kind !== 'proofs') return progress;
        return {
          ...progress,
          messages: progress.messages.map((message, k) =>
            message.neighbour === odd ? alternative.messages[k]! : message,
          ),
        };
      });
    });
    const found = [world.guard, world.exit].flatMap(({ host }) => host.cheats.filter((one) => one.found));
    assert.ok(found.length > 0);
    for (const { cheat } of found) assert.equal(cheat.kind, CheatKind.equivocation);
    assertCaught(world, CheatKind.equivocation, []);
  });

  /** Its batches with something else in the place of one of the cells that went in, or came out. */
  const exchanged = (job: BatchJob, side: 'inputs' | 'outputs'): BatchJob => {
    const at = job[side].findIndex(({ tag, digests }) => tag.length > 0 && digests.length > 1);
    if (at < 0) return job;
    const shares = job[side].map((share, i) => {
      if (i !== at) return share;
      const [first, ...others] = share.digests;
      return { ...share, digests: [suite.sha256(first!), ...others].sort(Buffer.compare) };
    });
    return { ...job, [side]: shares };
  };

  test('that leaves out a cell: its opening has fewer on one side, and that is evidence', () => {
    const world = caught(119, (job, honest) =>
      honest({ ...job, outputs: job.outputs.map((share) => ({ ...share, digests: share.digests.slice(0, 1) })) }),
    );
    assertCaught(world, CheatKind.opening, [world.guard, world.exit]);
  });

  test('that drops a cell it has given a receipt for', () => {
    const world = caught(113, (job, honest) => {
      const [receipts] = honest(job);
      return [receipts!, ...honest(exchanged(job, 'inputs')).slice(1)];
    });
    const finder = [world.guard, world.exit].find(({ host }) => host.cheats.some(({ found }) => found));
    assert.ok(finder !== undefined);
    assertCaught(world, CheatKind.receipt, [finder]);
  });

  test('that drops a cell without a receipt: counted as lost by its neighbour, and not to be shown', () => {
    const world = caught(114, (job, honest) => honest(exchanged(job, 'inputs')));
    settle(world.network, world.hosts);
    const { lost, cheats } = world.guard.node.engine.cmix;
    const other = world.exit.node.engine.cmix;
    assert.ok(lost + other.lost > 0);
    assert.equal(cheats + other.cheats, 0);
  });

  test('that adds or exchanges a cell: the next hop suspects it by name, and has nothing to show', () => {
    const world = caught(115, (job, honest) => honest(exchanged(job, 'outputs')));
    settle(world.network, world.hosts);
    const suspects = [world.guard, world.exit].flatMap(({ host }) => host.suspects);
    assert.ok(suspects.length > 0);
    for (const { nodeId, counts } of suspects) {
      assert.deepEqual(nodeId, world.middle.mix.nodeId);
      assert.ok(counts.unproved > 0);
    }
    assert.equal(world.exit.node.engine.cmix.cheats, 0);
  });

  const hashed = (share: BatchJob['inputs'][number]) => ({
    ...share,
    digests: share.digests.map((digest) => suite.sha256(digest)).sort(Buffer.compare),
  });

  /** The part lies about its batches, by default about all outputs, and carries bytes for long enough to be asked. */
  function exchanging(
    seed: number,
    who: 'guard' | 'middle' | 'exit',
    lied: (job: BatchJob, world: World) => BatchJob = (job) => ({ ...job, outputs: job.outputs.map(hashed) }),
  ): World & { readonly circuit: number } {
    const world = build(seed);
    world[who].host.lie = (job, honest) => honest(lied(job, world));
    const { session, circuit } = dial(world);
    write(session, 2 * TOTAL);
    runBatches(world.network, world.hosts, 60_000, () => world.client.host.exchangers.length > 0);
    return { ...world, circuit };
  }

  /** Whoever has nothing but the evidence sees it; but it is not there while it would tell who is before and behind the mix. */
  function assertShownAtEnd(world: ReturnType<typeof exchanging>, who: 'guard' | 'middle' | 'exit'): void {
    const { client, network, hosts, circuit } = world;
    runBatches(network, hosts, 500);
    assert.equal(client.host.cheats.length, 0);
    client.node.engine.closeCircuit(circuit, CircuitEnd.requested, network.nowMs);
    runBatches(network, hosts, 500);
    assert.equal(client.host.cheats.length, 1, `seed ${network.seed}`);
    const { evidence, found } = client.host.cheats[0]!;
    assert.ok(found && evidence.length <= MAX_EVIDENCE_BYTES);
    const shown = verifyEvidence(smallRecords(createNobleSuite()), evidence);
    assert.deepEqual([shown?.kind, shown?.nodeId], [CheatKind.exchange, world[who].mix.nodeId]);
    // Neighbours hear nothing of it: it would tell them what they do not know.
    const nodes = [world.guard, world.middle, world.exit];
    for (const { host } of nodes) assert.equal(host.cheats.length, 0);
    // Somebody who was given the evidence has a node tell it: then it goes around.
    const [sharer, ...others] = nodes.filter((part) => part !== world[who]);
    sharer!.node.engine.shareEvidence(evidence, network.nowMs);
    runBatches(network, hosts, 500);
    for (const { host } of others) {
      assert.deepEqual(host.cheats.at(-1)?.evidence, evidence);
      assert.equal(host.cheats.at(-1)?.found, false);
    }
  }

  for (const [seed, who, how] of [
    [120, 'guard', 'the client sees it in every batch'],
    [121, 'middle', 'the client finds out by asking the last hop'],
    [122, 'exit', 'the client finds out by asking the liar itself'],
  ] as const) {
    test(`that takes a cell and proves another in its place, as ${who}: ${how}`, () => {
      const world = exchanging(seed, who);
      const { client } = world;
      const found = client.host.exchangers.map((nodeId) => Buffer.from(nodeId).toString('hex'));
      assert.deepEqual([...new Set(found)], [Buffer.from(world[who].mix.nodeId).toString('hex')], `seed ${seed}`);
      assert.ok(client.node.engine.cmix.exchanged > 0);
      for (const { host } of [world.guard, world.middle, world.exit]) assert.equal(host.exchangers.length, 0);
      assertShownAtEnd(world, who);
    });
  }

  test('that gives backward what it says not to have taken', () => {
    const world = exchanging(128, 'middle', (job, { middle, exit }) => {
      const behind = middle.node.engine.links().find(({ nodeId }) => nodeId && suite.equal(nodeId, exit.mix.nodeId));
      return {
        ...job,
        inputs: job.inputs.map((share) => (share.neighbour === behind?.link ? hashed(share) : share)),
      };
    });
    assert.deepEqual(world.client.host.exchangers[0], world.middle.mix.nodeId);
    assertShownAtEnd(world, 'middle');
  });

  test('that does not pledge what it does with a circuit: the circuit ends, but not before data is wanted', () => {
    const world = build(126);
    world.middle.host.pledges = false;
    const { client, network, hosts } = world;
    const { session, circuit } = dial(world);
    write(session, 4000);
    assert.ok(
      runBatches(network, hosts, 20_000, () => world.state.received >= 4000),
      'nobody waits for pledges',
    );
    runBatches(network, hosts, 70_000, undefined, 100);
    assert.deepEqual(client.node.circuitEvents.at(-1), {
      kind: 'ended',
      circuit,
      reason: CircuitEnd.timeout,
      hop: undefined,
    });
    assert.ok(client.node.engine.cmix.unanswered > 0);
  });

  test('that keeps its proofs to itself: suspected by name', () => {
    const world = caught(116, silent);
    settle(world.network, world.hosts);
    const counts = world.guard.host.suspects.at(-1)?.counts;
    assert.ok(counts !== undefined && counts.withheld > 0 && counts.unproved > 0);
  });

  test('that proves cells which are not in the batch', () => {
    const world = caught(117, (job, honest) => {
      const truth = honest(job);
      const records = smallRecords(suite);
      const { signer } = testMix(suite, 'middle 117');
      return truth.map((progress): BatchProgress => {
        if (progress.kind !== 'proofs') return progress;
        return {
          ...progress,
          messages: progress.messages.map(({ neighbour, bytes }) => {
            const { statement, side, tag, digests, witness, quotient } = records.readProof(bytes)!;
            const more = [...digests, suite.sha256(Uint8Array.of(1))].slice(-statement.cells);
            const { key } = signer;
            return { neighbour, bytes: records.encodeProof(statement.bytes, key, side, tag, more, witness, quotient) };
          }),
        };
      });
    });
    assertCaught(world, CheatKind.membership, [world.guard]);
  });
});
