import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { after, test } from 'node:test';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import koffi from 'koffi';
import { bindUdpDescriptor } from './socket-options.ts';
import { openUdp, type UdpMode, UdpSocket } from './udp.ts';

const open: UdpSocket[] = [];
after(() => Promise.all(open.map((socket) => socket.close())));

/** A receiver whose bytes can be awaited. */
async function receiver(mode: 'auto' | UdpMode, host = '127.0.0.1', port = 0, reusePort = false) {
  const buffers: Uint8Array[] = [];
  let wanted = Infinity;
  let wake: (() => void) | undefined;
  const total = () => buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  const socket = await openUdp({
    host,
    port,
    mode,
    reusePort,
    onDatagrams(buffer) {
      buffers.push(Uint8Array.from(buffer));
      if (total() >= wanted) wake?.();
    },
    onError: (error) => assert.fail(error),
  });
  open.push(socket);
  const bytes = (length: number) =>
    new Promise<Uint8Array>((resolve) => {
      wanted = length;
      wake = () => resolve(Buffer.concat(buffers));
      if (total() >= wanted) wake();
    });
  return { socket, buffers, bytes };
}

async function sender(mode: 'auto' | UdpMode, host = '127.0.0.1', maxSendQueueBytes?: number) {
  const onDatagrams = () => assert.fail('nothing is sent to the sender');
  const onError = (error: Error) => assert.fail(error);
  const socket = await openUdp({ host, port: 0, mode, reusePort: false, maxSendQueueBytes, onDatagrams, onError });
  open.push(socket);
  return socket;
}

function numbered(datagrams: number, extraBytes = 0): Uint8Array {
  const batch = new Uint8Array(datagrams * DATAGRAM_BYTES + extraBytes);
  for (let i = 0; i < batch.length; i++) batch[i] = (i * 31 + (i >> 8)) & 0xff;
  return batch;
}

function sendAndRelease(socket: UdpSocket, to: { address: string; port: number }, batch: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    let released = 0;
    socket.send(to, batch, batch.length, () => {
      assert.equal(++released, 1, 'released once');
      resolve();
    });
  });
}

const linux = process.platform === 'linux';

for (const mode of linux ? (['gso', 'plain'] as const) : (['plain'] as const)) {
  for (const host of ['127.0.0.1', '::1']) {
    test(`${mode}: a batch of 51 arrives whole over ${host}`, async () => {
      const { socket, buffers, bytes } = await receiver(mode, host);
      const from = await sender(mode, host);
      assert.equal(socket.mode, mode);
      const batch = numbered(BATCH_DATAGRAMS);
      await sendAndRelease(from, socket.address, batch);
      assert.deepEqual(await bytes(batch.length), Buffer.from(batch));
      for (const buffer of buffers) assert.equal(buffer.length % DATAGRAM_BYTES, 0);
      assert.equal(buffers.length, mode === 'gso' ? 1 : BATCH_DATAGRAMS);
      assert.equal(from.counters.datagramsSent, BATCH_DATAGRAMS);
    });
  }

  test(`${mode}: the released batch may be overwritten at once`, async () => {
    const { socket, bytes } = await receiver(mode);
    const from = await sender(mode);
    const batch = numbered(20);
    const expected = Buffer.concat([batch, batch, batch]);
    for (let i = 0; i < 3; i++) {
      const copy = batch.slice();
      await sendAndRelease(from, socket.address, copy);
      copy.fill(0xee);
    }
    assert.deepEqual(await bytes(expected.length), expected);
  });

  test(`${mode}: a short send passes as it is`, async () => {
    const { socket, bytes, buffers } = await receiver(mode);
    const from = await sender(mode);
    await sendAndRelease(from, socket.address, numbered(0, 20));
    assert.equal((await bytes(20)).length, 20);
    assert.equal(buffers.length, 1);
  });

  test(`${mode}: sends that fail are counted and released, nothing throws`, async () => {
    const from = await sender(mode);
    const batch = numbered(3);
    await sendAndRelease(from, { address: 'not-an-address', port: 9 }, batch);
    await sendAndRelease(from, { address: '127.0.0.1', port: 0 }, batch);
    await sendAndRelease(from, { address: '::1', port: 9 }, batch); // other family
    assert.equal(from.counters.datagramsSent, 0);
    assert.equal(from.counters.sendErrors, 9);
    assert.equal(from.mode, mode, 'a bad address says nothing about segmentation');
    await from.close();
    await sendAndRelease(from, { address: '127.0.0.1', port: 9 }, batch);
    assert.equal(from.counters.sendErrorCodes.get('ENOTCONN'), 3);
  });

  test(`${mode}: beyond the bound of the send queue a batch is dropped and counted`, async () => {
    const { socket } = await receiver(mode);
    const from = await sender(mode, '127.0.0.1', DATAGRAM_BYTES);
    await sendAndRelease(from, socket.address, numbered(2));
    assert.equal(from.counters.sendQueueFull, 2);
  });
}

test('auto says which mode it found', async () => {
  const { socket } = await receiver('auto');
  assert.equal(socket.mode, linux ? 'gso' : 'plain');
  assert.equal(socket.whyPlain === undefined, socket.mode === 'gso');
});

test('a port in use is an error in every mode', async () => {
  const taken = createSocket('udp4');
  await new Promise<void>((resolve) => taken.bind(0, '127.0.0.1', resolve));
  const { port } = taken.address();
  for (const mode of ['auto', 'plain'] as const) {
    await assert.rejects(
      receiver(mode, '127.0.0.1', port),
      (error: NodeJS.ErrnoException) => error.code === 'EADDRINUSE',
    );
  }
  taken.close();
});

if (linux) {
  test('gso sends reach a plain socket as single datagrams', async () => {
    const { socket, buffers, bytes } = await receiver('plain');
    const from = await sender('gso');
    const batch = numbered(BATCH_DATAGRAMS);
    await sendAndRelease(from, socket.address, batch);
    assert.deepEqual(await bytes(batch.length), Buffer.from(batch));
    assert.deepEqual([...new Set(buffers.map((buffer) => buffer.length))], [DATAGRAM_BYTES]);
  });

  test('with reusePort two sockets share a port', async () => {
    const first = await receiver('auto', '127.0.0.1', 0, true);
    const second = await receiver('auto', '127.0.0.1', first.socket.address.port, true);
    assert.equal(second.socket.address.port, first.socket.address.port);
  });

  test('where the kernel refuses to segment, the batch goes sliced and the socket stays plain', async () => {
    const { socket, bytes } = await receiver('plain');
    const fd = bindUdpDescriptor({
      host: '127.0.0.1',
      port: 0,
      reusePort: false,
      segmentBytes: DATAGRAM_BYTES,
      bufferBytes: 1 << 20,
    });
    // Without checksums (SO_NO_CHECK) Linux segments nothing: udp_send_skb says EINVAL.
    const setsockopt = koffi.load(null).func('int setsockopt(int, int, int, void *, uint)');
    assert.equal(setsockopt(fd, 1, 11, new Uint8Array(Int32Array.of(1).buffer), 4), 0);
    const raw = createSocket('udp4');
    await new Promise<void>((resolve) => raw.bind({ fd }, resolve));
    const unused = () => assert.fail('not expected');
    const from = new UdpSocket(
      raw,
      {
        host: '127.0.0.1',
        port: 0,
        mode: 'gso',
        reusePort: false,
        onDatagrams: unused,
        onError: unused,
      },
      { fd },
    );
    open.push(from);
    const batch = numbered(BATCH_DATAGRAMS);
    await sendAndRelease(from, socket.address, batch);
    assert.deepEqual(await bytes(batch.length), Buffer.from(batch));
    assert.equal(from.mode, 'plain');
    assert.equal(from.counters.datagramsSent, BATCH_DATAGRAMS);
  });
}
