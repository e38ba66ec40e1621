/**
 * For tests of the proxies only: a Dialer that connects to loopback directly, without any network in between, and
 * fails or hangs on demand. Anything but the names and addresses below is an error.
 */
import { createSocket } from 'node:dgram';
import { connect as tcpConnect } from 'node:net';
import {
  DialError,
  type DialErrorCode,
  type Dialer,
  type DialOptions,
  type NyxConnection,
  type NyxDatagrams,
} from '../../pump/contract.ts';

export class DirectDialer implements Dialer {
  /** Every dial, in order. */
  readonly dials: { host: string; port: number; options: DialOptions; connection: NyxConnection }[] = [];
  readonly resolves: { kind: string; value: string; options: DialOptions }[] = [];
  readonly datagramOptions: DialOptions[] = [];
  readonly associations: NyxDatagrams[] = [];
  /** Reasons of the dials that were aborted. */
  readonly aborted: DialError[] = [];
  /** Called when a dial begins or is aborted. */
  onEvent: () => void = () => {};

  /**
   * `127.0.0.1`, `::1` and names that end in `.test` are dialled on loopback; `fail-<code>.test` fails with that code;
   * `hang.test` never answers.
   */
  connect(
    { host, port }: { readonly host: string; readonly port: number },
    options: DialOptions,
    signal?: AbortSignal,
  ): NyxConnection {
    const socket = tcpConnect({
      host: host === '::1' ? host : '127.0.0.1',
      port,
      allowHalfOpen: true,
      lookup: () => socket.destroy(new Error('a proxy test would have resolved a name')),
    });
    const failing = /^fail-(.*)\.test$/.exec(host);
    const connected = new Promise<{ address: string; port: number; family: 4 | 6 }>((resolve, reject) => {
      if (failing !== null) reject(new DialError(failing[1] as DialErrorCode, `asked to fail: ${host}`));
      else if (host !== 'hang.test') {
        socket.once('connect', () =>
          resolve({ address: socket.localAddress!, port: socket.localPort!, family: host === '::1' ? 6 : 4 }),
        );
        socket.once('error', () => reject(new DialError('CONNECTION_REFUSED', 'refused')));
      }
      signal?.addEventListener('abort', () => {
        this.aborted.push(signal.reason);
        socket.destroy();
        this.onEvent();
        reject(signal.reason);
      });
    });
    const connection: NyxConnection = {
      duplex: socket,
      connected,
      path: () => [],
      circuit: () => undefined,
      addedLatencyMs: 0,
    };
    this.dials.push({ host, port, options, connection });
    this.onEvent();
    return connection;
  }

  async datagrams(options: DialOptions): Promise<NyxDatagrams> {
    this.datagramOptions.push(options);
    const socket = createSocket('udp4');
    const association: NyxDatagrams = {
      onMessage: undefined,
      onClose: undefined,
      send(_host, port, data) {
        socket.send(data, port, '127.0.0.1');
        return true;
      },
      close: () => {
        socket.close();
        this.onEvent();
      },
    };
    socket.on('message', (data, from) => association.onMessage?.(from.address, from.port, data));
    this.associations.push(association);
    return association;
  }

  async resolve(kind: 'name' | 'address', value: string, options: DialOptions) {
    this.resolves.push({ kind, value, options });
    if (value === 'two.test') {
      return {
        addresses: [
          { family: 6 as const, address: '2001:db8::7', ttlSeconds: 60 },
          { family: 4 as const, address: '192.0.2.7', ttlSeconds: 60 },
        ],
        name: undefined,
      };
    }
    if (value === '192.0.2.7' || value === '2001:db8::7') return { addresses: [], name: 'two.test' };
    throw new DialError('RESOLVE_FAILED', 'unknown name');
  }
}
