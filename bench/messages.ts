/**
 * The message lane: CPU of a sender per packet, of a relay per packet (its Sphinx part alone, and whole: link opened,
 * layer taken off, written down, sealed for the next link), and what a relay keeps of each packet. Prints JSON.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Drop } from '@nyx/core/drop-reason.ts';
import { Via } from '@nyx/core/engine/contract.ts';
import { MixKeyRing } from '@nyx/core/onion/mix-key-ring.ts';
import { createPacket, PACKET_BYTES, type SphinxHop } from '@nyx/core/sphinx/packet.ts';
import { SphinxRelay } from '@nyx/core/sphinx/relay.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { createMessageWords, MessageTable, SharedMessageMemory } from '@nyx/daemon/pump/message-memory.ts';
import { makeNodeKeys, VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const PACKETS = 10_000;
const REMEMBERED = 1_000_000;
const UNLIMITED = 1e9;

const suite = createNativeSuite();
const folder = mkdtempSync(join(tmpdir(), 'nyx-bench-'));
const failed = (error: unknown) => {
  throw error;
};

const hopOf = (keys: ReturnType<typeof makeNodeKeys>['contact']): SphinxHop => {
  const { epoch, x25519 } = keys.mixKeys[0]!;
  return { nodeId: keys.nodeId, mixX25519: x25519, epoch, delayMs: 0 };
};

function cpuUs(work: () => void): number {
  const before = process.threadCpuUsage();
  work();
  const { user, system } = process.threadCpuUsage(before);
  return user + system;
}

function measureSender() {
  const packet = new Uint8Array(PACKET_BYTES);
  const hops = Array.from({ length: 7 }, () => hopOf(makeNodeKeys(suite, systemRandom, [1]).contact));
  const per = (count: number) => {
    const make = (times: number) => {
      for (let i = 0; i < times; i++)
        createPacket(suite, systemRandom, hops.slice(0, count), new Uint8Array(784), packet);
    };
    make(50);
    return cpuUs(() => make(500)) / 500;
  };
  return { hops3Us: per(3), hops5Us: per(5), hops7Us: per(7) };
}

/** The packet format alone, with the memory of packets on disk. */
function measureSphinx() {
  const { secrets, contact } = makeNodeKeys(suite, systemRandom, [1]);
  const file = join(folder, 'alone.log');
  const memory = () => new SharedMessageMemory({ words: createMessageWords(), file }, failed);
  const ring = new MixKeyRing(suite, secrets.nodeId, secrets.mix, undefined, memory);
  const hops = [hopOf(contact), hopOf(makeNodeKeys(suite, systemRandom, [1]).contact)];
  const packets = Array.from({ length: PACKETS }, () => {
    const packet = new Uint8Array(PACKET_BYTES);
    createPacket(suite, systemRandom, hops, new Uint8Array(784), packet);
    return packet;
  });
  const relay = new SphinxRelay(suite);
  const took = cpuUs(() => {
    for (const packet of packets) if (relay.process(ring.keys, packet) !== Drop.none) throw new Error('refused');
  });
  ring.wipe();
  return took / PACKETS;
}

/** A whole engine between two others: what comes in is recorded, then given to it as fast as it takes it. */
function measureRelay() {
  const network = new VirtualNetwork(suite, 1);
  const file = join(folder, 'relay.log');
  let measuring = false;
  let sent = 0;
  const source = network.add('source');
  const relay = network.add('relay', {
    engineOptions: {
      messagesPerSecond: UNLIMITED,
      messageMemory: () => new SharedMessageMemory({ words: createMessageWords(), file }, failed),
    },
    host: {
      send(via, to, batch, length, release) {
        if (measuring) sent += length / DATAGRAM_BYTES;
        else network.send(relay, via, to, batch.subarray(0, length));
        release();
      },
    },
  });
  const sink = network.add('sink', { engineOptions: { messagesPerSecond: UNLIMITED }, host: { onMessagePacket() {} } });
  const hops = [hopOf(relay.contact), hopOf(sink.contact)];
  const packet = new Uint8Array(PACKET_BYTES);
  const send = () => {
    createPacket(suite, systemRandom, hops, new Uint8Array(784), packet);
    if (source.engine.sendMessagePacket(relay.contact, packet, network.nowMs) !== Drop.none) throw new Error('refused');
  };
  send();
  network.run(network.nowMs + 2000);
  if (sink.engine.counters.messagesDelivered !== 1) throw new Error('the network does not work');
  const datagrams: Uint8Array[] = [];
  network.tap = (datagram, from) => {
    if (from === source) datagrams.push(datagram);
    return false;
  };
  while (datagrams.length < PACKETS) {
    for (let i = 0; i < BATCH_DATAGRAMS; i++) send();
    source.engine.flush(network.nowMs);
  }
  const buffers: Uint8Array[] = [];
  for (let at = 0; at + BATCH_DATAGRAMS <= datagrams.length; at += BATCH_DATAGRAMS) {
    buffers.push(Buffer.concat(datagrams.slice(at, at + BATCH_DATAGRAMS)));
  }
  measuring = true;
  const { engine } = relay;
  const before = engine.counters.messagesForward;
  const took = cpuUs(() => {
    for (const buffer of buffers) {
      engine.handleDatagrams(buffer, Via.listen, source.dialAddress, network.nowMs);
      engine.flush(network.nowMs);
    }
  });
  const forwarded = engine.counters.messagesForward - before;
  if (forwarded < 0.95 * PACKETS || sent < forwarded) throw new Error(`only ${forwarded} of ${PACKETS} were passed on`);
  const written = statSync(file).size / engine.counters.messagesIn;
  return { relayUs: took / forwarded, packetsPerSecondAndCore: 1e6 / (took / forwarded), diskBytesPerPacket: written };
}

function measureMemory() {
  const words = createMessageWords();
  const table = new MessageTable(words);
  const tags = new Int32Array(2 * REMEMBERED);
  systemRandom.fill(new Uint8Array(tags.buffer));
  const noteUs = cpuUs(() => {
    for (let i = 0; i < REMEMBERED; i++) table.note(tags[2 * i]!, tags[2 * i + 1]!);
  });
  return {
    remembered: table.size,
    bytesPerPacket: table.memoryBytes / table.size,
    noteUs: noteUs / REMEMBERED,
  };
}

try {
  const sphinxUs = measureSphinx();
  const relay = measureRelay();
  console.log(
    JSON.stringify({
      bench: 'messages',
      sender: measureSender(),
      relay: { sphinxUs, ...relay },
      memory: measureMemory(),
    }),
  );
} finally {
  rmSync(folder, { recursive: true });
}
