/**
 * Memory of one idle circuit, at a relay and at the last hop (with its session), in process: engines on virtual time,
 * circuits in waves, heap and external memory after collection. All engines live in one process, so the relay's share is
 * what a path of one relay more costs per circuit. Needs --expose-gc. Prints JSON.
 */
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const COUNT = Number(process.argv[2] ?? 1000);
const TARGET_BYTES = 8192;
const suite = createNativeSuite();

function used(): number {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc');
  for (let i = 0; i < 4; i++) globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

interface Measured {
  /** All engines of the path together, per circuit. */
  readonly whole: number;
  /** What goes when the client's half has gone and the others have not heard of it: the client's share. */
  readonly client: number;
}

function measure(hops: number): Measured {
  const network = new VirtualNetwork(suite, hops);
  const client = network.add('client', { relay: false });
  const path: SimNode[] = [];
  for (let i = 1; i < hops; i++) path.push(network.add(`relay ${i}`, { setupsPerSecond: 1e6 }));
  path.push(network.add('exit', { exit: true, setupsPerSecond: 1e6, serve: () => ({ onClose() {} }) }));
  const contacts: NodeContact[] = path.map((node) => node.contact);
  const build = (count: number) => {
    for (let i = 0; i < count; i++) {
      client.engine.buildCircuit(
        { hops: contacts, class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
        { onClose() {} },
        network.nowMs,
      );
      if (i % 16 === 15) network.run(network.nowMs + 100);
    }
    // Keys that a fresh exchange replaced live for ten seconds; after that a circuit is idle.
    network.run(network.nowMs + 14_000);
    client.circuitEvents.length = 0;
  };
  build(64);
  const before = used();
  build(COUNT);
  for (const node of path.slice(0, -1)) {
    if (node.engine.relayCircuits !== COUNT + 64) throw new Error(`${node.engine.relayCircuits} circuits at a relay`);
  }
  const full = used();
  client.engine.shutdown(network.nowMs);
  client.circuitEvents.length = 0;
  const withoutClient = used();
  for (const node of path) node.engine.shutdown(network.nowMs);
  return { whole: (full - before) / COUNT, client: (full - withoutClient) / (COUNT + 64) };
}

const three = measure(3);
const seven = measure(7);
const relay = (seven.whole - three.whole) / 4 - (seven.client - three.client) / 4;
const lastHop = three.whole - three.client - 2 * relay;
console.log(
  JSON.stringify({
    bench: 'memory',
    circuits: COUNT,
    relayBytes: Math.round(relay),
    lastHopBytes: Math.round(lastHop),
    clientBytes: Math.round(three.client),
    target: TARGET_BYTES,
    ok: relay <= TARGET_BYTES,
  }),
);
