/**
 * A pump worker: one thread with sockets, an engine, and (by role) proxies and an exit. It is started by
 * pump-client.ts, and speaks with the main thread in the messages of contract.ts.
 *
 * Way of a packet: sockets → engine.handleDatagrams (links, onion layers, sessions) → one flush at the end of the turn
 * → sockets. Nothing of it leaves this thread. An uncaught error ends the thread; the main thread starts another.
 */
import { flushCompileCache } from 'node:module';
import { isMainThread, type MessagePort, parentPort, threadId, workerData } from 'node:worker_threads';
import { dropNames } from '@nyx/core/drop-reason.ts';
import type {
  CircuitEnd,
  EngineHost,
  EngineTuning,
  LinkEvent,
  MessagePacketEvent,
  NodeContact,
  NodeSecrets,
  SessionOwner,
  SetupMemory,
  Via,
} from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import type { FecResources } from '@nyx/core/fec/policy.ts';
import { MAILBOX_SERVICE } from '@nyx/core/messages/mailbox-records.ts';
import { cheatName } from '@nyx/core/mix/batch-evidence.ts';
import { batchRulesOf } from '@nyx/core/mix/batch-records.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import { MAX_MESSAGES_PER_EPOCH, MAX_SETUPS_PER_EPOCH } from '@nyx/core/onion/mix-key-ring.ts';
import { TagMemory } from '@nyx/core/onion/tag-memory.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { type SessionApi, SessionError } from '@nyx/core/stream/contract.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import type { Exit } from '../exit/exit.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { NetworkWatch } from '../io/network-watch.ts';
import { OwnReach } from '../io/own-reach.ts';
import { systemRandom } from '../io/system-random.ts';
import type { Log, ProxyServer } from '../proxy/proxy.ts';
import { CmixWorker } from './cmix-worker.ts';
import {
  DialError,
  DialErrorCode,
  type FromPump,
  type PathConstraints,
  type PumpOptions,
  type PumpStats,
  type PumpTuning,
  type ToPump,
} from './contract.ts';
import { coverEngineOptions, loopsPerMinute, onlineMs } from './cover-options.ts';
import { DatagramBridge } from './datagram-bridge.ts';
import { SessionDialer, type SessionDialerOptions } from './dialer.ts';
import { fecFigures, fecResources } from './fec.ts';
import { FlushLoop } from './flush-loop.ts';
import { LinkHandover } from './link-handover.ts';
import { LiveTuning, tuningOf } from './live-tuning.ts';
import { LoopCover } from './loop-cover.ts';
import { MemoryGuard } from './memory-guard.ts';
import { SharedMessageMemory } from './message-memory.ts';
import { Outbox } from './outbox.ts';
import { PromptReceiver } from './prompt-receiver.ts';
import { ServiceBridge } from './service-bridge.ts';
import { type SetupLog, SharedSetupMemory } from './setup-memory.ts';
import { PumpSockets } from './sockets.ts';
import { stepLogOf } from './step-log.ts';
import { StreamBridge } from './stream-bridge.ts';

/** Timers are not finer. */
const MIX_BATCH_MS = 1;
/** How often memory, idle circuits and (while draining) open streams are looked at. */
const HOUSEKEEPING_MS = 250;
const DRAIN_LOOK_MS = 20;
/** Streams stand still until a new network is noticed; a look takes some 50 µs. Where none is open, or nothing has come for a while, it can wait. */
const NETWORK_LOOK_MS = { busy: 40, idle: 250 } as const;
const BUSY_MS = 3000;
/** The main thread must answer for a path within this. */
const PATH_REQUEST_TIMEOUT_MS = 10_000;
/** Closing words may take this long to leave the socket. */
const LAST_SENDS_MS = 200;

const nowMs = (): number => performance.now();

interface PathWaiter {
  readonly resolve: (hops: readonly NodeContact[]) => void;
  readonly reject: (error: DialError) => void;
  readonly timer: NodeJS.Timeout;
}

class PumpWorker {
  readonly #options: PumpOptions;
  readonly #port: MessagePort;
  readonly #outbox: Outbox;
  readonly #engine: Engine;
  readonly #loop: FlushLoop;
  #prompt: PromptReceiver | undefined;
  readonly #dialer: SessionDialer;
  readonly #bridge: StreamBridge;
  readonly #datagrams: DatagramBridge;
  #exit: Exit | undefined;
  /** Of a node that keeps mailboxes. */
  readonly #service: ServiceBridge | undefined;
  readonly #memory: MemoryGuard;
  /** By epoch. */
  #setupLogs: ReadonlyMap<number, SetupLog>;
  /** The verified view, by NodeID in hex. */
  #view = new Map<string, NodeContact>();
  /** What has come of the next one. */
  #nextView = new Map<string, NodeContact>();
  readonly #pathWaiters = new Map<number, PathWaiter>();
  #lastPathRequest = 0;
  #sockets: PumpSockets | undefined;
  #socks: ProxyServer | undefined;
  #httpConnect: ProxyServer | undefined;
  #housekeeping: NodeJS.Timeout | undefined;
  /** Of a client that may move. */
  #network: NetworkWatch | undefined;
  #networkLook: NodeJS.Timeout | undefined;
  /** Datagrams that had come when it was looked at, and when that had changed last. */
  #networkSeen = { datagrams: 0, sinceMs: 0 };
  #draining = false;
  #loops: LoopCover | undefined;
  readonly #cmix: CmixWorker;
  #fec: FecResources | undefined;
  /** What of the options may have changed since the start is here, and not in #options. */
  readonly #tuning: LiveTuning;
  /** For tests; undefined for everybody else. */
  readonly #steps = stepLogOf(process.env, `${process.pid}-${threadId}`);
  readonly #reach: OwnReach;
  /** To the other workers of the node, if there are any. */
  readonly #handover: LinkHandover | undefined;

  constructor(options: PumpOptions, port: MessagePort) {
    this.#options = options;
    this.#setupLogs = logsByEpoch(options.setupLogs);
    this.#port = port;
    this.#outbox = new Outbox(port, () => this.#loop.isScheduled);
    const { roles, limits, secrets, cmix } = options;
    this.#reach = new OwnReach(options.addressFamilies ?? 'auto', { nowMs });
    this.#cmix = this.#makeCmix(options);
    this.#tuning = new LiveTuning(tuningOf(options), [
      (tuning) => this.#engine.retune(this.#engineTuning(tuning), nowMs()),
      (tuning) => this.#dialer.retune(this.#dialerOptions(tuning)),
      ({ exit }) => exit && this.#exit?.retune(exit),
      (tuning) => this.#retuneLoops(tuning),
    ]);
    const { linkTable, worker } = options;
    const handover =
      linkTable && new LinkHandover(linkTable, worker, (datagrams, via, from) => this.#received(datagrams, via, from));
    this.#handover = handover;
    const host: EngineHost = {
      send: (via, to, batch, length, release) => this.#send(via, to, batch, length, release),
      resolve: (nodeId) => this.#view.get(hex(nodeId)),
      reaches: ({ address }) => this.#reach.reaches(address),
      onLink: (event) => this.#onLink(event),
      ...(handover && {
        onLinkIds: (added, removed) => handover.linkIds(added, removed),
        onForeign: (linkId, datagram, via, from) => handover.onForeign(linkId, datagram, via, from),
      }),
      onCircuit: (event) => this.#dialer.onCircuit(event),
      onIncomingSession: (session, circuit) => this.#onIncomingSession(session, circuit),
      onIncomingSessionEnd: (_session, circuit, _reason: CircuitEnd) => this.#onIncomingSessionEnd(circuit),
      onMessagePacket: (event) => this.#post({ type: 'message-packet', event: copyOf(event) }),
      onWake: () => this.#loop.wake(),
      unixSeconds: () => Date.now() / 1000,
      cmix: this.#cmix,
      onStep: this.#steps?.write,
    };
    this.#engine = new Engine(
      {
        secrets,
        relay: roles.mix || roles.exit,
        exit: roles.exit || roles.mailbox === true || options.endsMeasurements === true,
        named: roles.mix || roles.exit,
        memoryBytes: limits.memoryBytes,
        ...coverEngineOptions(options.cover),
        ...this.#engineTuning(this.#tuning.current),
        mixBatchMs: MIX_BATCH_MS,
        cmix: cmix.enabled && cmix.signer ? { maxWaitMs: cmix.maxWaitMs } : undefined,
        setupMemory: (epoch) => this.#setupMemory(epoch),
        messageMemory: (epoch) => this.#messageMemory(epoch),
      },
      { suite: createNativeSuite(), random: systemRandom, host },
    );
    this.#loop = new FlushLoop(this.#engine, nowMs);
    this.#dialer = new SessionDialer(this.#dialerOptions(this.#tuning.current), {
      engine: this.#engine,
      host: {
        requestPath: (constraints) => this.#requestPath(constraints),
        tell: (message) => this.#outbox.tell(message),
        nowMs,
        unixSeconds: () => Date.now() / 1000,
        unixMs: () => Date.now(),
        isAway: () => this.#network?.isAway ?? false,
        batchDelayMs: () => (this.#cmix.rules()[0] ?? batchRulesOf({})).delayMs,
        atTurnEnd: this.#loop.atTurnEnd,
        schedule: (delayMs, callback) => {
          const timer = setTimeout(callback, delayMs);
          return () => clearTimeout(timer);
        },
      },
    });
    this.#bridge = new StreamBridge(this.#dialer, (message, transfer) => this.#outbox.post(message, transfer));
    this.#datagrams = new DatagramBridge(this.#dialer, (message) => this.#post(message));
    this.#service = roles.mailbox ? new ServiceBridge(MAILBOX_SERVICE, (message) => this.#post(message)) : undefined;
    this.#memory = new MemoryGuard({
      limitBytes: limits.memoryBytes,
      usedBytes: () => this.#bufferedBytes(),
      shedClient: () => this.#dialer.pool.shed(),
    });
  }

  async start(): Promise<void> {
    const { roles, listen, socks, httpConnect, exit } = this.#options;
    // What a role does not need is not even loaded: a mix carries neither proxies nor an exit.
    if (roles.exit && exit) {
      const { Exit } = await import('../exit/exit.ts');
      this.#exit = new Exit(exit, { log: this.#log, atTurnEnd: this.#loop.atTurnEnd });
    }
    const reusePort = this.#options.reusePort ?? false;
    this.#sockets = await PumpSockets.open({
      listen: roles.mix || roles.exit ? listen : [],
      reusePort,
      mode: this.#options.udp,
      onDatagrams: (buffer, via, from) => this.#received(buffer, via, from),
      onError: (error) => {
        throw error;
      },
      log: this.#log,
    });
    this.#prompt = new PromptReceiver(this.#sockets, this.#loop, nowMs);
    const log = this.#log;
    const allowNonLoopback = this.#options.allowRemoteProxies ?? false;
    if (socks) {
      const { startSocks5 } = await import('../proxy/socks5.ts');
      this.#socks = await startSocks5({
        listen: socks,
        dialer: this.#dialer.forSource('socks'),
        log,
        reusePort,
        allowNonLoopback,
      });
    }
    if (httpConnect) {
      const { startHttpConnect } = await import('../proxy/http-connect.ts');
      const dialer = this.#dialer.forSource('http-connect');
      this.#httpConnect = await startHttpConnect({ listen: httpConnect, dialer, log, reusePort, allowNonLoopback });
    }
    if (this.#steps) this.#log('warn', 'every step is written down, as NYX_STEP_LOG asks: this node protects nobody');
    this.#port.on('message', (message: ToPump) => this.#onMessage(message));
    this.#startLoops();
    this.#housekeeping = setInterval(() => this.#keepHouse(), HOUSEKEEPING_MS);
    this.#watchNetwork();
    this.#loop.wake();
    this.#post({
      type: 'ready',
      listen: this.#sockets.listenAddresses,
      socks: this.#socks?.address,
      httpConnect: this.#httpConnect?.address,
      udpMode: this.#sockets.mode,
      generation: this.#tuning.current.generation,
    });
  }

  /** Borrows the buffer. */
  #received(buffer: Uint8Array, via: Via, from: PeerAddress): void {
    const datagrams = buffer.length / DATAGRAM_BYTES;
    const receivedMs = nowMs();
    const { counters } = this.#engine;
    const passed = counters.cellsForward + counters.cellsBackward;
    this.#engine.handleDatagrams(buffer, via, from, receivedMs);
    const relayed = counters.cellsForward + counters.cellsBackward - passed === datagrams;
    this.#handover?.flush();
    this.#loop.received(datagrams, receivedMs);
    this.#prompt?.received(datagrams, relayed, receivedMs);
  }

  /** Under the configuration that is in force, for what is made from now on. */
  #engineTuning({ limits, cover, fec }: PumpTuning): EngineTuning {
    this.#fec = fecResources(fec, this.#fec);
    const { session, ...options } = coverEngineOptions(cover);
    return {
      maxLinks: limits.maxLinks,
      maxCircuits: limits.maxCircuits,
      messagesPerSecond: limits.messagesPerSecond,
      cover: options.cover,
      coverGrantPerSecond: options.coverGrantPerSecond,
      session: { ...session, fec: this.#fec && { resources: this.#fec, policy: fec.policy } },
    };
  }

  #dialerOptions({
    limits,
    defaultHops,
    spareCircuits,
    mix,
    multipath,
    fec,
    cmixHops,
  }: PumpTuning): SessionDialerOptions {
    const { worker, cmix, roles } = this.#options;
    return {
      worker,
      defaultHops,
      mix,
      cmix: { ...cmix, hops: cmixHops },
      multipath,
      fec: fec.policy,
      maxCircuits: limits.maxSessions,
      spareCircuits: roles.client ? spareCircuits : 0,
    };
  }

  #retuneLoops({ cover, mix }: PumpTuning): void {
    if (this.#loops === undefined) this.#startLoops();
    else this.#loops.retune({ perMinute: loopsPerMinute(cover), hops: mix.hops });
  }

  /** One worker of a client that has cover sends loops. */
  #startLoops(): void {
    const { roles, worker } = this.#options;
    const { cover, mix } = this.#tuning.current;
    const perMinute = loopsPerMinute(cover);
    if (perMinute === 0 || !roles.client || worker !== 0 || this.#draining) return;
    this.#loops = new LoopCover(
      { perMinute, hops: mix.hops },
      {
        pool: this.#dialer.pool,
        times: new Exponential(systemRandom),
        requestPath: (constraints) => this.#requestPath(constraints),
        nowMs,
        isOnline: () => {
          const sinceMs = nowMs() - onlineMs(cover);
          return this.#engine.links().some(({ lastHeardMs }) => lastHeardMs > sinceMs);
        },
        schedule: (delayMs, callback) => {
          const timer = setTimeout(callback, delayMs);
          return () => clearTimeout(timer);
        },
        onVerdict: ({ changed, alarm }, loops) => {
          if (changed === undefined || alarm === undefined) return;
          this.#post({ type: 'cover', kind: changed === 'raised' ? 'alarm' : 'all-clear', alarm, loops });
        },
        onUnable: (reason) => this.#log('debug', 'no circuit for loop cover', { reason }),
      },
    );
  }

  #makeCmix({ cmix }: PumpOptions): CmixWorker {
    return new CmixWorker(cmix, {
      progress: (progress) => this.#engine.batchProgress(progress, nowMs()),
      verdict: (id, verdict) => this.#engine.checked(id, verdict, nowMs()),
      pledged: (id, slot) => this.#engine.pledged(id, slot, nowMs()),
      calibrated: (squaringsPerMs) =>
        this.#log('info', 'delays of class cmix calibrated', { squaringsPerMs: Math.round(squaringsPerMs) }),
      cheated: ({ kind, nodeId, number }, evidence, found) =>
        this.#post({ type: 'cheat', nodeId: hex(nodeId), kind: cheatName(kind), batch: number, evidence, found }),
      suspected: (nodeId, counts) => this.#post({ type: 'suspect', nodeId: hex(nodeId), counts }),
      exchanged: (nodeId) => this.#post({ type: 'exchanged', nodeId: hex(nodeId) }),
      failed: (error) => {
        throw error;
      },
    });
  }

  readonly #log: Log = (level, message, fields) => this.#post({ type: 'log', level, message, fields });

  #post(message: FromPump): void {
    this.#outbox.post(message);
  }

  // --- the engine's host ---

  #send(via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void {
    if (this.#sockets === undefined) release();
    else this.#sockets.send(via, to, batch, length, release);
  }

  #onLink(event: LinkEvent): void {
    const { kind, link, initiator, rttMs, reason } = event;
    const nodeId = event.nodeId && hex(event.nodeId);
    const address = addressText(event.address);
    this.#post({ type: 'link', kind, link, initiator, nodeId, address, rttMs, reason });
  }

  #onIncomingSession(session: SessionApi, circuit: number): SessionOwner {
    const service = this.#service;
    const serves = this.#exit !== undefined || service !== undefined || this.#options.endsMeasurements === true;
    if (!serves || this.#draining) {
      session.close(SessionError.shutdown, 'no exit here');
      return { onClose: () => {} };
    }
    this.#memory.incomingBegan(circuit, session);
    // An owner without callbacks refuses streams and names; what datagrams carry is acknowledged and thrown away.
    const owner = this.#exit?.serve(session, circuit) ?? { onClose: () => {} };
    if (service === undefined) return owner;
    return {
      ...owner,
      onStream: (stream) => {
        if (service.isFor(stream)) service.serve(stream);
        else if (owner.onStream !== undefined) owner.onStream(stream);
        else stream.reset(SessionError.exitPolicy);
      },
    };
  }

  #onIncomingSessionEnd(circuit: number): void {
    this.#memory.incomingEnded(circuit);
    this.#exit?.sessionEnded(circuit);
  }

  #setupMemory(epoch: number): SetupMemory {
    const log = this.#setupLogs.get(epoch);
    if (log === undefined) return new TagMemory(MAX_SETUPS_PER_EPOCH);
    return new SharedSetupMemory(log, (error) =>
      this.#log('error', 'a set-up was refused: it could not be written down', { problem: (error as Error).message }),
    );
  }

  #messageMemory(epoch: number): SetupMemory {
    const log = this.#setupLogs.get(epoch);
    if (log === undefined) return new TagMemory(MAX_MESSAGES_PER_EPOCH);
    return new SharedMessageMemory(log.messages, (error) =>
      this.#log('error', 'a packet was refused: it could not be written down', { problem: (error as Error).message }),
    );
  }

  // --- the main thread ---

  #onMessage(message: ToPump): void {
    switch (message.type) {
      case 'view':
        if (message.first !== false) this.#nextView = new Map();
        for (const contact of message.contacts) this.#nextView.set(hex(contact.nodeId), contact);
        if (!message.more) {
          if (message.batches !== undefined) this.#cmix.setRules(message.batches);
          this.#view = this.#nextView;
          this.#nextView = new Map();
        }
        break;
      case 'neighbour':
        if (this.#handover === undefined) message.port.close();
        else this.#handover.connect(message.worker, message.port);
        break;
      case 'mix-secrets':
        this.#setupLogs = logsByEpoch(message.setupLogs);
        this.#engine.setMixSecrets(message.mix);
        for (const { x25519Secret, kemSeed } of message.mix) {
          x25519Secret.fill(0);
          kemSeed.fill(0);
        }
        break;
      case 'configure': {
        const generation = this.#tuning.take(message.tuning);
        this.#post({ type: 'configured', request: message.request, generation });
        break;
      }
      case 'path':
        this.#takePathWaiter(message.request)?.resolve(message.hops);
        break;
      case 'path-error':
        this.#takePathWaiter(message.request)?.reject(
          new DialError(message.code ?? DialErrorCode.noPath, message.message),
        );
        break;
      case 'build':
        this.#answer(message.request, this.#dialer.build(message.hops, message.constraints), (built) => ({
          type: 'built',
          request: message.request,
          ...built,
        }));
        break;
      case 'resolve':
        this.#answer(
          message.request,
          this.#dialer.resolve(message.kind, message.value, message.options),
          ({ addresses, name }) => ({ type: 'resolved', request: message.request, addresses, name }),
        );
        break;
      case 'close-circuit':
        this.#dialer.pool.close(message.circuit);
        break;
      case 'close-stream':
        this.#dialer.closeStream(message.id);
        break;
      case 'share-evidence':
        this.#engine.shareEvidence(message.evidence, nowMs());
        break;
      case 'stats':
        this.#post({ type: 'stats', request: message.request, stats: this.#stats() });
        break;
      case 'service-data':
      case 'service-credit':
        this.#service?.handle(message);
        break;
      case 'datagrams-open':
      case 'datagram':
      case 'datagrams-credit':
      case 'datagrams-count':
      case 'datagrams-close':
        this.#datagrams.handle(message);
        break;
      case 'send-packets': {
        const at = nowMs();
        const drops = message.packets.map(
          ({ firstHop, packet }) => dropNames[this.#engine.sendMessagePacket(firstHop, packet, at)]!,
        );
        this.#post({ type: 'packets-sent', request: message.request, drops });
        break;
      }
      case 'drain':
        void this.#drain(message.timeoutMs);
        break;
      case 'crash':
        if (this.#options.allowCrash) throw new Error('crashed on request');
        this.#log('warn', 'a crash was asked for, and is not allowed here');
        break;
      default:
        this.#bridge.handle(message);
    }
  }

  #answer<T>(request: number, result: Promise<T>, message: (value: T) => FromPump): void {
    result.then(
      (value) => this.#post(message(value)),
      (error: Error) => {
        const code = error instanceof DialError ? error.code : DialErrorCode.internal;
        this.#post({ type: 'request-failed', request, code, message: error.message });
      },
    );
  }

  #requestPath(constraints: PathConstraints): Promise<readonly NodeContact[]> {
    const request = ++this.#lastPathRequest;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const waiter = this.#takePathWaiter(request);
        waiter?.reject(new DialError(DialErrorCode.noPath, `no path after ${PATH_REQUEST_TIMEOUT_MS} ms`));
      }, PATH_REQUEST_TIMEOUT_MS);
      this.#pathWaiters.set(request, { resolve, reject, timer });
      this.#post({ type: 'path-request', request, constraints });
    });
  }

  #takePathWaiter(request: number): PathWaiter | undefined {
    const waiter = this.#pathWaiters.get(request);
    if (waiter === undefined) return undefined;
    this.#pathWaiters.delete(request);
    clearTimeout(waiter.timer);
    return waiter;
  }

  // --- housekeeping ---

  /** A client takes its links along into another network. Who listens is found where its descriptor says, and stays. */
  #watchNetwork(): void {
    const sockets = this.#sockets;
    const { roles, listen } = this.#options;
    if (sockets === undefined || !roles.client || listen.length > 0) return;
    this.#network = new NetworkWatch({
      sendErrors: () => sockets.dialErrors,
      onChange: (what) => void this.#moveTo(what, sockets),
    });
    const network = this.#network;
    const look = () => {
      network.poll(nowMs());
      const { datagramsIn } = this.#engine.counters;
      if (datagramsIn !== this.#networkSeen.datagrams) {
        this.#networkSeen = { datagrams: datagramsIn, sinceMs: nowMs() };
      }
      const busy = this.#dialer.active > 0 && nowMs() < this.#networkSeen.sinceMs + BUSY_MS;
      this.#networkLook = setTimeout(look, busy ? NETWORK_LOOK_MS.busy : NETWORK_LOOK_MS.idle);
    };
    look();
  }

  async #moveTo(what: string, sockets: PumpSockets): Promise<void> {
    try {
      await sockets.redial();
    } catch (error) {
      // The old ones may still do, and the peers have to be told in any case.
      this.#log('warn', 'no new sockets for another network', { problem: (error as Error).message });
    }
    this.#log('info', 'the network has changed: links move', { what });
    this.#engine.networkChanged(nowMs());
    this.#loop.wake();
  }

  #keepHouse(): void {
    this.#dialer.sweep(nowMs());
    const shed = this.#memory.check();
    if (shed > 0) {
      this.#log('warn', 'memory limit reached, circuits ended', { shed, bufferedBytes: this.#bufferedBytes() });
    }
  }

  #bufferedBytes(): number {
    return (
      this.#engine.bufferedBytes +
      (this.#sockets?.queuedBytes ?? 0) +
      this.#dialer.bufferedBytes +
      this.#bridge.bufferedBytes +
      this.#datagrams.bufferedBytes +
      (this.#service?.bufferedBytes ?? 0)
    );
  }

  #stats(): PumpStats {
    const { counters, mix } = this.#engine;
    const drops: Record<string, number> = {};
    for (let i = 1; i < dropNames.length; i++) drops[dropNames[i]!] = counters.drops[i]!;
    drops.sendQueueFull = (drops.sendQueueFull ?? 0) + (this.#sockets?.sendQueueFull ?? 0);
    // Monotonic times as wall-clock times.
    const unixAtZeroMs = Date.now() - nowMs();
    const cpu = process.threadCpuUsage();
    return {
      datagramsIn: counters.datagramsIn,
      datagramsOut: counters.datagramsOut,
      cellsForward: counters.cellsForward,
      cellsBackward: counters.cellsBackward,
      cellsDelivered: counters.cellsDelivered,
      cellsOriginated: counters.cellsOriginated,
      setups: counters.setups,
      drops,
      links: this.#engine.links().flatMap((info) => {
        if (info.upSinceMs === undefined) return [];
        const { link, initiator, rttMs, lossRatio, bytesIn, bytesOut, state } = info;
        const nodeId = info.nodeId && hex(info.nodeId);
        const upSinceUnixMs = unixAtZeroMs + info.upSinceMs;
        return [{ link, nodeId, initiator, rttMs, lossRatio, bytesIn, bytesOut, upSinceUnixMs, state }];
      }),
      relayCircuits: this.#engine.relayCircuits,
      coverOut: counters.coverOut,
      coverIn: counters.coverIn,
      coverDropOut: counters.coverDropOut,
      cover: this.#engine.cover,
      messagesIn: counters.messagesIn,
      messagesForward: counters.messagesForward,
      messagesDelivered: counters.messagesDelivered,
      messagesOriginated: counters.messagesOriginated,
      messageCoverIn: counters.messageCoverIn,
      messages: this.#engine.messages,
      loops: this.#loops?.stats,
      cmix: this.#engine.cmix,
      cmixDelayMs: this.#cmix.lastDelayMs,
      mixWaiting: mix.waiting,
      mixReleased: mix.released,
      mixWaitedMs: mix.waitedMs,
      ...fecFigures(this.#fec),
      exitStreams: this.#exit?.streams ?? 0,
      exitSocketsOpened: this.#exit?.socketsOpened ?? 0,
      exitDatagramsDropped: this.#exit?.datagramsDropped ?? 0,
      clientCircuits: this.#dialer.circuits(),
      streams: this.#dialer.streams(),
      bufferedBytes: this.#bufferedBytes(),
      shedTotal: this.#memory.shedTotal,
      handedOver: this.#handover?.handedOver ?? 0,
      sendErrors: this.#sockets?.sendErrors ?? 0,
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      udpMode: this.#sockets?.mode ?? 'plain',
      generation: this.#tuning.current.generation,
    };
  }

  // --- the end ---

  /** Takes nothing new, lets what is open finish within the time, says goodbye to the peers, ends the thread with 0. */
  async #drain(timeoutMs: number): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#dialer.stopAccepting();
    this.#loops?.stop();
    const deadlineMs = nowMs() + timeoutMs;
    while (nowMs() < deadlineMs && (this.#dialer.active > 0 || (this.#exit?.streams ?? 0) > 0)) {
      await sleep(Math.min(DRAIN_LOOK_MS, Math.max(1, deadlineMs - nowMs())));
    }
    this.#service?.close();
    const closedStreams = this.#dialer.closeAll() + (this.#exit?.streams ?? 0);
    await Promise.all([this.#socks?.close(), this.#httpConnect?.close(), this.#exit?.close()]);
    // Resets and last bytes of the streams first, then the word that circuits and links end.
    this.#engine.flush(nowMs());
    this.#engine.shutdown(nowMs());
    this.#loop.stop();
    clearInterval(this.#housekeeping);
    clearTimeout(this.#networkLook);
    for (const { reject, timer } of this.#pathWaiters.values()) {
      clearTimeout(timer);
      reject(new DialError(DialErrorCode.shutdown, 'the daemon is shutting down'));
    }
    this.#pathWaiters.clear();
    const lastMs = nowMs() + LAST_SENDS_MS;
    while ((this.#sockets?.queuedBytes ?? 0) > 0 && nowMs() < lastMs) await sleep(1);
    await this.#sockets?.close();
    this.#handover?.close();
    await this.#cmix.stop();
    this.#steps?.close();
    this.#post({ type: 'drained', closedStreams });
    // Nothing is left that could keep the thread alive: it ends with code 0 once its messages are out.
    this.#port.close();
  }
}

function copyOf(event: MessagePacketEvent): MessagePacketEvent {
  const payload = event.payload.slice();
  return event.kind === 'message'
    ? { kind: 'message', payload }
    : { kind: 'reply', replyId: event.replyId.slice(), payload };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function logsByEpoch(logs: readonly SetupLog[] = []): ReadonlyMap<number, SetupLog> {
  return new Map(logs.map((log) => [log.epoch, log]));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function addressText({ address, port }: PeerAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The engine has made its own keys of them. */
function wipeSecrets(secrets: NodeSecrets): void {
  secrets.linkX25519Secret.fill(0);
  secrets.linkKemSeed.fill(0);
  for (const { x25519Secret, kemSeed } of secrets.mix) {
    x25519Secret.fill(0);
    kemSeed.fill(0);
  }
}

if (!isMainThread && parentPort !== null) {
  const options = workerData as PumpOptions;
  const worker = new PumpWorker(options, parentPort);
  wipeSecrets(options.secrets);
  await worker.start();
  // As main.ts does: a thread keeps its own account of what it compiled.
  flushCompileCache();
}
