/**
 * Bytes of /nyx/view/1:
 *
 *   request  = version (1) ‖ epoch held (8) ‖ digest held (32)        epoch and digest 0: none is held
 *   response = status (1) ‖ view            the view only with NEWER: a bundle (core/directory/view.ts), or a delta
 *                                           (view-delta.ts) that begins with the view of the request
 */
import { MAX_BUNDLE_BYTES } from '@nyx/core/directory/view.ts';
import { Refusal, RefusedError, type ViewReference } from './contract.ts';

const VERSION = 1;
export const VIEW_REQUEST_BYTES = 1 + 8 + 32;
export const MAX_VIEW_RESPONSE_BYTES = 1 + MAX_BUNDLE_BYTES;

export const ViewStatus = { nothingNewer: 0, newer: 1, busy: 2 } as const;
export type ViewStatus = (typeof ViewStatus)[keyof typeof ViewStatus];

export const encodeViewRequest = (held: ViewReference | undefined): Uint8Array => {
  const request = Buffer.alloc(VIEW_REQUEST_BYTES);
  request[0] = VERSION;
  if (held !== undefined) {
    request.writeBigUInt64BE(BigInt(held.epoch), 1);
    request.set(held.digest, 9);
  }
  return new Uint8Array(request);
};

/** Throws RefusedError `malformed`. */
export const decodeViewRequest = (bytes: Uint8Array): ViewReference => {
  if (bytes.length !== VIEW_REQUEST_BYTES || bytes[0] !== VERSION) {
    throw new RefusedError(Refusal.malformed, `a view request of ${bytes.length} bytes, version ${bytes[0]}`);
  }
  const epoch = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(1);
  if (epoch > 2n ** 48n) throw new RefusedError(Refusal.malformed, `a view request with epoch ${epoch}`);
  return { epoch: Number(epoch), digest: bytes.slice(9) };
};

/** Throws RefusedError `malformed`. The bundle is a view of `bytes`. */
export const decodeViewResponse = (bytes: Uint8Array): { readonly status: ViewStatus; readonly bundle: Uint8Array } => {
  const status = bytes[0];
  const isKnown = status === ViewStatus.nothingNewer || status === ViewStatus.newer || status === ViewStatus.busy;
  if (!isKnown || (status !== ViewStatus.newer && bytes.length > 1)) {
    throw new RefusedError(Refusal.malformed, `a view response of ${bytes.length} bytes with status ${status}`);
  }
  return { status, bundle: bytes.subarray(1) };
};
