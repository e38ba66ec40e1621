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

function transfer(seed: number, direction: 'down' | 'up', paths = 1) {
  const network = new VirtualNetwork(suite, seed, {
    latencyMs: LATENCY_MS,
    jitterMs: 1,
    lossRatio: 0,
    duplicateRatio: 0,
  });
  let far: PatternReader | undefined;
  const client = network.add('client', { relay: false });
  const hops = [network.add('guard'), network.add('middle')];
  const others = paths > 1 ? [network.add('second guard'), network.add('second middle')] : [];
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
  const circuit = (relays: typeof hops) =>
    ({
      hops: [...relays, exit].map((node) => node.contact),
      class: 'fast',
      delayMeanUs: 0,
      expiry: network.unixSeconds + 3600,
    }) as const;
  const { session } = client.engine.buildCircuit(
    circuit(hops),
    { onClose: (code) => void closes.push(code) },
    network.nowMs,
  );
  if (paths > 1) {
    network.run(network.nowMs + 500);
    assert.notEqual(client.engine.attachCircuit(session, circuit(others), network.nowMs), undefined);
    const joined = () => session.stats.paths.every(({ state }) => state === 'usable');
    assert.ok(network.run(network.nowMs + 600, joined), 'a lost first cell costs no second');
  }
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
      const limitMs = LINK_RTT_MS + SESSION_RTT_MS + 20;
      const stallMs = reader()!.longestStallMs;
      assert.ok(stallMs <= limitMs, `${stallMs} ms without a byte, ${limitMs} allowed`);
    });
  }
}

for (const paths of [1, 2]) {
  for (const direction of ['down', 'up'] as const) {
    test(`no network for a second, then another one, ${paths} path(s), ${direction}: resumed within a round trip and the validation`, () => {
      for (let seed = 1; seed <= 2; seed++) {
        const { network, client, reader, ended, closes } = transfer(seed, direction, paths);
        assert.ok(network.run(network.nowMs + 20_000, () => (reader()?.bytes ?? 0) > BYTES / 3));
        network.cut = (a) => a === client;
        network.run(network.nowMs + 300);
        client.engine.networkChanged(network.nowMs);
        // Back-offs that double lie differently each time.
        network.run(network.nowMs + 600 + 60 * seed);
        network.cut = undefined;
        network.move(client, { address: '172.16.0.9', port: 777 });
        client.engine.networkChanged(network.nowMs);
        const got = reader()!.bytes;
        const backMs = network.nowMs;
        assert.ok(network.run(backMs + 30_000, () => reader()!.bytes > got));
        const limitMs = LINK_RTT_MS + SESSION_RTT_MS + (direction === 'up' ? SESSION_RTT_MS / 2 : 0) + 15;
        const tookMs = network.nowMs - backMs;
        assert.ok(tookMs <= limitMs, `seed ${seed}: ${tookMs} ms until the next byte, ${limitMs} allowed`);
        assert.ok(network.run(network.nowMs + 30_000, ended));
        assert.deepEqual(closes, []);
      }
    });
  }
}

test('the way to the guard is interrupted, the address stays: goes on as soon as the link is heard again', () => {
  const { network, client, guard, reader, ended } = transfer(4, 'up');
  assert.ok(network.run(network.nowMs + 20_000, () => (reader()?.bytes ?? 0) > BYTES / 3));
  network.cut = (a) => a === client;
  network.run(network.nowMs + 2000);
  network.cut = undefined;
  const backMs = network.nowMs;
  const got = reader()!.bytes;
  assert.ok(network.run(backMs + 30_000, () => reader()!.bytes > got));
  // The link asks every 100 ms; probes of the session alone would by now be 3 s apart.
  const limitMs = 100 + LINK_RTT_MS + 2 * SESSION_RTT_MS;
  assert.ok(network.nowMs - backMs <= limitMs, `${network.nowMs - backMs} ms until the next byte, ${limitMs} allowed`);
  assert.ok(network.run(network.nowMs + 30_000, ended));
  assert.equal(guard.linkEvents.filter(({ kind }) => kind === 'moved').length, 0);
});

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
