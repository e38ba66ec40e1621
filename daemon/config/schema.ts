/**
 * The configuration's shape. What a value must be is said in its message, so that an error names what would be right.
 * Rules that span several keys are in rules.ts.
 */
import { isMappedAddress, parseAddress as parseIp } from '@nyx/core/directory/address.ts';
import { maxPuzzle } from '@nyx/core/directory/admission.ts';
import { ExitPolicy } from '@nyx/core/directory/exit-policy.ts';
import { MAX_PROVED_FAMILIES } from '@nyx/core/directory/family.ts';
import { MAX_BATCH_CELLS, MAX_DELAY_MS } from '@nyx/core/mix/batch-records.ts';
import { z } from 'zod';
import { isMultiaddr } from '../p2p/multiaddr-text.ts';
import { isLoopback, parseAddress } from './address.ts';
import { defaults } from './defaults.ts';

const integer = (min: number, max: number) =>
  z
    .number()
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be ${min}…${max}` })
    .max(max, { error: `must be ${min}…${max}` });

const real = (min: number, max: number) =>
  z
    .number()
    .min(min, { error: `must be ${min}…${max}` })
    .max(max, { error: `must be ${min}…${max}` });

/** Of `listen` and `announce` each; a descriptor could have more. */
const MAX_LISTEN_ADDRESSES = 4;

const notAnAddress = (text: string): string =>
  `"${text}" is not an address; write IPv4:PORT or [IPv6]:PORT, e.g. 127.0.0.1:9150 (port 0 = any)`;

const address = z.string().transform((text, context) => {
  const parsed = parseAddress(text);
  if (parsed === undefined) {
    context.addIssue(notAnAddress(text));
    return z.NEVER;
  }
  return parsed;
});

/** Where links are accepted: one address or a list. Empty once parsed when absent. */
const listenAddresses = z
  .union([z.string(), z.array(z.string())], { error: 'must be an address such as 0.0.0.0:9001, or a list of them' })
  .transform((given, context) => {
    const list = typeof given === 'string' ? [given] : given;
    if (list.length === 0 || list.length > MAX_LISTEN_ADDRESSES) {
      context.addIssue({ code: 'custom', message: `must have 1…${MAX_LISTEN_ADDRESSES} addresses` });
      return z.NEVER;
    }
    return list.flatMap((text, i) => {
      const parsed = parseAddress(text);
      if (parsed !== undefined) return [parsed];
      const path = typeof given === 'string' ? [] : [i];
      context.addIssue({ code: 'custom', message: notAnAddress(text), path });
      return [];
    });
  });

/** In the form that descriptors have. */
const announcedAddress = address.transform(({ host, port }, context) => {
  const parsed = parseIp(host)!;
  if (isMappedAddress(host)) {
    context.addIssue(`"[${host}]:${port}" is an IPv4 address written as IPv6; write the IPv4 address itself`);
    return z.NEVER;
  }
  return { host: parsed.toString(), port };
});

const loopbackAddress = address.refine((parsed) => isLoopback(parsed.host), {
  error:
    'must be a loopback address, e.g. 127.0.0.1:9100; put a reverse proxy with authentication in front to publish it',
});

/** An address or `off` (undefined once parsed). */
const addressOrOff = z.union([z.literal('off').transform(() => undefined), address], {
  error: 'must be an address such as 127.0.0.1:9150, or off',
});

const path = z.string().min(1, { error: 'must be a path' });

const publicKey = z.string().regex(/^[0-9a-f]{64}$/, {
  error: 'must be an Ed25519 public key: 64 lower-case hex digits',
});

const exitRule = z.string().transform((rule, context) => {
  try {
    new ExitPolicy([rule]);
  } catch (error) {
    context.addIssue(`${(error as Error).message}; write accept or reject and HOST:PORT, e.g. accept *:443`);
    return z.NEVER;
  }
  return rule;
});

const role = z.enum(['client', 'mix', 'exit', 'mailbox'], { error: 'must be client, mix, exit or mailbox' });

const source = z.string().refine(
  (text) => {
    if (!/^[a-z]+:\/\//i.test(text)) return text.length > 0;
    return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
  },
  { error: 'must be an http:// or https:// URL of a node that serves the directory, or the path of a view file' },
);

const multiaddr = z.string().refine(isMultiaddr, {
  error: 'must be /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT, with /ws for WebSocket, e.g. /ip4/0.0.0.0/tcp/9040',
});

const multiaddrs = (max: number) =>
  z
    .array(multiaddr)
    .max(max, { error: `must have at most ${max} addresses` })
    .default([]);

const diversityModes = ['off', 'prefer', 'require'] as const;

const httpUrl = z.string().refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), {
  error: 'must be an http:// or https:// URL, e.g. http://203.0.113.5:9030',
});

const d = defaults;

export const configSchema = z.strictObject({
  dataDir: path.default(d.dataDir),
  roles: z
    .array(role)
    .min(1, { error: 'must name at least one role: client, mix, exit, mailbox' })
    .refine((roles) => new Set(roles).size === roles.length, { error: 'names a role twice; name each once' })
    .default([...d.roles]),
  listen: listenAddresses.default([]),
  announce: z
    .array(announcedAddress)
    .max(MAX_LISTEN_ADDRESSES, { error: `must have at most ${MAX_LISTEN_ADDRESSES} addresses` })
    .default([]),
  addressFamilies: z
    .union(
      [
        z.literal('auto'),
        z
          .array(z.enum(['ipv4', 'ipv6']))
          .min(1)
          .max(2),
      ],
      {
        error: 'must be auto, or a list of ipv4 and ipv6',
      },
    )
    .default('auto'),
  family: z
    .array(
      z.string().regex(/^[\x21-\x7e]{1,64}$/, { error: 'must be 1 to 64 printable ASCII characters without spaces' }),
    )
    .max(16, { error: 'must have at most 16 names' })
    .default([]),
  familyKeyFiles: z
    .array(path)
    .max(MAX_PROVED_FAMILIES, { error: `must have at most ${MAX_PROVED_FAMILIES} files` })
    .default([]),
  contact: z
    .string()
    .regex(/^(?! )[\x20-\x7e]{1,256}(?<! )$/, {
      error: 'must be 1 to 256 printable ASCII characters, without a space at either end',
    })
    .optional(),
  region: z
    .string()
    .regex(/^[A-Z]{2}$/, { error: 'must be an ISO 3166-1 country code: two capital letters, e.g. SE' })
    .optional(),
  bandwidthBytesPerSecond: integer(1_000, 1_250_000_000_000).default(d.bandwidthBytesPerSecond),
  epochSeconds: integer(10, 86_400).default(d.epochSeconds),
  udp: z.enum(['auto', 'gso', 'plain'], { error: 'must be auto, gso or plain' }).default(d.udp),
  workers: integer(1, 64).default(d.workers),
  proxies: z
    .strictObject({
      socks: addressOrOff.prefault(d.proxies.socks),
      httpConnect: addressOrOff.prefault(d.proxies.httpConnect),
      allowRemote: z.boolean().default(d.proxies.allowRemote),
    })
    .prefault({}),
  path: z
    .strictObject({
      hops: integer(3, 7).default(d.path.hops),
      allowSameSubnet: z.boolean().default(d.path.allowSameSubnet),
      allowPrivateTargets: z.boolean().default(d.path.allowPrivateTargets),
      guards: integer(1, 20).default(d.path.guards),
      spareCircuits: integer(0, 16).default(d.path.spareCircuits),
      strategy: z
        .enum(['uniform', 'bandwidth', 'latency'], { error: 'must be uniform, bandwidth or latency' })
        .default(d.path.strategy),
      latencyBias: z
        .number()
        .min(0, { error: 'must be 0…1' })
        .max(1, { error: 'must be 0…1' })
        .default(d.path.latencyBias),
      diversity: z
        .strictObject({
          as: z.enum(diversityModes, { error: 'must be off, prefer or require' }).default(d.path.diversity.as),
          country: z
            .enum(diversityModes, { error: 'must be off, prefer or require' })
            .default(d.path.diversity.country),
          tables: z.boolean().default(d.path.diversity.tables),
        })
        .prefault({}),
    })
    .prefault({}),
  mix: z
    .strictObject({
      hops: integer(3, 7).default(d.mix.hops),
      delayMs: integer(1, 1000).default(d.mix.delayMs),
    })
    .prefault({}),
  cmix: z
    .strictObject({
      enabled: z.boolean().default(d.cmix.enabled),
      maxWaitMs: integer(10, 10_000).default(d.cmix.maxWaitMs),
      hops: integer(3, 7).default(d.cmix.hops),
    })
    .prefault({}),
  multipath: z
    .strictObject({
      paths: integer(1, 8).default(d.multipath.paths),
      strategy: z
        .enum(['latency_weighted', 'lowest_latency', 'load_balance', 'redundant'], {
          error: 'must be latency_weighted, lowest_latency, load_balance or redundant',
        })
        .default(d.multipath.strategy),
    })
    .prefault({}),
  fec: z
    .strictObject({
      policy: z
        .union([z.enum(['off', 'adaptive']), z.number().gt(0).max(1)], {
          error: 'must be off, adaptive or a number above 0 and at most 1',
        })
        .default(d.fec.policy),
      cpuShare: real(0, 1).default(d.fec.cpuShare),
    })
    .prefault({}),
  cover: z
    .strictObject({
      mode: z
        .enum(['off', 'adaptive', 'constant'], { error: 'must be off, adaptive or constant' })
        .default(d.cover.mode),
      ratio: real(0.05, 0.8).default(d.cover.ratio),
      baseCellsPerSecond: real(0.01, 1000).default(d.cover.baseCellsPerSecond),
      constantCellsPerSecond: real(5, 500).default(d.cover.constantCellsPerSecond),
      dropCellsPerSecond: real(0, 1000).default(d.cover.dropCellsPerSecond),
      loopsPerMinute: real(0, 600).default(d.cover.loopsPerMinute),
      budgetBytesPerHour: integer(0, 1_099_511_627_776).default(d.cover.budgetBytesPerHour),
      lowPower: z.boolean().default(d.cover.lowPower),
      grantCellsPerSecond: integer(0, 1_000_000).default(d.cover.grantCellsPerSecond),
    })
    .prefault({}),
  messages: z
    .strictObject({
      packetsPerSecond: real(0.1, 40).default(d.messages.packetsPerSecond),
      cover: z.enum(['off', 'active', 'always'], { error: 'must be off, active or always' }).default(d.messages.cover),
      hops: integer(3, 7).default(d.messages.hops),
      inboxBytes: integer(65_536, 1_073_741_824).default(d.messages.inboxBytes),
    })
    .prefault({}),
  mailbox: z
    .strictObject({
      maxMailboxes: integer(1, 1_000_000).default(d.mailbox.maxMailboxes),
      packetsPerMailbox: integer(1, 100_000).default(d.mailbox.packetsPerMailbox),
      memoryBytes: integer(65_536, 17_179_869_184).default(d.mailbox.memoryBytes),
      holdSeconds: integer(60, 2_592_000).default(d.mailbox.holdSeconds),
    })
    .prefault({}),
  exit: z
    .strictObject({
      policy: z
        .array(exitRule)
        .min(1, { error: 'must have at least one rule' })
        .max(64, { error: 'must have at most 64 rules' })
        .default([...d.exit.policy]),
      allowPrivate: z.boolean().default(d.exit.allowPrivate),
      maxStreamsPerCircuit: integer(1, 65_536).default(d.exit.maxStreamsPerCircuit),
      connectTimeoutMs: integer(100, 300_000).default(d.exit.connectTimeoutMs),
      idleTimeoutMs: integer(1_000, 86_400_000).default(d.exit.idleTimeoutMs),
      halfClosedTimeoutMs: integer(1_000, 86_400_000).default(d.exit.halfClosedTimeoutMs),
      dnsServers: z.array(z.union([z.ipv4(), z.ipv6()], { error: 'must be an IP address' })).default([]),
    })
    .prefault({}),
  directory: z
    .strictObject({
      authorities: z
        .strictObject({
          threshold: integer(1, 64).optional(),
          liars: integer(0, 31).default(d.directory.authorities.liars),
          keys: z
            .array(publicKey)
            .max(64, { error: 'must have at most 64 keys' })
            .refine((keys) => new Set(keys).size === keys.length, { error: 'names a key twice; name each once' })
            .default([]),
        })
        .prefault({}),
      sources: z.array(source).max(32, { error: 'must have at most 32 sources' }).default([]),
      listen: address.optional(),
      refreshSeconds: integer(1, 86_400).default(d.directory.refreshSeconds),
    })
    .prefault({}),
  p2p: z
    .strictObject({
      enabled: z.boolean().default(d.p2p.enabled),
      listen: multiaddrs(4),
      announce: multiaddrs(4),
      bootstrap: multiaddrs(64),
      mdns: z.boolean().default(d.p2p.mdns),
      allowPrivate: z.boolean().default(d.p2p.allowPrivate),
      limits: z
        .strictObject({
          maxConnections: integer(8, 10_000).default(d.p2p.limits.maxConnections),
          maxPerSubnet: integer(1, 10_000).default(d.p2p.limits.maxPerSubnet),
          inboundPerSecond: integer(1, 1000).default(d.p2p.limits.inboundPerSecond),
          maxStoredPeers: integer(16, 1_000_000).default(d.p2p.limits.maxStoredPeers),
          maxRecords: integer(16, 1_000_000).default(d.p2p.limits.maxRecords),
        })
        .prefault({}),
    })
    .prefault({}),
  authority: z
    .strictObject({
      keyFile: path,
      minNodes: integer(1, 10_000).default(d.authority.minNodes),
      peers: z
        .array(z.strictObject({ key: publicKey, url: httpUrl }))
        .max(63, { error: 'must have at most 63 entries' })
        .default([]),
      phaseMs: integer(100, 600_000).optional(),
      measure: z
        .strictObject({
          bytesPerNode: integer(262_144, 1_073_741_824).default(d.authority.measure.bytesPerNode),
          bytesPerEpoch: integer(0, 1_099_511_627_776).default(d.authority.measure.bytesPerEpoch),
        })
        .prefault({}),
      params: z
        .strictObject({
          maxPerSubnet: integer(0, 65_536).default(d.authority.params.maxPerSubnet),
          maxPerFamily: integer(0, 65_536).default(d.authority.params.maxPerFamily),
          rampEpochs: integer(1, 100_000).default(d.authority.params.rampEpochs),
          maxDeclaredBandwidth: integer(1_000, 1_250_000_000_000).default(d.authority.params.maxDeclaredBandwidth),
          puzzleBits: integer(0, maxPuzzle.bits).default(d.authority.params.puzzleBits),
          puzzleMemoryKib: integer(8, maxPuzzle.memoryKib).default(d.authority.params.puzzleMemoryKib),
          puzzlePasses: integer(1, maxPuzzle.passes).default(d.authority.params.puzzlePasses),
          cmixCells: integer(2, MAX_BATCH_CELLS).default(d.authority.params.cmixCells),
          cmixDelayMs: integer(1, MAX_DELAY_MS).default(d.authority.params.cmixDelayMs),
        })
        .prefault({}),
    })
    .optional(),
  keys: z.strictObject({ passphraseFile: path.optional(), passphraseEnv: z.string().min(1).optional() }).prefault({}),
  api: z
    .strictObject({
      socket: path.optional(),
      listen: address.optional(),
      tls: z.strictObject({ certFile: path, keyFile: path, clientCaFile: path.optional() }).optional(),
      tokenFile: path.optional(),
    })
    .prefault({}),
  metrics: z.strictObject({ listen: loopbackAddress.optional() }).prefault({}),
  limits: z
    .strictObject({
      maxLinks: integer(1, 1_000_000).default(d.limits.maxLinks),
      maxCircuits: integer(1, 10_000_000).default(d.limits.maxCircuits),
      maxSessions: integer(1, 1_000_000).default(d.limits.maxSessions),
      messagesPerSecond: integer(1, 100_000).default(d.limits.messagesPerSecond),
      memoryBytes: integer(16_777_216, 1_099_511_627_776).default(d.limits.memoryBytes),
      maxApiStreams: integer(1, 65_536).default(d.limits.maxApiStreams),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(['debug', 'info', 'warn', 'error', 'silent'], { error: 'must be debug, info, warn, error or silent' })
        .default(d.log.level),
    })
    .prefault({}),
  shutdown: z.strictObject({ drainTimeoutMs: integer(0, 600_000).default(d.shutdown.drainTimeoutMs) }).prefault({}),
  debug: z.strictObject({ allowCrash: z.boolean().default(d.debug.allowCrash) }).prefault({}),
});

/** A parsed configuration: defaults filled in, addresses split, paths absolute once loaded. */
export type Config = z.output<typeof configSchema>;
/** As written in YAML. */
export type ConfigInput = z.input<typeof configSchema>;
