/** One run of TLC on one module with one configuration, and what came of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tools } from './jar.ts';

export interface Job {
  /** Module name and text; `others` are modules that it extends. */
  readonly module: string;
  readonly text: string;
  readonly others?: Readonly<Record<string, string>>;
  readonly config: string;
  readonly heapMb?: number;
  readonly timeoutMs: number;
  /** Where to put the state graph (GraphViz text with action labels). */
  readonly dumpTo?: string;
}

export interface Step {
  readonly action: string;
  readonly state: string;
}

export interface Outcome {
  /** `ok`: no property is violated. `violated`: one is, `property` says which. `error`: TLC could not do its work. */
  readonly result: 'ok' | 'violated' | 'error';
  readonly property: string | undefined;
  readonly states: number;
  readonly distinct: number;
  readonly depth: number;
  readonly seconds: number;
  /** The counterexample. */
  readonly steps: readonly Step[];
  /** Actions that no state allows: what they say is never tried. */
  readonly idleActions: readonly string[];
  readonly message: string;
}

const exitOk = 0;
/** Ended with this process: a run may take hours. */
const running = new Map<ChildProcess, string>();

/** Ends whatever TLC is still at, and clears up after it. */
export function endRuns(): void {
  for (const [child, folder] of running) {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function runTlc(tools: Tools, job: Job): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-formal-'));
  try {
    for (const [name, text] of Object.entries(job.others ?? {})) writeFileSync(join(folder, `${name}.tla`), text);
    writeFileSync(join(folder, `${job.module}.tla`), job.text);
    writeFileSync(join(folder, `${job.module}.cfg`), job.config);
    mkdirSync(join(folder, 'states'));
    const args = [
      `-Xmx${job.heapMb ?? 1024}m`,
      '-Xss8m',
      '-XX:+UseSerialGC',
      '-XX:TieredStopAtLevel=1',
      `-Duser.home=${tools.home}`,
      `-Djava.io.tmpdir=${folder}`,
      '-cp',
      tools.jar,
      'tlc2.TLC',
      '-tool',
      '-workers',
      '1',
      '-checkpoint',
      '0',
      '-coverage',
      '60',
      '-fp',
      '0',
      '-metadir',
      join(folder, 'states'),
      ...(job.dumpTo === undefined ? [] : ['-dump', 'dot,actionlabels', job.dumpTo]),
      `${job.module}.tla`,
    ];
    const startedMs = performance.now();
    const { status, output } = await execute(tools.java, args, folder, job.timeoutMs);
    return read(status, output, (performance.now() - startedMs) / 1000);
  } finally {
    // TLC may still be closing files of its own on some systems; nothing of it is needed any more.
    for (const entry of readdirSync(folder)) rmSync(join(folder, entry), { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  }
}

function execute(
  command: string,
  args: readonly string[],
  cwd: string,
  timeoutMs: number,
): Promise<{ status: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    running.set(child, cwd);
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      running.delete(child);
      const output = Buffer.concat(chunks).toString('utf8');
      if (signal !== null) resolve({ status: -1, output: `${output}\nTLC was ended after ${timeoutMs / 1000} s` });
      else resolve({ status: status ?? -1, output });
    });
  });
}

interface Message {
  readonly code: number;
  readonly text: string;
}

/** Message codes of TLC's tool mode (tlc2.output.EC). */
const Code = {
  invariantInitial: 2107,
  invariantBehavior: 2110,
  deadlock: 2114,
  temporal: 2116,
  state: 2217,
  stuttering: 2218,
  backTo: 2122,
  stats: 2199,
  depth: 2194,
  coverageAction: 2772,
} as const;

function read(status: number, output: string, seconds: number): Outcome {
  const messages = split(output);
  const stats = messages.filter(({ code }) => code === Code.stats).at(-1)?.text ?? '';
  const [states = 0, distinct = 0] = [...stats.matchAll(/([\d,]+) (?:distinct )?states/g)].map((match) =>
    Number(match[1]!.replaceAll(',', '')),
  );
  const depth = Number(/is (\d+)/.exec(messages.find(({ code }) => code === Code.depth)?.text ?? '')?.[1] ?? 0);
  const steps = messages.flatMap(readStep);
  const property = violatedProperty(messages);
  const result = status === exitOk ? 'ok' : property !== undefined ? 'violated' : 'error';
  const idleActions = messages
    .filter(({ code, text }) => code === Code.coverageAction && text.trim().endsWith(': 0:0'))
    .map(({ text }) => /^<(\w+) /.exec(text)?.[1] ?? text);
  const message = result === 'error' ? output.replaceAll(/@!@!@(START|END)MSG.*\n?/g, '').slice(-3000) : '';
  return { result, property, states, distinct, depth, seconds, steps, idleActions, message };
}

function split(output: string): Message[] {
  return [...output.matchAll(/@!@!@STARTMSG (\d+):\d+ @!@!@\n([\s\S]*?)\n?@!@!@ENDMSG \1 @!@!@/g)].map((match) => ({
    code: Number(match[1]),
    text: match[2]!,
  }));
}

function readStep({ code, text }: Message): Step[] {
  if (code === Code.stuttering) return [{ action: 'nothing ever happens again', state: '' }];
  if (code === Code.backTo) return [{ action: `and so on for ever: ${text.trim()}`, state: '' }];
  if (code !== Code.state) return [];
  const [head = '', ...rest] = text.split('\n');
  const action = /<(\w+)(\(.*?\))? line/.exec(head);
  return [{ action: action === null ? 'at first' : `${action[1]}${action[2] ?? ''}`, state: rest.join('\n').trim() }];
}

function violatedProperty(messages: readonly Message[]): string | undefined {
  for (const { code, text } of messages) {
    if (code === Code.invariantInitial || code === Code.invariantBehavior) {
      return /Invariant (\w+) is violated/.exec(text)?.[1] ?? 'an invariant';
    }
    if (code === Code.temporal) return 'a temporal property';
    if (code === Code.deadlock) return 'Deadlock';
  }
  return undefined;
}
