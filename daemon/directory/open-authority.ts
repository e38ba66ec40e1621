/** The authority that the configuration asks for. Loaded only where there is one: it costs memory. */
import { ViewParam } from '@nyx/core/directory/params.ts';
import type { Random } from '@nyx/core/ports.ts';
import type { Config } from '../config/schema.ts';
import { OwnReach } from '../io/own-reach.ts';
import { Authority, type AuthorityDependencies, type AuthorityOptions } from './authority.ts';
import { authoritySetOf } from './authority-set.ts';
import { BandwidthMeter } from './bandwidth-meter.ts';
import { createMemoryHard } from './memory-hard.ts';
import { Prober } from './prober.ts';
import { loadOrMakeSeedKey } from './seed-file.ts';

export type AuthorityOutside = Pick<
  AuthorityDependencies,
  'suite' | 'unixMs' | 'onView' | 'onBehind' | 'onEvidence' | 'onProblem'
> & {
  readonly random: Random;
  /** Of this node, lower-case hex. */
  readonly nodeId: string;
};

export type OpenAuthority = typeof openAuthority;

/** Undefined when the node is none. Throws KeyStoreError, DirectoryError or RangeError. */
export const openAuthority = (config: Config, outside: AuthorityOutside): Authority | undefined => {
  if (config.authority === undefined) return undefined;
  const { suite, random, unixMs } = outside;
  const reach = new OwnReach(config.addressFamilies, { nowMs: () => performance.now() });
  const reaches = (address: string) => reach.reaches(address);
  const key = loadOrMakeSeedKey(config.authority.keyFile, suite);
  return new Authority(authorityOptions(config, config.authority, key.publicKey, outside.nodeId), {
    ...outside,
    key,
    memoryHard: createMemoryHard(),
    openProber: () => new Prober({ suite, random, unixMs, reaches }),
    openMeter: () => new BandwidthMeter({ suite, random, unixMs, reaches }),
  });
};

const authorityOptions = (
  config: Pick<Config, 'directory' | 'epochSeconds' | 'dataDir' | 'roles'>,
  { minNodes, phaseMs, peers, params, measure }: NonNullable<Config['authority']>,
  publicKey: Uint8Array,
  nodeId: string,
): AuthorityOptions => ({
  authorities: authoritySetOf(config, publicKey),
  epochSeconds: config.epochSeconds,
  ...(phaseMs === undefined ? {} : { phaseMs }),
  minNodes,
  params: {
    [ViewParam.maxPerSubnet]: params.maxPerSubnet,
    [ViewParam.maxPerFamily]: params.maxPerFamily,
    [ViewParam.rampEpochs]: params.rampEpochs,
    [ViewParam.maxDeclaredBandwidth]: params.maxDeclaredBandwidth,
    [ViewParam.puzzleBits]: params.puzzleBits,
    [ViewParam.puzzleMemoryKib]: params.puzzleMemoryKib,
    [ViewParam.puzzlePasses]: params.puzzlePasses,
    [ViewParam.cmixCells]: params.cmixCells,
    [ViewParam.cmixDelayMs]: params.cmixDelayMs,
  },
  peers,
  folder: config.dataDir,
  // Circuits that measure end at this node's own relay.
  ...(measures(config) ? { measure: { relay: nodeId, ...measure } } : {}),
});

/** Does this node's authority measure others? It takes a relay where the circuits end. */
const measures = ({ authority, roles }: Pick<Config, 'authority' | 'roles'>): boolean =>
  authority !== undefined && authority.measure.bytesPerEpoch > 0 && roles.some((role) => role !== 'client');
