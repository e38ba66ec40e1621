/**
 * Hosts on one machine: each a network namespace with addresses of its own, connected by a router that delays and loses
 * (router.ts), and by nothing else. No packet can leave the machine: no namespace has another device.
 */
import { type ChildProcess, execFile, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Impairment } from './impairment.ts';
import type { FirstPackets } from './packet-switch.ts';
import { Router, type RouterCounts } from './router.ts';

const run = promisify(execFile);

/** `PREFIX-PID-HOST`: who finds one without its process may remove it. */
const PREFIX = 'nyxlab';
const NAMESPACES = '/run/netns';
const DEVICE_QUEUE_PACKETS = 2000;
const MTU_BYTES = 1500;

export interface InterfaceOptions {
  /** IPv4 and IPv6, one of each at most; no address of these is ever used outside. */
  readonly addresses: readonly string[];
  readonly up?: Impairment;
  readonly down?: Impairment;
  /** Hosts of a site get each other's multicast. */
  readonly site?: string;
  /** The host has this address; `addresses` are those of a NAT in front of it. */
  readonly natInside?: string;
}

export class Lab {
  readonly seed: number;
  readonly hosts = new Map<string, LabHost>();
  readonly router: Router;
  readonly #onExit = () => this.#removeNamespaces();
  #devices = 0;

  private constructor(seed: number) {
    this.seed = seed;
    this.router = new Router(seed);
    process.once('exit', this.#onExit);
  }

  static open(seed: number): Lab {
    removeAbandoned();
    return new Lab(seed);
  }

  async addHost(name: string, options: InterfaceOptions): Promise<LabHost> {
    const namespace = namespaceOf(name);
    await run('ip', ['netns', 'add', namespace]);
    const host = new LabHost(this, name, namespace, options.addresses[0]!);
    this.hosts.set(name, host);
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    await host.addInterface('wan0', options);
    return host;
  }

  /** Where in the router an interface is: `HOST` for the first, `HOST.DEVICE` for others. */
  async attach(host: LabHost, device: string, options: InterfaceOptions): Promise<void> {
    const { namespace } = host;
    const { addresses, up, down, site, natInside } = options;
    const outside = `nl${process.pid.toString(36)}x${this.#devices++}`;
    const id = portId(host.name, device);
    await this.router.tell({ do: 'attach', device: outside, port: { id, addresses, up, down, site, natInside } });
    await run('ip', ['link', 'set', outside, 'netns', namespace]);
    const ip = (...words: string[]) => run('ip', ['-n', namespace, ...words]);
    await ip('link', 'set', outside, 'name', device, 'mtu', `${MTU_BYTES}`, 'txqueuelen', `${DEVICE_QUEUE_PACKETS}`);
    const own = natInside === undefined ? addresses : [natInside];
    for (const address of own) {
      if (address.includes(':')) await ip('addr', 'add', `${address}/128`, 'dev', device, 'nodad');
      else await ip('addr', 'add', `${address}/32`, 'dev', device);
    }
    await ip('link', 'set', device, 'up');
    for (const address of own) {
      const family = address.includes(':') ? '-6' : '-4';
      await ip(family, 'route', 'replace', 'default', 'dev', device, 'src', address);
    }
  }

  async impair(id: string, lines: { readonly up?: Impairment; readonly down?: Impairment }): Promise<void> {
    await this.router.tell({ do: 'impair', id, ...lines });
  }

  /** Hosts of different numbers do not reach each other; who is not named has 0. `{}` = all together again. */
  async partition(parts: Readonly<Record<string, number>>): Promise<void> {
    await this.router.tell({ do: 'partition', parts });
  }

  /** The NAT in front of a host forgets what it knew. */
  async rebind(id: string): Promise<void> {
    await this.router.tell({ do: 'rebind', id });
  }

  /** When the first datagrams of an interface passed since it is there, or its NAT forgot, on the machine's monotonic clock. */
  async firsts(id: string): Promise<FirstPackets> {
    return (await this.router.tell({ do: 'firsts', id })) as FirstPackets;
  }

  count(): Promise<RouterCounts> {
    return this.router.count();
  }

  /** Ends what still runs on the hosts, the router and its devices; removes the namespaces. */
  async close(): Promise<void> {
    await Promise.all([...this.hosts.values()].map((host) => host.endAll()));
    await this.router.close();
    this.#removeNamespaces();
    process.removeListener('exit', this.#onExit);
  }

  #removeNamespaces(): void {
    for (const { namespace } of this.hosts.values()) removeNamespace(namespace);
    this.hosts.clear();
  }
}

export class LabHost {
  readonly name: string;
  readonly namespace: string;
  /** The one it began with. */
  readonly address: string;
  readonly #lab: Lab;
  readonly #children = new Set<ChildProcess>();

  constructor(lab: Lab, name: string, namespace: string, address: string) {
    this.#lab = lab;
    this.name = name;
    this.namespace = namespace;
    this.address = address;
  }

  /** What to put before a command line, so that it runs here. The process id stays that of the command. */
  get launcher(): readonly string[] {
    return ['ip', 'netns', 'exec', this.namespace];
  }

  /** The default route goes through the newest interface. */
  async addInterface(device: string, options: InterfaceOptions): Promise<void> {
    await this.#lab.attach(this, device, options);
  }

  /** As when a cable is pulled: address and routes are gone. Returns when the kernel was about to be told, by monotonicMs. */
  async removeInterface(device: string): Promise<number> {
    const nowMs = monotonicMs();
    await this.ip('link', 'set', device, 'down');
    await this.ip('addr', 'flush', 'dev', device);
    return nowMs;
  }

  async ip(...words: string[]): Promise<void> {
    await run('ip', ['-n', this.namespace, ...words]);
  }

  /**
   * How TCP connections that begin now send from here, IPv4. By the route: a namespace's default may be set only to what the whole
   * machine allows.
   */
  async useCongestionControl(algorithm: 'cubic' | 'bbr', device = 'wan0'): Promise<void> {
    await this.ip('-4', 'route', 'change', 'default', 'dev', device, 'congctl', algorithm);
  }

  spawn(words: readonly string[], options: SpawnOptions): ChildProcess {
    const [command, ...rest] = [...this.launcher, ...words];
    const child = spawn(command!, rest, options);
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    child.once('error', () => this.#children.delete(child));
    return child;
  }

  async endAll(): Promise<void> {
    const ended = [...this.#children].map((child) => new Promise((resolve) => child.once('exit', resolve)));
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all(ended);
  }
}

/** The machine's clock that all its processes share, milliseconds. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Name of a namespace of this process. */
export function namespaceOf(name: string): string {
  return `${PREFIX}-${process.pid}-${name}`;
}

export function portId(host: string, device: string): string {
  return device === 'wan0' ? host : `${host}.${device}`;
}

/** Namespaces of runs whose process is gone. */
function removeAbandoned(): void {
  if (!existsSync(NAMESPACES)) return;
  for (const name of readdirSync(NAMESPACES)) {
    const pid = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) removeNamespace(name);
  }
}

/** A run with this process id: numbers come again, but seldom as a Node's. */
export function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('node');
  } catch {
    return false; // gone
  }
}

function removeNamespace(name: string): void {
  try {
    execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' });
  } catch (error) {
    // Gone already is as good.
    if (existsSync(`${NAMESPACES}/${name}`))
      console.error(`could not remove namespace ${name}: ${(error as Error).message}`);
  }
}
