/**
 * A directory source in front of a good one: it passes everything on, and bends answers about the view as it is told to.
 * Who asks before there is a new view waits for it here, so that nobody gets past the bent answer to another source.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { deltaEnds, isDelta } from '@nyx/core/directory/view-delta.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

const suite = createNativeSuite();

export interface Bend {
  /** `broken`: a bit is wrong. `absent`: whole views are given instead. */
  readonly deltas: 'broken' | 'absent';
  /** A bit of whole views is wrong too. */
  readonly breaksWhole?: boolean;
}

export interface BentDirectory {
  readonly url: string;
  /** Answers that were bent. */
  bent(): number;
  close(): void;
}

export async function bendDirectory(upstream: string, { deltas, breaksWhole = false }: Bend): Promise<BentDirectory> {
  let bent = 0;
  /** ETags of views that the last deltas led to: who asks on from there has just had one, and need not wait. */
  const reached = new Set<string>();
  const closed = new AbortController();
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? '/';
    const isView = path.startsWith('/view');
    const asked = isView && deltas === 'absent' ? '/view' : path;
    const held = request.headers['if-none-match'];
    const sent = await buffer(request);
    const ask = () =>
      fetch(new URL(asked, upstream), {
        method: request.method ?? 'GET',
        headers: held === undefined ? {} : { 'if-none-match': held },
        ...(sent.length > 0 && { body: sent }),
        signal: closed.signal,
      });
    let answer = await ask();
    while (answer.status === 304 && !reached.delete(held ?? '')) {
      await delay(50, undefined, { signal: closed.signal });
      answer = await ask();
    }
    const body = new Uint8Array(await answer.arrayBuffer());
    if (isDelta(body)) reached.add(`"${nodeIdHex(deltaEnds(body, suite).to)}"`);
    const breaks = isView && answer.status === 200 && (isDelta(body) ? deltas === 'broken' : breaksWhole);
    if (breaks) body[body.length - 100]! ^= 1;
    if (breaks || asked !== path) bent++;
    response.writeHead(answer.status).end(body);
  };
  const server = createServer((request, response) => {
    serve(request, response).catch((error: Error) => response.writeHead(502).end(`${error.message}\n`));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bent: () => bent,
    close: () => {
      closed.abort();
      server.close();
      server.closeAllConnections();
    },
  };
}
