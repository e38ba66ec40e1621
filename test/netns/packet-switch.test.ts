import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DueQueue } from './due-queue.ts';
import { addressBytes } from './ip-packet.ts';
import { PacketSwitch } from './packet-switch.ts';

/** IPv4 with UDP and right checksums, or IPv6 with nothing inside. */
function packetOf(from: string, to: string, ports: readonly [number, number] = [1000, 2000], text = ''): Buffer {
  const [source, target] = [addressBytes(from), addressBytes(to)];
  if (source.length === 16) {
    const packet = Buffer.alloc(40);
    packet[0] = 0x60;
    packet.set(source, 8);
    packet.set(target, 24);
    return packet;
  }
  const body = Buffer.from(text);
  const packet = Buffer.alloc(28 + body.length);
  packet[0] = 0x45;
  packet.writeUInt16BE(packet.length, 2);
  packet[8] = 64;
  packet[9] = 17;
  packet.set(source, 12);
  packet.set(target, 16);
  packet.writeUInt16BE(ports[0], 20);
  packet.writeUInt16BE(ports[1], 22);
  packet.writeUInt16BE(8 + body.length, 24);
  packet.set(body, 28);
  packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10);
  packet.writeUInt16BE(udpChecksum(packet), 26);
  return packet;
}

/** RFC 1071; 0 over data with a right checksum. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function udpChecksum(packet: Buffer): number {
  const length = packet.length - 20;
  return checksum(
    Buffer.concat([packet.subarray(12, 20), Buffer.from([0, 17, length >> 8, length]), packet.subarray(20)]),
  );
}

interface Delivery {
  readonly port: number;
  readonly packet: Buffer;
  readonly atMs: number;
}

class Bench {
  nowMs = 0;
  readonly got: Delivery[] = [];
  readonly network: PacketSwitch;

  constructor(packets = 64) {
    this.network = new PacketSwitch({ seed: 5, packets }, (port, packet, sizeBytes) => {
      this.got.push({ port, packet: Buffer.from(packet.subarray(0, sizeBytes)), atMs: this.nowMs });
    });
  }

  send(from: number, packet: Buffer): void {
    this.network.buffer!.set(packet);
    this.network.receive(from, packet.length, this.nowMs);
  }

  /** Step by step, as the process does it. */
  runTo(endMs: number): void {
    while (this.network.nextMs <= endMs) {
      this.nowMs = this.network.nextMs;
      this.network.run(this.nowMs);
    }
    this.nowMs = endMs;
  }
}

describe('the switch', () => {
  test('takes a packet through the line up, then the line down', () => {
    const bench = new Bench();
    const a = bench.network.add({ id: 'a', addresses: ['10.1.0.1'], up: { delayMs: 30 } });
    const b = bench.network.add({ id: 'b', addresses: ['10.2.0.1', 'fd00:2::1'], down: { delayMs: 5 } });
    bench.network.add({ id: 'c', addresses: ['fd00:3::1'] });
    const packet = packetOf('10.1.0.1', '10.2.0.1', [1, 2], 'hello');
    bench.send(a, packet);
    bench.runTo(100);
    assert.deepEqual(bench.got, [{ port: b, packet, atMs: 35 }]);
    bench.send(2, packetOf('fd00:3::1', 'fd00:2::1'));
    bench.send(2, packetOf('fd00:3::1', 'fd00:2::2')); // nobody's
    bench.send(a, Buffer.from([0x45, 0])); // not a packet
    bench.runTo(200);
    assert.equal(bench.got.length, 2);
    assert.equal(bench.network.counts.noRoute, 2);
  });

  test('queues at the receiver what several send to it', () => {
    const bench = new Bench();
    for (const id of [1, 2]) bench.network.add({ id: `h${id}`, addresses: [`10.${id}.0.1`], up: { delayMs: 10 } });
    bench.network.add({ id: 'to', addresses: ['10.9.0.1'], down: { rateMbit: 0.224 } }); // 28 bytes in 1 ms
    for (let i = 0; i < 4; i++) bench.send(i % 2, packetOf(`10.${(i % 2) + 1}.0.1`, '10.9.0.1'));
    bench.runTo(100);
    assert.deepEqual(
      bench.got.map(({ atMs }) => Math.round(atMs * 1e6) / 1e6),
      [11, 12, 13, 14],
    );
  });

  test('parts, and comes together again', () => {
    const bench = new Bench();
    const [a, b] = ['a', 'b'].map((id, i) => bench.network.add({ id, addresses: [`10.${i}.0.1`] })) as [number, number];
    bench.network.partition({ b: 1 });
    bench.send(a, packetOf('10.0.0.1', '10.1.0.1'));
    bench.runTo(1);
    assert.equal(bench.got.length, 0);
    assert.equal(bench.network.counts.partitioned, 1);
    bench.network.partition({});
    bench.send(b, packetOf('10.1.0.1', '10.0.0.1'));
    bench.runTo(2);
    assert.equal(bench.got.length, 1);
    assert.throws(() => bench.network.partition({ nobody: 1 }), /there is no nobody/);
  });

  test('brings multicast to the others of a site alone', () => {
    const bench = new Bench();
    for (const [i, site] of ['home', 'home', undefined, 'work', 'home'].entries()) {
      bench.network.add({ id: `h${i}`, addresses: [`10.${i}.0.1`], site });
    }
    bench.send(0, packetOf('10.0.0.1', '224.0.0.251'));
    bench.send(2, packetOf('10.2.0.1', '224.0.0.251'));
    bench.runTo(1);
    assert.deepEqual(
      bench.got.map(({ port }) => port),
      [1, 4],
    );
  });

  test('translates addresses and ports, forgets them, and keeps checksums right', () => {
    const bench = new Bench();
    const inside = bench.network.add({ id: 'in', addresses: ['10.1.0.1'], natInside: '192.168.0.2' });
    const outside = bench.network.add({ id: 'out', addresses: ['10.2.0.1'] });
    const portsSeen = [0, 1].map((round) => {
      bench.send(inside, packetOf('192.168.0.2', '10.2.0.1', [4000, 53], 'question'));
      bench.runTo(bench.nowMs + 1);
      const { packet } = bench.got.at(-1)!;
      assert.equal(packet.subarray(12, 16).join('.'), '10.1.0.1');
      assert.equal(checksum(packet.subarray(0, 20)), 0);
      assert.equal(udpChecksum(packet), 0);
      const port = packet.readUInt16BE(20);
      bench.send(outside, packetOf('10.2.0.1', '10.1.0.1', [53, port], 'answer'));
      bench.runTo(bench.nowMs + 1);
      assert.deepEqual(bench.got.at(-1)!.packet, packetOf('10.2.0.1', '192.168.0.2', [53, 4000], 'answer'), `${round}`);
      bench.network.rebind('in');
      return port;
    });
    assert.notEqual(portsSeen[0], portsSeen[1]);
    const before = bench.got.length;
    bench.send(outside, packetOf('10.2.0.1', '10.1.0.1', [53, portsSeen[1]!]));
    bench.runTo(bench.nowMs + 1);
    assert.equal(bench.got.length, before);
    assert.equal(bench.network.counts.nat, 1);
  });

  test('loses no buffer, whatever happens to packets', () => {
    const bench = new Bench(16);
    const bad = { lossShare: 0.3, duplicateShare: 0.3, jitterMs: 5, rateMbit: 1, queueBytes: 200 };
    bench.network.add({ id: 'a', addresses: ['10.0.0.1'], up: bad, site: 's' });
    bench.network.add({ id: 'b', addresses: ['10.1.0.1'], down: bad, site: 's' });
    for (let i = 0; i < 2000; i++) {
      if (bench.network.buffer !== undefined) {
        bench.send(i % 2, packetOf('10.0.0.1', ['10.1.0.1', '10.0.0.1', '10.7.0.1', '224.0.0.1'][i % 4]!));
      }
      bench.runTo(i / 4);
    }
    bench.runTo(1e6);
    for (let i = 0; i < 16; i++) {
      assert.ok(bench.network.buffer, `buffer ${i} is gone`);
      bench.network.impair('a', { up: { delayMs: 1000 } });
      bench.send(0, packetOf('10.0.0.1', '10.1.0.1'));
    }
    assert.equal(bench.network.buffer, undefined);
  });

  test('refuses an address that somebody has', () => {
    const { network } = new Bench();
    network.add({ id: 'a', addresses: ['10.0.0.1', 'fd00::1'] });
    assert.throws(() => network.add({ id: 'b', addresses: ['fd00:0::1'] }), /somebody has/);
  });
});

test('the queue of what is due gives everything in order of time, then of coming', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 100 }), (times) => {
      const queue = new DueQueue(100);
      for (const [i, atMs] of times.entries()) assert.ok(queue.push(atMs, i));
      const expected = times.map((atMs, i) => [atMs, i] as const).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      for (const [atMs, i] of expected) {
        assert.equal(queue.nextMs, atMs);
        assert.equal(queue.pop(), i);
      }
      assert.equal(queue.pop(), -1);
    }),
  );
  const full = new DueQueue(1);
  assert.ok(full.push(1, 1));
  assert.equal(full.push(1, 2), false);
});
