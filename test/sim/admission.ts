/**
 * `npm run sim:admission [-- --seed 1 --honest 1000 --draws 20000 --out docs/simulation]`: how many positions on paths
 * an attacker gets who runs ten times as many nodes as everybody else together, from four /16 subnets, all claiming as
 * much bandwidth as a descriptor can say. With the real rules of the view (core/directory/consensus.ts) and the real
 * choice of paths. Writes admission.json and admission.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { limitCrowds, weightOf } from '@nyx/core/directory/consensus.ts';
import { type NodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import type { ViewNode } from '@nyx/core/directory/node-status.ts';
import { defaultViewParams, ViewParam, type ViewParams } from '@nyx/core/directory/params.ts';
import { testSuite as suite } from '@nyx/core/directory/testing.ts';
import { selectPath } from '@nyx/core/path/select.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    honest: { type: 'string', default: '1000' },
    draws: { type: 'string', default: '20000' },
    out: { type: 'string', default: 'docs/simulation' },
  },
});
const honestCount = Number(values.honest);
const draws = Number(values.draws);
if (!(honestCount >= 50 && honestCount <= 20_000 && draws >= 100)) {
  process.stderr.write('--honest must be 50…20000, --draws at least 100\n');
  process.exit(2);
}

const FACTOR = 10;
const SUBNETS = 4;
const HOPS = 3;
const EPOCH = 500_000;
const CLAIM = 1_250_000_000;
const random = createSeededRandom(`admission ${values.seed}`);
const bytesOf = (length: number) => {
  const bytes = new Uint8Array(length);
  random.fill(bytes);
  return bytes;
};
const uniform = () => bytesOf(4).reduce((sum, byte) => sum * 256 + byte, 0) / 2 ** 32;

/** What path selection and the rules look at; keys and signatures play no part here. */
function node(address: string, bandwidthBytesPerSecond: number): NodeDescriptor {
  const empty = new Uint8Array(0);
  return {
    nodeId: bytesOf(32),
    ...{ identity: empty, linkX25519: empty, linkKem: empty, signature: empty, body: empty, mixKeys: [] },
    addresses: [{ address, port: 9001 }],
    roles: { mix: true, exit: true },
    ...{ exitPolicy: ['accept *:*'], family: [], compliance: 'core', bandwidthBytesPerSecond },
    ...{ published: 0, expires: 1 },
  };
}

const octet = (below = 254) => 1 + Math.floor(uniform() * below);
const honest = Array.from({ length: honestCount }, () =>
  // 1 to 100 MB/s, the small ones more common.
  node(`${11 + octet(80)}.${octet()}.${octet()}.${octet()}`, Math.round(1e6 * 100 ** uniform())),
);
const hostile = Array.from({ length: FACTOR * honestCount }, (_, i) =>
  node(`198.${51 + (i % SUBNETS)}.${octet()}.${octet()}`, CLAIM),
);
const hostileIds = new Set(hostile.map(({ nodeId }) => nodeIdHex(nodeId)));

const off: ViewParams = {
  [ViewParam.maxPerSubnet]: 0,
  [ViewParam.maxPerFamily]: 0,
  [ViewParam.rampEpochs]: 1,
  [ViewParam.maxDeclaredBandwidth]: CLAIM,
};
const cap = { [ViewParam.maxDeclaredBandwidth]: defaultViewParams[ViewParam.maxDeclaredBandwidth] };
const crowds = { [ViewParam.maxPerSubnet]: defaultViewParams[ViewParam.maxPerSubnet] };
const ramp = { [ViewParam.rampEpochs]: defaultViewParams[ViewParam.rampEpochs] };

const scenarios: readonly { readonly name: string; readonly params: ViewParams; readonly ageEpochs: number }[] = [
  { name: 'no rules', params: off, ageEpochs: 0 },
  { name: 'bandwidth that is not measured is cut', params: { ...off, ...cap }, ageEpochs: 0 },
  { name: 'and 16 nodes a subnet', params: { ...off, ...cap, ...crowds }, ageEpochs: 0 },
  { name: 'and weight by age: first hour', params: { ...off, ...cap, ...crowds, ...ramp }, ageEpochs: 0 },
  { name: 'and weight by age: after a day', params: { ...off, ...cap, ...crowds, ...ramp }, ageEpochs: 23 },
  { name: 'and weight by age: after a week', params: { ...off, ...cap, ...crowds, ...ramp }, ageEpochs: 167 },
];

const results = scenarios.map(({ name, params, ageEpochs }) => {
  const statusOf = (descriptor: NodeDescriptor, firstEpoch: number): ViewNode => {
    const believed = Math.min(descriptor.bandwidthBytesPerSecond, params[ViewParam.maxDeclaredBandwidth]!);
    const weight = weightOf(believed, EPOCH - firstEpoch, params[ViewParam.rampEpochs]!);
    return { descriptor, status: { flags: 0, bandwidthBytesPerSecond: believed, weight, firstEpoch } };
  };
  const candidates = [
    ...honest.map((descriptor) => statusOf(descriptor, EPOCH - 1000)),
    ...hostile.map((descriptor) => statusOf(descriptor, EPOCH - ageEpochs)),
  ];
  const admitted = limitCrowds(candidates, params, EPOCH, suite);
  const view = {
    nodes: admitted.map(({ descriptor }) => descriptor),
    statuses: admitted.map(({ status }) => status),
  };
  let positions = 0;
  let ends = 0;
  const constraints = { hops: HOPS, needExit: { port: 443 } };
  for (let i = 0; i < draws; i++) {
    const path = selectPath(view, constraints, random).map(({ nodeId }) => hostileIds.has(nodeIdHex(nodeId)));
    positions += path.filter(Boolean).length;
    if (path[0] && path[HOPS - 1]) ends++;
  }
  const hostileNodes = view.nodes.filter(({ nodeId }) => hostileIds.has(nodeIdHex(nodeId))).length;
  return {
    name,
    nodes: view.nodes.length,
    hostileNodes,
    positionShare: positions / (HOPS * draws),
    bothEndsShare: ends / draws,
  };
});

const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
const bar = (share: number) => '█'.repeat(Math.round(share * 40)).padEnd(1, '·');
const table = `# What admission is worth

${honestCount} honest nodes in subnets all over, of 1 to 100 MB/s; an attacker with ${FACTOR * honestCount} nodes in ${SUBNETS} /16 subnets, each
claiming ${CLAIM / 1e6} MB/s. ${draws} paths of ${HOPS} hops each, chosen as clients do. Made by \`npm run sim:admission\`, seed ${values.seed}; each row
adds to the one before.

| rules | hostile nodes in the view | positions | | both ends of a path |
| --- | ---: | ---: | --- | ---: |
${results
  .map(
    ({ name, hostileNodes, positionShare, bothEndsShare }) =>
      `| ${name} | ${hostileNodes} | ${percent(positionShare)} | \`${bar(positionShare)}\` | ${percent(bothEndsShare)} |`,
  )
  .join('\n')}

Paths never take two hops of one /16, so without other rules four subnets hold at most four of a path's hops: that alone
is no protection when three are enough. The puzzle is not in these figures. It costs each node of the view
2^${defaultViewParams[ViewParam.puzzleBits]} runs of argon2id over ${defaultViewParams[ViewParam.puzzleMemoryKib] / 1024} MiB for each epoch, about two seconds of a core; it makes identities cost something
where subnets and time do not. The digest of a view that is at most three epochs old goes into it, so that nobody can solve it long ahead.
`;
mkdirSync(values.out, { recursive: true });
const report = {
  seed: values.seed,
  honest: honestCount,
  hostile: hostile.length,
  subnets: SUBNETS,
  hops: HOPS,
  draws,
  results,
};
writeFileSync(join(values.out, 'admission.json'), `${JSON.stringify(report, null, 2)}\n`);
writeFileSync(join(values.out, 'admission.md'), table);
process.stdout.write(`${JSON.stringify(report)}\n`);
