/**
 * Exit policies: which targets an exit connects to.
 *
 *   rule = ("accept" | "reject") target ":" ports
 *   target = "*" | IPv4 ["/" 0…32] | "[" IPv6 "]" ["/" 0…128]       ports = "*" | port | port "-" port
 *
 * The first rule that matches decides; when none does, the target is refused.
 */
import ipaddr from 'ipaddr.js';
import { type IpAddress, parseAddress, parseTarget, specialRange } from './address.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';

export const MAX_POLICY_RULES = 64;
export const MAX_RULE_CHARS = 80;

export interface ExitPolicyOptions {
  /** Let rules decide about loopback, private and other special ranges too; without it those are always refused. */
  readonly allowPrivate?: boolean;
}

interface Rule {
  readonly accept: boolean;
  /** Undefined = every address of both families. */
  readonly network: IpAddress | undefined;
  readonly prefixBits: number;
  /** Has addresses of the public Internet. */
  readonly isPublic: boolean;
  readonly firstPort: number;
  readonly lastPort: number;
}

/** A parsed policy. Immutable. */
export class ExitPolicy {
  readonly allowPrivate: boolean;
  readonly #rules: readonly Rule[];

  /** Throws DirectoryError BAD_POLICY that quotes the bad rule and says what would be right. */
  constructor(rules: readonly string[], options: ExitPolicyOptions = {}) {
    if (rules.length > MAX_POLICY_RULES) {
      throw new DirectoryError(
        DirectoryErrorCode.badPolicy,
        `exit policy has ${rules.length} rules; at most ${MAX_POLICY_RULES} are allowed`,
      );
    }
    this.#rules = rules.map(parseRule);
    this.allowPrivate = options.allowPrivate ?? false;
  }

  /**
   * May this exit connect there? `address` is a literal; anything else, and port 0 or above 65535, is refused.
   * An IPv4 address inside ::ffff:0:0/96 is judged as the IPv4 address that it is.
   */
  allows(address: string, port: number): boolean {
    const target = parseTarget(address);
    if (target === undefined || !isPort(port)) return false;
    if (!this.allowPrivate && specialRange(target) !== undefined) return false;
    for (const rule of this.#rules) {
      if (port >= rule.firstPort && port <= rule.lastPort && matches(rule, target)) return rule.accept;
    }
    return false;
  }

  /** For a name that is not resolved yet: could any address be accepted at this port? */
  mayAllowPort(port: number): boolean {
    if (!isPort(port)) return false;
    for (const rule of this.#rules) {
      if (port < rule.firstPort || port > rule.lastPort) continue;
      if (rule.accept) {
        if (this.allowPrivate || rule.isPublic) return true;
      } else if (rule.network === undefined) {
        return false;
      }
    }
    return false;
  }
}

/** Parses rules into a policy; see the constructor. */
export function parseExitPolicy(rules: readonly string[], options: ExitPolicyOptions = {}): ExitPolicy {
  return new ExitPolicy(rules, options);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65535;
}

function matches(rule: Rule, target: IpAddress): boolean {
  const network = rule.network;
  if (network === undefined) return true;
  if (network instanceof ipaddr.IPv4) return target instanceof ipaddr.IPv4 && target.match(network, rule.prefixBits);
  return target instanceof ipaddr.IPv6 && target.match(network, rule.prefixBits);
}

const rulePattern = /^(\S+) (\S+):([^\s:]+)$/;

function parseRule(text: string): Rule {
  if (typeof text !== 'string' || text.length > MAX_RULE_CHARS) {
    throw bad(String(text).slice(0, MAX_RULE_CHARS), `is longer than ${MAX_RULE_CHARS} characters`);
  }
  const parts = rulePattern.exec(text);
  if (parts === null) throw bad(text, 'is not "accept|reject address:ports", e.g. "accept *:443"');
  const [, action, target, ports] = parts as unknown as [string, string, string, string];
  if (action !== 'accept' && action !== 'reject') throw bad(text, `begins with "${action}"; write accept or reject`);
  return { accept: action === 'accept', ...parseNetwork(text, target), ...parsePorts(text, ports) };
}

function parseNetwork(rule: string, text: string): Pick<Rule, 'network' | 'prefixBits' | 'isPublic'> {
  if (text === '*') return { network: undefined, prefixBits: 0, isPublic: true };
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const bracketed = host.startsWith('[') && host.endsWith(']');
  const network = parseAddress(bracketed ? host.slice(1, -1) : host);
  if (network instanceof ipaddr.IPv6 && !bracketed) {
    throw bad(rule, `has an IPv6 address without brackets; write "[${host}]${slash < 0 ? '' : text.slice(slash)}:…"`);
  }
  if (network === undefined || (network instanceof ipaddr.IPv4 && bracketed)) {
    throw bad(rule, `has "${host}" as its address; write *, an IPv4 address or an IPv6 address in brackets`);
  }
  if (network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress()) {
    throw bad(rule, `names IPv4 as IPv6; write the IPv4 address ${network.toIPv4Address()}`);
  }
  const maxBits = network instanceof ipaddr.IPv4 ? 32 : 128;
  const prefixBits = slash < 0 ? maxBits : decimal(text.slice(slash + 1), 3);
  if (prefixBits === undefined || prefixBits > maxBits) {
    throw bad(rule, `has "${text.slice(slash)}" as its prefix; write /0 to /${maxBits}`);
  }
  const base = networkBase(network, prefixBits);
  if (base.toString() !== network.toString()) {
    const right = maxBits === 32 ? `${base}` : `[${base}]`;
    throw bad(rule, `has address bits outside its prefix; write ${right}/${prefixBits}`);
  }
  return { network, prefixBits, isPublic: hasPublicAddress(network, prefixBits) };
}

/**
 * Special ranges are blocks: a network that is larger than the one that it begins in has addresses outside it, and of the
 * halves, quarters and so on that lie beside it the first one that is public is found by its own beginning.
 */
function hasPublicAddress(base: IpAddress, prefixBits: number): boolean {
  if (specialRange(base) === undefined) return true;
  const bytes = base.toByteArray();
  for (let bit = prefixBits; bit < 8 * bytes.length; bit++) {
    const beside = bytes.slice();
    beside[bit >> 3]! |= 0x80 >> (bit & 7);
    if (specialRange(ipaddr.fromByteArray(beside)) === undefined) return true;
  }
  return false;
}

function networkBase(address: IpAddress, prefixBits: number): IpAddress {
  const bytes = address.toByteArray();
  for (let i = 0; i < bytes.length; i++) {
    const kept = Math.min(8, Math.max(0, prefixBits - 8 * i));
    bytes[i] = bytes[i]! & (0xff00 >> kept) & 0xff;
  }
  return ipaddr.fromByteArray(bytes);
}

function parsePorts(rule: string, text: string): Pick<Rule, 'firstPort' | 'lastPort'> {
  if (text === '*') return { firstPort: 1, lastPort: 65535 };
  const dash = text.indexOf('-');
  const firstPort = decimal(dash < 0 ? text : text.slice(0, dash), 5);
  const lastPort = dash < 0 ? firstPort : decimal(text.slice(dash + 1), 5);
  if (firstPort === undefined || lastPort === undefined || !isPort(firstPort) || !isPort(lastPort)) {
    throw bad(rule, `has "${text}" as its ports; write *, a port of 1 to 65535, or a range such as 8000-8100`);
  }
  if (firstPort > lastPort) throw bad(rule, `has its port range backwards; write ${lastPort}-${firstPort}`);
  return { firstPort, lastPort };
}

/** A decimal number of at most `maxDigits` digits, without sign or leading zero. */
function decimal(text: string, maxDigits: number): number | undefined {
  return text.length <= maxDigits && /^(0|[1-9][0-9]*)$/.test(text) ? Number(text) : undefined;
}

function bad(rule: string, problem: string): DirectoryError {
  return new DirectoryError(DirectoryErrorCode.badPolicy, `exit policy rule "${rule}" ${problem}`);
}
