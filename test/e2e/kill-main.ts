/**
 * `npm run test:kill [-- --bytes 1073741824 --paths 3 --strategy latency_weighted --every 5000 --kills 20 --json FILE]`:
 * a transfer through real daemons, a middle relay killed every so often and started again. Exit code 0: every byte
 * arrived, the application saw no error, and no kill stalled it longer than allowed (500 ms; on one path 2 s); 1 if not.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { NodeProcess } from '@nyx/daemon/node-process.ts';
import { connectNyx } from '@nyx/sdk/index.ts';
import type { MultipathStrategyName } from '@nyx/sdk/socket.ts';
import { freeUdpPort } from './fixture.ts';
import { transferWithKills } from './kill-transfer.ts';

const STALL_MS = { one: 2000, several: 500 } as const;
const MIXES = 9;
/** A relay is started again this long after it was killed. */
const RESTART_MS = 1000;

const { values } = parseArgs({
  options: {
    bytes: { type: 'string', default: String(2 ** 30) },
    paths: { type: 'string', default: '3' },
    strategy: { type: 'string', default: 'latency_weighted' },
    every: { type: 'string', default: '5000' },
    kills: { type: 'string', default: '20' },
    timeout: { type: 'string', default: '600000' },
    json: { type: 'string' },
  },
});
const paths = Number(values.paths);
const ports = await Promise.all(Array.from({ length: MIXES }, () => freeUdpPort()));
/** Relays that were started again, by name. */
const again = new Map<string, NodeProcess>();
const down = new Set<string>();
const network = await startLocalNetwork({
  mixes: MIXES,
  exits: 1,
  // A relay that is started again is where the view says.
  overrides: (role, index) => (role === 'mix' ? { listen: `127.0.0.1:${ports[index]}` } : {}),
});
const api = await connectNyx({ socketPath: network.apiSocket });
try {
  const report = await transferWithKills(api, {
    bytes: Number(values.bytes),
    path: { paths, strategy: values.strategy as MultipathStrategyName, hops: 3 },
    everyMs: Number(values.every),
    maxKills: Number(values.kills),
    timeoutMs: Number(values.timeout),
    kill: (nodeId) => {
      const node = network.nodes.find((candidate) => candidate.nodeId === nodeId);
      // The first one is the directory, which nothing here is about; nor is the exit.
      if (node === undefined || node.role !== 'mix' || node.name === 'mix-0') return false;
      const pid = again.get(node.name)?.pid ?? node.pid;
      if (down.has(node.name)) return false;
      down.add(node.name);
      process.kill(pid, 'SIGKILL');
      setTimeout(() => {
        const started = new NodeProcess(node.name, join(network.folder, `${node.name}.yaml`));
        again.set(node.name, started);
        void started.ready(60_000).then(
          () => down.delete(node.name),
          (error: Error) => console.error(`${node.name} did not come back: ${error.message}`),
        );
      }, RESTART_MS);
      return true;
    },
  });
  const allowedMs = paths === 1 ? STALL_MS.one : STALL_MS.several;
  const ok = report.sha256Equal && report.error === undefined && report.longestStallMs <= allowedMs;
  const text = JSON.stringify({ ok, paths, strategy: values.strategy, allowedStallMs: allowedMs, ...report }, null, 2);
  if (values.json !== undefined) writeFileSync(values.json, `${text}\n`);
  console.log(text);
  process.exitCode = ok ? 0 : 1;
} finally {
  api.close();
  await Promise.all([...again.values()].map((node) => node.stop(2000)));
  await network.stop();
}
