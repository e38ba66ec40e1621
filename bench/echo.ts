/**
 * Echoes through Nyx and through tuned Tor in turns: two networks of the same shape stand side by side, and blocks of echoes
 * go through one and the other. A machine's speed changes from one minute to the next, so figures that are taken minutes
 * apart say little about a difference of a tenth; those of neighbouring blocks do.
 */
import { parseHostPort } from '@nyx/cli/arguments.ts';
import { distribution } from '@nyx/cli/measure/quantiles.ts';
import { spawnTarget } from '@nyx/cli/measure/server-process.ts';
import type { HostPort } from '@nyx/cli/measure/socks.ts';
import { startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { startTorNetwork } from '@nyx/test/peers/tor/network.ts';
import { type Bounds, measureDownload, measureEcho, type Network, WARM_BYTES } from './lib/measure.ts';

const SIZE_BYTES = 64;
const ROUNDS = 1000;

export interface EchoMeasures {
  /** Medians of the blocks' medians, milliseconds. */
  readonly nyxMs: number;
  readonly torMs: number;
  /** Median of the ratios of neighbouring blocks, Nyx over Tor. */
  readonly ratio: number;
  /** Medians of all blocks in order, those of the warm-up too. */
  readonly blocks: { readonly warmUp: number; readonly nyx: readonly number[]; readonly tor: readonly number[] };
}

export interface EchoOptions extends Bounds {
  readonly warmMs: number;
  /** Of each network: not counted, and counted. Compilers want some ten thousand echoes. */
  readonly warmBlocks: number;
  readonly blocks: number;
  readonly onProgress?: (message: string) => void;
}

export async function measureEchoes(options: EchoOptions): Promise<EchoMeasures> {
  const { signal, onProgress = () => {} } = options;
  const tor = await startTorNetwork({
    variant: 'tuned',
    onProgress: (message) => onProgress(`tor: ${message}`),
    signal,
  });
  try {
    onProgress('nyx: starting 2 mixes, 1 exit and a client');
    const nyx = await startLocalNetwork({ mixes: 2, exits: 1, hops: 3 });
    try {
      const through = (socks: HostPort): Network => ({
        socks,
        auth: (key) => ({ username: key, password: 'x' }),
        processes: [],
      });
      return await inTurns(through(parseHostPort(nyx.socks)), through(tor.socks), options);
    } finally {
      await nyx.stop();
    }
  } finally {
    await tor.stop();
  }
}

async function inTurns(nyx: Network, tor: Network, options: EchoOptions): Promise<EchoMeasures> {
  const { warmMs, warmBlocks, blocks, onProgress = () => {}, ...bounds } = options;
  const target = await spawnTarget();
  const medians = { nyx: [] as number[], tor: [] as number[] };
  try {
    const warm = { ...bounds, streams: 1, bytesPerStream: WARM_BYTES, warmBytes: WARM_BYTES, warmMs };
    for (const network of [nyx, tor]) await measureDownload(network, target.address, warm);
    const block = async (name: 'nyx' | 'tor') => {
      const network = name === 'nyx' ? nyx : tor;
      const { p50 } = await measureEcho(network, target.address, { ...bounds, rounds: ROUNDS, sizeBytes: SIZE_BYTES });
      medians[name].push(p50);
    };
    for (let i = 0; i < warmBlocks + blocks; i++) {
      if (i % 5 === 0) onProgress(`block ${i + 1} of ${warmBlocks + blocks}`);
      // The one that comes first changes, so that neither always follows the other.
      for (const name of i % 2 === 0 ? (['nyx', 'tor'] as const) : (['tor', 'nyx'] as const)) await block(name);
    }
  } finally {
    await target.close();
  }
  const counted = { nyx: medians.nyx.slice(warmBlocks), tor: medians.tor.slice(warmBlocks) };
  return {
    nyxMs: distribution(counted.nyx).p50,
    torMs: distribution(counted.tor).p50,
    ratio: distribution(counted.nyx.map((value, i) => value / counted.tor[i]!)).p50,
    blocks: { warmUp: warmBlocks, ...medians },
  };
}
