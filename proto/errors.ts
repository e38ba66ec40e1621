/**
 * Rich errors: google.rpc.Status in the `grpc-status-details-bin` trailer, with ErrorInfo and BadRequest details
 * (https://google.aip.dev/193). Used by the server to encode and by clients to decode.
 */
import type { Metadata } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { protoDirectory } from './load.ts';
import type { ErrorDetails } from './types.ts';

export const STATUS_DETAILS_KEY = 'grpc-status-details-bin';
export const ERROR_DOMAIN = 'nyx';
const TYPE_PREFIX = 'type.googleapis.com/';

interface WireStatus {
  code: number;
  message: string;
  details: { type_url: string; value: Uint8Array }[];
}

interface Types {
  readonly status: protobuf.Type;
  readonly errorInfo: protobuf.Type;
  readonly badRequest: protobuf.Type;
}

let types: Types | undefined;

const load = (): Types => {
  if (types === undefined) {
    const root = new protobuf.Root();
    // google/protobuf/*.proto come with protobufjs under their short names.
    root.resolvePath = (_origin, target) => (target.startsWith('google/rpc/') ? protoDirectory + target : target);
    root.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], { keepCase: true });
    types = {
      status: root.lookupType('google.rpc.Status'),
      errorInfo: root.lookupType('google.rpc.ErrorInfo'),
      badRequest: root.lookupType('google.rpc.BadRequest'),
    };
  }
  return types;
};

/** Bytes of a google.rpc.Status with one ErrorInfo and, if there are violations, one BadRequest. */
export const encodeStatusDetails = (
  code: number,
  message: string,
  reason: string,
  metadata: Readonly<Record<string, string>>,
  fieldViolations: readonly { readonly field: string; readonly description: string }[],
): Buffer => {
  const { status, errorInfo, badRequest } = load();
  const details = [
    {
      type_url: `${TYPE_PREFIX}google.rpc.ErrorInfo`,
      value: errorInfo.encode(errorInfo.create({ reason, domain: ERROR_DOMAIN, metadata })).finish(),
    },
  ];
  if (fieldViolations.length > 0) {
    details.push({
      type_url: `${TYPE_PREFIX}google.rpc.BadRequest`,
      value: badRequest.encode(badRequest.fromObject({ field_violations: fieldViolations })).finish(),
    });
  }
  return Buffer.from(status.encode(status.fromObject({ code, message, details })).finish());
};

/** Details of an error that a call ended with; empty ones if the server sent none or they can't be read. */
export const decodeErrorDetails = (error: { readonly metadata?: Metadata }): ErrorDetails => {
  const result: ErrorDetails = { reason: undefined, domain: undefined, metadata: {}, fieldViolations: [] };
  const raw = error.metadata?.get(STATUS_DETAILS_KEY)[0];
  if (!(raw instanceof Uint8Array)) return result;
  const { status, errorInfo, badRequest } = load();
  try {
    const decoded = status.toObject(status.decode(raw), { defaults: true, arrays: true }) as WireStatus;
    for (const detail of decoded.details) {
      if (detail.type_url === `${TYPE_PREFIX}google.rpc.ErrorInfo`) {
        const info = errorInfo.toObject(errorInfo.decode(detail.value), { defaults: true, objects: true }) as {
          reason: string;
          domain: string;
          metadata: Record<string, string>;
        };
        result.reason = info.reason;
        result.domain = info.domain;
        result.metadata = info.metadata;
      } else if (detail.type_url === `${TYPE_PREFIX}google.rpc.BadRequest`) {
        const bad = badRequest.toObject(badRequest.decode(detail.value), { defaults: true, arrays: true }) as {
          field_violations: { field: string; description: string }[];
        };
        result.fieldViolations = bad.field_violations;
      }
    }
  } catch {
    // Undecodable details are no details: the status code and its message still stand on their own.
    return { reason: undefined, domain: undefined, metadata: {}, fieldViolations: [] };
  }
  return result;
};
