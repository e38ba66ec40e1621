/**
 * What idle clients send, by mode of their cover and of their message lane: real daemons side by side in one local network, each with its default
 * circuits and nothing to do, watched for some time after they have settled. Extrapolated to an hour; datagrams of links only, not
 * fetches of the directory or the control plane. Prints JSON. `node bench/idle.ts [seconds]`
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { startLocalNetwork } from '@nyx/daemon/local-network.ts';
import type { CoverConfig } from '@nyx/daemon/pump/contract.ts';
import type { Traffic } from '@nyx/proto/types.ts';
import { connectNyx } from '@nyx/sdk/index.ts';

const SETTLE_MS = 20_000;
const HOUR_SECONDS = 3600;

const modes: readonly (readonly [string, Partial<CoverConfig>, { readonly cover: 'always' }?])[] = [
  ['off', {}],
  ['off, messages always', {}, { cover: 'always' }],
  ['off, messages always, lowPower', { lowPower: true }, { cover: 'always' }],
  ['off, lowPower', { lowPower: true }],
  ['adaptive', { mode: 'adaptive' }],
  ['adaptive, lowPower', { mode: 'adaptive', lowPower: true }],
  ['adaptive, 1 MB of cover an hour', { mode: 'adaptive', budgetBytesPerHour: 1_000_000 }],
  ['constant', { mode: 'constant' }],
];

const seconds = Number(process.argv[2] ?? 90);
if (!(seconds >= 5 && seconds <= 3600)) throw new RangeError(`${process.argv[2]} seconds: 5…3600`);

const network = await startLocalNetwork({
  mixes: 4,
  exits: 1,
  clients: modes.length,
  overrides: (role, index) => (role === 'client' ? { cover: modes[index]![1], messages: modes[index]![2] ?? {} } : {}),
});
try {
  const clients = await Promise.all(network.clients.map(({ apiSocket }) => connectNyx({ socketPath: apiSocket })));
  await delay(SETTLE_MS);
  const look = () =>
    Promise.all(
      clients.map(async (client) => {
        const { traffic, process: used } = await client.status();
        return { atMs: performance.now(), traffic: traffic as Traffic, cpuSeconds: used!.cpuSeconds };
      }),
    );
  const before = await look();
  await delay(seconds * 1000);
  const after = await look();
  const rows = modes.map(([mode], i) => {
    const [first, last] = [before[i]!, after[i]!];
    const perHour = HOUR_SECONDS / ((last.atMs - first.atMs) / 1000);
    const sent = last.traffic.datagramsOut - first.traffic.datagramsOut;
    const received = last.traffic.datagramsIn - first.traffic.datagramsIn;
    return {
      mode,
      datagrams: sent,
      datagramsPerHour: sent * perHour,
      megabytesPerHour: (sent * perHour * DATAGRAM_BYTES) / 1e6,
      megabytesReceivedPerHour: (received * perHour * DATAGRAM_BYTES) / 1e6,
      meanGapSeconds: HOUR_SECONDS / (sent * perHour),
      cpuSecondsPerHour: (last.cpuSeconds - first.cpuSeconds) * perHour,
    };
  });
  for (const client of clients) client.close();
  console.log(JSON.stringify({ bench: 'idle', watchedSeconds: seconds, clients: rows }, undefined, 1));
} finally {
  await network.stop();
}
