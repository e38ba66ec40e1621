/** The first messages of a session: capabilities both ways, and the last hop's keys; then it is ready. */
import { decodeCapabilities, encodeCapabilities } from './capabilities.ts';
import { CryptoMessage } from './crypto-stream.ts';
import type { SessionCore } from './session-core.ts';
import type { SessionPath } from './session-path.ts';

export class SessionSetup {
  /** The owner has been told that the session is ready. */
  readyTold = false;
  readonly #core: SessionCore;
  #capsQueued = false;
  #peerCapabilities: readonly string[] | undefined;
  #keysSeen = false;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** Once in a session, on whichever path comes first. */
  queueCaps(path: SessionPath): void {
    if (this.#capsQueued) return;
    this.#capsQueued = true;
    if (!path.crypto.write(CryptoMessage.caps, encodeCapabilities(this.#capabilities()))) {
      throw new RangeError('capabilities: too long for one CAPS message');
    }
  }

  /** False for a message that can't be read. */
  onCaps(body: Uint8Array): boolean {
    this.#peerCapabilities = decodeCapabilities(body);
    if (this.#peerCapabilities === undefined) return false;
    this.#core.fec?.onPeerCapabilities(this.#peerCapabilities);
    return true;
  }

  #capabilities(): readonly string[] {
    const { fec, options } = this.#core;
    return fec === undefined ? options.capabilities : [...options.capabilities, ...fec.capabilities];
  }

  onKeys(): void {
    this.#keysSeen = true;
  }

  tellReady(): void {
    if (this.readyTold || this.#peerCapabilities === undefined || (this.#core.isClient && !this.#keysSeen)) return;
    this.readyTold = true;
    this.#core.host.onReady?.(this.#peerCapabilities);
  }
}
