/**
 * nyx-daemon: the only file that wires the layers together.
 *
 *   nyx-daemon --config FILE [--check] [--exit-with-parent]        SIGHUP: reads FILE again
 *
 * Prints one JSON line on stdout once it is ready (a view of the network is verified; an authority: it serves). Logs
 * go to stderr. Exit codes: 0 ended as asked, 1 crashed, 2 bad configuration, 3 could not start (keys, addresses).
 */
import { flushCompileCache } from 'node:module';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { type CryptoSuite, ED25519_SEED_BYTES, type SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { decodeParams, encodeParams } from '@nyx/core/directory/params.ts';
import { certifyBatchKey } from '@nyx/core/mix/batch-records.ts';
import { authorityChild } from './actors/authority.ts';
import { circuitMachine } from './actors/circuit.ts';
import { ConfigReloader } from './actors/config-reloader.ts';
import type { Log, NodeContext } from './actors/context.ts';
import { ControlPlane, dhtChild } from './actors/dht.ts';
import { Directory, directoryChild } from './actors/directory.ts';
import { EpochKeys, epochKeysChild } from './actors/epoch-keys.ts';
import { EventBus } from './actors/event-bus.ts';
import { linkMachine } from './actors/link.ts';
import { PathBuilder, pathBuilderChild } from './actors/path-builder.ts';
import { pumpChild } from './actors/pump.ts';
import { PumpEvents } from './actors/pump-events.ts';
import { PumpPool } from './actors/pump-pool.ts';
import { pumpTuning } from './actors/pump-tuning.ts';
import { LifecycleRegistry } from './actors/registry.ts';
import { sessionMachine } from './actors/session.ts';
import { SetupLogs } from './actors/setup-logs.ts';
import { streamMachine } from './actors/stream.ts';
import { apiChild } from './api/child.ts';
import type { ApiHost } from './api/host.ts';
import { formatAddress } from './config/address.ts';
import { ConfigError } from './config/config-error.ts';
import type { Config } from './config/load.ts';
import { loadConfigApart, planReloadApart } from './config/load-apart.ts';
import { CheatStore } from './directory/cheat-store.ts';
import { startDirectoryServer } from './directory/directory-server.ts';
import { KeyStore } from './directory/key-store.ts';
import type { OpenAuthority } from './directory/open-authority.ts';
import { readPassphrase } from './directory/passphrase.ts';
import { SealedFiles } from './directory/sealed-files.ts';
import { IpOrigins } from './io/ip-origins.ts';
import { createNativeSuite } from './io/native-suite.ts';
import { systemRandom } from './io/system-random.ts';
import { MailboxHost } from './messages/mailbox-host.ts';
import { Messages } from './messages/messages.ts';
import type { ListenAddress, PumpOptions } from './pump/contract.ts';
import { createLinkTableWords } from './pump/link-table.ts';
import { PumpClient } from './pump/pump-client.ts';
import type { ChildSpec, SupervisionEvent, Supervisor } from './supervision/supervise.ts';
import { systemTimers } from './supervision/timers.ts';
import { buildTree } from './supervision/tree.ts';
import { createLog } from './telemetry/log.ts';
import { Meter } from './telemetry/meter.ts';

/**
 * V8 gives a function its best code after 3000 calls. Of a cell's way through a client or an exit that is some ten thousand
 * messages late, and until then each takes up to a fifth more of CPU (ADR 39). All threads go by this.
 */
setFlagsFromString('--invocation-count-for-turbofan=100');

export const VERSION = '0.1.0';
export const ExitCode = { ok: 0, crash: 1, badConfig: 2, cannotStart: 3 } as const;

const METER_INTERVAL_MS = 1000;
const DRAIN_LOOK_MS = 20;
/** A worker that lives longer than this has its batches refused, and is restarted long before. */
const BATCH_KEY_SECONDS = 10 * 365 * 86_400;
/** A node without a view waits so long for an authority to say which puzzle to solve. */
const ASK_PARAMS_MS = 15_000;

interface ServerAddresses {
  directory?: ListenAddress;
  metrics?: ListenAddress;
  api: string;
}

/** A whole node in this process. */
class Daemon {
  readonly #reloader: ConfigReloader;
  readonly #log: Log;
  readonly #startedAtMs = performance.now();
  readonly #suite: CryptoSuite;
  readonly #keys: KeyStore;
  readonly #cheats: CheatStore;
  readonly #tree: Supervisor;
  readonly #events = new EventBus(Date.now);
  readonly #pool = new PumpPool();
  /** Common to all workers, if there are several. */
  readonly #linkTable: SharedArrayBuffer | undefined;
  readonly #epochKeys: EpochKeys;
  readonly #directory: Directory;
  readonly #controlPlane: ControlPlane | undefined;
  readonly #paths: PathBuilder;
  /** Of a client. */
  readonly #messages: Messages | undefined;
  /** Of a node that keeps mailboxes. */
  readonly #mailboxes: MailboxHost | undefined;
  readonly #meter = new Meter();
  readonly #servers: ServerAddresses = { api: '' };
  readonly #apiStreams = { open: 0 };
  readonly #onEnd: (code: number) => void;
  readonly #hasView = Promise.withResolvers<void>();
  #state: 'starting' | 'ready' | 'draining' = 'starting';
  #drainMs: number;
  #stopMeter: () => void = () => {};

  /** `config` is what `configPath` says. */
  constructor(
    configPath: string,
    config: Config,
    openAuthority: OpenAuthority | undefined,
    onEnd: (code: number) => void,
  ) {
    this.#onEnd = onEnd;
    this.#drainMs = config.shutdown.drainTimeoutMs;
    const suite = createNativeSuite();
    this.#suite = suite;
    this.#cheats = new CheatStore(join(config.dataDir, 'evidence'), suite);
    const files = new SealedFiles(config.dataDir, readPassphrase(config.keys));
    this.#keys = new KeyStore(files, suite);
    const nodeId = Buffer.from(this.#keys.nodeId).toString('hex');
    const { log, setLevel } = createLog(config.log.level, () => nodeId);
    this.#log = log;
    const reloader = new ConfigReloader(
      { path: configPath, first: config },
      {
        plan: planReloadApart,
        tuning: pumpTuning,
        pool: this.#pool,
        events: this.#events,
        log,
        unixMs: Date.now,
        onTorn: (error) => this.#fail(error),
      },
    );
    this.#reloader = reloader;
    const context: NodeContext = {
      get config() {
        return reloader.config;
      },
      log: this.#log,
      timers: systemTimers,
      unixMs: Date.now,
      suite,
      random: systemRandom,
      events: this.#events,
    };
    const authority = openAuthority?.(config, {
      suite,
      random: systemRandom,
      unixMs: Date.now,
      nodeId,
      onView: (bundle) => this.#directory.takeDecided(bundle),
      onBehind: () => this.#tree.send('directory', { type: 'check' }),
      onEvidence: (kind, epoch, id, content) => this.#directory.keepEvidence(kind, epoch, id, content),
      onProblem: (message) => this.#directory.problem(message),
    });
    this.#epochKeys = new EpochKeys(context, this.#keys, this.#pool);
    this.#directory = new Directory(context, this.#epochKeys, this.#pool, authority, (view) => {
      this.#tree.send('paths', { type: 'view', view });
      this.#hasView.resolve();
    });
    if (authority !== undefined) this.#hasView.resolve();
    this.#controlPlane = config.p2p.enabled ? this.#makeControlPlane(context, files, authority?.key) : undefined;
    this.#paths = new PathBuilder(
      context,
      this.#directory,
      this.#pool,
      files,
      nodeId,
      config.path.diversity.tables ? new IpOrigins() : undefined,
    );
    this.#messages = config.roles.includes('client')
      ? new Messages(context, {
          nodeId,
          files,
          directory: this.#directory,
          paths: this.#paths,
          pool: this.#pool,
          heardMs: () => this.#meter.heardMs,
        })
      : undefined;
    this.#mailboxes = config.roles.includes('mailbox')
      ? new MailboxHost(context, files, this.#keys.nodeId, this.#directory)
      : undefined;
    this.#paths.excluded = () => this.#cheats.nodeIds;
    // A client only builds circuits; others build theirs through mixes and exits.
    this.#linkTable = config.workers > 1 ? createLinkTableWords() : undefined;
    if (config.roles.some((role) => role !== 'client')) this.#pool.setupLogs = new SetupLogs(config.dataDir);
    this.#epochKeys.onChange = () => {
      this.#directory.changed();
      this.#directory.pushView();
      this.#tree.send('directory', { type: 'check' });
    };

    const { limits } = config;
    const links = new LifecycleRegistry('links', linkMachine, limits.maxLinks, systemTimers);
    const circuits = new LifecycleRegistry('circuits', circuitMachine, limits.maxSessions, systemTimers);
    const sessions = new LifecycleRegistry('sessions', sessionMachine, limits.maxSessions, systemTimers);
    const streams = new LifecycleRegistry('streams', streamMachine, 16_384, systemTimers);
    const pumpEvents = new PumpEvents({
      context,
      links,
      circuits,
      sessions,
      streams,
      toPaths: (message) => this.#tree.send('paths', message),
      cheats: this.#cheats,
    });
    reloader.register(this.#directory.reloadable);
    reloader.register(this.#paths.reloadable);
    if (this.#messages !== undefined) reloader.register(this.#messages.reloadable);
    if (this.#mailboxes !== undefined) reloader.register(this.#mailboxes.reloadable);
    reloader.register((next) => () => {
      setLevel(next.log.level);
      links.limit = next.limits.maxLinks;
      circuits.limit = next.limits.maxSessions;
      sessions.limit = next.limits.maxSessions;
      this.#tree.send('directory', { type: 'check' });
    });
    const dependencies = {
      timers: systemTimers,
      onEvent: (event: SupervisionEvent) => this.#onSupervision(event),
    };
    const host: ApiHost = {
      context,
      pool: this.#pool,
      keys: this.#epochKeys,
      directory: this.#directory,
      paths: this.#paths,
      messages: this.#messages,
      mailboxes: this.#mailboxes,
      controlPlane: this.#controlPlane,
      meter: this.#meter,
      measure: () => this.#measure(),
      supervisor: () => this.#tree,
      links,
      addressOfLink: (link) => pumpEvents.addressOfLink(link),
      nodeId,
      version: VERSION,
      encrypted: files.encrypted,
      isAuthority: authority !== undefined,
      startedAtMs: this.#startedAtMs,
      state: () => (this.#state === 'ready' && !this.#tree.healthy ? 'degraded' : this.#state),
      addresses: () => this.#addresses(),
      shutdown: (drainMs) => void this.stop(drainMs),
      apiStreams: this.#apiStreams,
      cheats: this.#cheats,
      reloader,
    };
    this.#tree = buildTree(
      {
        links: links.child(dependencies),
        circuits: circuits.child(dependencies),
        sessions: sessions.child(dependencies),
        streams: streams.child(dependencies),
        keys: epochKeysChild(context, this.#epochKeys),
        pumps: Array.from({ length: config.workers }, (_, worker) => this.#pumpSpec(worker, pumpEvents)),
        paths: pathBuilderChild(context, this.#paths),
        directoryServer: this.#directoryServerSpec(),
        directory: directoryChild(context, this.#directory),
        mailboxes: this.#mailboxes?.child(),
        messages: this.#messages?.child(),
        authority: authority === undefined ? undefined : authorityChild(authority),
        dht: this.#controlPlane === undefined ? undefined : dhtChild(context, this.#controlPlane),
        servers: [
          apiChild(host, (address) => {
            this.#servers.api = address;
          }),
          ...this.#metricsSpec(host),
        ],
        drainMs: config.shutdown.drainTimeoutMs,
      },
      { ...dependencies, onEscalate: (error) => this.#fail(error) },
    );
  }

  /** Resolves with the ready line's content. Rejects with StartError. */
  async start(): Promise<Record<string, unknown>> {
    try {
      await this.#tree.start();
    } catch (error) {
      // Told to stop meanwhile: stop() ends the process, in order.
      if (this.#state === 'draining') return await new Promise<never>(() => {});
      throw error;
    }
    const cancel = setInterval(() => void this.#measure(), METER_INTERVAL_MS);
    this.#stopMeter = () => clearInterval(cancel);
    await this.#measure();
    await this.#hasView.promise;
    if (this.#state === 'starting') this.#state = 'ready';
    const { link, socks, httpConnect, api, metrics, directory, p2p } = this.#addresses();
    this.#log('info', 'ready', { roles: this.#reloader.config.roles, keysEncrypted: this.#keys.files.encrypted });
    return {
      ready: true,
      pid: process.pid,
      nodeId: Buffer.from(this.#keys.nodeId).toString('hex'),
      link,
      socks,
      httpConnect,
      api,
      metrics,
      directory,
      p2p,
    };
  }

  /** As the reloader does; what came of it is in the log and the events. */
  async reload(): Promise<void> {
    try {
      await this.#reloader.reload(false);
    } catch (error) {
      this.#log('warn', 'the configuration was not reloaded', { problem: (error as Error).message });
    }
  }

  /** Drains and ends; the second call ends at once. */
  async stop(drainMs: number | undefined): Promise<void> {
    if (this.#state === 'draining') {
      this.#log('warn', 'ending at once');
      this.#keys.wipe();
      this.#onEnd(ExitCode.ok);
      return;
    }
    this.#state = 'draining';
    this.#reloader.close();
    this.#drainMs = Math.min(drainMs ?? this.#drainMs, 600_000);
    this.#log('info', 'draining', { timeoutMs: this.#drainMs });
    this.#events.publish('node', 'draining');
    this.#stopMeter();
    await this.#apiStreamsEnd();
    await this.#tree.stop();
    this.#keys.wipe();
    this.#onEnd(ExitCode.ok);
  }

  /** The API goes before the pumps that carry its streams: these get their time before anything is stopped. */
  async #apiStreamsEnd(): Promise<void> {
    const startedMs = performance.now();
    while (this.#apiStreams.open > 0 && performance.now() - startedMs < this.#drainMs) await delay(DRAIN_LOOK_MS);
    this.#drainMs = Math.max(0, this.#drainMs - (performance.now() - startedMs));
  }

  #pumpSpec(worker: number, events: PumpEvents): ChildSpec {
    return pumpChild(
      {
        id: `pump-${worker}`,
        timers: systemTimers,
        drainTimeoutMs: () => this.#drainMs,
        onGone: (client) => {
          this.#pool.detach(worker, client);
          events.workerLost(worker);
        },
        open: async (onExit) => {
          const client = new PumpClient();
          events.attach(worker, client);
          this.#mailboxes?.attach(client);
          client.on('exit', onExit);
          const options = this.#pumpOptions(worker, this.#reloader.config);
          try {
            const ready = await client.start(options);
            this.#pool.attach(worker, client, ready);
          } finally {
            const { secrets } = options;
            for (const secret of [secrets.linkX25519Secret, secrets.linkKemSeed]) secret.fill(0);
            options.cmix.signer?.seed.fill(0);
            for (const { x25519Secret, kemSeed } of secrets.mix) {
              x25519Secret.fill(0);
              kemSeed.fill(0);
            }
          }
          return client;
        },
      },
      this.#reloader.config.shutdown.drainTimeoutMs + 10_000,
    );
  }

  #pumpOptions(worker: number, config: Config): PumpOptions {
    const isClient = config.roles.includes('client');
    const { addresses, setupLogs } = this.#pool;
    const secrets = this.#keys.nodeSecrets(this.#epochKeys.latestEpoch);
    const { cmixHops: hops, ...tuning } = pumpTuning(config, this.#reloader.generation);
    return {
      ...tuning,
      worker,
      roles: {
        client: isClient,
        mix: config.roles.includes('mix'),
        exit: config.roles.includes('exit'),
        mailbox: config.roles.includes('mailbox'),
      },
      listen: addresses.listen ?? config.listen,
      addressFamilies: config.addressFamilies,
      reusePort: config.workers > 1,
      linkTable: this.#linkTable,
      udp: config.udp,
      socks: isClient ? (addresses.socks ?? config.proxies.socks) : undefined,
      httpConnect: isClient ? (addresses.httpConnect ?? config.proxies.httpConnect) : undefined,
      allowRemoteProxies: config.proxies.allowRemote,
      endsMeasurements: config.authority !== undefined && config.roles.some((role) => role !== 'client'),
      secrets,
      setupLogs: setupLogs?.forEpochs(secrets.mix.map(({ epoch }) => epoch)),
      cmix: { ...config.cmix, hops, signer: this.#batchSigner(config) },
      allowCrash: config.debug.allowCrash,
    };
  }

  /** A key for the batches of one worker, for as long as it lives: numbers begin anew with it. */
  #batchSigner(config: Config): PumpOptions['cmix']['signer'] {
    if (!config.cmix.enabled || config.roles.every((role) => role === 'client')) return undefined;
    const seed = new Uint8Array(ED25519_SEED_BYTES);
    systemRandom.fill(seed);
    const pair = this.#suite.ed25519(seed);
    const now = Math.floor(Date.now() / 1000);
    const certificate = certifyBatchKey(this.#keys.identity, pair.publicKey, now - 3600, now + BATCH_KEY_SECONDS);
    pair.wipe();
    return { certificate, seed };
  }

  #makeControlPlane(context: NodeContext, files: SealedFiles, authority: SignKeyPair | undefined): ControlPlane {
    const directory = this.#directory;
    const { authority: served } = directory.serverHost();
    const plane = new ControlPlane(context, {
      files,
      identity: this.#keys.identity,
      authority,
      authorities: directory.client.options.authorities.keys,
      view: {
        epoch: () => this.#epochKeys.epoch,
        held: () => {
          const { view } = directory;
          if (view === undefined) return undefined;
          return { epoch: view.verified.epoch, digest: view.verified.digest, bytes: view.bytes };
        },
        delta: (from) => directory.client.deltaFrom(from),
        offer: (bytes) => directory.offer(bytes),
      },
      params: authority === undefined ? undefined : () => encodeParams(served!.params),
      onRefusedParams: (bytes) => {
        try {
          if (directory.hintParams(decodeParams(bytes, 'refusal'))) this.#tree.send('directory', { type: 'check' });
        } catch (error) {
          directory.problem((error as Error).message);
        }
      },
    });
    directory.askPeers = async (signal) => {
      const params = await plane.askParams(ASK_PARAMS_MS, signal);
      return params === undefined ? undefined : decodeParams(params, "an authority's parameters");
    };
    directory.onDescriptor = (nodeId, descriptor, expiresAtUnixMs) =>
      plane.publish(nodeId, descriptor, expiresAtUnixMs);
    if (served !== undefined) {
      plane.subscribe((descriptor) => served.submit(descriptor));
    }
    return plane;
  }

  #directoryServerSpec(): ChildSpec | undefined {
    const { listen } = this.#reloader.config.directory;
    if (listen === undefined) return undefined;
    return {
      id: 'directory-server',
      restart: 'permanent',
      shutdownMs: 2000,
      inboxLimit: 1,
      start: async () => {
        const server = await startDirectoryServer(this.#servers.directory ?? listen, this.#directory.serverHost());
        this.#servers.directory = server.address;
        return { stop: () => server.close() };
      },
    };
  }

  #metricsSpec(host: ApiHost): ChildSpec[] {
    const { listen } = this.#reloader.config.metrics;
    if (listen === undefined) return [];
    return [
      {
        id: 'metrics',
        restart: 'permanent',
        shutdownMs: 2000,
        inboxLimit: 1,
        start: async () => {
          // Loaded only where it is used: it costs memory.
          const { startMetricsServer } = await import('./telemetry/metrics-server.ts');
          const server = await startMetricsServer(this.#servers.metrics ?? listen, host);
          this.#servers.metrics = server.address;
          return { stop: () => server.close() };
        },
      },
    ];
  }

  #addresses() {
    const { listen, socks, httpConnect } = this.#pool.addresses;
    return {
      link: formatAddress(listen?.[0]),
      links: listen?.map(formatAddress) ?? [],
      socks: formatAddress(socks),
      httpConnect: formatAddress(httpConnect),
      api: this.#servers.api,
      metrics: formatAddress(this.#servers.metrics),
      directory: formatAddress(this.#servers.directory),
      p2p: this.#controlPlane?.state()?.addresses[0] ?? '',
    };
  }

  async #measure(): Promise<void> {
    const cpu = process.cpuUsage();
    const stats = await this.#pool.stats();
    this.#meter.update(stats, performance.now(), (cpu.user + cpu.system) / 1e6);
    this.#paths.measured(stats);
  }

  #onSupervision(event: SupervisionEvent): void {
    const { kind, path, ...rest } = event;
    const isBad = kind === 'crashed' || kind === 'escalated' || kind === 'killed';
    this.#log(isBad ? 'error' : 'debug', `child ${kind}`, { child: path, ...rest });
    this.#events.publish('supervision', kind, path, rest as Record<string, string | number>);
  }

  #fail(error: Error): void {
    this.#log('error', 'the node can not go on', { error: error.message });
    this.#onEnd(ExitCode.crash);
  }
}

const USAGE = `nyx-daemon --config FILE    runs a node; prints one line of JSON once it is ready
  --check                   only checks the configuration
  --exit-with-parent        ends when standard input does
SIGHUP reads FILE again and goes by it, if all of it can be.
  --version, --help
Exit codes: 0 ended as asked, 1 crashed, 2 bad configuration or usage, 3 could not start. Documentation: docs/operating.md
`;

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      config: { type: 'string' },
      check: { type: 'boolean', default: false },
      'exit-with-parent': { type: 'boolean', default: false },
      version: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (values.version) {
    process.stdout.write(`nyx-daemon ${VERSION}\n`);
    return;
  }
  if (values.config === undefined) throw new UsageError('--config FILE is missing');
  const path = resolve(values.config);
  // One that comes while the file is being read for the first time may be about what was written since.
  const hangUp = {
    missed: false,
    on: () => {
      hangUp.missed = true;
    },
  };
  if (!values.check) process.on('SIGHUP', () => hangUp.on());
  const config = await loadConfigApart(values.config);
  if (values.check) {
    process.stdout.write(`${values.config}: ok\n`);
    return;
  }
  const { openAuthority } =
    config.authority === undefined ? { openAuthority: undefined } : await import('./directory/open-authority.ts');
  const daemon = new Daemon(path, config, openAuthority, (code) => process.exit(code));
  hangUp.on = () => void daemon.reload();
  if (hangUp.missed) hangUp.on();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void daemon.stop(undefined));
  if (values['exit-with-parent']) {
    // The parent holds the other end of stdin: when it dies, however it does, the pipe ends.
    process.stdin.resume().on('end', () => void daemon.stop(0));
    process.stdin.on('error', () => void daemon.stop(0));
  }
  process.stdout.write(`${JSON.stringify(await daemon.start())}\n`);
  // For the nodes that start while this one runs. Without NODE_COMPILE_CACHE it does nothing.
  flushCompileCache();
};

class UsageError extends Error {}

const codeOf = (error: unknown): number => {
  if (error instanceof ConfigError || error instanceof UsageError) return ExitCode.badConfig;
  if ((error as { code?: unknown }).code?.toString().startsWith('ERR_PARSE_ARGS')) return ExitCode.badConfig;
  return ExitCode.cannotStart;
};

process.on('uncaughtException', (error) => {
  process.stderr.write(`${JSON.stringify({ level: 'error', message: 'uncaught exception', error: error.stack })}\n`);
  process.exit(ExitCode.crash);
});

try {
  await main();
} catch (error) {
  process.stderr.write(`nyx-daemon: ${(error as Error).message}\n`);
  process.exit(codeOf(error));
}
