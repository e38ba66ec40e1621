import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { perfectWire, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();

/** A client with a circuit over three relays, on a wire that loses so much. */
function networkWith(seed: number, lossRatio: number) {
  const network = new VirtualNetwork(suite, seed, { ...perfectWire, latencyMs: 5 });
  const client = network.add('client', { relay: false });
  const hops = ['guard', 'middle'].map((name) => network.add(name));
  const exit = network.add('exit', { exit: true });
  const build = () =>
    client.engine.buildCircuit(
      {
        hops: [...hops, exit].map(({ contact }) => contact),
        class: 'fast',
        delayMeanUs: 0,
        expiry: network.unixSeconds + 86_400,
      },
      { onClose() {} },
      network.nowMs,
    );
  build();
  const link = () => client.engine.links()[0]!;
  assert.equal(link().state, 'handshaking');
  assert.equal(link().lossRatio, undefined, 'nothing was measured yet');
  assert.ok(network.run(network.nowMs + 2000, () => client.circuitEvents.some(({ kind }) => kind === 'ready')));
  network.wire = { ...network.wire, lossRatio };
  return { network, client, link, build };
}

test('a link shows its life while it happens: handshaking, up, rekeying, up, draining, gone', () => {
  const { network, client, link } = networkWith(1, 0);
  const seen: string[] = [];
  const look = () => {
    const { state } = client.engine.links()[0] ?? { state: 'gone' };
    if (seen.at(-1) !== state) seen.push(state);
    return false;
  };
  const began = network.nowMs;
  network.run(began + 599_000, look);
  for (; network.nowMs < began + 602_000; look()) network.run(network.nowMs + 1);
  assert.deepEqual(seen, ['up', 'rekeying', 'up']);
  assert.equal(link().lossRatio, 0, 'control segments were sent, and none was lost');
  client.engine.shutdown(network.nowMs);
  look();
  network.run(network.nowMs + 1000, look);
  assert.deepEqual(seen.slice(3), ['draining', 'gone']);
});

test('a link that loses every fifth datagram, acknowledgements too, says so', () => {
  const { network, link, build } = networkWith(2, 0.2);
  for (let i = 0; i < 60; i++) {
    build();
    network.run(network.nowMs + 200);
  }
  const { lossRatio } = link();
  assert.ok(lossRatio! > 0.1 && lossRatio! < 0.6, `${lossRatio}`);
});
