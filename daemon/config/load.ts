/** Reads the YAML configuration; every problem comes with line, column, key and what would be right. */
import { readFileSync, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { z } from 'zod';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import { checkRules } from './rules.ts';
import { type Config, configSchema } from './schema.ts';
import { nearest } from './suggest.ts';

const MAX_CONFIG_BYTES = 1_048_576;

/** Throws ConfigError for a bad configuration, and for a file that can't be read. Paths become absolute, by the file's folder. */
export const loadConfig = (path: string): Config => readConfig(path).config;

/** A configuration that was read, and what speaks of places in it. */
export interface ReadConfig {
  readonly config: Config;
  /** `wantKey`: where the key is, not its value. */
  readonly issueAt: (path: readonly PropertyKey[], message: string, wantKey?: boolean) => ConfigIssue;
  readonly fail: (issues: readonly ConfigIssue[]) => never;
}

/** As loadConfig. */
export const readConfig = (path: string): ReadConfig => {
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > MAX_CONFIG_BYTES) throw new Error(`is ${size} bytes long; at most ${MAX_CONFIG_BYTES} are read`);
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(path, [
      { line: 0, column: 0, path: '', message: `cannot be read: ${(error as Error).message}` },
    ]);
  }
  return parse(text, path, dirname(resolve(path)));
};

/** As loadConfig, from text; `name` is what errors call it, `base` the folder that relative paths start from. */
export const parseConfig = (text: string, name: string, base: string = process.cwd()): Config =>
  parse(text, name, base).config;

const parse = (text: string, name: string, base: string): ReadConfig => {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, version: '1.2' });
  if (document.errors.length > 0) {
    throw new ConfigError(
      name,
      document.errors.map((error) => ({
        line: error.linePos?.[0].line ?? 1,
        column: error.linePos?.[0].col ?? 1,
        path: '',
        message: `is not valid YAML: ${withoutSource(error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, ''))}`,
      })),
    );
  }
  const locate = (path: readonly PropertyKey[], wantKey: boolean) =>
    positionOf(document.contents, path, wantKey, lines);
  const issue = (path: readonly PropertyKey[], message: string, wantKey = false): ConfigIssue => ({
    ...locate(path, wantKey),
    path: formatPath(path),
    message,
  });

  let value: unknown = {};
  try {
    if (document.contents !== null) value = document.toJS({ maxAliasCount: 50 });
  } catch (error) {
    // Aliases are resolved only here: one without an anchor, or too many of them.
    const { line, column } = locate([], false);
    throw new ConfigError(name, [
      { line, column, path: '', message: `is not valid YAML: ${withoutSource((error as Error).message)}` },
    ]);
  }
  const parsed = configSchema.safeParse(value);
  if (!parsed.success)
    throw new ConfigError(
      name,
      parsed.error.issues.flatMap((found) => explain(found, value, issue)),
    );
  const config = withAbsolutePaths(parsed.data, base);
  const violations = checkRules(config);
  const fail = (issues: readonly ConfigIssue[]): never => {
    throw new ConfigError(name, issues);
  };
  if (violations.length > 0) fail(violations.map((found) => issue(found.path, found.message)));
  return { config, issueAt: issue, fail };
};

/** A configuration of nothing but defaults and what is given; for tests and generated networks. Throws ConfigError. */
export const defaultConfig = (input: z.input<typeof configSchema> = {}, base: string = process.cwd()): Config =>
  parseConfig(JSON.stringify(input), 'configuration', base);

const explain = (
  found: z.core.$ZodIssue,
  value: unknown,
  issue: (path: readonly PropertyKey[], message: string, wantKey?: boolean) => ConfigIssue,
): ConfigIssue[] => {
  switch (found.code) {
    case 'unrecognized_keys': {
      const known = keysAt(found.path);
      return found.keys.map((key) => {
        const near = nearest(key, known);
        const hint = near === undefined ? `known here: ${known.join(', ')}` : `did you mean ${near}?`;
        return issue([...found.path, key], `is not a known key; ${hint}`, true);
      });
    }
    case 'invalid_type': {
      const given = found.path.reduce<unknown>(
        (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
        value,
      );
      if (given === undefined) return [issue(found.path, `is missing; must be a ${found.expected}`)];
      const expected = { object: 'section with keys', array: 'list', int: 'whole number' }[found.expected as string];
      const article = expected ?? found.expected;
      return [issue(found.path, `${describe(given, found.path)}; must be a ${article}`)];
    }
    default: {
      const given = found.path.reduce<unknown>(
        (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
        value,
      );
      // A message that does not start with what is wrong gets that in front.
      const said = found.code === 'custom' && !found.message.startsWith('must');
      return [issue(found.path, said ? found.message : `${describe(given, found.path)}; ${found.message}`)];
    }
  }
};

/** Known keys of the section at `path`. */
const keysAt = (path: readonly PropertyKey[]): string[] => {
  let schema: unknown = configSchema;
  const unwrap = (outer: unknown): unknown => {
    let inner = outer;
    while (
      inner instanceof z.ZodDefault ||
      inner instanceof z.ZodPrefault ||
      inner instanceof z.ZodOptional ||
      inner instanceof z.ZodNullable
    ) {
      inner = inner.unwrap();
    }
    return inner;
  };
  for (const key of path) {
    schema = unwrap(schema);
    if (!(schema instanceof z.ZodObject)) return [];
    schema = (schema.shape as Record<PropertyKey, unknown>)[key];
  }
  schema = unwrap(schema);
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
};

/** The place says enough of what the parser quotes. */
const withoutSource = (message: string): string => message.replace(/^(Unresolved alias[^:]*|[^:"]*): .*$/s, '$1');

/** Errors go into logs: what stands where a secret is named may be the secret itself. */
const mayBeSecret = (path: readonly PropertyKey[]): boolean =>
  path[0] === 'keys' || path.some((key) => /^(tokenFile|keyFile|familyKeyFiles)$/.test(String(key)));

const describe = (value: unknown, path: readonly PropertyKey[]): string => {
  if (value === null) return 'is empty';
  if (Array.isArray(value)) return 'is a list';
  if (typeof value === 'object') return 'is a section';
  if (mayBeSecret(path)) return 'has another kind of value';
  const text = JSON.stringify(value) ?? String(value);
  return `is ${text.length > 60 ? `${text.slice(0, 57)}…` : text}`;
};

const formatPath = (path: readonly PropertyKey[]): string =>
  path.map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index === 0 ? '' : '.'}${String(key)}`)).join('');

/** Where the value (or its key) is; for what is absent, the nearest enclosing key that exists. */
const positionOf = (
  root: unknown,
  path: readonly PropertyKey[],
  wantKey: boolean,
  lines: LineCounter,
): { line: number; column: number } => {
  let node: unknown = root;
  let offset = (root as Node | null)?.range?.[0] ?? 0;
  for (const [depth, key] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key);
      if (pair === undefined) break;
      const keyOffset = (pair.key as Node).range?.[0] ?? offset;
      const isLast = depth === path.length - 1;
      const value = pair.value as Node | null;
      offset = isLast && !wantKey ? (value?.range?.[0] ?? keyOffset) : keyOffset;
      node = value;
    } else {
      const item = (node as { items?: (Node | null)[] } | null)?.items?.[key as number];
      if (item == null) break;
      offset = item.range?.[0] ?? offset;
      node = item;
    }
  }
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
};

const withAbsolutePaths = (config: Config, base: string): Config => {
  const absolute = (path: string) => (isAbsolute(path) ? path : resolve(base, path));
  const maybe = (path: string | undefined) => (path === undefined ? undefined : absolute(path));
  const source = (text: string) => (/^https?:\/\//i.test(text) ? text : absolute(text));
  const dataDir = absolute(config.dataDir);
  const { tls } = config.api;
  return {
    ...config,
    dataDir,
    familyKeyFiles: config.familyKeyFiles.map(absolute),
    directory: { ...config.directory, sources: config.directory.sources.map(source) },
    authority:
      config.authority === undefined ? undefined : { ...config.authority, keyFile: absolute(config.authority.keyFile) },
    keys: { ...config.keys, passphraseFile: maybe(config.keys.passphraseFile) },
    api: {
      ...config.api,
      socket: absolute(config.api.socket ?? resolve(dataDir, 'api.sock')),
      tokenFile: maybe(config.api.tokenFile),
      tls:
        tls === undefined
          ? undefined
          : { certFile: absolute(tls.certFile), keyFile: absolute(tls.keyFile), clientCaFile: maybe(tls.clientCaFile) },
    },
  };
};

export { type Config, type ConfigInput, configSchema } from './schema.ts';
