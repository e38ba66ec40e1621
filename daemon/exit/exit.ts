import type { SessionOwner } from '@nyx/core/engine/contract.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import type { ExitOptions } from '../pump/contract.ts';

export interface ExitDeps {
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>) => void;
}

export class Exit {
  #socketsOpened = 0;

  constructor(options: ExitOptions, deps: ExitDeps) {
    deps.log('debug', 'exit', { rules: options.policy.length });
  }

  /** Serves one incoming session until sessionEnded(circuit). */
  serve(session: SessionApi, circuit: number): SessionOwner {
    session.close(0x06, `not built yet (${circuit})`);
    return { onClose() {} };
  }

  sessionEnded(_circuit: number): void {}

  get streams(): number {
    return 0;
  }

  get socketsOpened(): number {
    return this.#socketsOpened;
  }

  async close(): Promise<void> {}
}
