/**
 * What an idle client sends in an hour, by mode of its cover traffic: real engines on virtual time, one circuit kept, loops
 * as by default. Prints JSON.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { defaults } from '@nyx/daemon/config/defaults.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import type { CoverConfig } from '@nyx/daemon/pump/contract.ts';
import { coverEngineOptions, loopsPerMinute } from '@nyx/daemon/pump/cover-options.ts';
import { VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const HOUR_MS = 3_600_000;
const suite = createNativeSuite();

const modes: Record<string, { cover: Partial<CoverConfig>; circuit?: false }> = {
  'off, no circuit': { cover: {}, circuit: false },
  'off, one idle circuit': { cover: {} },
  'off, low power': { cover: { lowPower: true } },
  adaptive: { cover: { mode: 'adaptive' } },
  'adaptive, low power': { cover: { mode: 'adaptive', lowPower: true } },
  'adaptive, 1 MB of cover an hour': { cover: { mode: 'adaptive', budgetBytesPerHour: 1e6 } },
  constant: { cover: { mode: 'constant' } },
};

function measure(seed: number, { cover, circuit }: (typeof modes)[string]) {
  const config: CoverConfig = { ...defaults.cover, ...cover };
  const loops = loopsPerMinute(config);
  const network = new VirtualNetwork(suite, seed);
  const client = network.add('client', { relay: false, engineOptions: coverEngineOptions(config) });
  const path = [0, 1, 2].map((i) => network.add(`relay ${i}`, { exit: i === 2 }));
  const build = (kind: 'fast' | 'mix') =>
    client.engine.buildCircuit(
      {
        hops: path.map((node) => node.contact),
        class: kind,
        delayMeanUs: kind === 'mix' ? 1000 * defaults.mix.delayMs : 0,
        expiry: network.unixSeconds + 24 * 3600,
      },
      { onClose() {} },
      network.nowMs,
    ).session;
  if (circuit !== false) build('fast');
  const looping = loops > 0 ? build('mix') : undefined;
  network.run(network.nowMs + 20_000);
  const { counters } = client.engine;
  const before = { ...counters };
  const times = new Exponential(createSeededRandom(`loops ${seed}`));
  const endMs = network.nowMs + HOUR_MS;
  const gapMs = () => times.sample(60_000 / loops);
  for (let nextMs = network.nowMs + gapMs(); looping !== undefined && nextMs < endMs; nextMs += gapMs()) {
    network.run(nextMs);
    looping.ping(() => {});
  }
  network.run(endMs);
  const sent = counters.datagramsOut - before.datagramsOut;
  return {
    datagrams: sent,
    megabytesPerHour: (sent * DATAGRAM_BYTES) / 1e6,
    megabytesReceivedPerHour: ((counters.datagramsIn - before.datagramsIn) * DATAGRAM_BYTES) / 1e6,
    coverShare: (counters.coverOut + counters.coverDropOut - before.coverOut - before.coverDropOut) / Math.max(1, sent),
    meanGapSeconds: 3600 / Math.max(1, sent),
  };
}

const rows = Object.entries(modes).map(([mode, options], index) => ({ mode, ...measure(index + 1, options) }));
console.log(JSON.stringify({ bench: 'cover', idleClientPerHour: rows }));
