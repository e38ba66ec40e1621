/** Behind scripts/start.mjs: `--check`, or the same as `nyx-cli up` with its options. */
import { runCheck } from './check.ts';
import { ExitCode } from './exit-codes.ts';
import { run } from './main.ts';

export async function runStart(argv: readonly string[]): Promise<number> {
  if (!argv.includes('--check')) return await run(['up', ...argv]);
  if (argv.length > 1) {
    process.stderr.write('nyx: --check takes no other option\n');
    return ExitCode.usage;
  }
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => interrupt.abort());
  const { stdin, stdout, stderr, env } = process;
  return await runCheck({ stdin, stdout, stderr, env, cwd: process.cwd(), signal: interrupt.signal });
}
