/** Whole engines: a client's address changes in the middle of transfers. Links, circuits and sessions stay. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readLinkId } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { PatternReader, sendPattern, TARGET } from './pattern-transfer.ts';
import { VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const LATENCY_MS = 10;
/** Of the link to the guard. */
const LINK_RTT_MS = 2 * LATENCY_MS;
/** Through three hops. */
const SESSION_RTT_MS = 6 * LATENCY_MS;
const BYTES = 6_000_000;

function transfer(seed: number, direction: 'down' | 'up') {
  const network = new VirtualNetwork(suite, seed, {
    latencyMs: LATENCY_MS,
    jitterMs: 1,
    lossRatio: 0,
    duplicateRatio: 0,
  });
  let far: PatternReader | undefined;
  const client = network.add('client', { relay: false });
  const hops = [network.add('guard'), network.add('middle')];
  const exit = network.add('exit', {
    exit: true,
    serve: () => ({
      onStream: (stream) => {
        far = new PatternReader(stream, 1, () => network.nowMs);
        sendPattern(stream, 2, direction === 'down' ? BYTES : 1);
      },
      onClose() {},
    }),
  });
  const closes: number[] = [];
  const { session } = client.engine.buildCircuit(
    {
      hops: [...hops, exit].map((node) => node.contact),
      class: 'fast',
      delayMeanUs: 0,
      expiry: network.unixSeconds + 3600,
    },
    { onClose: (code) => void closes.push(code) },
    network.nowMs,
  );
  const stream = session.openStream(TARGET)!;
  const near = new PatternReader(stream, 2, () => network.nowMs);
  sendPattern(stream, 1, direction === 'down' ? 1 : BYTES);
  const reader = () => (direction === 'down' ? near : far);
  const ended = () => reader()?.ended === true && reader()!.bytes === BYTES;
  return { network, client, guard: hops[0]!, reader, ended, closes };
}

for (const [how, told] of [
  ['from one network to another', true],
  ['by a NAT, unknown to it', false],
] as const) {
  for (const direction of ['down', 'up'] as const) {
    test(`moved ${how} while it goes ${direction}: nothing is lost, resumed within a round trip and the validation`, () => {
      const { network, client, guard, reader, ended, closes } = transfer(1, direction);
      assert.ok(network.run(network.nowMs + 20_000, () => (reader()?.bytes ?? 0) > BYTES / 3));
      const links = guard.engine.links().length;
      const before = new Set<number>();
      const after = new Set<number>();
      let seen = before;
      network.tap = (datagram, from, to) => {
        if (from === client || to === client) seen.add(readLinkId(datagram));
        return true;
      };
      network.run(network.nowMs + 50);
      seen = after;
      network.move(client, { address: '172.16.0.9', port: 777 });
      if (told) {
        client.engine.networkChanged(network.nowMs);
        // What was on its way to the old address still bears the old id.
        network.tap = (datagram, from) => {
          if (from === client) after.add(readLinkId(datagram));
          return true;
        };
      }
      const movedMs = network.nowMs;
      const got = reader()!.bytes;
      assert.ok(network.run(movedMs + 3000, () => reader()!.bytes > got + 1_000_000));
      assert.ok(network.run(network.nowMs + 30_000, ended));
      assert.deepEqual(closes, []);
      assert.equal(guard.engine.links().length, links, 'still the one link');
      assert.equal(guard.linkEvents.filter(({ kind }) => kind === 'moved').length, 1);
      assert.equal(guard.engine.links().find(({ initiator }) => !initiator)!.address.address, '172.16.0.9');
      if (told) for (const id of after) assert.ok(!before.has(id), 'the old and the new network see one id');
      const limitMs = LINK_RTT_MS + SESSION_RTT_MS + 60;
      const stallMs = reader()!.longestStallMs;
      assert.ok(stallMs <= limitMs, `${stallMs} ms without a byte, ${limitMs} allowed`);
    });
  }
}

test('again and again, ten networks in ten seconds', () => {
  const { network, client, reader, ended, closes } = transfer(2, 'down');
  assert.ok(network.run(network.nowMs + 20_000, () => (reader()?.bytes ?? 0) > 100_000));
  for (let i = 0; i < 10; i++) {
    network.move(client, { address: `172.16.1.${i}`, port: 500 + i });
    client.engine.networkChanged(network.nowMs);
    network.run(network.nowMs + 1000);
  }
  assert.ok(network.run(network.nowMs + 30_000, ended));
  assert.deepEqual(closes, []);
});
