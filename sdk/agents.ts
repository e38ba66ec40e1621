/** HTTP over Nyx: agents for node:http and node:https, and a dispatcher for undici's fetch. */
import { type AgentOptions, Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent, type AgentOptions as HttpsAgentOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { type buildConnector, type Dispatcher, Agent as UndiciAgent } from 'undici';
import { type RetryPolicy, retryInterceptor } from './retry.ts';
import type { DialOptions, NyxSocket, PathOptions } from './socket.ts';

export type Dial = (options: DialOptions) => NyxSocket;

interface Endpoint {
  readonly host?: string | null;
  readonly hostname?: string | null;
  readonly port?: number | string | null;
  readonly servername?: string;
}

function dialTo(dial: Dial, to: Endpoint, path: PathOptions, defaultPort: number): NyxSocket {
  return dial({ ...path, host: to.hostname ?? to.host ?? 'localhost', port: Number(to.port || defaultPort) });
}

/** For `http.request({ agent })`. Keep-alive as configured in `options`. */
export class NyxHttpAgent extends HttpAgent {
  readonly #dial: Dial;
  readonly #path: PathOptions;

  constructor(dial: Dial, path: PathOptions, options: AgentOptions) {
    super(options);
    this.#dial = dial;
    this.#path = path;
  }

  override createConnection(options: Endpoint): Duplex {
    return dialTo(this.#dial, options, this.#path, 80);
  }
}

/** For `https.request({ agent })`: TLS runs end to end, between this process and the target. */
export class NyxHttpsAgent extends HttpsAgent {
  readonly #dial: Dial;
  readonly #path: PathOptions;

  constructor(dial: Dial, path: PathOptions, options: HttpsAgentOptions) {
    super(options);
    this.#dial = dial;
    this.#path = path;
  }

  override createConnection(options: Endpoint & ConnectionOptions): Duplex {
    const socket = dialTo(this.#dial, options, this.#path, 443);
    return tlsConnect({ ...options, socket, host: undefined, path: undefined, port: undefined });
  }
}

export interface DispatcherOptions extends Omit<UndiciAgent.Options, 'connect'> {
  /** For https targets: authorities, client certificates. */
  readonly targetTls?: ConnectionOptions;
  /** Repeats GET, HEAD, OPTIONS, PUT and DELETE that failed on the way before any answer. Default: never. */
  readonly retry?: RetryPolicy;
}

/** For `fetch(url, { dispatcher })`. `connect` of undici: a socket that is ready to be written to. */
export function nyxDispatcher(dial: Dial, path: PathOptions, options: DispatcherOptions): Dispatcher {
  const { targetTls, retry, ...agentOptions } = options;
  const connect: buildConnector.connector = (to, callback) => {
    const https = to.protocol === 'https:';
    const socket = dialTo(dial, to, path, https ? 443 : 80);
    const stream = https
      ? tlsConnect({
          ...targetTls,
          socket,
          servername: to.servername ?? to.hostname,
          ALPNProtocols: ['http/1.1'],
        })
      : socket;
    const onError = (error: Error) => callback(error, null);
    stream.once('error', onError);
    stream.once(https ? 'secureConnect' : 'connect', () => {
      stream.off('error', onError);
      callback(null, stream as unknown as Parameters<typeof callback>[1] & object);
    });
  };
  const agent = new UndiciAgent({ ...agentOptions, connect });
  return retry === undefined ? agent : agent.compose(retryInterceptor(retry));
}
