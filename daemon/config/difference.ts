/** What two configurations differ in, key by key, and a third one made of both. */
import { isDeepStrictEqual } from 'node:util';
import { type ConfigKey, reloadClasses } from './reload-classes.ts';
import type { Config } from './schema.ts';

const keys = Object.keys(reloadClasses) as ConfigKey[];

type Section = Record<string, unknown>;

/** Undefined where the section is missing. */
const valueAt = (config: Config, key: ConfigKey): unknown =>
  key.split('.').reduce<unknown>((at, name) => (at as Section | undefined)?.[name], config);

export const changedKeys = (before: Config, after: Config): ConfigKey[] =>
  keys.filter((key) => !isDeepStrictEqual(valueAt(before, key), valueAt(after, key)));

/** `config` with the values that `other` has for these keys. A section that `other` does not have goes, or comes, as a whole. */
export const withKeysOf = (config: Config, other: Config, taken: readonly ConfigKey[]): Config => {
  const merged = structuredClone(config);
  for (const key of taken) {
    const names = key.split('.');
    let from: Section = other as unknown as Section;
    let to: Section = merged as unknown as Section;
    for (const [depth, name] of names.entries()) {
      const isLast = depth === names.length - 1;
      if (isLast || from[name] === undefined || to[name] === undefined) {
        to[name] = structuredClone(from[name]);
        break;
      }
      from = from[name] as Section;
      to = to[name] as Section;
    }
  }
  return merged;
};
