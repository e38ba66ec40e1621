/**
 * Measures how much a node carries: an engine of its own on sockets of its own builds the circuit
 * `authority → node → last hop` and fills it (core/directory/speed-test.ts). One engine for each measurement, so that
 * nothing is left of it.
 */
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { type SpeedResult, SpeedTest, type SpeedTestOptions } from '@nyx/core/directory/speed-test.ts';
import { CircuitEnd, type NodeContact } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import type { Random } from '@nyx/core/ports.ts';
import { FlushLoop } from '../pump/flush-loop.ts';
import { PumpSockets } from '../pump/sockets.ts';

/** Of the engine: more than a measurement can have under way. */
const MEMORY_BYTES = 64 * 1024 * 1024;
const EXPIRY_SECONDS = 120;

export interface BandwidthMeterDependencies {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly unixMs: () => number;
  /** Does this machine have the family of an address? */
  readonly reaches: (address: string) => boolean;
}

export class BandwidthMeter {
  readonly #dependencies: BandwidthMeterDependencies;
  readonly #stops = new Set<() => void>();
  #closed = false;

  constructor(dependencies: BandwidthMeterDependencies) {
    this.#dependencies = dependencies;
  }

  /** `last` has to take circuits that end there. Rejects when this machine has no UDP socket, or when closed. */
  async measure(target: NodeContact, last: NodeContact, options: SpeedTestOptions): Promise<SpeedResult> {
    if (this.#closed) throw new Error('the meter is closed');
    const { unixMs } = this.#dependencies;
    const ended = Promise.withResolvers<void>();
    let sockets: PumpSockets | undefined;
    let loop: FlushLoop | undefined;
    const engine = this.#makeEngine(
      () => sockets,
      () => loop?.wake(),
    );
    const test = new SpeedTest(options, performance.now());
    loop = new FlushLoop(
      {
        flush: (nowMs) => {
          test.poll(nowMs);
          engine.flush(nowMs);
          if (test.finished) ended.resolve();
        },
        nextTimeoutMs: () => Math.min(engine.nextTimeoutMs(), test.nextTimeoutMs),
        nextPacedMs: () => Number.POSITIVE_INFINITY,
      },
      () => performance.now(),
    );
    this.#stops.add(ended.resolve);
    try {
      sockets = await PumpSockets.open({
        listen: [],
        reusePort: false,
        mode: 'auto',
        onDatagrams: (buffer, via, from) => {
          engine.handleDatagrams(buffer, via, from, performance.now());
          loop.wake();
        },
        onError: () => ended.resolve(),
        log: () => {},
      });
      const expiry = Math.floor(unixMs() / 1000) + EXPIRY_SECONDS;
      const circuit = { hops: [target, last], class: 'fast', delayMeanUs: 0, expiry } as const;
      const built = engine.buildCircuit(circuit, test, performance.now());
      test.attach(built.session);
      loop.wake();
      await ended.promise;
      engine.closeCircuit(built.circuit, CircuitEnd.requested, performance.now());
      return test.result ?? { bytesPerSecond: undefined, sentBytes: 0 };
    } finally {
      this.#stops.delete(ended.resolve);
      loop.stop();
      engine.shutdown(performance.now());
      await sockets?.close();
    }
  }

  /** What runs ends without a result. */
  close(): void {
    this.#closed = true;
    for (const stop of this.#stops) stop();
  }

  #makeEngine(sockets: () => PumpSockets | undefined, onWake: () => void): Engine {
    const { suite, random, unixMs, reaches } = this.#dependencies;
    const bytes = (length: number) => {
      const into = new Uint8Array(length);
      random.fill(into);
      return into;
    };
    const secrets = { nodeId: bytes(32), linkX25519Secret: bytes(32), linkKemSeed: bytes(64), mix: [] };
    const engine = new Engine(
      {
        secrets,
        relay: false,
        exit: false,
        named: false,
        maxLinks: 2,
        maxCircuits: 2,
        memoryBytes: MEMORY_BYTES,
        session: {},
        minHops: 2,
      },
      {
        suite,
        random,
        host: {
          send: (via, to, batch, length, release) => {
            const open = sockets();
            if (open === undefined) release();
            else open.send(via, to, batch, length, release);
          },
          resolve: () => undefined,
          reaches: ({ address }) => reaches(address),
          onLink: () => {},
          onCircuit: () => {},
          onIncomingSession: () => ({ onClose: () => {} }),
          onIncomingSessionEnd: () => {},
          onWake,
          unixSeconds: () => unixMs() / 1000,
        },
      },
    );
    suite.wipe(secrets.linkX25519Secret, secrets.linkKemSeed);
    return engine;
  }
}
