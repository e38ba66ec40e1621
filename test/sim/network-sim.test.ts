/**
 * Networks of engines at random: 3 to 7 hops, loss, reordering, duplication, partitions, nodes that die and come back.
 * Every stream delivers exactly what was written or fails with an error; afterwards nothing is left.
 * NYX_SIM_SEED=n runs that one; NYX_SIM_SEEDS=n runs that many.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CircuitEnd, type SessionOwner } from '@nyx/core/engine/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { SeededRandom } from './stream-sim.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const buffer = new Uint8Array(65536);

function echo(): SessionOwner {
  return {
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1234);
      let pending: Uint8Array = new Uint8Array(0);
      const pump = () => {
        for (;;) {
          if (pending.length === 0) pending = buffer.slice(0, stream.read(buffer));
          if (pending.length === 0) break;
          pending = pending.subarray(stream.write(pending));
          if (pending.length > 0) return;
        }
        if (stream.readEnded) stream.end();
      };
      stream.onReadable = pump;
      stream.onWritable = pump;
      pump();
    },
    onClose() {},
  };
}

interface Outcome {
  readonly sent: Uint8Array;
  readonly received: Uint8Array[];
  code: number | undefined;
}

function runSeed(seed: number): { delivered: number; failed: number } {
  const dice = new SeededRandom(seed);
  const rough = dice.chance(0.5);
  const network = new VirtualNetwork(suite, seed, {
    latencyMs: dice.chance(0.2) ? 200 / 3 : dice.integer(1, 30),
    jitterMs: dice.chance(0.5) ? dice.integer(0, 30) : 0,
    // Of each link: at 7 hops half of the cells are lost on the way at the upper end, at 3 hops 30%.
    lossRatio: rough ? dice.next() * 0.085 : 0,
    duplicateRatio: dice.chance(0.3) ? dice.next() * 0.1 : 0,
  });
  const clients = Array.from({ length: dice.integer(1, 2) }, (_, i) => network.add(`client ${i}`, { relay: false }));
  const relays = Array.from({ length: dice.integer(6, 8) }, (_, i) => network.add(`relay ${i}`));
  const exits = [0, 1].map((i) => network.add(`exit ${i}`, { exit: true, serve: echo }));
  const outcomes: Outcome[] = [];
  const circuits: { client: SimNode; circuit: number }[] = [];
  for (let i = dice.integer(1, 3); i > 0; i--) {
    const client = clients[dice.integer(0, clients.length - 1)]!;
    const pool = [...relays];
    const middle = Array.from(
      { length: dice.integer(2, 6) },
      () => pool.splice(dice.integer(0, pool.length - 1), 1)[0]!,
    );
    const path = [...middle, exits[dice.integer(0, 1)]!];
    const { circuit, session } = client.engine.buildCircuit(
      { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
      { onClose() {} },
      network.nowMs,
    );
    circuits.push({ client, circuit });
    for (let k = dice.integer(1, 4); k > 0; k--) {
      const sent = new Uint8Array(dice.integer(0, 30_000));
      network.random.fill(sent);
      const outcome: Outcome = { sent, received: [], code: undefined };
      outcomes.push(outcome);
      const stream = session.openStream({ kind: 'tcp', host: 'echo.test', port: 7 })!;
      let rest = sent;
      let ended = false;
      const write = () => {
        while (rest.length > 0) {
          const accepted = stream.write(rest);
          if (accepted === 0) return;
          rest = rest.subarray(accepted);
        }
        if (!ended) stream.end();
        ended = true;
      };
      stream.onWritable = write;
      stream.onReadable = () => {
        for (let n = stream.read(buffer); n > 0; n = stream.read(buffer)) outcome.received.push(buffer.slice(0, n));
      };
      stream.onClose = (code) => {
        assert.equal(outcome.code, undefined, 'closed twice');
        outcome.code = code;
      };
      write();
    }
  }
  if (dice.chance(0.3)) {
    const fromMs = network.nowMs + dice.integer(0, 3000);
    const toMs = fromMs + dice.integer(100, 6000);
    const alone = relays[dice.integer(0, relays.length - 1)]!;
    network.cut = (a) => a === alone && network.nowMs >= fromMs && network.nowMs < toMs;
  }
  if (dice.chance(0.3)) {
    const victim = relays[dice.integer(0, relays.length - 1)]!;
    network.run(network.nowMs + dice.integer(0, 2000));
    victim.down = true;
    network.run(network.nowMs + dice.integer(10, 5000));
    victim.restart();
  }
  const startedMs = network.nowMs;
  network.run(startedMs + 600_000, () => outcomes.every(({ code }) => code !== undefined));
  assert.ok(
    outcomes.every(({ code }) => code !== undefined),
    'a stream neither delivered nor failed',
  );
  for (const { sent, received, code } of outcomes) {
    const all = Buffer.concat(received);
    if (code === 0) assert.ok(all.equals(sent), `${all.length} of ${sent.length} bytes came back, or not the same`);
    else assert.ok(all.equals(sent.subarray(0, all.length)), 'what came before the failure is not what was sent');
  }
  for (const { client, circuit } of circuits) client.engine.closeCircuit(circuit, CircuitEnd.requested, network.nowMs);
  // The last word may be lost with a link that dies on the way: what nobody uses goes after five minutes.
  const gone = () => network.nodes.every((node) => node.engine.relayCircuits === 0);
  if (!network.run(network.nowMs + 5000, gone)) network.run(network.nowMs + 310_000, gone);
  for (const node of network.nodes) assert.equal(node.engine.relayCircuits, 0, `${node.name} holds a circuit`);
  for (const node of network.nodes) {
    for (const { link } of node.engine.links()) assert.ok(link > 0);
    const busy = node.engine.nextTimeoutMs();
    node.engine.flush(network.nowMs);
    assert.ok(node.engine.nextTimeoutMs() > network.nowMs, `${node.name} is never done (${busy} at ${network.nowMs})`);
  }
  return {
    delivered: outcomes.filter(({ code }) => code === 0).length,
    failed: outcomes.filter(({ code }) => code !== 0).length,
  };
}

test('streams deliver exactly what was written or fail, and nothing is left', () => {
  const one = process.env.NYX_SIM_SEED;
  const count = Number(process.env.NYX_SIM_SEEDS ?? 300);
  const seeds = one === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(one)];
  let delivered = 0;
  let failed = 0;
  const broken: string[] = [];
  for (const seed of seeds) {
    try {
      const result = runSeed(seed);
      delivered += result.delivered;
      failed += result.failed;
    } catch (error) {
      broken.push(`NYX_SIM_SEED=${seed}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  assert.deepEqual(broken, []);
  if (one === undefined)
    assert.ok(delivered > 3 * failed && delivered > count, `${delivered} delivered, ${failed} failed`);
});
