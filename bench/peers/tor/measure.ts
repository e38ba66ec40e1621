/** Measures one variant of the private Tor network with the functions that measure Nyx. */

import { type Distribution, distribution } from '@nyx/cli/measure/quantiles.ts';
import { spawnTarget } from '@nyx/cli/measure/server-process.ts';
import { startTorNetwork, type TorVariant } from '@nyx/test/peers/tor/network.ts';
import {
  type Bounds,
  measureDownload,
  measureEcho,
  measureStreamOpen,
  type Network,
  type Throughput,
  WARM_BYTES,
} from '../../lib/measure.ts';

export interface TorMeasures {
  readonly variant: TorVariant;
  readonly version: string;
  readonly oneStream: Throughput;
  readonly fourStreams: Throughput;
  readonly echo: Distribution;
  readonly streamOpen: Distribution;
  readonly circuitBuild: Distribution;
}

export async function measureTor(
  options: Bounds & {
    readonly variant: TorVariant;
    readonly bytes: number;
    readonly warmMs: number;
    readonly rounds: number;
    readonly circuits: number;
    readonly onProgress?: (message: string) => void;
  },
): Promise<TorMeasures> {
  const { variant, bytes, warmMs, rounds, circuits, timeoutMs, signal } = options;
  const progress = (message: string) => options.onProgress?.(`tor ${variant}: ${message}`);
  const bounds = { timeoutMs, signal };
  const tor = await startTorNetwork({ variant, onProgress: progress, signal });
  try {
    const target = await spawnTarget();
    try {
      const network: Network = {
        socks: tor.socks,
        auth: (key) => ({ username: key, password: 'x' }),
        processes: tor.processes,
      };
      progress('one stream');
      const oneStream = await measureDownload(network, target.address, {
        ...bounds,
        streams: 1,
        bytesPerStream: bytes,
        warmBytes: WARM_BYTES,
        warmMs,
      });
      progress('four streams');
      const fourStreams = await measureDownload(network, target.address, {
        ...bounds,
        streams: 4,
        bytesPerStream: Math.floor(bytes / 2),
        warmBytes: WARM_BYTES,
        warmMs,
      });
      progress('echo');
      const { sample: _, ...echo } = await measureEcho(network, target.address, { ...bounds, rounds, sizeBytes: 64 });
      progress('streams and circuits');
      const streamOpen = await measureStreamOpen(network, target.address, { ...bounds, count: circuits });
      const builds: number[] = [];
      for (let index = 0; index < circuits; index += 1) builds.push(await tor.buildCircuitMs());
      return {
        variant,
        version: tor.version,
        oneStream,
        fourStreams,
        echo,
        streamOpen,
        circuitBuild: distribution(builds),
      };
    } finally {
      await target.close();
    }
  } finally {
    await tor.stop();
  }
}
