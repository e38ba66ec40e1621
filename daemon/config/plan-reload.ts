/** What a reload would do: the file is read and checked as a whole, and compared with the configuration in force. */
import type { ConfigIssue } from './config-error.ts';
import { changedKeys, withKeysOf } from './difference.ts';
import { readConfig } from './load.ts';
import { type ConfigKey, ReloadClass, reloadClassOf } from './reload-classes.ts';
import { checkRules } from './rules.ts';
import type { Config } from './schema.ts';

/** A key and where the file says it; what it does not say is where the next section around it is. */
export interface KeyAt {
  readonly key: ConfigKey;
  readonly line: number;
  readonly column: number;
}

/** `left`: keys that need a restart and stay as they were. Empty unless a part may be applied. */
export type ReloadPlan =
  | { readonly kind: 'unchanged'; readonly left: readonly KeyAt[] }
  | {
      readonly kind: 'apply';
      readonly config: Config;
      readonly changed: readonly KeyAt[];
      readonly left: readonly KeyAt[];
    }
  | { readonly kind: 'needs-restart'; readonly keys: readonly KeyAt[] };

/** `partial`: keys that need a restart keep their present values, and the rest is applied. Throws ConfigError; the present configuration stays then. */
export const planReload = (path: string, present: Config, partial: boolean): ReloadPlan => {
  const { config: wanted, issueAt, fail } = readConfig(path);
  const at = (key: ConfigKey): KeyAt => {
    const { line, column } = issueAt(key.split('.'), '', true);
    return { key, line, column };
  };
  const changed = changedKeys(present, wanted);
  const kept = changed.filter((key) => reloadClassOf(key, wanted) === ReloadClass.restart);
  if (kept.length > 0 && !partial) return { kind: 'needs-restart', keys: kept.map(at) };
  const left = kept.map(at);
  const applied = changed.filter((key) => !kept.includes(key));
  if (applied.length === 0) return { kind: 'unchanged', left };
  const config = kept.length === 0 ? wanted : withKeysOf(wanted, present, kept);
  // Each of the two was sound; what they are together has to be as well.
  const violations: ConfigIssue[] = checkRules(config).map((found) =>
    issueAt(found.path, `${found.message} (with what needs a restart left as it is)`),
  );
  if (violations.length > 0) fail(violations);
  return { kind: 'apply', config, changed: applied.map(at), left };
};
