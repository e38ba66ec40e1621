/**
 * Names at the exit: checked, resolved, cached. What comes out are addresses; whether they may be connected to is
 * asked again for each of them by whoever connects, so an answer that points into private ranges opens nothing.
 */
import { Resolver as DnsResolver, lookupService, lookup as systemLookup } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import { parseTarget, specialRange } from '@nyx/core/directory/address.ts';
import { type ResolvedAddress, SessionError } from '@nyx/core/stream/contract.ts';
import { ExitError, sessionErrorOf } from './exit-error.ts';

const maxCacheEntries = 4096;
const maxAnswers = 16;
const maxPending = 256;
const minTtlSeconds = 30;
const maxTtlSeconds = 1800;
const systemTtlSeconds = 60;
const failureTtlSeconds = 10;

/** Names that exist only inside some network or machine: looked up only where private targets are allowed. */
const privateSuffixes = [
  'localhost',
  'local',
  'localdomain',
  'internal',
  'intranet',
  'lan',
  'home',
  'corp',
  'home.arpa',
];
/** Names that are not DNS at all (RFC 7686, RFC 9476, RFC 6761). */
const foreignSuffixes = ['onion', 'nyx', 'i2p', 'exit', 'alt', 'invalid'];

/** Asks the outside; no caching, no checks. Throws errors with DNS codes (ENOTFOUND …). */
export interface NameService {
  addresses(name: string): Promise<readonly ResolvedAddress[]>;
  /** Undefined = no name. */
  nameOf(address: string): Promise<string | undefined>;
}

export interface ResolverOptions {
  /** Empty = as the system resolves. */
  readonly dnsServers: readonly string[];
  readonly allowPrivate: boolean;
  readonly timeoutMs: number;
}

interface Entry<T> {
  readonly value: Promise<T>;
  expiresAtMs: number;
}

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #service: NameService;
  readonly #nowMs: () => number;
  readonly #cache = new Map<string, Entry<unknown>>();
  #pending = 0;

  constructor(options: ResolverOptions, service?: NameService, nowMs: () => number = () => performance.now()) {
    this.#options = options;
    this.#service = service ?? nameServiceOf(options);
    this.#nowMs = nowMs;
  }

  /** Lookups under way. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Addresses of a name, or the literal itself; at least one, none of them private unless private targets are allowed.
   * Throws ExitError resolveFailed, exitPolicy (only private answers) or limit.
   */
  async addresses(host: string): Promise<readonly ResolvedAddress[]> {
    const literal = parseTarget(host);
    if (literal !== undefined) {
      const address = literal.toString();
      return [{ family: isIPv6(address) ? 6 : 4, address, ttlSeconds: maxTtlSeconds }];
    }
    const name = checkName(host, this.#options.allowPrivate);
    return await this.#cached(`name ${name}`, () => this.#lookUp(name), ttlOf);
  }

  /** Name of a literal address. Throws ExitError resolveFailed, exitPolicy or limit. */
  async nameOf(address: string): Promise<string> {
    const target = parseTarget(address);
    if (target === undefined) throw new ExitError(SessionError.resolveFailed, 'not a literal address');
    if (!this.#options.allowPrivate && specialRange(target) !== undefined) {
      throw new ExitError(SessionError.exitPolicy, 'private address');
    }
    const key = target.toString();
    return await this.#cached(
      `address ${key}`,
      () => this.#lookUpName(key),
      () => systemTtlSeconds,
    );
  }

  async #lookUp(name: string): Promise<readonly ResolvedAddress[]> {
    if (name === 'localhost' || name.endsWith('.localhost')) return loopback; // RFC 6761 §6.3
    const found: ResolvedAddress[] = [];
    let hidden = 0;
    for (const { address, ttlSeconds } of await this.#service.addresses(name)) {
      const target = parseTarget(address);
      if (target === undefined || found.length === maxAnswers) continue;
      if (!this.#options.allowPrivate && specialRange(target) !== undefined) {
        hidden += 1;
        continue;
      }
      const literal = target.toString();
      const ttl = Math.min(maxTtlSeconds, Math.max(minTtlSeconds, ttlSeconds));
      found.push({ family: isIPv6(literal) ? 6 : 4, address: literal, ttlSeconds: ttl });
    }
    if (found.length > 0) return found;
    if (hidden > 0) throw new ExitError(SessionError.exitPolicy, 'the name has only private addresses');
    throw new ExitError(SessionError.resolveFailed, 'the name has no address');
  }

  async #lookUpName(address: string): Promise<string> {
    const name = await this.#service.nameOf(address);
    // The answer goes to the client, and is the word of whoever runs the reverse zone.
    if (name === undefined || !isHostName(name)) throw new ExitError(SessionError.resolveFailed, 'no name');
    return name;
  }

  /** One lookup per key at a time, its outcome kept for its time to live; failures for a short while. */
  #cached<T>(key: string, look: () => Promise<T>, ttlSecondsOf: (value: T) => number): Promise<T> {
    const known = this.#cache.get(key) as Entry<T> | undefined;
    if (known !== undefined && known.expiresAtMs > this.#nowMs()) return known.value;
    this.#cache.delete(key);
    if (this.#pending >= maxPending) return Promise.reject(new ExitError(SessionError.limit, 'too many lookups'));
    this.#pending += 1;
    const answer = look().finally(() => {
      this.#pending -= 1;
    });
    const value = withTimeout(answer, this.#options.timeoutMs);
    const entry: Entry<T> = { value, expiresAtMs: Number.POSITIVE_INFINITY };
    this.#cache.set(key, entry);
    // Oldest first out; those still under way are at most maxPending.
    if (this.#cache.size > maxCacheEntries) this.#cache.delete(this.#cache.keys().next().value!);
    value.then(
      (answered) => {
        entry.expiresAtMs = this.#nowMs() + ttlSecondsOf(answered) * 1000;
      },
      () => {
        entry.expiresAtMs = this.#nowMs() + failureTtlSeconds * 1000;
      },
    );
    return value;
  }
}

const loopback: readonly ResolvedAddress[] = [
  { family: 4, address: '127.0.0.1', ttlSeconds: systemTtlSeconds },
  { family: 6, address: '::1', ttlSeconds: systemTtlSeconds },
];

/**
 * The name in lower case without a final dot. Throws ExitError resolveFailed for what is no host name, exitPolicy for
 * names that only mean something inside a private network.
 */
export function checkName(host: string, allowPrivate: boolean): string {
  const name = host.toLowerCase().replace(/\.$/, '');
  if (!isHostName(name)) throw new ExitError(SessionError.resolveFailed, 'not a host name');
  if (hasSuffix(name, foreignSuffixes)) throw new ExitError(SessionError.resolveFailed, 'not a name of the DNS');
  if (!allowPrivate && (!name.includes('.') || hasSuffix(name, privateSuffixes))) {
    throw new ExitError(SessionError.exitPolicy, 'private name');
  }
  return name;
}

/** RFC 1123 §2.1 and underscores. A last label that starts with a digit is one of the odd spellings of IPv4. */
function isHostName(name: string): boolean {
  if (name.length === 0 || name.length > 253) return false;
  const labels = name.split('.');
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/i.test(labels.at(-1)!)) return false;
  return labels.every((label) => /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/.test(label));
}

function hasSuffix(name: string, suffixes: readonly string[]): boolean {
  return suffixes.some((suffix) => name === suffix || name.endsWith(`.${suffix}`));
}

function ttlOf(addresses: readonly ResolvedAddress[]): number {
  return Math.min(...addresses.map(({ ttlSeconds }) => ttlSeconds));
}

function withTimeout<T>(answer: Promise<T>, timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new ExitError(SessionError.resolveFailed, 'the resolver does not answer')),
      timeoutMs,
    );
    answer.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error) => {
        clearTimeout(timer);
        reject(toExitError(error));
      },
    );
  });
}

function toExitError(error: unknown): ExitError {
  if (error instanceof ExitError) return error;
  const code = sessionErrorOf(error);
  const { message } = error as Error;
  return new ExitError(code === SessionError.internal ? SessionError.resolveFailed : code, message);
}

function nameServiceOf({ dnsServers, timeoutMs }: ResolverOptions): NameService {
  return dnsServers.length === 0 ? systemService : serverService(dnsServers, timeoutMs);
}

/** getaddrinfo and getnameinfo: hosts file, search order and all. */
const systemService: NameService = {
  async addresses(name) {
    const found = await systemLookup(name, { all: true, order: 'verbatim' });
    return found.map(({ address, family }) => ({
      family: family === 6 ? 6 : 4,
      address,
      ttlSeconds: systemTtlSeconds,
    }));
  },
  async nameOf(address) {
    const { hostname } = await lookupService(address, 0);
    return hostname === address ? undefined : hostname;
  },
};

/** The given servers, both address types at once. Throws at once for an address that is none. */
function serverService(servers: readonly string[], timeoutMs: number): NameService {
  const resolver = new DnsResolver({ timeout: Math.max(100, Math.floor(timeoutMs / 3)), tries: 2 });
  resolver.setServers(servers);
  return {
    async addresses(name) {
      const [v6, v4] = await Promise.allSettled([
        resolver.resolve6(name, { ttl: true }),
        resolver.resolve4(name, { ttl: true }),
      ]);
      const found: ResolvedAddress[] = [];
      if (v6.status === 'fulfilled') {
        for (const { address, ttl } of v6.value) found.push({ family: 6, address, ttlSeconds: ttl });
      }
      if (v4.status === 'fulfilled') {
        for (const { address, ttl } of v4.value) found.push({ family: 4, address, ttlSeconds: ttl });
      } else if (found.length === 0) throw v4.reason;
      return found;
    },
    async nameOf(address) {
      return (await resolver.reverse(address))[0];
    },
  };
}
