/**
 * `npm run test:netns [-- scenario…] [--seed N] [--only TEXT]… [--runs N] [--json FILE]`: real networks of network namespaces on this machine.
 * Exit code 0: all that was asked for ran and came out as it must; 1: something did not; 2: bad command line; 77: this
 * machine lacks something that is needed (root, `ip`, /dev/net/tun), nothing was run.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { namespaceOf } from './lab.ts';
import { assertRequirements, hasNetem, MissingRequirement } from './requirements.ts';
import type { Scenario } from './scenario.ts';
import { calibrate } from './scenarios/calibrate.ts';
import { form } from './scenarios/form.ts';
import { move } from './scenarios/move.ts';
import { paths } from './scenarios/paths.ts';
import { transfer } from './scenarios/transfer.ts';

const ExitCode = { ok: 0, failed: 1, badUsage: 2, missing: 77 } as const;
const RESULTS = fileURLToPath(new URL('../../bench/results', import.meta.url));

const scenarios: Readonly<Record<string, Scenario>> = { calibrate, form, transfer, paths, move };

process.exitCode = await main();

async function main(): Promise<number> {
  const parsed = parse();
  if (typeof parsed === 'string') {
    console.error(
      `${parsed}\nscenarios: ${Object.keys(scenarios).join(', ')}; --seed N, --only TEXT (again for more), --runs N, --json FILE`,
    );
    return ExitCode.badUsage;
  }
  try {
    assertRequirements();
  } catch (error) {
    if (!(error instanceof MissingRequirement)) throw error;
    console.error(`test:netns can't run here: ${error.message}`);
    return ExitCode.missing;
  }
  const { names, seed, only, runs, json } = parsed;
  console.log(
    `impairments by the router of test/netns, in user space, seed ${seed}; the kernel has ${hasNetem(namespaceOf('netem')) ? 'netem, which is not used' : 'no netem'}`,
  );
  // A second Ctrl-C ends this at once; what it leaves behind, the next run removes.
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => abort.abort(new Error(`${signal}: ended early`)));
  }
  let failed = false;
  for (const name of names) {
    console.log(`\n== ${name}`);
    const startedMs = performance.now();
    const problems: string[] = [];
    let result: unknown;
    try {
      const say = (line: string) => console.log(line);
      result = await scenarios[name]!({
        seed,
        only,
        runs,
        say,
        signal: abort.signal,
        fail: (why) => problems.push(why),
      });
    } catch (error) {
      problems.push((error as Error).stack ?? String(error));
    }
    const tookSeconds = Math.round((performance.now() - startedMs) / 100) / 10;
    const file = json ?? join(RESULTS, `netns-${name}.json`);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify({ scenario: name, seed, tookSeconds, problems, result }, null, 1)}\n`);
    for (const problem of problems) console.log(`FAILED: ${problem}`);
    console.log(`== ${name}: ${problems.length === 0 ? 'ok' : 'FAILED'} (${tookSeconds} s), ${file}`);
    failed ||= problems.length > 0;
    if (abort.signal.aborted) break;
  }
  return failed || abort.signal.aborted ? ExitCode.failed : ExitCode.ok;
}

interface Arguments {
  readonly names: readonly string[];
  readonly seed: number;
  readonly only: readonly string[];
  readonly runs: number;
  readonly json: string | undefined;
}

function parse(): Arguments | string {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        seed: { type: 'string', default: '1' },
        only: { type: 'string', multiple: true, default: [] },
        runs: { type: 'string', default: '1' },
        json: { type: 'string' },
      },
    });
    const names = positionals.length > 0 ? positionals : Object.keys(scenarios);
    const unknown = names.find((name) => !Object.hasOwn(scenarios, name));
    if (unknown !== undefined) return `there is no scenario "${unknown}"`;
    const seed = Number(values.seed);
    if (!Number.isSafeInteger(seed) || seed < 0) return `--seed must be a whole number, got "${values.seed}"`;
    const runs = Number(values.runs);
    if (!Number.isSafeInteger(runs) || runs < 1 || runs > 99) return `--runs must be 1…99, got "${values.runs}"`;
    return { names, seed, only: values.only, runs, json: values.json };
  } catch (error) {
    return (error as Error).message;
  }
}
