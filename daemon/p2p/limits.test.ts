import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MultiaddrConnection } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { Refusal } from './contract.ts';
import { createGater } from './gater.ts';
import { Outbox, type OutboxNetwork } from './outbox.ts';
import { Penalties } from './penalties.ts';
import { TokenBuckets } from './token-bucket.ts';

const peer = '12D3KooWGbeUytAKEXPoAgu52XTHvkF2nKtR2CGV6RUyeQHfzW9T';

describe('penalties', () => {
  it('a peer that keeps sending what is refused is denied for a time, longer the next time', () => {
    let nowMs = 0;
    const penalties = new Penalties(() => nowMs);
    const offend = () => {
      for (let i = 1; i < 100; i++) if (penalties.note(peer, Refusal.malformed, undefined)) return i;
      return assert.fail('never denied');
    };
    assert.equal(offend(), 5);
    assert.ok(penalties.isDenied(peer));
    assert.equal(penalties.deniedPeers, 1);
    nowMs = 599_999;
    assert.ok(penalties.isDenied(peer));
    nowMs = 600_001;
    assert.ok(!penalties.isDenied(peer));
    assert.equal(offend(), 5);
    nowMs += 1_199_000;
    assert.ok(penalties.isDenied(peer));
    nowMs += 2_000;
    assert.ok(!penalties.isDenied(peer));
  });

  it('what also happens to honest peers is forgiven when it is rare', () => {
    let nowMs = 0;
    const penalties = new Penalties(() => nowMs);
    for (let i = 0; i < 1000; i++) {
      assert.equal(penalties.note(peer, Refusal.replayed, undefined), false, `offence ${i}`);
      nowMs += 3_000;
    }
  });

  it('an address that brings denied peers is denied', () => {
    const penalties = new Penalties(() => 0);
    for (let id = 0; id < 3; id++) {
      assert.ok(!penalties.isAddressDenied('192.0.2.1'));
      while (!penalties.note(`peer ${id}`, Refusal.badSignature, '192.0.2.1'));
    }
    assert.ok(penalties.isAddressDenied('192.0.2.1'));
    assert.ok(!penalties.isAddressDenied('192.0.2.2'));
  });

  it('memory is bounded', () => {
    const penalties = new Penalties(() => 0);
    for (let id = 0; id < 10_000; id++) while (!penalties.note(`peer ${id}`, Refusal.badSignature, undefined));
    assert.equal(penalties.deniedPeers, 4096);
  });
});

describe('token buckets', () => {
  it('a burst, then the rate, for each key by itself', () => {
    let nowMs = 0;
    const buckets = new TokenBuckets(3, 2, 10, () => nowMs);
    const taken = (key: string, attempts: number) =>
      Array.from({ length: attempts }, () => buckets.take(key)).filter(Boolean).length;
    assert.equal(taken('a', 10), 3);
    assert.equal(taken('b', 1), 1);
    nowMs = 1000;
    assert.equal(taken('a', 10), 2);
    nowMs = 1_000_000;
    assert.equal(taken('a', 10), 3);
  });
});

describe('gater', () => {
  const id = peerIdFromString(peer);
  const inbound = (address: string) => {
    const closing = new EventTarget();
    const connection = {
      remoteAddr: multiaddr(address),
      addEventListener: closing.addEventListener.bind(closing),
      close: () => closing.dispatchEvent(new Event('close')),
    };
    return connection as unknown as MultiaddrConnection;
  };
  const make = (options: { hosts?: string[]; allowPrivate?: boolean } = {}) => {
    const penalties = new Penalties(() => 0);
    let refused = 0;
    const gater = createGater(penalties, {
      allowPrivate: options.allowPrivate ?? false,
      maxPerSubnet: 2,
      dialledHosts: () => options.hosts ?? [],
      onRefused: () => refused++,
    });
    return { gater, penalties, refused: () => refused };
  };

  it('limits connections by subnet', async () => {
    const { gater, refused } = make({ hosts: ['8.8.1.1', '8.8.2.2', '9.9.9.9', '2606:4700::1', '2606:4700:1::1'] });
    assert.equal(await gater.denyInboundConnection!(inbound('/ip4/8.8.3.3/tcp/1')), true);
    assert.equal(await gater.denyInboundConnection!(inbound('/ip4/9.9.1.1/tcp/1')), false);
    assert.equal(await gater.denyInboundConnection!(inbound('/ip6/2606:4700:2::5/tcp/1')), true);
    assert.equal(await gater.denyInboundConnection!(inbound('/ip6/2606:4701::5/tcp/1')), false);
    assert.equal(refused(), 2);
    const second = inbound('/ip4/9.9.7.7/tcp/1');
    assert.equal(await gater.denyInboundConnection!(second), true, 'the one of 9.9.1.1 counts before it is up');
  });

  it('counts incoming connections until they are closed', async () => {
    const { gater } = make();
    const open = [inbound('/ip4/8.8.1.1/tcp/1'), inbound('/ip4/8.8.2.2/tcp/2')];
    for (const connection of open) assert.equal(await gater.denyInboundConnection!(connection), false);
    assert.equal(await gater.denyInboundConnection!(inbound('/ip4/8.8.3.3/tcp/3')), true);
    await open[0]!.close();
    assert.equal(await gater.denyInboundConnection!(inbound('/ip4/8.8.3.3/tcp/3')), false);
    assert.equal(await gater.denyInboundConnection!(inbound('/ip4/8.8.3.3/tcp/3')), true);
  });

  it('denies the denied, in both directions', async () => {
    const { gater, penalties } = make();
    const connection = inbound('/ip4/8.8.3.3/tcp/1');
    assert.equal(await gater.denyDialPeer!(id), false);
    while (!penalties.note(peer, Refusal.badSignature, '8.8.3.3'));
    assert.equal(await gater.denyDialPeer!(id), true);
    assert.equal(await gater.denyInboundEncryptedConnection!(id, connection), true);
    assert.equal(await gater.denyOutboundEncryptedConnection!(id, connection), true);
    for (const other of ['b', 'c']) while (!penalties.note(other, Refusal.badSignature, '8.8.3.3'));
    assert.equal(await gater.denyInboundConnection!(connection), true);
    assert.equal(await gater.denyDialMultiaddr!(multiaddr('/ip4/8.8.3.3/tcp/7')), true);
  });

  it('neither dials nor remembers names, private addresses and other transports', async () => {
    const { gater } = make();
    const open = make({ allowPrivate: true }).gater;
    for (const text of [
      '/ip4/10.0.0.1/tcp/22',
      '/ip4/127.0.0.1/tcp/80',
      '/ip6/::1/tcp/1',
      '/ip4/169.254.169.254/tcp/80',
    ]) {
      assert.equal(await gater.denyDialMultiaddr!(multiaddr(text)), true, text);
      assert.equal(await gater.filterMultiaddrForPeer!(id, multiaddr(text)), false, text);
      assert.equal(await open.denyDialMultiaddr!(multiaddr(text)), false, text);
    }
    for (const text of ['/dns4/example.org/tcp/1', '/ip4/8.8.8.8/udp/1', '/ip4/8.8.8.8/tcp/0', `/p2p/${peer}`]) {
      assert.equal(await open.denyDialMultiaddr!(multiaddr(text)), true, text);
      assert.equal(await open.filterMultiaddrForPeer!(id, multiaddr(text)), false, text);
    }
    assert.equal(await gater.denyDialMultiaddr!(multiaddr(`/ip4/8.8.8.8/tcp/1/p2p/${peer}`)), false);
  });
});

describe('outbox', () => {
  const make = (answers: Record<string, 'taken' | 'refused' | 'failed' | 'unknown'>) => {
    const state = { nowMs: 0, deliveries: [] as string[], passedOn: 0 };
    const network: OutboxNetwork = {
      deliver: async (authority, descriptor) => {
        state.deliveries.push(`${authority}:${descriptor[0]}`);
        return answers[authority]!;
      },
      passOn: async () => ++state.passedOn,
    };
    return { state, answers, outbox: new Outbox(Object.keys(answers), network, () => state.nowMs) };
  };
  const own = Uint8Array.of(1);

  it('goes to every authority, and again to those that did not take it, ever less often', async () => {
    const { state, answers, outbox } = make({ a: 'taken', b: 'failed', c: 'unknown' });
    outbox.add('me', own, true, 1_000_000);
    await outbox.run();
    assert.deepEqual(state.deliveries.splice(0), ['a:1', 'b:1', 'c:1']);
    const waits: number[] = [];
    for (let round = 0; round < 6; round++) {
      const waitMs = outbox.sleepMs!;
      waits.push(waitMs);
      state.nowMs += waitMs - 1;
      await outbox.run();
      assert.deepEqual(state.deliveries, []);
      state.nowMs += 1;
      await outbox.run();
      assert.deepEqual(state.deliveries.splice(0), ['b:1', 'c:1']);
    }
    assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000]);
    answers.b = 'taken';
    answers.c = 'taken';
    state.nowMs += outbox.sleepMs!;
    await outbox.run();
    assert.equal(outbox.size, 0);
    assert.equal(outbox.delivered, 3);
    assert.equal(outbox.sleepMs, undefined);
  });

  it('asks peers to pass it on when no authority can be reached, but not when one has refused it', async () => {
    const cutOff = make({ a: 'failed', b: 'unknown' });
    cutOff.outbox.add('me', own, true, 1_000_000);
    await cutOff.outbox.run();
    assert.equal(cutOff.state.passedOn, 0);
    cutOff.state.nowMs += 1000;
    await cutOff.outbox.run();
    assert.equal(cutOff.state.passedOn, 1);
    const refusing = make({ a: 'refused', b: 'unknown' });
    refusing.outbox.add('me', own, true, 1_000_000);
    for (let i = 0; i < 4; i++) {
      await refusing.outbox.run();
      refusing.state.nowMs += 60_000;
    }
    assert.equal(refusing.state.passedOn, 0);
  });

  it("others' are tried a few times, are never passed on again, and can neither fill it nor replace the own one", async () => {
    const { state, outbox } = make({ a: 'failed' });
    assert.ok(outbox.add('me', own, true, 1_000_000));
    assert.equal(outbox.add('me', Uint8Array.of(9), false, 1_000_000), false);
    for (let i = 0; i < 255; i++) assert.ok(outbox.add(`other ${i}`, Uint8Array.of(2), false, 1_000_000));
    assert.equal(outbox.add('one too many', Uint8Array.of(2), false, 1_000_000), false);
    for (let i = 0; i < 4; i++) {
      await outbox.run();
      state.nowMs += 60_000;
    }
    assert.equal(outbox.size, 1);
    assert.equal(state.deliveries.filter((text) => text === 'a:2').length, 255 * 4);
    const passedOn = state.passedOn;
    outbox.add('other', Uint8Array.of(3), false, 1_000_000);
    await outbox.run();
    assert.equal(state.passedOn, passedOn + 1, 'only the own one is');
  });

  it('a newer one takes the place of an older one; what has expired is dropped', async () => {
    const { state, outbox } = make({ a: 'failed' });
    outbox.add('me', own, true, 5_000);
    await outbox.run();
    outbox.add('me', Uint8Array.of(7), true, 5_000);
    await outbox.run();
    assert.deepEqual(state.deliveries, ['a:1', 'a:7']);
    state.nowMs = 5_000;
    await outbox.run();
    assert.equal(outbox.size, 0);
  });
});
