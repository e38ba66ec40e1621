/** Options that several commands share. */

import type { FecPolicy, MultipathStrategyName, PathClassName } from '@nyx/sdk/socket.ts';
import { type Command, Option } from 'commander';
import { integerBetween, parseClass, parseFec } from '../arguments.ts';
import type { ApiOptions } from '../find-daemon.ts';

export interface CommonOptions extends ApiOptions {
  readonly json?: boolean;
}

export function withApi(command: Command): Command {
  return command
    .option('--api <where>', 'control socket of the daemon, or https://HOST:PORT')
    .option('--token-file <file>', 'file with the daemon’s token')
    .option('--tls-ca <file>', 'PEM of the authority that signed the daemon’s certificate')
    .option('--tls-cert <file>', 'PEM of the client’s certificate')
    .option('--tls-key <file>', 'PEM of its key')
    .option('--json', 'machine-readable output');
}

export interface MultipathFlags {
  readonly paths?: number;
  readonly strategy?: MultipathStrategyName;
}

/** For what opens streams. */
export function withMultipath(command: Command): Command {
  return command
    .option('--paths <n>', 'circuits that carry it together, 1–8 (default: the daemon’s)', integerBetween(1, 8))
    .addOption(
      new Option('--strategy <how>', 'how it is spread over them (default: the daemon’s)').choices([
        'latency_weighted',
        'lowest_latency',
        'load_balance',
        'redundant',
      ]),
    );
}

export interface FecFlags {
  readonly fec?: FecPolicy;
}

export function withFec(command: Command): Command {
  return command.option(
    '--fec <how>',
    'error correction: off, adaptive, or a ratio as 0.3 (default: the daemon’s)',
    parseFec,
  );
}

export interface PathFlags {
  readonly hops?: number;
  readonly class?: PathClassName;
}

export function withPath(command: Command): Command {
  return command
    .option('--hops <n>', 'relays on the path, 3–7 (default: the daemon’s)', integerBetween(3, 7))
    .option('--class <class>', 'fast, mix or cmix', parseClass);
}
