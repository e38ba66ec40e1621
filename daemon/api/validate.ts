/** Checks of request fields. All problems of a request are collected, then thrown as one INVALID_ARGUMENT. */

import type { CircuitClass } from '@nyx/core/engine/contract.ts';
import { type FecPolicy, parseFecPolicy } from '@nyx/core/fec/policy.ts';
import { type Scheduler, schedulers } from '@nyx/core/stream/path-choice.ts';
import type { Datagram, StreamOptions } from '@nyx/proto/types.ts';
import { handleOf } from '../actors/pump-pool.ts';
import type { DialOptions } from '../pump/contract.ts';
import { MAX_UDP_BYTES, udpAddressBytes } from '../pump/udp-frame.ts';
import { type FieldViolation, invalidArgument } from './errors.ts';

export const MAX_TIMEOUT_MS = 600_000;
const MAX_DEADLINE_MS = 60_000;
const MAX_HOST_BYTES = 255;
const MAX_ISOLATION_BYTES = 255;

const classes: Readonly<Record<string, CircuitClass | undefined>> = {
  PATH_CLASS_FAST: 'fast',
  PATH_CLASS_MIX: 'mix',
  PATH_CLASS_CMIX: 'cmix',
};

export const strategyNames = {
  latency_weighted: 'MULTIPATH_STRATEGY_LATENCY_WEIGHTED',
  lowest_latency: 'MULTIPATH_STRATEGY_LOWEST_LATENCY',
  load_balance: 'MULTIPATH_STRATEGY_LOAD_BALANCE',
  redundant: 'MULTIPATH_STRATEGY_REDUNDANT',
} as const satisfies Record<Scheduler, string>;

export class Validator {
  readonly #violations: FieldViolation[] = [];

  fail(field: string, description: string): void {
    this.#violations.push({ field, description });
  }

  /** Throws what was found, if anything. */
  check(): void {
    if (this.#violations.length > 0) throw invalidArgument(this.#violations);
  }

  integer(field: string, value: number, min: number, max: number): void {
    if (!Number.isInteger(value) || value < min || value > max) this.fail(field, `is ${value}; must be ${min}…${max}`);
  }

  host(field: string, value: string): void {
    const sizeBytes = Buffer.byteLength(value);
    if (sizeBytes < 1 || sizeBytes > MAX_HOST_BYTES) {
      this.fail(field, `has ${sizeBytes} bytes; must have 1…${MAX_HOST_BYTES}`);
    } else if (hasControl(value)) {
      this.fail(field, 'has spaces or control characters; must be a name or a literal address');
    }
  }

  port(field: string, value: number): void {
    this.integer(field, value, 1, 65_535);
  }

  /** 0 = none. */
  deadlineMs(field: string, value: number): void {
    if (value !== 0) this.integer(field, value, 1, MAX_DEADLINE_MS);
  }

  /** One that an application sends. */
  datagram(field: string, { host, port, data, deadlineMs }: Datagram): void {
    this.host(`${field}.host`, host);
    this.port(`${field}.port`, port);
    if (deadlineMs !== undefined) this.deadlineMs(`${field}.deadline_ms`, deadlineMs);
    const addressBytes = udpAddressBytes(host);
    if (host.includes('%')) this.fail(`${field}.host`, 'has a zone id, which means nothing at the exit');
    else if (addressBytes !== undefined && addressBytes + data.length > MAX_UDP_BYTES) {
      const maxBytes = MAX_UDP_BYTES - addressBytes;
      this.fail(`${field}.data`, `has ${data.length} bytes; must have at most ${maxBytes} to this host`);
    }
  }

  id(field: string, value: number): void {
    if (!Number.isSafeInteger(value) || value < 1)
      this.fail(field, `is ${value}; must be an id that this node gave out`);
  }

  nodeIds(field: string, values: readonly string[]): void {
    values.forEach((value, index) => {
      if (!/^[0-9a-f]{64}$/.test(value)) {
        this.fail(`${field}[${index}]`, `is "${value.slice(0, 70)}"; must be 64 lower-case hex digits`);
      }
    });
    if (new Set(values).size !== values.length) this.fail(field, 'names a node twice; each may be used once');
  }

  /** Undefined: the request leaves it open. */
  pathClass(field: string, value: string): CircuitClass | undefined {
    if (value === 'PATH_CLASS_UNSPECIFIED') return undefined;
    const known = classes[value];
    if (known === undefined)
      this.fail(field, `is ${value}; must be PATH_CLASS_FAST, PATH_CLASS_MIX or PATH_CLASS_CMIX`);
    return known;
  }

  /** Undefined: as configured. */
  strategy(field: string, value: string): Scheduler | undefined {
    if (value === 'MULTIPATH_STRATEGY_UNSPECIFIED') return undefined;
    const known = schedulers.find((name) => strategyNames[name] === value);
    if (known === undefined) this.fail(field, `is ${value}; must be one of ${Object.values(strategyNames).join(', ')}`);
    return known;
  }

  /** Undefined: as configured. */
  fec(field: string, value: string): FecPolicy | undefined {
    if (value === '') return undefined;
    const policy = parseFecPolicy(value);
    if (policy === undefined) {
      this.fail(field, `is "${value.slice(0, 20)}"; must be off, adaptive or a ratio above 0 and at most 1, as in 0.3`);
    }
    return policy;
  }

  hops(field: string, value: number): void {
    if (value !== 0) this.integer(field, value, 3, 7);
  }

  timeoutMs(field: string, value: number): void {
    if (value !== 0) this.integer(field, value, 1, MAX_TIMEOUT_MS);
  }

  streamOptions(field: string, options: StreamOptions | null | undefined): DialOptions {
    if (options == null) return {};
    this.hops(`${field}.hops`, options.hops);
    const pathClass = this.pathClass(`${field}.path_class`, options.pathClass);
    const isolationBytes = Buffer.byteLength(options.isolation);
    if (isolationBytes > MAX_ISOLATION_BYTES) {
      this.fail(`${field}.isolation`, `has ${isolationBytes} bytes; must have at most ${MAX_ISOLATION_BYTES}`);
    }
    if (options.pathId !== 0) this.id(`${field}.path_id`, options.pathId);
    this.timeoutMs(`${field}.timeout_ms`, options.timeoutMs);
    if (options.paths !== 0) this.integer(`${field}.paths`, options.paths, 1, 8);
    if (options.paths > 1 && options.pathId !== 0) {
      this.fail(`${field}.paths`, 'is above 1 with a path_id; a stream on one path of its choice has no others');
    }
    const strategy = this.strategy(`${field}.strategy`, options.strategy);
    const fec = this.fec(`${field}.fec`, options.fec);
    return {
      ...(fec === undefined ? {} : { fec }),
      ...(options.paths === 0 ? {} : { paths: options.paths }),
      ...(strategy === undefined ? {} : { strategy }),
      ...(options.hops === 0 ? {} : { hops: options.hops }),
      ...(pathClass === undefined ? {} : { class: pathClass }),
      ...(options.isolation === '' ? {} : { isolation: `api:${options.isolation}` }),
      ...(options.pathId === 0 ? {} : { circuit: handleOf(options.pathId) }),
      ...(options.timeoutMs === 0 ? {} : { timeoutMs: options.timeoutMs }),
    };
  }
}

const hasControl = (text: string): boolean => {
  for (const char of text) if (char <= ' ' || char === '\u007f') return true;
  return false;
};
