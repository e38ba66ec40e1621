/** What applications and operators hand in: SOCKS5, HTTP CONNECT, UDP frames, configuration, key files, API, CLI. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import {
  integerBetween,
  parseBytes,
  parseClass,
  parseDurationMs,
  parseHostPort,
  parseNodeIds,
} from '@nyx/cli/arguments.ts';
import { buildProgram } from '@nyx/cli/main.ts';
import { ApiError, toStatus } from '@nyx/daemon/api/errors.ts';
import { Validator } from '@nyx/daemon/api/validate.ts';
import { ConfigError } from '@nyx/daemon/config/config-error.ts';
import { parseConfig } from '@nyx/daemon/config/load.ts';
import { KeyStore } from '@nyx/daemon/directory/key-store.ts';
import { KeyStoreError, SealedFiles } from '@nyx/daemon/directory/sealed-files.ts';
import { credentialOptions } from '@nyx/daemon/proxy/credentials.ts';
import { parseAuthority } from '@nyx/daemon/proxy/http-connect.ts';
import {
  encodeDatagram,
  maxMessageBytes,
  type Parsed,
  parseCredentials,
  parseDatagram,
  parseGreeting,
  parseRequest,
} from '@nyx/daemon/proxy/socks5-codec.ts';
import { decodeUdpFrame, encodeUdpFrame, MAX_UDP_BYTES } from '@nyx/daemon/pump/udp-frame.ts';
import { decodeUdpReport, encodeUdpReport } from '@nyx/daemon/pump/udp-report.ts';
import { decodeErrorDetails, encodeStatusDetails, STATUS_DETAILS_KEY } from '@nyx/proto/errors.ts';
import { loadApi } from '@nyx/proto/load.ts';
import { NyxError, nyxErrorCodes, nyxErrorFromGrpc } from '@nyx/sdk/errors.ts';
import { check, type FuzzTarget, prototypesClean } from '../fuzzer.ts';
import { suite } from './suite.ts';

const hex = (digits: string): Uint8Array => new Uint8Array(Buffer.from(digits.replaceAll(' ', ''), 'hex'));
const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const utf8 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');
const isPort = (port: number): boolean => Number.isInteger(port) && port >= 0 && port <= 65_535;

/** A stream parser must say the same of the prefix it took, and want no more than the longest message. */
function checkParser<T>(parse: (bytes: Uint8Array) => Parsed<T>, input: Uint8Array): T | undefined {
  const parsed = parse(input);
  if (parsed.kind === 'more') {
    check(input.length < maxMessageBytes, `wants more than ${input.length} bytes`);
    return undefined;
  }
  if (parsed.kind === 'bad') return undefined;
  check(parsed.sizeBytes <= input.length, 'takes what is there');
  check(parse(input.subarray(0, parsed.sizeBytes)).kind === 'value', 'needs only what it takes');
  for (const cut of [0, 1, parsed.sizeBytes - 1]) {
    check(parse(input.subarray(0, cut)).kind === 'more', `is not complete after ${cut} bytes`);
  }
  return parsed.value;
}

export const socks5: FuzzTarget = {
  name: 'socks5',
  dictionary: [
    hex('0501'),
    hex('05f0'),
    hex('05f1'),
    hex('00010000'),
    hex('0003ff'),
    'nyx;',
    'hops=7',
    ';class=mix',
    'isolation=',
    '::1',
  ],
  maxBytes: 1024,
  executions: 6000,
  seeds: () => [
    hex('05020002'),
    hex('0103616263027a7a'),
    Uint8Array.of(1, 25, ...ascii('nyx;hops=3;class=fast;iso'), 0),
    hex('05010001c000020101bb'),
    hex('0501000420010db80000000000000000000000010050'),
    hex('05f000030b6578616d706c652e636f6d0050'),
    hex('05f10001c00002010000'),
  ],
  run(input) {
    checkParser(parseGreeting, input);
    const credentials = checkParser(parseCredentials, input);
    if (credentials !== undefined) {
      const result = credentialOptions(credentials.username, credentials.password, 'listener', {});
      if (result.ok) check((result.options.hops ?? 3) >= 3 && (result.options.hops ?? 3) <= 7, 'hops are 3…7');
      else check(result.problem.length < 200, 'a short problem');
    }
    const request = checkParser(parseRequest, input);
    if (request !== undefined)
      check(isPort(request.port) && /^[\x21-\x7e]{1,255}$/.test(request.host), 'a host and a port');
  },
};

export const socks5Udp: FuzzTarget = {
  name: 'socks5-udp',
  dictionary: [hex('00000001'), hex('00000003'), hex('00000004'), '::ffff:1.2.3.4', '127.1'],
  maxBytes: 2048,
  executions: 6000,
  seeds: () => [
    encodeDatagram('192.0.2.1', 53, ascii('query')),
    encodeDatagram('2001:db8::1', 53, ascii('query')),
    encodeDatagram('a.example', 53, new Uint8Array(0)),
  ],
  run(input) {
    const datagram = parseDatagram(input);
    if (datagram === undefined) return;
    check(isPort(datagram.port) && datagram.host.length >= 1 && datagram.host.length <= 255, 'a host and a port');
    const again = parseDatagram(encodeDatagram(datagram.host, datagram.port, datagram.data));
    check(again !== undefined && again.port === datagram.port, 'decode(encode(x)) has the port');
    check(Buffer.compare(again.data, datagram.data) === 0, 'decode(encode(x)) has the data');
  },
};

export const udpFrame: FuzzTarget = {
  name: 'udp-frame',
  dictionary: [hex('0404'), hex('0610'), hex('03ff'), '::1', '1.2.3.4', hex('c3a4')],
  maxBytes: 1200,
  executions: 6000,
  seeds: () => [
    encodeUdpFrame('192.0.2.1', 53, ascii('query')),
    encodeUdpFrame('2001:db8::1', 53, ascii('query')),
    encodeUdpFrame('ä.example', 65_535, new Uint8Array(0)),
    encodeUdpReport({ arrived: 70_000, expired: 2, dropped: 3, answersDropped: 4 }),
  ],
  run(input) {
    const report = decodeUdpReport(input);
    if (report !== undefined) check(Buffer.compare(encodeUdpReport(report), input) === 0, 'encode(decode(x)) is x');
    const frame = decodeUdpFrame(input);
    if (frame === undefined) return;
    check(isPort(frame.port) && frame.host.length >= 1 && frame.host.length <= 255, 'a host and a port');
    check(Buffer.compare(encodeUdpFrame(frame.host, frame.port, frame.data), input) === 0, 'encode(decode(x)) is x');
  },
};

export const httpConnect: FuzzTarget = {
  name: 'http-connect',
  dictionary: ['[', ']', ':', ':443', '[::1]', '@', '%', '65536', '0', '::ffff:'],
  maxBytes: 400,
  executions: 6000,
  seeds: () => ['a.example:443', '192.0.2.1:80', '[2001:db8::1]:8080', 'a:1'].map(ascii),
  run(input) {
    const target = parseAuthority(latin1(input));
    if (target === undefined) return;
    check(isPort(target.port) && target.port > 0, 'a port');
    check(/^[\x21-\x7e]{1,255}$/.test(target.host), 'a host of printable ASCII');
    const again = parseAuthority(
      target.host.includes(':') ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`,
    );
    check(again?.host === target.host && again.port === target.port, 'decode(encode(x)) is x');
  },
};

export const config: FuzzTarget = {
  name: 'config',
  dictionary: [
    '&a ',
    '*a',
    '<<: ',
    '? ',
    '- ',
    ': ',
    '\n',
    '\n  ',
    '!!binary ',
    '!!set ',
    '|',
    '>',
    '"',
    '[',
    ']',
    '{',
    '}',
    '__proto__: ',
    'constructor: ',
    'roles: [mix]',
    'listen: 127.0.0.1:9001',
    '%YAML 1.1',
    '---',
    '...',
    '1e999',
    '.nan',
    '~',
  ],
  maxBytes: 2048,
  executions: 600,
  seeds: () =>
    [
      '',
      'directory:\n  authorities:\n    keys: []\n  sources: [view.bin]\nauthority:\n  keyFile: a.key\n',
      `roles: [client, mix, exit]\nlisten: 127.0.0.1:9001\nexit:\n  policy: ["reject *:25", "accept *:*"]\ndirectory:\n  sources:\n    - http://192.0.2.1:9030/\n  authorities:\n    threshold: 1\n    keys: [${'ab'.repeat(32)}]\nproxies: { socks: off }\nlog: { level: debug }\n`,
      'a: &a [1, 2]\nb: *a\nc: { <<: { d: 1 } }\n',
      '{"workers": 2, "limits": {"maxLinks": 5}}',
    ].map((yaml) => new TextEncoder().encode(yaml)),
  run(input) {
    try {
      parseConfig(utf8(input), 'nyx.yaml', '/base');
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      check(error.issues.length > 0, 'an error has an issue');
      check(
        error.issues.every((issue) => issue.line >= 1 && issue.column >= 1),
        'issues have a place',
      );
    }
    check(prototypesClean(), 'prototypes are untouched');
  },
};

const headerFile = (input: Uint8Array): ['keystore.json' | 'identity.key' | 'epochs.key', Uint8Array] =>
  input[0] === 0
    ? ['keystore.json', input.subarray(1)]
    : [input[0] === 1 ? 'identity.key' : 'epochs.key', input.subarray(1)];

export const keyStore: FuzzTarget = {
  name: 'key-store',
  dictionary: [
    'NYXS',
    '"version":1',
    '"encrypted":true',
    '"opslimit":1',
    'null',
    '"memlimitBytes":8192',
    '"salt":"00"',
    '{"version":1,"encrypted":false}',
  ],
  maxBytes: 600,
  executions: 300,
  seeds: () => [
    Uint8Array.of(0, ...ascii('{"version":1,"encrypted":false}')),
    Uint8Array.of(
      0,
      ...ascii(
        `{"version":1,"encrypted":true,"kdf":"argon2id13","salt":"${'00'.repeat(16)}","opslimit":1,"memlimitBytes":8192,"check":"${'11'.repeat(43)}"}`,
      ),
    ),
    Uint8Array.of(0, ...ascii('null')),
    Uint8Array.of(1, ...ascii('NYXS'), ...new Uint8Array(128).fill(7)),
    Uint8Array.of(2, ...ascii('NYXS'), ...new Uint8Array(104).fill(7)),
    Uint8Array.of(2, ...ascii('NYXS'), 0, 0, 0, 0, 0, 0, 0, 9, ...new Uint8Array(96).fill(7)),
  ],
  run(input) {
    const [name, content] = headerFile(input);
    // An owner may set any cost in his own header; a fuzzer need not pay it.
    if (
      name === 'keystore.json' &&
      /"opslimit":\s*[^1,}]|"opslimit":\s*1[\d.e]|"memlimitBytes":\s*\d{6}|e\+?\d/.test(utf8(content))
    )
      return;
    const parent = mkdtempSync(join(tmpdir(), 'nyx-fuzz-'));
    try {
      const folder = join(parent, 'data');
      mkdirSync(folder, { mode: 0o700 });
      writeFileSync(join(folder, name), content, { mode: 0o600 });
      for (const passphrase of [undefined, Buffer.from('secret')]) {
        try {
          const store = new KeyStore(new SealedFiles(folder, passphrase, { opslimit: 1, memlimitBytes: 8192 }), suite);
          for (const { epoch } of store.mixPublicKeys())
            check(Number.isSafeInteger(epoch), `epoch ${epoch} is a safe integer`);
          store.wipe();
        } catch (error) {
          if (!(error instanceof KeyStoreError)) throw error;
        }
      }
    } finally {
      rmSync(parent, { recursive: true });
    }
    check(prototypesClean(), 'prototypes are untouched');
  },
};

const grpcMetadata = (bytes: Uint8Array): Metadata => {
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS_KEY, Buffer.from(bytes));
  return metadata;
};

export const rpcStatus: FuzzTarget = {
  name: 'rpc-status',
  dictionary: [
    'type.googleapis.com/google.rpc.ErrorInfo',
    'type.googleapis.com/google.rpc.BadRequest',
    '__proto__',
    'NO_PATH',
    hex('0a'),
    hex('12'),
    hex('1a'),
    hex('ffffffff0f'),
  ],
  maxBytes: 2048,
  executions: 3000,
  seeds: () =>
    [
      encodeStatusDetails(14, 'no path', 'NO_PATH', { hop: '2' }, []),
      encodeStatusDetails(3, 'bad', 'BAD_REQUEST', { __proto: 'x' }, [{ field: 'hops', description: 'must be 3…7' }]),
      encodeStatusDetails(0, '', '', {}, []),
    ].map((bytes) => new Uint8Array(bytes)),
  run(input) {
    const error = nyxErrorFromGrpc({ code: 14, details: 'failed', metadata: grpcMetadata(input) });
    check(error instanceof NyxError && nyxErrorCodes.includes(error.code), 'a code of the closed set');
    check(
      Object.values(error.details).every((value) => typeof value === 'string'),
      'details are strings',
    );
    check(
      error.violations.every((v) => typeof v.field === 'string' && typeof v.description === 'string'),
      'violations are texts',
    );
    check(Object.getPrototypeOf(error.details) === Object.prototype, 'details have no other prototype');
    check(prototypesClean(), 'prototypes are untouched');
  },
};

interface StreamRequest {
  readonly options?: Parameters<Validator['streamOptions']>[1];
  readonly host?: string;
  readonly port?: number;
  readonly data?: Uint8Array;
  readonly deadlineMs?: number;
  readonly nodeIds?: readonly string[];
}

const methods = () => {
  const { NodeService, StreamService, PathService, KeyService, MessageService } = loadApi();
  return [NodeService, StreamService, PathService, KeyService, MessageService].flatMap(({ service }) =>
    Object.values(service),
  );
};

export const apiRequest: FuzzTarget = {
  name: 'api-request',
  dictionary: ['a.example', 'ab'.repeat(32), hex('ffffffffffffffffff01'), hex('0a00'), hex('08ffffffff0f')],
  maxBytes: 2048,
  executions: 3000,
  seeds: () =>
    methods().map((method, index) => {
      const options = { hops: 3, isolation: 'a', timeoutMs: 1000 };
      const request = {
        options,
        host: 'a.example',
        port: 80,
        connect: { host: 'a.example', port: 80, options },
        datagram: { host: 'a.example', port: 80, data: Buffer.of(1), deadlineMs: 40 },
        nodeIds: ['ab'.repeat(32)],
      };
      return Uint8Array.of(index, ...method.requestSerialize(request));
    }),
  run(input) {
    const all = methods();
    const method = all[(input[0] ?? 0) % all.length]!;
    let message: unknown;
    try {
      message = method.requestDeserialize(Buffer.from(input.subarray(1)));
    } catch {
      return; // not such a message: the gRPC server answers INTERNAL before any of our code
    }
    const visit = (value: unknown, depth: number): void => {
      if (typeof value !== 'object' || value === null || depth > 3) return;
      const request = value as StreamRequest;
      const validator = new Validator();
      try {
        if (request.options !== undefined) {
          const dial = validator.streamOptions('options', request.options);
          if (request.host !== undefined) validator.host('host', request.host);
          if (request.port !== undefined) validator.port('port', request.port);
          if (request.nodeIds !== undefined) validator.nodeIds('node_ids', request.nodeIds);
          validator.check();
          check((dial.hops ?? 3) >= 3 && (dial.hops ?? 3) <= 7, 'hops are 3…7');
          check((dial.timeoutMs ?? 1) >= 1 && (dial.timeoutMs ?? 1) <= 600_000, 'the time-out is bounded');
        }
        const { host, port, data, deadlineMs } = request;
        if (host !== undefined && port !== undefined && data instanceof Uint8Array) {
          validator.datagram('datagram', { host, port, data, ...(deadlineMs === undefined ? {} : { deadlineMs }) });
          validator.check();
          check(encodeUdpFrame(host, port, data).length <= MAX_UDP_BYTES + 4, 'what is taken fits into a cell');
          check((deadlineMs ?? 0) >= 0 && (deadlineMs ?? 0) <= 60_000, 'the deadline is bounded');
        }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        const { metadata } = toStatus(error);
        check(decodeErrorDetails({ metadata }).fieldViolations.length > 0, 'the caller is told the field');
      }
      for (const inner of Object.values(value)) visit(inner, depth + 1);
    };
    visit(message, 0);
    check(prototypesClean(), 'prototypes are untouched');
  },
};

const silent = { write: () => true } as unknown as NodeJS.WriteStream;

/** By its code: the class may come from another copy of the package than the CLI's. */
const isUsageError = (error: unknown): boolean => String((error as { code?: unknown }).code).startsWith('commander.');

/** Every option and argument parser of the CLI, and the command line as a whole without running a command. */
export const cliArguments: FuzzTarget = {
  name: 'cli-arguments',
  dictionary: [
    '--json',
    '--help',
    '--hops',
    'status',
    'paths',
    'connect',
    'bench',
    ':443',
    '[::1]:',
    'MiB',
    'ms',
    '\0',
    '=',
    '--',
    '1e9',
    '0x10',
    ',',
    'ab'.repeat(32),
  ],
  maxBytes: 600,
  executions: 1500,
  seeds: () =>
    [
      'a.example:443',
      '[2001:db8::1]:80',
      '64MiB',
      '1.5GB',
      '500ms',
      '2m',
      'cmix',
      `${'ab'.repeat(32)},${'cd'.repeat(32)},${'ef'.repeat(32)}`,
      'status\0--json',
      'paths\0nodes\0--help',
      'bench\0--hops\x009',
    ].map(ascii),
  run(input) {
    const text = latin1(input);
    const parsers: ((value: string) => unknown)[] = [
      parseHostPort,
      parseBytes,
      parseDurationMs,
      parseClass,
      parseNodeIds,
      integerBetween(1, 9),
    ];
    for (const parse of parsers) {
      try {
        const value = parse(text);
        if (typeof value === 'number') check(Number.isSafeInteger(value) && value >= 1, `${value} is a whole number`);
      } catch (error) {
        if (!isUsageError(error)) throw error;
      }
    }
    const program = buildProgram({
      stdin: process.stdin,
      stdout: silent,
      stderr: silent,
      env: {},
      cwd: '/',
      signal: AbortSignal.abort(),
    });
    for (const command of [program, ...program.commands, ...program.commands.flatMap((inner) => inner.commands)]) {
      command.exitOverride().action(() => {});
    }
    try {
      program.parse(text.split('\0'), { from: 'user' });
    } catch (error) {
      if (!isUsageError(error)) throw error;
    }
  },
};
