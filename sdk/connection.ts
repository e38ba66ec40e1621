/**
 * The connection to a daemon: one gRPC channel with every service on it, watched, and re-established with back-off
 * when the daemon goes away and comes back.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import {
  Channel,
  type ChannelCredentials,
  type ChannelOptions,
  type Client,
  connectivityState,
  credentials,
  Metadata,
} from '@grpc/grpc-js';
import { loadApi } from '@nyx/proto/load.ts';
import type {
  KeyServiceClient,
  MessageServiceClient,
  NodeServiceClient,
  PathServiceClient,
  StreamServiceClient,
  UnaryMethod,
} from '@nyx/proto/types.ts';
import { NyxError, nyxErrorFromGrpc } from './errors.ts';
import { defaultSocketPath } from './socket-path.ts';

export interface TlsFiles {
  /** PEM files: the authority that signed the daemon's certificate, and for mTLS the client's own pair. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Name in the daemon's certificate where it is not the address's host. */
  readonly serverName?: string;
}

export interface ConnectOptions {
  /** Unix socket of the daemon, as a path or `unix:/path`; default: `defaultSocketPath()`. */
  readonly socketPath?: string;
  /** `host:port` instead of a Unix socket. Always TLS. */
  readonly address?: string;
  readonly tls?: TlsFiles;
  /** Bearer token of a daemon that wants one. */
  readonly token?: string;
  readonly signal?: AbortSignal;
  /** Time for the first connection; default 5000. */
  readonly connectTimeoutMs?: number;
  /** Back-off between attempts to reconnect: from the first to the last; default 100…5000. */
  readonly reconnectMinMs?: number;
  readonly reconnectMaxMs?: number;
}

export interface Services {
  readonly node: NodeServiceClient;
  readonly stream: StreamServiceClient;
  readonly path: PathServiceClient;
  readonly message: MessageServiceClient;
  readonly key: KeyServiceClient;
}

export interface ConnectionObserver {
  /** The channel was ready and is not any more. */
  onDown(): void;
  /** It is ready again, after `downMs` and `attempts` failed tries. */
  onUp(downMs: number, attempts: number): void;
}

export class Connection {
  readonly services: Services;
  /** Where the daemon is, as a person would write it. */
  readonly where: string;
  readonly #channel: Channel;
  readonly #observer: ConnectionObserver;
  readonly #metadata: Metadata;
  #closed = false;

  constructor(options: ConnectOptions, observer: ConnectionObserver) {
    if (options.address !== undefined && options.socketPath !== undefined) {
      throw new NyxError('BAD_REQUEST', 'connectNyx: give socketPath or address, not both');
    }
    this.where = options.address ?? options.socketPath?.replace(/^unix:/, '') ?? defaultSocketPath();
    const target = options.address ?? `unix:${this.where}`;
    const min = options.reconnectMinMs ?? 100;
    const channelOptions: ChannelOptions = {
      'grpc.initial_reconnect_backoff_ms': min,
      'grpc.min_reconnect_backoff_ms': min,
      'grpc.max_reconnect_backoff_ms': options.reconnectMaxMs ?? 5_000,
      'grpc.client_idle_timeout_ms': 2 ** 31 - 1,
      'grpc.max_receive_message_length': 16 * 1024 * 1024,
      'grpc.use_local_subchannel_pool': 1,
      // Proxy variables of the environment are for the open web, not for the control API.
      'grpc.enable_http_proxy': 0,
    };
    if (options.address !== undefined) channelOptions['grpc.keepalive_time_ms'] = 20_000;
    const serverName = options.tls?.serverName;
    const ip = options.address === undefined || serverName !== undefined ? undefined : ipOf(options.address);
    // TLS sends no addresses as server names, and Node refuses to; the certificate is checked for the address all the same.
    if (serverName || ip) channelOptions['grpc.ssl_target_name_override'] = serverName ?? 'nyx-daemon';
    const channelCredentials =
      options.address === undefined ? credentials.createInsecure() : tlsCredentials(options.tls, ip);
    this.#channel = new Channel(target, channelCredentials, channelOptions);
    this.#observer = observer;
    this.#metadata = new Metadata();
    if (options.token !== undefined) this.#metadata.set('authorization', `Bearer ${options.token}`);
    const api = loadApi();
    const shared = { channelOverride: this.#channel };
    this.services = {
      node: new api.NodeService(target, channelCredentials, shared),
      stream: new api.StreamService(target, channelCredentials, shared),
      path: new api.PathService(target, channelCredentials, shared),
      message: new api.MessageService(target, channelCredentials, shared),
      key: new api.KeyService(target, channelCredentials, shared),
    };
  }

  /** Metadata for a call: a copy, with the token if there is one. */
  metadata(): Metadata {
    return this.#metadata.clone();
  }

  /** Settles when the channel is ready for the first time, and watches it from then on. */
  async open(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    let state = this.#channel.getConnectivityState(true);
    while (state !== connectivityState.READY) {
      // The first failed attempt decides: a daemon that is not there won't be there for the sake of waiting.
      if (state === connectivityState.TRANSIENT_FAILURE) throw unreachable(this.where);
      if (signal?.aborted)
        throw new NyxError('CANCELLED', 'connecting to the daemon: cancelled', { cause: signal.reason });
      if (Date.now() >= deadline) throw unreachable(this.where);
      await this.#changed(state, deadline, signal);
      state = this.#channel.getConnectivityState(true);
    }
    void this.#watch();
  }

  /** One unary call, ended by `signal`. */
  unary<Req, Res>(
    service: Client,
    method: UnaryMethod<Req, Res>,
    request: Parameters<UnaryMethod<Req, Res>>[0],
    signal: AbortSignal | undefined,
  ): Promise<Res> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new NyxError('CANCELLED', 'cancelled before it was sent', { cause: signal.reason }));
        return;
      }
      const onAbort = () => call.cancel();
      const call = method.call(service, request, this.metadata(), {}, (error, response) => {
        signal?.removeEventListener('abort', onAbort);
        if (error) reject(nyxErrorFromGrpc(error));
        else resolve(response as Res);
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  close(): void {
    this.#closed = true;
    this.#channel.close();
  }

  async #watch(): Promise<void> {
    while (!this.#closed) {
      await this.#changed(connectivityState.READY, Number.POSITIVE_INFINITY, undefined);
      if (this.#closed) return;
      const downSince = performance.now();
      let attempts = 0;
      this.#observer.onDown();
      let state = this.#channel.getConnectivityState(true);
      while (!this.#closed && state !== connectivityState.READY) {
        if (state === connectivityState.TRANSIENT_FAILURE) attempts += 1;
        await this.#changed(state, Number.POSITIVE_INFINITY, undefined);
        if (!this.#closed) state = this.#channel.getConnectivityState(true);
      }
      if (!this.#closed) this.#observer.onUp(performance.now() - downSince, attempts);
    }
  }

  #changed(from: connectivityState, deadline: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal?.removeEventListener('abort', done);
        resolve();
      };
      signal?.addEventListener('abort', done, { once: true });
      try {
        this.#channel.watchConnectivityState(from, deadline, done);
      } catch {
        done(); // the channel was closed: the caller looks
      }
    });
  }
}

function tlsCredentials(tls: TlsFiles | undefined, ip: string | undefined): ChannelCredentials {
  const read = (name: 'ca' | 'cert' | 'key') => {
    const path = tls?.[name];
    if (path === undefined) return null;
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new NyxError('BAD_REQUEST', `connectNyx: tls.${name}: ${(cause as Error).message}`, { cause });
    }
  };
  const [ca, cert, key] = [read('ca'), read('cert'), read('key')];
  if ((cert === null) !== (key === null)) {
    throw new NyxError('BAD_REQUEST', 'connectNyx: tls.cert and tls.key belong together; give both or none');
  }
  const verify =
    ip === undefined ? {} : { checkServerIdentity: (_: string, of: PeerCertificate) => checkServerIdentity(ip, of) };
  try {
    return credentials.createSsl(ca, key, cert, verify);
  } catch (cause) {
    throw new NyxError('BAD_REQUEST', `connectNyx: the TLS files can't be used: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** The host of `host:port` when it is an address. */
function ipOf(address: string): string | undefined {
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? undefined : host;
}

function unreachable(where: string): NyxError {
  return new NyxError(
    'DAEMON_UNREACHABLE',
    `no Nyx daemon answers at ${where}. Start one with \`nyx-cli daemon\`, or a whole local network with \`nyx-cli up\`.`,
  );
}
