/** Runs the conformance cases against a target and says what came of each. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { circuitCases } from './cases-circuit.ts';
import { cmixCases } from './cases-cmix.ts';
import { cmixNeighbourCases } from './cases-cmix-neighbour.ts';
import { cookieCases, handshakeCases } from './cases-handshake.ts';
import { linkCases } from './cases-link.ts';
import { messageCases } from './cases-messages.ts';
import { pathCases } from './cases-paths.ts';
import { relayCases } from './cases-relay.ts';
import { type Case, Context } from './context.ts';
import { contactJson, TestNode } from './node.ts';
import type { Target } from './peer.ts';

export interface Outcome {
  readonly id: string;
  readonly section: string;
  readonly level: Case['level'];
  readonly rule: string;
  readonly passed: boolean;
  /** Why it failed. */
  readonly reason?: string;
  readonly ms: number;
}

/** Of target.ts. */
const OWN_EPOCH = 5;

/** Cases that leave the target under load come last. */
export const allCases = (): Case[] => [
  ...circuitCases(),
  ...relayCases(),
  ...pathCases(),
  ...cmixCases(),
  ...cmixNeighbourCases(),
  ...messageCases(),
  ...linkCases(),
  ...handshakeCases(),
  ...cookieCases(),
];

export async function runCases(
  target: Target,
  cases: readonly Case[],
  node: TestNode,
  onDone?: (outcome: Outcome) => void,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const context = await Context.open(target, node);
  try {
    for (const item of cases) {
      const { id, section, level, rule } = item;
      const startedMs = performance.now();
      let reason: string | undefined;
      try {
        await item.run(context);
      } catch (error) {
        reason = (error as Error).message;
        // What a failed case has left is no ground for the next one.
        context.forgetLink();
      }
      const outcome = {
        id,
        section,
        level,
        rule,
        passed: reason === undefined,
        reason,
        ms: performance.now() - startedMs,
      };
      outcomes.push(outcome);
      onDone?.(outcome);
    }
  } finally {
    context.close();
  }
  return outcomes;
}

/** What a descriptor file says of a target: keys in hex. */
export function readTarget(json: string): Target {
  const { host, port, epoch, ...keys } = JSON.parse(json) as Record<string, string | number>;
  const key = (name: string): Uint8Array => new Uint8Array(Buffer.from(String(keys[name]), 'hex'));
  return {
    host: String(host),
    port: Number(port),
    epoch: Number(epoch),
    nodeId: key('nodeId'),
    linkX25519: key('linkX25519'),
    linkKem: key('linkKem'),
    mixX25519: key('mixX25519'),
    mixKem: key('mixKem'),
    identity: key('identity'),
    setupsPerSecond: keys.setupsPerSecond === undefined ? undefined : Number(keys.setupsPerSecond),
    compliance: keys.compliance as Target['compliance'],
    cmixCells: Number(keys.cmixCells ?? 100),
    cmixDelayMs: Number(keys.cmixDelayMs ?? 100),
    cmixWaitMs: Number(keys.cmixWaitMs ?? 0),
  };
}

/** Our own implementation in a process of its own. `script`: another one of the same kind. */
export async function startOwn(
  script = fileURLToPath(new URL('target.ts', import.meta.url)),
): Promise<{ target: Target; node: TestNode; stop: () => Promise<void> }> {
  const node = await TestNode.open(OWN_EPOCH);
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NYX_CONFORMANCE_PEER: contactJson(node.contact) },
  });
  const exited = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  const line = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the target ended with code ${code}`)));
    child.once('error', reject);
  });
  return {
    target: readTarget(line),
    node,
    stop: async () => {
      child.stdin.end();
      await exited;
      node.close();
    },
  };
}
