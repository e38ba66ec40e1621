/** Parsers of options and arguments. Each says what is wrong and what would be right; commander makes that exit code 2. */

import type { FecPolicy, PathClassName } from '@nyx/sdk/socket.ts';
import { InvalidArgumentError } from 'commander';
import type { HostPort } from './measure/socks.ts';

/** `HOST:PORT` or `[IPv6]:PORT`. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2] ?? '';
  if (!match || host.length > 255 || port < 1 || port > 65_535) {
    throw new InvalidArgumentError('Write HOST:PORT, e.g. example.com:443 or [2001:db8::1]:80.');
  }
  return { host, port };
}

export function integerBetween(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Write a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

const unitBytes: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
};

/** `1000`, `64MiB`, `1.5GB`: 1 byte to 1 TB. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]i?)?b?$/i.exec(text);
  const bytes = match ? Math.round(Number(match[1]) * unitBytes[(match[2] ?? '').toLowerCase()]!) : Number.NaN;
  if (!(bytes >= 1 && bytes <= 1e12)) throw new InvalidArgumentError('Write a size such as 64MiB, 500kB or 1GB.');
  return bytes;
}

/** `10`, `10s`, `500ms`, `2m`: 1 ms to 1 h, in milliseconds. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  const factor = match?.[2] === 'ms' ? 1 : match?.[2] === 'm' ? 60_000 : 1000;
  const durationMs = match ? Math.round(Number(match[1]) * factor) : Number.NaN;
  if (!(durationMs >= 1 && durationMs <= 3_600_000)) {
    throw new InvalidArgumentError('Write a time such as 10s, 500ms or 2m (at most 60m).');
  }
  return durationMs;
}

/** Cells a second: 0 to 10 million. */
export function parseRate(text: string): number {
  const rate = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || rate > 1e7) {
    throw new InvalidArgumentError('Write cells a second, e.g. 500 (at most 10000000).');
  }
  return rate;
}

export function parseClass(text: string): PathClassName {
  if (text === 'fast' || text === 'mix' || text === 'cmix') return text;
  throw new InvalidArgumentError('Write fast, mix or cmix.');
}

export function parseNodeIds(text: string): string[] {
  const ids = text.split(',').map((id) => id.trim().toLowerCase());
  if (ids.length < 3 || ids.length > 7 || ids.some((id) => !/^[0-9a-f]{64}$/.test(id))) {
    throw new InvalidArgumentError(
      'Write 3 to 7 NodeIDs of 64 hex digits, separated by commas (see `nyx-cli paths nodes`).',
    );
  }
  return ids;
}

/** `a,b,c`. */
export function parseList(text: string): string[] {
  const items = text.split(',').map((item) => item.trim());
  if (items.some((item) => item === '')) throw new InvalidArgumentError('Write one or more, separated by commas.');
  return items;
}

/** 0 to 1. */
export function parseShare(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1)) throw new InvalidArgumentError('Write a number from 0 to 1.');
  return value;
}

/** As the SDK takes it. */
export function parseFec(text: string): FecPolicy {
  if (text === 'off' || text === 'adaptive') return text;
  const ratio = Number(text);
  if (text.trim() === '' || !(ratio > 0 && ratio <= 1)) {
    throw new InvalidArgumentError('Write off, adaptive, or repair packets for each packet: above 0 and at most 1.');
  }
  return { ratio };
}
