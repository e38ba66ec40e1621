/** What `nyx-cli up` and `npm start` do: a whole network on this machine, until Ctrl-C. */
import type { LocalNetworkProgress } from '@nyx/daemon/local-network.ts';
import { spawnDemoServer } from './measure/server-process.ts';
import { type Io, printJson, printLine, shortId } from './output.ts';
import { writePointer } from './pointer.ts';

export interface UpOptions {
  readonly mixes: number;
  readonly exits: number;
  readonly hops: number;
  /** Relays that are directory authorities as well. */
  readonly authorities: number;
  readonly json?: boolean;
}

/** One line per node that is ready. */
export function progressTo(say: (message: string) => void): (progress: LocalNetworkProgress) => void {
  return ({ stage, ready, total, node }) => {
    if (stage === 'ready') say(`[${ready}/${total}] ${node} is ready`);
  };
}

export async function runLocalNetwork(options: UpOptions, io: Io): Promise<void> {
  const say = (message: string) => {
    if (!io.signal.aborted) io.stderr.write(`${message}\n`);
  };
  const startedMs = performance.now();
  const { startLocalNetwork } = await import('@nyx/daemon/local-network.ts');
  const network = await startLocalNetwork({
    mixes: options.mixes,
    exits: options.exits,
    hops: options.hops,
    authorities: options.authorities,
    measureBandwidth: true,
    onProgress: progressTo(say),
    onUnexpectedExit: ({ name, code, signal, lastLog }) =>
      say(`${name} ended unexpectedly (${signal ?? `code ${code}`}):\n${lastLog.slice(-5).join('\n')}`),
  });
  try {
    const demo = await spawnDemoServer();
    const removePointer = writePointer(
      { pid: process.pid, apiSocket: network.apiSocket.replace(/^unix:/, '') },
      io.env,
      io.cwd,
    );
    try {
      const { socks, httpConnect, apiSocket, metrics, nodes } = network;
      const demoUrl = `http://${demo.address.host}:${demo.address.port}/`;
      if (options.json) {
        printJson(io, { ok: true, socks, httpConnect, apiSocket, metrics, demoUrl, nodes });
      } else {
        printLine(io);
        printLine(
          io,
          `Nyx is up after ${((performance.now() - startedMs) / 1000).toFixed(1)} s: ${options.mixes} mixes, ${options.exits} exit(s)${options.authorities > 1 ? `, of which ${options.authorities} are directory authorities` : ''}, one client, all on this machine.`,
        );
        printLine(io);
        for (const node of nodes) printLine(io, `  ${node.name.padEnd(8)} ${shortId(node.nodeId)}  pid ${node.pid}`);
        printLine(io);
        printLine(io, `  SOCKS5        ${socks}`);
        printLine(io, `  HTTP CONNECT  ${httpConnect}`);
        printLine(io, `  API           ${apiSocket}`);
        printLine(io, `  metrics       http://${metrics}/metrics`);
        printLine(io);
        printLine(io, 'Try, in another terminal:');
        printLine(io);
        printLine(io, `  curl --proxy socks5h://${socks} ${demoUrl}`);
        printLine(io, '  npx nyx-cli status');
        printLine(io, '  npx nyx-cli network');
        printLine(io, '  npx nyx-cli bench --hops 5');
        printLine(io, '  npx nyx-cli receive        prints an address; in a third: npx nyx-cli send ADDRESS Hello');
        printLine(io);
        printLine(io, 'Ctrl-C ends it and leaves nothing behind.');
      }
      if (!io.signal.aborted) await new Promise((done) => io.signal.addEventListener('abort', done, { once: true }));
      io.stderr.write('stopping the network\n');
    } finally {
      removePointer();
      await demo.close();
    }
  } finally {
    await network.stop();
  }
}
