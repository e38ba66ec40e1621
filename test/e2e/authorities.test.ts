/**
 * Three authorities as processes: they agree, measure what nodes carry, and go on to agree when one of them is killed.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type LocalNetwork, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx } from '@nyx/sdk/index.ts';

/** Ten times and more what a process here can carry, and what is believed without a measurement. */
const CLAIM = 100_000_000_000;
const BELIEVED = 12_500_000;
const measured = new Map<string, number>();

let network: LocalNetwork | undefined;
after(() => network?.stop());

test('two of three authorities carry the network on', { timeout: 240_000 }, async () => {
  const epochSeconds = 18;
  network = await startLocalNetwork({
    authorities: 3,
    mixes: 3,
    exits: 1,
    epochSeconds,
    startTimeoutMs: 150_000,
    measureBandwidth: true,
    overrides: () => ({ bandwidthBytesPerSecond: CLAIM }),
  });
  const client = await connectNyx({ socketPath: network.apiSocket });
  try {
    const first = (await client.paths.nodes({})).view!;
    assert.equal(first.nodes, 4);
    assert.equal(first.threshold, 2);
    assert.equal(first.authorities.length, 3);
    assert.ok(first.signatures >= 2);
    assert.deepEqual(first.alarms, []);
    const dead = network.nodes[1]!;
    process.kill(dead.pid, 'SIGKILL');
    // Views of the next epochs come from the two that are left; in time, without the one that is gone.
    const limitMs = 8 * epochSeconds * 1000;
    for await (const event of client.events({
      kinds: ['directory'],
      signal: AbortSignal.timeout(limitMs),
    })) {
      if (event.name !== 'refreshed') continue;
      const { view, nodes } = await client.paths.nodes({});
      for (const node of nodes) {
        if (!node.flags.includes('measured')) assert.ok(node.viewBandwidthBytesPerSecond! <= BELIEVED);
        else measured.set(node.nodeId, node.viewBandwidthBytesPerSecond!);
      }
      if (view!.epoch! <= first.epoch! || nodes.some(({ nodeId }) => nodeId === dead.nodeId)) continue;
      assert.equal(view!.signatures, 2);
      assert.equal(view!.authorities.filter(({ signed }) => signed).length, 2);
      assert.equal(view!.nodes, 3);
      assert.equal(view!.forkNeeds, 1);
      const own = await connectNyx({ socketPath: network.nodes[0]!.apiSocket });
      const { voting } = (await own.paths.nodes({})).view!;
      own.close();
      assert.ok(voting != null && voting.votes >= 2 && voting.views >= 1 && voting.badVotes === 0);
      assert.ok(voting.measured >= 1 && voting.measuredBytes > 0);
      const metrics = await (await fetch(`http://${network.nodes[0]!.metrics}/metrics`)).text();
      assert.match(metrics, /^nyx_authority_votes_total [1-9]/m);
      assert.match(metrics, /^nyx_directory_view_age_seconds \d/m);
      assert.match(metrics, /^nyx_directory_alarms\{kind="fork"\} 0/m);
      assert.deepEqual(view!.alarms, []);
      // Of the two that are left each measures the other, so that one vote of two is for the flag: no majority. The third
      // relay has been seen by both.
      const exit = network.nodes.find(({ role }) => role === 'exit')!;
      const speed = measured.get(exit.nodeId);
      console.log(`# measured: ${[...measured.values()].map((each) => `${(each / 1e6).toFixed(1)} MB/s`).join(', ')}`);
      assert.ok(speed !== undefined && speed > 10_000 && speed < CLAIM / 10, `${speed}`);
      return;
    }
    assert.fail(`no such view within ${limitMs} ms`);
  } finally {
    client.close();
  }
});
