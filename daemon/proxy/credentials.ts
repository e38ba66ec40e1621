/**
 * What a proxy's client says through its username and password: which streams must not share a circuit, and how to
 * dial. The same for SOCKS5 (RFC 1929) and HTTP (Basic).
 *
 * A username whose first `;`-separated part is `nyx` or a known `name=value` is a list of options:
 *
 *   username = [ "nyx" ";" ] option *( ";" option )        or just "nyx"
 *   option   = "hops=" 3…7  |  "class=" ( "fast" | "mix" | "cmix" )  |  "isolation=" 1…200 characters but ";"  |
 *              "paths=" 1…8  |  "strategy=" ( "latency_weighted" | "lowest_latency" | "load_balance" | "redundant" )  |
 *              "fec=" ( "off" | "adaptive" | ratio )  |  "deadline=" 1…60000
 *
 * Each option at most once; anything else in such a list is an error. Every other username is opaque.
 *
 * Isolation key: an opaque username together with the password; of an option list the `isolation` value together
 * with the password; without either, the listener. Keys are HMACs under a key of this process, so what is
 * handed on, compared or looked at in a dump is never the client's secret.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { CircuitClass } from '@nyx/core/engine/contract.ts';
import { parseFecPolicy } from '@nyx/core/fec/policy.ts';
import { schedulers } from '@nyx/core/stream/path-choice.ts';
import type { DialOptions } from '../pump/contract.ts';

const processKey = randomBytes(32);
const optionStart = /^(?:nyx(?:;|$)|(?:hops|class|isolation|paths|strategy|fec|deadline)=)/;
const optionNames: readonly string[] = ['hops', 'class', 'isolation', 'paths', 'strategy', 'fec', 'deadline'];
const classes: readonly CircuitClass[] = ['fast', 'mix', 'cmix'];
const maxIsolationChars = 200;

export type CredentialOptions =
  | { readonly ok: true; readonly options: DialOptions }
  /** `problem` says what is wrong without repeating what the client sent. */
  | { readonly ok: false; readonly problem: string };

/** Options for a client without credentials, on the listener `listener` (its kind and address). */
export function anonymousOptions(listener: string, defaults: DialOptions): DialOptions {
  return { ...defaults, isolation: defaults.isolation ?? `listener ${listener}` };
}

/** Borrows both; nothing of them is kept but the HMAC. */
export function credentialOptions(
  username: Uint8Array,
  password: Uint8Array,
  listener: string,
  defaults: DialOptions,
): CredentialOptions {
  const base = anonymousOptions(listener, defaults);
  const text = Buffer.from(username).toString('latin1');
  if (!optionStart.test(text)) {
    if (username.length === 0 && password.length === 0) return { ok: true, options: base };
    return { ok: true, options: { ...base, isolation: isolationKey('credentials', username, password) } };
  }
  const parsed = parseOptions(text);
  if (typeof parsed === 'string') return { ok: false, problem: parsed };
  const { isolation, ...dial } = parsed;
  if (isolation === undefined && password.length === 0) return { ok: true, options: { ...base, ...dial } };
  const key = isolationKey('option', Buffer.from(isolation ?? '', 'latin1'), password);
  return { ok: true, options: { ...base, ...dial, isolation: key } };
}

function parseOptions(
  text: string,
): Pick<DialOptions, 'hops' | 'class' | 'isolation' | 'paths' | 'strategy' | 'fec' | 'deadlineMs'> | string {
  const parts = text.split(';');
  if (parts[0] === 'nyx') parts.shift();
  const seen = new Map<string, string>();
  for (const part of parts) {
    const equals = part.indexOf('=');
    const name = part.slice(0, Math.max(equals, 0));
    if (!optionNames.includes(name)) {
      return `unknown option in the username; known are ${optionNames.map((known) => `${known}=`).join(', ')}`;
    }
    if (seen.has(name)) return `option ${name} given twice`;
    seen.set(name, part.slice(equals + 1));
  }
  const hops = seen.get('hops');
  if (hops !== undefined && !/^[3-7]$/.test(hops)) return 'option hops must be 3…7';
  const circuitClass = seen.get('class');
  if (circuitClass !== undefined && !isCircuitClass(circuitClass)) return `option class must be ${classes.join(', ')}`;
  const paths = seen.get('paths');
  if (paths !== undefined && !/^[1-8]$/.test(paths)) return 'option paths must be 1…8';
  const wanted = seen.get('strategy');
  const strategy = schedulers.find((name) => name === wanted);
  if (wanted !== undefined && strategy === undefined) return `option strategy must be ${schedulers.join(', ')}`;
  const fecText = seen.get('fec');
  const fec = fecText === undefined ? undefined : parseFecPolicy(fecText);
  if (fecText !== undefined && fec === undefined) return 'option fec must be off, adaptive or a ratio as in 0.3';
  const deadline = seen.get('deadline');
  if (deadline !== undefined && !(/^[1-9]\d{0,4}$/.test(deadline) && Number(deadline) <= 60_000)) {
    return 'option deadline must be 1…60000 (milliseconds)';
  }
  const isolation = seen.get('isolation');
  if (isolation !== undefined && (isolation.length === 0 || isolation.length > maxIsolationChars)) {
    return `option isolation must have 1…${maxIsolationChars} characters`;
  }
  return {
    ...(hops !== undefined && { hops: Number(hops) }),
    ...(circuitClass !== undefined && { class: circuitClass }),
    ...(isolation !== undefined && { isolation }),
    ...(paths !== undefined && { paths: Number(paths) }),
    ...(strategy !== undefined && { strategy }),
    ...(fec !== undefined && { fec }),
    ...(deadline !== undefined && { deadlineMs: Number(deadline) }),
  };
}

function isCircuitClass(name: string): name is CircuitClass {
  return (classes as readonly string[]).includes(name);
}

function isolationKey(domain: string, name: Uint8Array, password: Uint8Array): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return createHmac('sha256', processKey)
    .update(`nyx1 isolation ${domain}\0`)
    .update(length)
    .update(name)
    .update(password)
    .digest('base64url');
}
