/** Lifecycle events of the node, for the API's watchers. Nothing is kept for those who come later. */

export const EventKind = {
  link: 'link',
  circuit: 'circuit',
  path: 'path',
  session: 'session',
  stream: 'stream',
  guard: 'guard',
  supervision: 'supervision',
  directory: 'directory',
  keys: 'keys',
  p2p: 'p2p',
  cover: 'cover',
  message: 'message',
  cmix: 'cmix',
  config: 'config',
  node: 'node',
} as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

export interface NodeEvent {
  readonly sequence: number;
  readonly timeUnixMs: number;
  readonly kind: EventKind;
  readonly name: string;
  readonly subject: string;
  readonly attributes: Readonly<Record<string, string>>;
}

export class EventBus {
  #sequence = 0;
  readonly #unixMs: () => number;
  readonly #listeners = new Set<(event: NodeEvent) => void>();

  constructor(unixMs: () => number) {
    this.#unixMs = unixMs;
  }

  /** Attributes that are undefined are left out. */
  publish(
    kind: EventKind,
    name: string,
    subject: string | number = '',
    attributes: Readonly<Record<string, string | number | undefined>> = {},
  ): void {
    const sequence = ++this.#sequence;
    if (this.#listeners.size === 0) return;
    const given: Record<string, string> = {};
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined) given[key] = String(value);
    const event: NodeEvent = {
      sequence,
      timeUnixMs: this.#unixMs(),
      kind,
      name,
      subject: String(subject),
      attributes: given,
    };
    for (const listener of this.#listeners) listener(event);
  }

  /** Calls back synchronously; must not throw. Returns how to stop. */
  subscribe(listener: (event: NodeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
