/** The router process as its owner sees it: commands in order, each with its answer. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { LineCounts } from './impairment.ts';
import type { SwitchCounts } from './packet-switch.ts';
import type { RouterAnswer, RouterCommand } from './router-process.ts';

const MAIN = fileURLToPath(new URL('./router-process.ts', import.meta.url));

export interface RouterCounts {
  readonly network: SwitchCounts;
  readonly lines: Readonly<Record<string, { readonly up: LineCounts; readonly down: LineCounts }>>;
  /** Packets that a device did not take. */
  readonly refused: number;
  /** Microseconds. */
  readonly cpu: { readonly user: number; readonly system: number };
  readonly rssBytes: number;
}

export class Router {
  readonly #child: ChildProcess;
  readonly #waiting: PromiseWithResolvers<unknown>[] = [];
  readonly #exited: Promise<unknown>;
  #ended: string | undefined;

  constructor(seed: number) {
    this.#child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, String(seed)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
    });
    this.#exited = once(this.#child, 'exit');
    this.#child.once('exit', (code, signal) => this.#end(`the router ended (${signal ?? `code ${code}`})`));
    this.#child.once('error', (error) => this.#end(`the router did not start: ${error.message}`));
    this.#child.stdin!.on('error', () => {}); // told by 'exit'
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const answer = JSON.parse(line) as RouterAnswer;
      const waiting = this.#waiting.shift()!;
      if (answer.ok) waiting.resolve(answer.value);
      else waiting.reject(new Error(answer.why));
    });
  }

  tell(command: RouterCommand): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(new Error(this.#ended));
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.push(answer);
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    return answer.promise;
  }

  async count(): Promise<RouterCounts> {
    return (await this.tell({ do: 'count' })) as RouterCounts;
  }

  /** Its devices go with it. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.#exited;
    clearTimeout(timer);
  }

  #end(why: string): void {
    this.#ended = why;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(new Error(why));
  }
}
