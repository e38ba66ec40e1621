/**
 * The directory of 10 000 nodes: verifying a fresh view in slices, what that leaves of the main thread for others, the
 * sizes of view and delta, and the authorities' work. Prints one JSON object. Argument: number of nodes.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { noView, puzzleOf, verifyAdmission } from '@nyx/core/directory/admission.ts';
import { computeConsensus } from '@nyx/core/directory/consensus.ts';
import {
  decodeDescriptor,
  descriptorDigest,
  encodeDescriptor,
  type NodeDescriptor,
  nodeIdHex,
  signDescriptor,
} from '@nyx/core/directory/descriptor.ts';
import {
  decodeViewBundle,
  encodeViewBundle,
  signView,
  type ViewBundle,
  verifyViewSteps,
} from '@nyx/core/directory/view.ts';
import { applyDelta, encodeDeltaSteps } from '@nyx/core/directory/view-delta.ts';
import { encodeVote, type Vote } from '@nyx/core/directory/vote.ts';
import { createMemoryHard } from '@nyx/daemon/directory/memory-hard.ts';
import { runInSlices } from '@nyx/daemon/directory/slices.ts';
import { verifyView } from '@nyx/daemon/directory/verify-view.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';

const count = Number(process.argv[2] ?? 10_000);
const suite = createNativeSuite();
const EPOCH_SECONDS = 3600;
const epoch = 500_000;
const random = (length: number) => {
  const bytes = new Uint8Array(length);
  systemRandom.fill(bytes);
  return bytes;
};

/** What stays from epoch to epoch. */
const nodes = Array.from({ length: count }, (_, i) => ({
  identity: suite.ed25519(random(32)),
  linkX25519: random(32),
  linkKem: random(1184),
  // A subnet of its own for each.
  address: `${11 + (i % 100)}.${Math.floor(i / 100) % 256}.1.1`,
}));
const mixKeys = new Map<number, { x25519: Uint8Array; kem: Uint8Array }[]>();
const keysOf = (each: number) => {
  let keys = mixKeys.get(each);
  if (keys === undefined) {
    keys = nodes.map(() => ({ x25519: random(32), kem: random(1184) }));
    mixKeys.set(each, keys);
  }
  return keys;
};

function descriptorsAt(at: number): NodeDescriptor[] {
  return nodes.map(({ identity, linkX25519, linkKem, address }, i) =>
    signDescriptor(
      {
        identity: identity.publicKey,
        linkX25519,
        linkKem,
        mixKeys: [at, at + 1].map((each) => ({ epoch: each, ...keysOf(each)[i]! })),
        addresses: [{ address, port: 9001 }],
        roles: { mix: true, exit: i % 6 === 0 },
        exitPolicy: i % 6 === 0 ? ['reject *:25', 'accept *:*'] : [],
        family: [],
        compliance: 'core',
        bandwidthBytesPerSecond: 1_000_000 + i,
        admission: new Uint8Array([...random(8), ...noView.subarray(0, 8)]),
        published: at * EPOCH_SECONDS,
        expires: (at + 3) * EPOCH_SECONDS,
      },
      identity,
      suite,
    ),
  );
}

const voter = suite.ed25519(random(32));
const authorities = { threshold: 1, keys: [voter.publicKey] };

function viewAt(at: number): { bundle: ViewBundle; consensusMs: number; voteBytes: number } {
  const byDigest = new Map<string, NodeDescriptor>();
  const entries = descriptorsAt(at).map((descriptor) => {
    const digest = descriptorDigest(encodeDescriptor(descriptor), suite);
    byDigest.set(nodeIdHex(digest), descriptor);
    const { nodeId, bandwidthBytesPerSecond } = descriptor;
    return { nodeId, digest, flags: 0, bandwidthBytesPerSecond, firstEpoch: at - 10 };
  });
  const vote: Vote = { epoch: at, round: 0, voter: voter.publicKey, params: {}, entries };
  const startMs = performance.now();
  const options = { epoch: at, epochSeconds: EPOCH_SECONDS, validAfter: at * EPOCH_SECONDS };
  const unsigned = computeConsensus([vote, vote, vote], { ...options, find: (digest) => byDigest.get(digest) }, suite);
  const consensusMs = performance.now() - startMs;
  return { bundle: signView(unsigned, voter), consensusMs, voteBytes: encodeVote(vote).length };
}

const first = viewAt(epoch);
const second = viewAt(epoch + 1);
const bytes = encodeViewBundle(second.bundle);
globalThis.gc?.();

/** Runs `task` and says how long it took and how late timers of others came meanwhile. */
interface Timed<T> {
  readonly result: T;
  readonly ms: number;
  /** Of all threads, and of this one. */
  readonly cpuMs: number;
  readonly mainCpuMs: number;
  readonly maxDelayMs: number;
}

async function timed<T>(task: () => Promise<T>): Promise<Timed<T>> {
  await new Promise((resolve) => setTimeout(resolve, 50));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const own = process.threadCpuUsage();
  const startMs = performance.now();
  const result = await task();
  const ms = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpu);
  const main = process.threadCpuUsage(own);
  await new Promise((resolve) => setTimeout(resolve, 20));
  delay.disable();
  return {
    result,
    ms,
    cpuMs: (user + system) / 1000,
    mainCpuMs: (main.user + main.system) / 1000,
    maxDelayMs: delay.max / 1e6,
  };
}

const options = { authorities, suite, now: (epoch + 1) * EPOCH_SECONDS + 1 };
const alone = await timed(() => runInSlices(verifyViewSteps(decodeViewBundle(bytes), options)));
globalThis.gc?.();
const verify = await timed(() => verifyView(decodeViewBundle(bytes), options));
const ids = new Map<Uint8Array, Uint8Array>();
for (const { bundle } of [first, second]) {
  for (const { descriptor } of bundle.entries) ids.set(descriptor, decodeDescriptor(descriptor, suite).nodeId);
}
const delta = await timed(() =>
  runInSlices(encodeDeltaSteps(first.bundle, second.bundle, ({ descriptor }) => ids.get(descriptor)!, suite)),
);
const applied = await timed(async () => applyDelta(first.bundle, delta.result, suite));
const puzzle = puzzleOf({});
const memoryHard = createMemoryHard();
const { nodes: verified } = verify.result;
const admission = await timed(async () => {
  for (const node of verified.slice(0, 5)) await verifyAdmission(node, noView, puzzle, suite, memoryHard);
});

process.stdout.write(
  `${JSON.stringify({
    nodes: count,
    verifyMs: verify.ms,
    verifyCpuMs: verify.cpuMs,
    verifyMainCpuMs: verify.mainCpuMs,
    verifyOneThreadMs: alone.ms,
    verifyOneThreadCpuMs: alone.cpuMs,
    verifyMaxDelayMs: verify.maxDelayMs,
    viewBytes: bytes.length,
    viewBytesPerNode: bytes.length / count,
    deltaBytes: delta.result.length,
    deltaBytesPerNode: delta.result.length / count,
    deltaEncodeMs: delta.ms,
    deltaEncodeMaxDelayMs: delta.maxDelayMs,
    deltaApplyMs: applied.ms,
    voteBytes: second.voteBytes,
    consensusMs: second.consensusMs,
    puzzleCheckMs: admission.ms / 5,
  })}\n`,
);
