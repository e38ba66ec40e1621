/** Who signs views, as the configuration says. */
import type { AuthoritySet } from '@nyx/core/directory/view.ts';
import type { Config } from '../config/schema.ts';

/** The authorities that a node trusts: the configured ones, else the one that it is itself. */
export const authoritySetOf = (config: Pick<Config, 'directory'>, own: Uint8Array | undefined): AuthoritySet => {
  const { keys: configured, threshold } = config.directory.authorities;
  const keys =
    configured.length > 0 || own === undefined
      ? configured.map((key) => new Uint8Array(Buffer.from(key, 'hex')))
      : [own];
  return { threshold: threshold ?? Math.floor(keys.length / 2) + 1, keys };
};
