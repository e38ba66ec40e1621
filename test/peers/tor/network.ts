/**
 * A private Tor network, for comparison: one directory authority, guard, middle, exit and client, five processes of the
 * machine's own `tor`, on loopback or on hosts with addresses of their own. Paths are always guard → middle → exit. Needs
 * `tor` and `tor-gencert` (Debian: `apt-get install tor`); where they are missing `findTor` says so and nothing is measured.
 *
 * Two variants: `stock` is what a user gets; `tuned` has the settings that make Tor fastest without a network between
 * (`Schedulers Vanilla`, the consensus parameter `cc_alg=0`, TCP_NODELAY on every socket).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { HostPort } from '@nyx/cli/measure/socks.ts';
import { TorControl } from './control.ts';

const run = promisify(execFile);

export type TorVariant = 'stock' | 'tuned';

export interface TorNetwork {
  readonly variant: TorVariant;
  readonly version: string;
  /** On the client's host, at 127.0.0.1. A user name of its own gives a stream a circuit of its own. */
  readonly socks: HostPort;
  /** Guard, middle, exit, client: those a stream's bytes pass through. */
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  /** Builds one fresh 3-hop circuit and closes it; the time from request to BUILT. */
  buildCircuitMs(): Promise<number>;
  /** The client closes all its connections and begins anew, so that nothing remembers the line as it was. */
  reconnect(): Promise<void>;
  stop(): Promise<void>;
}

export interface TorFound {
  readonly version: string;
  /** A C compiler exists, so the preload of the tuned variant can be built. */
  readonly compiler: boolean;
}

/** The machine's Tor, or why there is none. */
export async function findTor(): Promise<TorFound | { readonly missing: string }> {
  let version: string;
  try {
    const { stdout } = await run('tor', ['--version'], { timeout: 10_000 });
    version = /Tor version ([\d.]+\d)/.exec(stdout)?.[1] ?? 'unknown';
    await run('tor-gencert', ['--help'], { timeout: 10_000 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') throw error; // anything else means that it exists
    });
  } catch {
    return { missing: 'tor not installed: comparison not run (Debian and Ubuntu: apt-get install tor)' };
  }
  const compiler = await run('cc', ['--version'], { timeout: 10_000 }).then(
    () => true,
    () => false,
  );
  return { version, compiler };
}

/** A divisor of half an hour, as tor demands, and long enough for the relays to publish. */
const INITIAL_VOTING_INTERVAL_SECONDS = 20;
const LOOPBACK: TorHost = { address: '127.0.0.1', launcher: [] };

const roles = ['auth', 'guard', 'middle', 'exit', 'client'] as const;
type Role = (typeof roles)[number];

/** Where a member runs. */
export interface TorHost {
  /** IPv4, at which the others reach it. */
  readonly address: string;
  /** What to put before a command line so that it runs there; the process id has to stay that of the command. */
  readonly launcher: readonly string[];
}

export type TorHosts = Readonly<Record<Role, TorHost>>;

interface Member {
  readonly host: TorHost;
  readonly role: Role;
  readonly dir: string;
  /** The client's is its SOCKS port. */
  readonly orPort: number;
  readonly dirPort: number;
  fingerprint: string;
}

export interface TorNetworkOptions {
  readonly variant: TorVariant;
  readonly onProgress?: (message: string) => void;
  readonly signal?: AbortSignal;
  /** Default: all on loopback. */
  readonly hosts?: TorHosts;
}

/** A first consensus that lacks a relay never heals in time: better to give up soon and begin anew. */
const BOOTSTRAP_MS = 75_000;

/** Starts the five processes, a second time if the first does not come up, and resolves once the client can build circuits. */
export async function startTorNetwork(options: TorNetworkOptions): Promise<TorNetwork> {
  return await start(options).catch((error: Error) => {
    options.signal?.throwIfAborted();
    options.onProgress?.(`${error.message.split('\n')[0]}; once more`);
    return start(options);
  });
}

async function start(options: TorNetworkOptions): Promise<TorNetwork> {
  const found = await findTor();
  if ('missing' in found) throw new Error(found.missing);
  if (options.variant === 'tuned' && !found.compiler) {
    throw new Error('no C compiler (cc): the tuned variant needs one for its TCP_NODELAY preload');
  }
  const progress = options.onProgress ?? (() => {});
  const root = await mkdtemp(join(tmpdir(), 'nyx-bench-tor-'));
  const children: ChildProcess[] = [];
  let control: TorControl | undefined;
  const stop = async () => {
    control?.close();
    await Promise.all(children.map(stopChild));
    await rm(root, { recursive: true, force: true });
  };
  try {
    // Free here is not always free on other hosts; whose port is taken there says so and ends.
    const ports = await freePorts(10);
    const members = roles.map((role, index): Member => {
      return {
        host: options.hosts?.[role] ?? LOOPBACK,
        role,
        dir: join(root, role),
        orPort: ports[index * 2]!,
        dirPort: ports[index * 2 + 1]!,
        fingerprint: '',
      };
    });
    for (const member of members) await mkdir(join(member.dir, 'keys'), { recursive: true, mode: 0o700 });
    progress('making keys');
    const v3ident = await makeAuthorityKeys(members[0]!);
    for (const member of members.slice(0, 4)) member.fingerprint = await makeFingerprint(member);
    for (const member of members)
      await writeFile(join(member.dir, 'torrc'), torrc(member, members, v3ident, options.variant));

    const env = { ...process.env };
    if (options.variant === 'tuned') {
      const preload = join(root, 'tcp-nodelay.so');
      const source = fileURLToPath(new URL('tcp-nodelay.c', import.meta.url));
      await run('cc', ['-shared', '-fPIC', '-O2', '-o', preload, source, '-ldl'], { timeout: 60_000 });
      env.LD_PRELOAD = preload;
    }
    // Votes fall on multiples of the interval by the clock. A relay that publishes just after one is missing from the
    // first consensus, and the next comes minutes later: so all start right behind a multiple.
    progress('waiting for the start of a voting interval');
    const intervalMs = INITIAL_VOTING_INTERVAL_SECONDS * 1000;
    await delay(intervalMs - (Date.now() % intervalMs), undefined, { signal: options.signal });
    progress('starting five tor processes, waiting for the first consensus');
    const timeout = AbortSignal.timeout(BOOTSTRAP_MS);
    const signal = options.signal ? AbortSignal.any([timeout, options.signal]) : timeout;
    const started = members.map((member) => {
      const words = [...member.host.launcher, 'tor', '--defaults-torrc', '/dev/null', '-f', join(member.dir, 'torrc')];
      const child = spawn(words[0]!, words.slice(1), {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      children.push(child);
      child.stderr?.pipe(createWriteStream(join(member.dir, 'stderr.log')));
      return { member, child, ready: bootstrapped(child, member.role, signal) };
    });
    await Promise.all(started.map(({ ready }) => ready));
    const client = members[4]!;
    control = await TorControl.connect(controlSocket(client), join(client.dir, 'control_auth_cookie'));
    const path = members.slice(1, 4).map((member) => `$${member.fingerprint}`);
    const owned = control;
    return {
      variant: options.variant,
      version: found.version,
      socks: { host: '127.0.0.1', port: client.orPort },
      processes: started.slice(1).map(({ member, child }) => ({ name: member.role, pid: child.pid! })),
      buildCircuitMs: () => owned.buildCircuitMs(path, 30_000),
      reconnect: () => owned.reconnect(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function torrc(member: Member, members: readonly Member[], v3ident: string, variant: TorVariant): string {
  const [auth, guard, middle, exit] = members as [Member, Member, Member, Member, Member];
  const lines = [
    'TestingTorNetwork 1',
    `DataDirectory ${member.dir}`,
    'Log notice stdout',
    `Nickname ${member.role}`,
    `Address ${member.host.address}`,
    'ShutdownWaitLength 0',
    'SafeLogging 0',
    `__OwningControllerProcess ${process.pid}`,
    `DirAuthority auth orport=${auth.orPort} no-v2 v3ident=${v3ident} ${auth.host.address}:${auth.dirPort} ${auth.fingerprint}`,
  ];
  if (variant === 'tuned') lines.push('Schedulers Vanilla');
  if (member.role === 'client') {
    lines.push(
      `SocksPort 127.0.0.1:${member.orPort}`,
      // By a file, which whoever measures reaches from any host of this machine.
      `ControlSocket ${controlSocket(member)}`,
      'CookieAuthentication 1',
      'ClientOnly 1',
      'ClientRejectInternalAddresses 0',
      'ClientDNSRejectInternalAddresses 0',
      'EnforceDistinctSubnets 0',
      'StrictNodes 1',
      `EntryNodes ${guard.fingerprint}`,
      `MiddleNodes ${middle.fingerprint}`,
      `ExitNodes ${exit.fingerprint}`,
    );
    return `${lines.join('\n')}\n`;
  }
  lines.push(
    `ORPort ${member.host.address}:${member.orPort}`,
    'SocksPort 0',
    'AssumeReachable 1',
    'ContactInfo bench@example.invalid',
  );
  if (member.role === 'exit') {
    lines.push('ExitRelay 1', 'ExitPolicyRejectPrivate 0', 'ExitPolicy accept *:*');
  } else {
    lines.push('ExitRelay 0', 'ExitPolicy reject *:*');
  }
  if (member.role === 'auth') {
    lines.push(
      `DirPort ${member.host.address}:${member.dirPort}`,
      'AuthoritativeDirectory 1',
      'V3AuthoritativeDirectory 1',
      `TestingV3AuthInitialVotingInterval ${INITIAL_VOTING_INTERVAL_SECONDS}`,
      'TestingV3AuthInitialVoteDelay 2',
      'TestingV3AuthInitialDistDelay 2',
      // Long after the first ones, so that no vote falls into a measurement.
      'V3AuthVotingInterval 5 minutes',
      'V3AuthVoteDelay 2',
      'V3AuthDistDelay 2',
      `TestingDirAuthVoteGuard ${guard.fingerprint}`,
      `TestingDirAuthVoteExit ${exit.fingerprint}`,
      'TestingMinExitFlagThreshold 0',
    );
    if (variant === 'tuned') lines.push('ConsensusParams cc_alg=0');
  }
  return `${lines.join('\n')}\n`;
}

const controlSocket = (client: Member): string => join(client.dir, 'control');

async function makeAuthorityKeys(auth: Member): Promise<string> {
  const keys = join(auth.dir, 'keys');
  const certificate = join(keys, 'authority_certificate');
  const child = run(
    'tor-gencert',
    [
      '--create-identity-key',
      '--passphrase-fd',
      '0',
      '-i',
      join(keys, 'authority_identity_key'),
      '-s',
      join(keys, 'authority_signing_key'),
      '-c',
      certificate,
      '-m',
      '12',
      '-a',
      `${auth.host.address}:${auth.dirPort}`,
    ],
    { timeout: 60_000 },
  );
  child.child.stdin?.end('a throw-away network\n');
  await child;
  const ident = /^fingerprint ([0-9A-F]{40})$/m.exec(await readFile(certificate, 'utf8'))?.[1];
  if (!ident) throw new Error('tor-gencert wrote no fingerprint');
  return ident;
}

async function makeFingerprint(member: Member): Promise<string> {
  const { stdout } = await run(
    'tor',
    [
      '--defaults-torrc',
      '/dev/null',
      '-f',
      '/dev/null',
      '--ignore-missing-torrc',
      '--quiet',
      '--list-fingerprint',
      '--DataDirectory',
      member.dir,
      '--ORPort',
      String(member.orPort),
      '--Nickname',
      member.role,
    ],
    { timeout: 30_000 },
  );
  const hex = /([0-9A-F]{4}(?: [0-9A-F]{4}){9})/.exec(stdout)?.[1];
  if (!hex) throw new Error(`tor --list-fingerprint printed no fingerprint: ${stdout.trim()}`);
  return hex.replaceAll(' ', '');
}

/** Resolves at `Bootstrapped 100%`; an exit before that, or the signal, rejects with the last lines of the log. */
function bootstrapped(child: ChildProcess, role: Role, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const last: string[] = [];
    const fail = (why: string) => reject(new Error(`tor ${role}: ${why}\n${last.join('\n')}`));
    const onAbort = () => {
      const why: unknown = signal.reason;
      fail(why instanceof Error && why.name !== 'TimeoutError' ? why.message : 'not bootstrapped in time');
    };
    signal.addEventListener('abort', onAbort, { once: true });
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`exited with ${code}`));
    createInterface({ input: child.stdout! }).on('line', (line) => {
      last.push(line);
      if (last.length > 8) last.shift();
      if (line.includes('Bootstrapped 100%')) {
        signal.removeEventListener('abort', onAbort);
        resolve();
      }
    });
  });
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), 3_000);
  await exited;
  clearTimeout(killer);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    ports.push(address.port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
