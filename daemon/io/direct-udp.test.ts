import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { DirectUdp, DirectWait } from './direct-udp.ts';
import { bindUdpDescriptor } from './socket-options.ts';
import { receivingOf } from './udp.ts';

const linux = process.platform === 'linux';
const open: Socket[] = [];
after(() => {
  for (const socket of open) socket.close();
});

/** Bound, watched by the event loop; what comes through that is in `events`. */
async function bind(host = '127.0.0.1') {
  const fd = bindUdpDescriptor({ host, port: 0, reusePort: false, segmentBytes: DATAGRAM_BYTES, bufferBytes: 1 << 20 });
  const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' });
  open.push(socket);
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  const events: RemoteInfo[] = [];
  socket.on('message', (_, from) => events.push(from));
  await turn(); // by now the event loop watches it
  return { fd, socket, events, direct: DirectUdp.on(fd)!, address: { ...socket.address(), address: host } };
}

function numbered(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
}

if (linux) {
  for (const host of ['127.0.0.1', '::1']) {
    test(`what is sent to ${host} is received, one datagram, many, or none`, async () => {
      const [from, to] = [await bind(host), await bind(host)];
      assert.equal(to.direct.receive(), undefined);
      for (const bytes of [DATAGRAM_BYTES, BATCH_DATAGRAMS * DATAGRAM_BYTES, 20, DATAGRAM_BYTES + 7]) {
        const sent = numbered(bytes);
        assert.ok(from.direct.send(to.address, sent, bytes));
        assert.deepEqual(Buffer.from(to.direct.receive()!), Buffer.from(sent));
        assert.deepEqual(to.direct.sender(), { address: host, port: from.address.port });
        assert.equal(to.direct.receive(), undefined);
      }
    });

    test(`${host}: the sender is called as node:dgram calls it`, async () => {
      const [from, to] = [await bind(host), await bind(host)];
      assert.ok(from.direct.send(to.address, numbered(64), 64));
      assert.ok(from.direct.send(to.address, numbered(64), 64));
      to.direct.receive();
      const { address, port } = to.direct.sender();
      while (to.events.length === 0) await turn();
      assert.equal(to.events[0]!.address, address);
      assert.equal(to.events[0]!.port, port);
    });
  }

  test('an empty datagram is one: what is behind it is not left', async () => {
    const [from, to] = [await bind(), await bind()];
    assert.ok(from.direct.send(to.address, new Uint8Array(64), 0));
    assert.ok(from.direct.send(to.address, numbered(100), 100));
    assert.equal(to.direct.receive()?.length, 0);
    assert.equal(to.direct.receive()?.length, 100);
  });

  test('senders are told apart, and the same one is the same object', async () => {
    const [a, b, to] = [await bind(), await bind(), await bind()];
    const senders = [a, b, a].map(({ direct }) => {
      assert.ok(direct.send(to.address, numbered(64), 64));
      to.direct.receive();
      return to.direct.sender();
    });
    assert.equal(senders[0], senders[2]);
    assert.deepEqual(
      senders.map(({ port }) => port),
      [a.address.port, b.address.port, a.address.port],
    );
  });

  test('what the kernel refuses, or is no address, is not sent', async () => {
    const { direct } = await bind();
    const batch = numbered(64);
    for (const address of ['not-an-address', '::1', 'fe80::1%lo']) {
      assert.equal(direct.send({ address, port: 9 }, batch, 64), false, address);
    }
    assert.equal(direct.send({ address: '127.0.0.1', port: 0 }, batch, 64), false);
  });

  test('a wait ends for its descriptors, for the event loop, or with the time', async () => {
    const [from, first, second, other] = [await bind(), await bind(), await bind(), await bind()];
    const wait = DirectWait.on([first.fd, second.fd])!;
    const waited = (ms: number) => {
      const startedMs = performance.now();
      wait.wait(ms);
      return performance.now() - startedMs;
    };
    // The event loop may have something to do for a moment: then a wait is none.
    let quietMs = waited(20);
    for (let i = 0; i < 100 && quietMs < 20; i++) {
      await turn();
      quietMs = waited(20);
    }
    assert.ok(quietMs >= 20, `${quietMs} ms`);
    assert.equal(wait.isReadable(0) || wait.isReadable(1), false);

    assert.ok(from.direct.send(second.address, numbered(64), 64));
    assert.ok(waited(900) < 900);
    assert.deepEqual([wait.isReadable(0), wait.isReadable(1)], [false, true]);
    second.direct.receive();

    // Of no interest to the wait itself, but the event loop would wake for it.
    assert.ok(from.direct.send(other.address, numbered(64), 64));
    assert.ok(waited(900) < 900);
    assert.deepEqual([wait.isReadable(0), wait.isReadable(1)], [false, false]);
  });

  test('what the event loop has been told to leave alone does not look like its business once it is not watched', async () => {
    const [from, to] = [await bind(), await bind()];
    const wait = DirectWait.on([to.fd])!;
    const handle = receivingOf(to.socket)!;
    handle.recvStop();
    wait.unwatch(0);
    for (let i = 0; i < 100; i++) {
      await turn();
      wait.wait(1);
      if (!wait.isLoopReady) break;
    }
    for (let i = 0; i < 3; i++) {
      assert.ok(from.direct.send(to.address, numbered(64), 64));
      wait.wait(900);
      assert.deepEqual([wait.isReadable(0), wait.isLoopReady], [true, false]);
      to.direct.receive();
    }
    // And back: by the event loop alone.
    handle.recvStart();
    assert.ok(from.direct.send(to.address, numbered(64), 64));
    while (to.events.length === 0) await turn();
    assert.equal(to.events[0]!.port, from.address.port);
  });

  test('without descriptors, or with too many, there is no wait', async () => {
    const { fd } = await bind();
    assert.equal(DirectWait.on([]), null);
    assert.equal(DirectWait.on(Array<number>(16).fill(fd)), null);
  });
}
