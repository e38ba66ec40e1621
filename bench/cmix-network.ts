/**
 * What class cmix carries between real processes with the batches that a view has by default: round trips, goodput of one
 * stream and of several, and cells and batches of each relay meanwhile.
 */
import { parseHostPort } from '@nyx/cli/arguments.ts';
import type { Distribution } from '@nyx/cli/measure/quantiles.ts';
import { spawnTarget } from '@nyx/cli/measure/server-process.ts';
import { startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import { type Bounds, measureDownload, measureEcho, type Throughput } from './lib/measure.ts';

const HOPS = 3;
const STREAMS = 4;
const ECHO_BYTES = 64;

export interface CmixNetworkMeasures {
  /** Of 64 bytes on a stream that has nothing else to do; ms. */
  readonly echo: Distribution;
  readonly one: CmixThroughput;
  readonly several: CmixThroughput;
}

interface CmixThroughput {
  readonly streams: number;
  readonly kilobytesPerSecond: number;
  readonly relays: readonly RelayBatches[];
}

interface RelayBatches {
  readonly cellsPerSecond: number;
  readonly cellsPerBatch: number;
  /** Of the whole process. */
  readonly cpuSeconds: number | undefined;
}

export async function measureCmixNetwork(
  options: Bounds & { readonly rounds: number; readonly bytes: number },
): Promise<CmixNetworkMeasures> {
  const network = await startLocalNetwork({ mixes: HOPS - 1, exits: 1, hops: HOPS });
  const apis: NyxClient[] = [];
  try {
    const target = await spawnTarget();
    try {
      const relays = network.nodes.filter(({ role }) => role !== 'client');
      for (const { apiSocket } of relays) apis.push(await connectNyx({ socketPath: apiSocket }));
      const route = {
        socks: parseHostPort(network.socks),
        auth: (key: string) => ({ username: `nyx;hops=${HOPS};class=cmix;isolation=${key}`, password: 'x' }),
        processes: relays.map(({ nodeId, pid }) => ({ name: nodeId, pid })),
      };
      const batches = () =>
        Promise.all(
          apis.map(async (api) => {
            const { cmix } = await api.status();
            if (!cmix) throw new Error('a relay of the network mixes no batches');
            return cmix;
          }),
        );
      const transfer = async (streams: number): Promise<CmixThroughput> => {
        const before = await batches();
        const throughput = await measureDownload(route, target.address, {
          ...options,
          streams,
          bytesPerStream: Math.ceil(options.bytes / streams),
        });
        return throughputOf(streams, throughput, before, await batches());
      };
      // The first batches calibrate the delay and pay for compilation.
      await measureDownload(route, target.address, { ...options, streams: 1, bytesPerStream: options.bytes / 4 });
      const { sample: _, ...echo } = await measureEcho(route, target.address, { ...options, sizeBytes: ECHO_BYTES });
      return { echo, one: await transfer(1), several: await transfer(STREAMS) };
    } finally {
      await target.close();
    }
  } finally {
    for (const api of apis) api.close();
    await network.stop();
  }
}

type Batches = { readonly cells: number; readonly batches: number };

function throughputOf(
  streams: number,
  { bytes, seconds, processes }: Throughput,
  before: readonly Batches[],
  after: readonly Batches[],
): CmixThroughput {
  return {
    streams,
    kilobytesPerSecond: bytes / 1000 / seconds,
    relays: after.map(({ cells, batches }, i) => ({
      cellsPerSecond: (cells - before[i]!.cells) / seconds,
      cellsPerBatch: (cells - before[i]!.cells) / (batches - before[i]!.batches),
      cpuSeconds: processes[i]!.cpuSeconds,
    })),
  };
}
