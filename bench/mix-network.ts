/**
 * CPU that the same bytes cost real relay processes in class fast and in class mix on a machine that the whole network
 * shares: far below what a relay can carry, where cells of class mix leave in small batches and cost more each.
 */
import { parseHostPort } from '@nyx/cli/arguments.ts';
import { spawnTarget } from '@nyx/cli/measure/server-process.ts';
import { startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { type Bounds, measureDownload, type Throughput } from './lib/measure.ts';

/** Enough that the machine and not the round trip is the limit. */
const STREAMS = 16;

export interface MixNetworkMeasures {
  readonly fast: ClassMeasures;
  readonly mix: ClassMeasures;
  /** Bytes per CPU second of a relay in mix over those in fast, at this load. */
  readonly ratio: number | undefined;
}

interface ClassMeasures {
  readonly mbitPerSecond: number;
  /** Of the two relays that are not the exit, together. */
  readonly relayCpuSecondsPerGb: number | undefined;
}

/** `bytesPerStream` over each of sixteen circuits of three hops, in both classes, in turns. */
export async function measureMixNetwork(
  options: Bounds & { readonly bytesPerStream: number },
): Promise<MixNetworkMeasures> {
  const network = await startLocalNetwork({ mixes: 2, exits: 1, hops: 3 });
  try {
    const target = await spawnTarget();
    try {
      const relays = network.nodes.filter(({ role }) => role === 'mix');
      const measure = async (circuitClass: 'fast' | 'mix') => {
        const route = {
          socks: parseHostPort(network.socks),
          auth: (key: string) => ({
            username: `nyx;hops=3;class=${circuitClass};isolation=${circuitClass}-${key}`,
            password: 'x',
          }),
          processes: relays.map(({ nodeId, pid }) => ({ name: nodeId, pid })),
        };
        const bounds = { ...options, streams: STREAMS, warmBytes: 2_000_000 };
        return classMeasures(await measureDownload(route, target.address, bounds));
      };
      // The first transfers of a process pay for compilation; they are not counted.
      await measure('fast');
      await measure('mix');
      const fast = await measure('fast');
      const mix = await measure('mix');
      const [a, b] = [fast.relayCpuSecondsPerGb, mix.relayCpuSecondsPerGb];
      return { fast, mix, ratio: a === undefined || b === undefined ? undefined : a / b };
    } finally {
      await target.close();
    }
  } finally {
    await network.stop();
  }
}

function classMeasures({ mbitPerSecond, bytes, processes }: Throughput): ClassMeasures {
  const seconds = processes.map(({ cpuSeconds }) => cpuSeconds);
  const known = seconds.every((value) => value !== undefined);
  return {
    mbitPerSecond,
    relayCpuSecondsPerGb: known ? seconds.reduce<number>((sum, value) => sum + value!, 0) / (bytes / 1e9) : undefined,
  };
}
