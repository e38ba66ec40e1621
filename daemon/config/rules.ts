/** Rules that span several keys of the configuration. */
import { parseMultiaddr } from '../p2p/multiaddr-text.ts';
import { isLoopback, isWildcard } from './address.ts';
import type { Config } from './schema.ts';

export interface RuleViolation {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Longest path of a Unix socket that every platform takes (sun_path is 104 bytes on macOS, 108 on Linux). */
export const MAX_SOCKET_PATH_BYTES = 103;

export const checkRules = (config: Config): RuleViolation[] => {
  const found: RuleViolation[] = [];
  const fail = (path: (string | number)[], message: string) => found.push({ path, message });
  const relays = config.roles.includes('mix') || config.roles.includes('exit');

  if (config.roles.includes('mailbox') && !config.roles.includes('mix')) {
    fail(['roles'], 'has mailbox without mix; a mailbox node passes packets on as well: add mix');
  }
  checkAddresses(config, relays, fail);

  const onlyClient = config.roles.length === 1 && config.roles[0] === 'client';
  if (config.cover.mode === 'constant' && !onlyClient) {
    fail(
      ['cover', 'mode'],
      'is constant, which is for nodes with the role client alone: the links of a relay carry what others send. Write adaptive',
    );
  }
  if (config.cover.lowPower && !onlyClient) {
    fail(['cover', 'lowPower'], 'is for nodes with the role client alone; others rely on a relay');
  }

  for (const key of ['socks', 'httpConnect'] as const) {
    const listen = config.proxies[key];
    if (config.roles.includes('client') && listen && !isLoopback(listen.host) && !config.proxies.allowRemote) {
      fail(
        ['proxies', key],
        `would answer ${listen.host}, where anyone who reaches it could use it; use 127.0.0.1 or [::1], or set proxies.allowRemote: true`,
      );
    }
  }

  const { authorities, sources } = config.directory;
  if (authorities.keys.length === 0 && config.authority === undefined) {
    fail(['directory', 'authorities', 'keys'], 'is empty; list the public keys of the directory authorities to trust');
  }
  if (authorities.threshold !== undefined && authorities.threshold > Math.max(1, authorities.keys.length)) {
    fail(
      ['directory', 'authorities', 'threshold'],
      `is ${authorities.threshold}, but there are ${authorities.keys.length} keys; must be 1…${authorities.keys.length}`,
    );
  }
  checkThreshold(authorities, fail);
  checkControlPlane(config, fail);
  if (sources.length === 0 && config.authority === undefined && !config.p2p.enabled) {
    fail(['directory', 'sources'], 'is empty; give at least one URL or view file to take the directory from');
  }
  if (config.authority !== undefined && config.directory.listen === undefined) {
    fail(['directory', 'listen'], 'is missing; an authority has to serve the directory, e.g. listen: 0.0.0.0:9030');
  }

  if (config.authority !== undefined) checkAuthority(config, config.authority, fail);

  if (config.api.listen !== undefined) {
    if (config.api.tls === undefined) {
      fail(
        ['api', 'tls'],
        'is missing; the API listens on TCP only with TLS (certFile, keyFile). Or remove api.listen',
      );
    }
    if (config.api.tokenFile === undefined && config.api.tls?.clientCaFile === undefined) {
      fail(['api', 'tokenFile'], 'is missing; the API on TCP needs a bearer token (tokenFile) or tls.clientCaFile');
    }
  } else {
    if (config.api.tls !== undefined) fail(['api', 'tls'], 'is of no use without api.listen; remove it or add that');
    if (config.api.tokenFile !== undefined) {
      fail(['api', 'tokenFile'], 'is of no use without api.listen; remove it or add that');
    }
  }
  if (config.api.socket !== undefined && Buffer.byteLength(config.api.socket) > MAX_SOCKET_PATH_BYTES) {
    fail(
      ['api', 'socket'],
      `is ${Buffer.byteLength(config.api.socket)} bytes long; Unix sockets allow ${MAX_SOCKET_PATH_BYTES}: use a shorter path`,
    );
  }
  if (config.keys.passphraseEnv !== undefined && config.keys.passphraseFile !== undefined) {
    fail(['keys', 'passphraseEnv'], 'is given beside passphraseFile; give one of them');
  }
  return found;
};

/** Where links are accepted, and where others are told to open them. */
const checkAddresses = (
  { listen, announce, addressFamilies }: Config,
  relays: boolean,
  fail: (path: (string | number)[], message: string) => void,
): void => {
  if (relays && listen.length === 0) {
    fail(
      ['listen'],
      'is missing; the roles mix and exit need an address to accept links at, e.g. listen: 0.0.0.0:9001',
    );
  }
  if (listen.length > 0 && !relays) {
    fail(['listen'], 'is of no use without the role mix or exit; remove it or add a role');
  }
  for (const [key, addresses] of Object.entries({ listen, announce })) {
    addresses.forEach(({ host, port }, index) => {
      const at = key === 'listen' && addresses.length === 1 ? [key] : [key, index];
      const isTwice = addresses.slice(0, index).some((other) => other.host === host && other.port === port);
      if (isTwice && port !== 0) fail(at, 'is there twice; write each address once');
      if (addressFamilies !== 'auto' && !addressFamilies.includes(familyOf(host))) {
        fail(at, `is ${familyName(host)}, which addressFamilies leaves out; add ${familyOf(host)} there or remove it`);
      }
    });
  }
  announce.forEach(({ host, port }, index) => {
    if (isWildcard(host)) fail(['announce', index], 'is a wildcard; give the address that others reach');
    else if (listen.length > 0 && !listen.some((own) => familyOf(own.host) === familyOf(host))) {
      fail(
        ['announce', index],
        `is ${familyName(host)}, but nothing listens there; add an address such as ${wildcardOf(host, port)} to listen`,
      );
    }
    if (port === 0) fail(['announce', index], 'has port 0; give the port that others reach');
  });
  if (!relays) return;
  for (const { host } of listen) {
    if (!isWildcard(host) || announce.some((address) => familyOf(address.host) === familyOf(host))) continue;
    const example = host.includes(':') ? '"[2001:db8::5]:9001"' : '203.0.113.5:9001';
    fail(
      ['announce'],
      announce.length === 0
        ? `is missing; with a wildcard listen address say where others reach this node, e.g. [${example}]`
        : `has no ${familyName(host)} address, but this node listens at ${host}; say where others reach it, e.g. ${example}`,
    );
  }
};

const familyOf = (host: string): 'ipv4' | 'ipv6' => (host.includes(':') ? 'ipv6' : 'ipv4');
const familyName = (host: string): string => (host.includes(':') ? 'IPv6' : 'IPv4');
const wildcardOf = (host: string, port: number): string => (host.includes(':') ? `"[::]:${port}"` : `0.0.0.0:${port}`);

/**
 * Two views of one epoch, each signed by a threshold t of n, have 2t − n signers in common, who lied. An honest authority
 * signs one: as long as fewer lie than that, there are no two.
 */
const checkThreshold = (
  { keys, threshold, liars }: Config['directory']['authorities'],
  fail: (path: (string | number)[], message: string) => void,
): void => {
  const count = Math.max(1, keys.length);
  const needed = threshold ?? Math.floor(count / 2) + 1;
  if (needed > count || 2 * needed > count + liars) return;
  const least = Math.floor((count + liars) / 2) + 1;
  const advice =
    least > count
      ? `so many can not be borne by ${count} authorities: give fewer liars`
      : `must be at least ${least}, which bears ${count - least} dead ones`;
  fail(
    ['directory', 'authorities', threshold === undefined ? 'liars' : 'threshold'],
    `with ${needed} of ${count}, ${liars} lying authorities and those that believe them could sign two views for one epoch (2 · threshold must exceed keys + liars); the threshold ${advice}`,
  );
};

const checkControlPlane = (config: Config, fail: (path: (string | number)[], message: string) => void): void => {
  const { enabled, listen, announce, bootstrap, mdns } = config.p2p;
  if (!enabled) {
    for (const [key, given] of Object.entries({ listen, announce, bootstrap })) {
      if (given.length > 0) fail(['p2p', key], 'is of no use without p2p.enabled: true; add that or remove it');
    }
    if (mdns) fail(['p2p', 'mdns'], 'is of no use without p2p.enabled: true; add that or remove it');
    return;
  }
  if (listen.length === 0 && bootstrap.length === 0 && !mdns) {
    fail(
      ['p2p', 'bootstrap'],
      'is empty; give an address of a peer to begin with, or listen for others, or set p2p.mdns: true',
    );
  }
  for (const key of ['announce', 'bootstrap'] as const) {
    config.p2p[key].forEach((address, index) => {
      const { host, port } = parseMultiaddr(address)!;
      if (isWildcard(host)) fail(['p2p', key, index], 'is a wildcard; give the address that others reach');
      if (port === 0) fail(['p2p', key, index], 'has port 0; give the port that others reach');
    });
  }
  listen.forEach((address, index) => {
    if (address.includes('/p2p/')) fail(['p2p', 'listen', index], 'names a peer; remove /p2p/…');
  });
};

/** Authorities have to know each other, and a round of voting has to fit into an epoch. */
const checkAuthority = (
  { directory, epochSeconds }: Config,
  { peers, phaseMs }: NonNullable<Config['authority']>,
  fail: (path: (string | number)[], message: string) => void,
): void => {
  const { keys, threshold } = directory.authorities;
  const count = Math.max(1, keys.length);
  if (peers.length !== count - 1) {
    fail(
      ['authority', 'peers'],
      `has ${peers.length} entries; with ${count} authorities there must be ${count - 1}, one for each of the others`,
    );
  }
  peers.forEach(({ key }, index) => {
    if (!keys.includes(key)) {
      fail(['authority', 'peers', index, 'key'], 'is not among directory.authorities.keys; add it there');
    }
  });
  if (phaseMs === undefined) return;
  const phases = count - (threshold ?? Math.floor(count / 2) + 1) + 3;
  const longestMs = Math.floor((epochSeconds * 1000) / (2 * phases));
  if (phaseMs > longestMs) {
    fail(
      ['authority', 'phaseMs'],
      `is ${phaseMs}; a round of ${phases} phases must fit twice into an epoch: at most ${longestMs}`,
    );
  }
};
