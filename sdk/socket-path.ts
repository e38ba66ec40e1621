/** Where a daemon's control socket is when nobody says otherwise. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * `$NYX_API_SOCKET`, else `$XDG_RUNTIME_DIR/nyx/api.sock`, else `~/.nyx/api.sock`. A function of the environment
 * alone: it does not look whether anything is there.
 */
export function defaultSocketPath(env: NodeJS.ProcessEnv = process.env): string {
  if (env.NYX_API_SOCKET) return env.NYX_API_SOCKET;
  if (env.XDG_RUNTIME_DIR) return join(env.XDG_RUNTIME_DIR, 'nyx', 'api.sock');
  return join(env.HOME ?? homedir(), '.nyx', 'api.sock');
}
