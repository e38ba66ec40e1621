/** Relays on near lines, a target behind the exit, and clients on the lines that a scenario is about. */
import type { HostPort } from '@nyx/cli/measure/socks.ts';
import type { Impairment } from './impairment.ts';
import type { InterfaceOptions, LabHost } from './lab.ts';
import { type LabNodeSpec, NyxLab } from './nyx-lab.ts';
import { startTargetOn } from './probe.ts';
import type { ScenarioContext } from './scenario.ts';

/** Of every line but the clients'. */
export const NEAR: Impairment = { delayMs: 0.5 };

export interface SmallNetwork {
  readonly network: NyxLab;
  readonly targetHost: LabHost;
  readonly target: HostPort;
}

export interface SmallNetworkOptions {
  /** By name. */
  readonly clients: Readonly<Record<string, InterfaceOptions>>;
  /** Relays besides the exit, the first one an authority. Default 2. */
  readonly mixes?: number;
  readonly clientConfig?: LabNodeSpec['config'];
}

const TARGET = { host: '10.30.0.2', port: 7001 };

export async function startSmallNetwork(
  { seed, say }: ScenarioContext,
  { clients, mixes = 2, clientConfig }: SmallNetworkOptions,
): Promise<SmallNetwork> {
  const near = (address: string) => ({ addresses: [address], up: NEAR, down: NEAR });
  const network = await NyxLab.start({
    seed,
    discovery: 'http',
    say,
    nodes: [
      ...Array.from({ length: mixes }, (_, i) => ({
        name: `mix-${i}`,
        role: 'mix' as const,
        authority: i === 0,
        interface: near(`10.${40 + i}.0.2`),
      })),
      { name: 'exit-0', role: 'exit', interface: near('10.31.0.2') },
      ...Object.entries(clients).map(([name, line]) => ({
        name,
        role: 'client' as const,
        interface: line,
        config: clientConfig,
      })),
    ],
  });
  try {
    const targetHost = await network.lab.addHost('target', near(TARGET.host));
    await startTargetOn(targetHost, TARGET.host, TARGET.port);
    return { network, targetHost, target: TARGET };
  } catch (error) {
    await network.close();
    throw error;
  }
}

/** What must hold at the end of every scenario. */
export async function checkNetwork(network: NyxLab, fail: (why: string) => void): Promise<void> {
  const { network: counts } = await network.lab.count();
  if (counts.noBuffer > 0) fail(`the router had no buffer for ${counts.noBuffer} packets`);
  for (const { name, code, signal, lastLog } of network.failures) {
    fail(`${name} ended (${signal ?? code}): ${lastLog.slice(-3).join(' ')}`);
  }
}
