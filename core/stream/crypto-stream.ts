/** The CRYPTO stream: an ordered byte stream of messages `type (1) ‖ length (2) ‖ body` (docs/protocol.md §5). */
import { ReceiveBuffer, type Received } from './receive-buffer.ts';
import { SendBuffer } from './send-buffer.ts';

export const CryptoMessage = { caps: 1, keys: 2, rekey: 3, rekeyKeys: 4 } as const;

const HEADER_BYTES = 3;
const MAX_MESSAGE_BYTES = 8192;
/** There is no flow control on it, so this is all that may be outstanding. */
const WINDOW_BYTES = 65_536;

export class CryptoStream {
  readonly send = new SendBuffer();
  readonly #receive = new ReceiveBuffer();
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerKnown = false;

  get heldBytes(): number {
    return this.send.heldBytes + this.#receive.heldBytes;
  }

  get hasData(): boolean {
    return this.send.hasLost || this.send.next < this.send.tail;
  }

  /** False when too much is unacknowledged, or the message is too long. */
  write(type: number, body: Uint8Array): boolean {
    if (body.length > MAX_MESSAGE_BYTES || this.send.unackedBytes + body.length + HEADER_BYTES > WINDOW_BYTES) {
      return false;
    }
    const message = new Uint8Array(HEADER_BYTES + body.length);
    message[0] = type;
    message[1] = body.length >>> 8;
    message[2] = body.length;
    message.set(body, HEADER_BYTES);
    this.send.write(message, message.length);
    return true;
  }

  receive(offset: number, payload: Uint8Array, from: number, length: number): Received {
    const buffer = this.#receive;
    return buffer.receive(offset, payload, from, length, false, buffer.readOffset + WINDOW_BYTES);
  }

  /** The type of the next complete message, 0 = none yet, −1 = too long. */
  nextType(): number {
    if (!this.#headerKnown) {
      if (this.#receive.readableBytes < HEADER_BYTES) return 0;
      this.#receive.read(this.#header);
      this.#headerKnown = true;
      if (this.#header[0] === 0 || this.#bodyLength > MAX_MESSAGE_BYTES) return -1;
    }
    return this.#receive.readableBytes >= this.#bodyLength ? this.#header[0]! : 0;
  }

  /** Body of the message that nextType() announced. The caller's to keep. */
  takeBody(): Uint8Array {
    const body = new Uint8Array(this.#bodyLength);
    this.#receive.read(body);
    this.#headerKnown = false;
    return body;
  }

  get #bodyLength(): number {
    return (this.#header[1]! << 8) | this.#header[2]!;
  }
}
