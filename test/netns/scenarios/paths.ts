/** Relays on lines of limited rate: what a second path adds to a download, and what a slow one takes from it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Impairment } from '../impairment.ts';
import { measureDownload, throughNyx } from '../measure.ts';
import type { ScenarioContext } from '../scenario.ts';
import { checkNetwork, NEAR, type SmallNetwork, startSmallNetwork } from '../small-network.ts';

interface PathsRow {
  readonly name: string;
  /** After the start. */
  readonly mbit: number;
  readonly circuits: number;
}

const RELAY_MBIT = 8;
const relayLine: Impairment = { delayMs: 15, rateMbit: RELAY_MBIT, queueBytes: 100_000 };
const slowLine: Impairment = { delayMs: 200, rateMbit: 1, queueBytes: 50_000, lossShare: 0.02 };
const MIXES = 4;
const DOWNLOAD_MS = 12_000;
/** Until all circuits are there and have found their rate. */
const START_MS = 4000;

export async function paths(context: ScenarioContext): Promise<readonly PathsRow[]> {
  const { say, fail } = context;
  const small = await startSmallNetwork(context, {
    clients: { 'client-0': { addresses: ['10.20.0.2'], up: NEAR, down: NEAR } },
    mixes: MIXES,
  });
  try {
    const rows: PathsRow[] = [];
    const measure = async (name: string, username: string, slow = false): Promise<number> => {
      const row = await measureRow(small, name, username, slow);
      rows.push(row);
      say(`${name.padEnd(40)}${row.mbit.toFixed(2).padStart(7)} Mbit/s over ${row.circuits} circuit(s)`);
      return row.mbit;
    };
    const one = await measure('one path', 'nyx;paths=1;isolation=one');
    const two = await measure('two paths of that speed', 'nyx;paths=2;isolation=two');
    if (two < 1.7 * one) fail(`two paths carry ${(two / one).toFixed(2)} times what one does, less than 1.7`);
    const slowed = await measure('the same, one of them slow', 'nyx;paths=2;isolation=slow', true);
    if (slowed < 0.95 * one)
      fail(`a slow path beside a fast one: ${slowed.toFixed(2)} Mbit/s, the fast one alone ${one.toFixed(2)}`);
    await checkNetwork(small.network, fail);
    return rows;
  } finally {
    await small.network.close();
  }
}

async function measureRow(small: SmallNetwork, name: string, username: string, slow: boolean): Promise<PathsRow> {
  const { network, target } = small;
  const { lab } = network;
  for (let i = 0; i < MIXES; i++) await lab.impair(`mix-${i}`, { up: relayLine, down: relayLine });
  const { api, host } = network.node('client-0');
  const before = new Set((await api.paths.list()).map(({ pathId }) => pathId));
  const transfer = measureDownload(host, target, throughNyx(username), {
    sizeBytes: 2 ** 32,
    stopAfterMs: DOWNLOAD_MS,
  });
  const used = async () =>
    (await api.paths.list())
      .filter(({ pathId, bytesReceived, streams }) => streams > 0 && (!before.has(pathId) || bytesReceived > 0))
      .flatMap(({ circuits }) => circuits)
      .filter(({ state }) => state === 'usable');
  await delay(START_MS / 2);
  if (slow) {
    // Of the two, the one whose first hop this is, and with it all that goes through that relay.
    const guard = network.byId((await used()).at(-1)!.nodeIds[0]!);
    await lab.impair(guard.name, { up: slowLine, down: slowLine });
  }
  await delay(DOWNLOAD_MS / 2);
  const circuits = (await used()).length;
  const { tenths, tookMs } = await transfer;
  const bytes = tenths.slice(START_MS / 100).reduce((sum, each) => sum + each, 0);
  return { name, mbit: (bytes * 8) / (tookMs - START_MS) / 1000, circuits };
}
