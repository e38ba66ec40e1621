/** A daemon as a process of its own, from the configuration file to the line that says it is ready, and to its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface NodeFailure {
  readonly name: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly lastLog: readonly string[];
}

/** What a node says of itself once it is ready. */
export interface ReadyNode {
  /** As its owner calls it, e.g. `mix-0`. */
  readonly name: string;
  readonly pid: number;
  readonly nodeId: string;
  /** `unix:/path`. */
  readonly apiSocket: string;
  /** host:port. */
  readonly metrics: string;
  readonly link: string;
  readonly socks: string;
  readonly httpConnect: string;
  readonly directory: string;
  /** Multiaddr of its control plane; empty: there is none, or it does not listen. */
  readonly p2p: string;
  readonly lastLog: () => readonly string[];
}

export interface NodeProcessOptions {
  /** Comes before the command line, e.g. to run in a network namespace; must keep the process id. */
  readonly launcher?: readonly string[];
  /** It ended although nobody called stop(). */
  readonly onUnexpectedExit?: (failure: NodeFailure) => void;
}

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
/** A small young generation keeps an idle node lean; packets live outside the heap. */
const NODE_FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning'];
/** Stripping types costs every process 30 MB and a second; with the cache only the first one pays. */
const COMPILE_CACHE = fileURLToPath(new URL('../node_modules/.cache/nyx-compile', import.meta.url));
const LOG_LINES = 40;

/** One daemon process. It ends when this process does: its stdin is a pipe that only we hold. */
export class NodeProcess {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #log: string[] = [];
  readonly #line = Promise.withResolvers<Record<string, string | number | boolean>>();
  readonly #exited: Promise<void>;
  #stopped = false;

  /** Undefined: it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  constructor(name: string, configPath: string, options: NodeProcessOptions = {}) {
    this.#name = name;
    // A failure to start is reported by ready(), or not waited for any more.
    this.#line.promise.catch(() => {});
    const { launcher = [], onUnexpectedExit } = options;
    const daemon = [process.execPath, ...NODE_FLAGS, MAIN, '--config', configPath, '--exit-with-parent'];
    const [command, ...words] = [...launcher, ...daemon];
    this.#child = spawn(command!, words, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
    });
    // Writing to a process that is gone; its exit is told on its own.
    this.#child.stdin!.on('error', () => {});
    eachLine(this.#child.stdout!, (line) => this.#onLine(line));
    eachLine(this.#child.stderr!, (line) => {
      this.#log.push(line.slice(0, 2000));
      if (this.#log.length > LOG_LINES) this.#log.shift();
    });
    const exited = Promise.withResolvers<void>();
    this.#exited = exited.promise;
    this.#child.once('error', (error) => {
      this.#line.reject(new Error(`${name} could not be started: ${error.message}`));
      exited.resolve();
    });
    this.#child.once('close', (code, signal) => {
      exited.resolve();
      const how = signal === null ? `code ${code}` : `signal ${signal}`;
      this.#line.reject(new Error(`${name} ended with ${how} before it was ready:\n${this.#log.join('\n')}`));
      if (!this.#stopped) onUnexpectedExit?.({ name, code, signal, lastLog: [...this.#log] });
    });
  }

  async ready(timeoutMs: number): Promise<ReadyNode> {
    const timer = setTimeout(
      () =>
        this.#line.reject(new Error(`${this.#name} was not ready within ${timeoutMs} ms:\n${this.#log.join('\n')}`)),
      timeoutMs,
    );
    try {
      const line = await this.#line.promise;
      const text = (key: string) => String(line[key] ?? '');
      return {
        name: this.#name,
        pid: this.#child.pid!,
        nodeId: text('nodeId'),
        apiSocket: text('api'),
        metrics: text('metrics'),
        link: text('link'),
        socks: text('socks'),
        httpConnect: text('httpConnect'),
        directory: text('directory'),
        p2p: text('p2p'),
        lastLog: () => [...this.#log],
      };
    } finally {
      clearTimeout(timer);
    }
  }

  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs);
    await this.#exited;
    clearTimeout(timer);
  }

  #onLine(line: string): void {
    try {
      const value = JSON.parse(line) as Record<string, string | number | boolean>;
      if (value.ready === true) this.#line.resolve(value);
    } catch {
      // Not the ready line; kept with the log, where it can be seen.
      this.#log.push(line.slice(0, 2000));
    }
  }
}

const eachLine = (stream: NodeJS.ReadableStream, onLine: (line: string) => void): void => {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!.slice(-65_536);
    for (const line of lines) if (line !== '') onLine(line);
  });
};
