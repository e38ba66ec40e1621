/** What `nyx-cli up` and `npm start` do: a whole network on this machine, until Ctrl-C. */
import { spawnDemoServer } from './measure/server-process.ts';
import { type Io, printJson, printLine, shortId } from './output.ts';
import { writePointer } from './pointer.ts';

export interface UpOptions {
  readonly mixes: number;
  readonly exits: number;
  readonly hops: number;
  readonly json?: boolean;
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
    onProgress: say,
    signal: io.signal,
  });
  try {
    const demo = await spawnDemoServer();
    const removePointer = writePointer({ pid: process.pid, apiSocket: network.apiSocket }, io.env, io.cwd);
    try {
      const { socks, httpConnect, apiSocket, metrics, nodes } = network;
      const demoUrl = `http://${demo.address.host}:${demo.address.port}/`;
      if (options.json) {
        printJson(io, { ok: true, socks, httpConnect, apiSocket, metrics, demoUrl, nodes });
      } else {
        const at = ({ host, port }: { host: string; port: number }) => `${host}:${port}`;
        printLine(io);
        printLine(
          io,
          `Nyx is up after ${((performance.now() - startedMs) / 1000).toFixed(1)} s: ${options.mixes} mixes, ${options.exits} exit(s), one client, all on this machine.`,
        );
        printLine(io);
        for (const node of nodes) printLine(io, `  ${node.role.padEnd(7)} ${shortId(node.nodeId)}  pid ${node.pid}`);
        printLine(io);
        printLine(io, `  SOCKS5        ${at(socks)}`);
        printLine(io, `  HTTP CONNECT  ${at(httpConnect)}`);
        printLine(io, `  API           ${apiSocket}`);
        printLine(io, `  metrics       ${typeof metrics === 'string' ? metrics : `http://${at(metrics)}/metrics`}`);
        printLine(io);
        printLine(io, 'Try, in another terminal:');
        printLine(io);
        printLine(io, `  curl --proxy socks5h://${at(socks)} ${demoUrl}`);
        printLine(io, '  npx nyx-cli status');
        printLine(io, '  npx nyx-cli bench --hops 5');
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
