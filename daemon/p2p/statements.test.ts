import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { randomBytes, testNow } from '@nyx/core/directory/testing.ts';
import { Refusal, RefusedError } from './contract.ts';
import { isMultiaddr, isPublicHost, parseMultiaddr, subnetOf } from './multiaddr-text.ts';
import { encodeStatements, MAX_BIND_BYTES, openStatements } from './statements.ts';
import { decodeViewRequest, decodeViewResponse, encodeViewRequest, ViewStatus } from './view-frames.ts';

const suite = createNobleSuite();
const random = createSeededRandom('statements');
const identity = suite.ed25519(randomBytes(random, 32));
const authority = suite.ed25519(randomBytes(random, 32));
const peerId = '12D3KooWGbeUytAKEXPoAgu52XTHvkF2nKtR2CGV6RUyeQHfzW9T';
const otherPeer = '12D3KooWMV4ZEkH6jcNh11ruxArTF6vynji3Mcsue5yeNank1wAN';
const addresses = Array.from({ length: 8 }, (_, i) => `/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:${i}/tcp/65535/ws`);
const both = encodeStatements({ identity, authority }, peerId, addresses, testNow);
const reasonOf = (run: () => unknown): Refusal | undefined => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof RefusedError, String(error));
    return error.reason;
  }
  return undefined;
};

describe('statements of a peer about itself', () => {
  it('say which node and which authority it is', () => {
    const said = openStatements(both, peerId, suite, testNow);
    assert.deepEqual(said.node?.key, identity.publicKey);
    assert.deepEqual(said.authority?.record.key, authority.publicKey);
    assert.deepEqual(said.authority?.record.addresses, addresses);
    assert.ok(both.length <= MAX_BIND_BYTES, 'the longest one fits');
    assert.deepEqual(openStatements(new Uint8Array(), peerId, suite, testNow), {}, 'a client says nothing');
    assert.equal(encodeStatements({ identity: undefined, authority: undefined }, peerId, addresses, testNow).length, 0);
  });

  it('are worth nothing from another peer, later, or changed', () => {
    assert.equal(
      reasonOf(() => openStatements(both, otherPeer, suite, testNow)),
      Refusal.misplaced,
    );
    assert.equal(
      reasonOf(() => openStatements(both, peerId, suite, testNow + 86_400)),
      Refusal.expired,
    );
    assert.equal(
      reasonOf(() => openStatements(both, peerId, suite, testNow - 61)),
      Refusal.notYetValid,
    );
    for (let at = 0; at < both.length; at += 7) {
      const changed = both.slice();
      changed[at]! ^= 0x40;
      assert.notEqual(
        reasonOf(() => openStatements(changed, peerId, suite, testNow)),
        undefined,
        `byte ${at}`,
      );
    }
  });

  it('come once each, whole, and with known tags', () => {
    const one = encodeStatements({ identity, authority: undefined }, peerId, [], testNow);
    assert.equal(
      reasonOf(() => openStatements(Buffer.concat([one, one]), peerId, suite, testNow)),
      Refusal.malformed,
    );
    for (let length = 1; length < one.length; length += 11) {
      assert.equal(
        reasonOf(() => openStatements(one.slice(0, length), peerId, suite, testNow)),
        Refusal.malformed,
      );
    }
    const unknown = one.slice();
    unknown[0] = 9;
    assert.equal(
      reasonOf(() => openStatements(unknown, peerId, suite, testNow)),
      Refusal.malformed,
    );
  });

  it('an authority record can not stand for a node, though one key might sign both', () => {
    const asAuthority = encodeStatements({ identity: undefined, authority: identity }, peerId, [], testNow);
    const asNode = asAuthority.slice();
    asNode[0] = 1;
    assert.notEqual(
      reasonOf(() => openStatements(asNode, peerId, suite, testNow)),
      undefined,
    );
  });
});

describe('view frames', () => {
  it('a request goes there and back', () => {
    const held = { epoch: 2 ** 40 + 7, digest: randomBytes(random, 32) };
    assert.deepEqual(decodeViewRequest(encodeViewRequest(held)), held);
    assert.deepEqual(decodeViewRequest(encodeViewRequest(undefined)), { epoch: 0, digest: new Uint8Array(32) });
  });

  it('other lengths, versions and epochs are refused', () => {
    const request = encodeViewRequest(undefined);
    assert.equal(
      reasonOf(() => decodeViewRequest(request.slice(1))),
      Refusal.malformed,
    );
    assert.equal(
      reasonOf(() => decodeViewRequest(Buffer.concat([request, request]))),
      Refusal.malformed,
    );
    assert.equal(
      reasonOf(() => decodeViewRequest(Uint8Array.of(2, ...request.slice(1)))),
      Refusal.malformed,
    );
    assert.equal(
      reasonOf(() => decodeViewRequest(Uint8Array.of(1, 0xff, ...request.slice(2)))),
      Refusal.malformed,
    );
  });

  it('a response is a status, and a bundle only where there is one', () => {
    assert.deepEqual(decodeViewResponse(Uint8Array.of(ViewStatus.newer, 5, 6)).bundle, Uint8Array.of(5, 6));
    assert.equal(decodeViewResponse(Uint8Array.of(ViewStatus.busy)).status, ViewStatus.busy);
    for (const bad of [[], [3], [ViewStatus.busy, 1], [ViewStatus.nothingNewer, 0]]) {
      assert.equal(
        reasonOf(() => decodeViewResponse(Uint8Array.from(bad))),
        Refusal.malformed,
        String(bad),
      );
    }
  });
});

describe('multiaddrs', () => {
  it('only literal addresses over TCP, with or without WebSocket and peer', () => {
    assert.deepEqual(parseMultiaddr('/ip4/192.0.2.1/tcp/9040'), {
      host: '192.0.2.1',
      port: 9040,
      webSocket: false,
      peerId: undefined,
    });
    assert.deepEqual(parseMultiaddr(`/ip6/2001:db8::1/tcp/1/ws/p2p/${peerId}`), {
      host: '2001:db8::1',
      port: 1,
      webSocket: true,
      peerId,
    });
    const bad = ['', '/ip4/1.2.3/tcp/1', '/ip4/::1/tcp/1', '/ip6/127.0.0.1/tcp/1', '/ip4/1.2.3.4/tcp/65536'];
    const others = ['/dns4/example.org/tcp/1', '/ip4/1.2.3.4/udp/1', '/ip4/1.2.3.4/tcp/1/p2p-circuit'];
    for (const text of [...bad, ...others, '/ip4/1.2.3.4/tcp/1/', ' /ip4/1.2.3.4/tcp/1']) {
      assert.equal(isMultiaddr(text), false, text);
    }
  });

  it('know public from other addresses, and subnets', () => {
    assert.ok(isPublicHost('8.8.8.8') && isPublicHost('2606:4700::1'));
    for (const host of ['127.0.0.1', '10.1.2.3', '192.168.0.1', '::1', 'fe80::1', 'fd00::1', '::ffff:127.0.0.1', 'x']) {
      assert.equal(isPublicHost(host), false, host);
    }
    assert.equal(subnetOf('8.8.8.8'), subnetOf('8.8.1.2'));
    assert.notEqual(subnetOf('8.8.8.8'), subnetOf('8.9.8.8'));
    assert.equal(subnetOf('::ffff:8.8.8.8'), subnetOf('8.8.1.2'));
  });
});
