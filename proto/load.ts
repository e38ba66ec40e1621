/**
 * Loads nyx.proto for clients and servers. Message shapes under these options are in proto/types.ts.
 */
import { fileURLToPath } from 'node:url';
import type { ChannelCredentials, ChannelOptions, ServiceDefinition } from '@grpc/grpc-js';
import { loadPackageDefinition } from '@grpc/grpc-js';
import type { Options, PackageDefinition } from '@grpc/proto-loader';
import { loadSync } from '@grpc/proto-loader';
import type {
  KeyServiceClient,
  MessageServiceClient,
  NodeServiceClient,
  PathServiceClient,
  StreamServiceClient,
} from './types.ts';

/** Directory that .proto imports are resolved against. */
export const protoDirectory = fileURLToPath(new URL('.', import.meta.url));
export const protoPath = `${protoDirectory}nyx/api/v1/nyx.proto`;

/** camelCase fields, 64-bit integers as numbers (no field of the API exceeds 2^53), enums by name, oneof markers. */
export const loaderOptions: Options = {
  keepCase: false,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [protoDirectory],
};

type ClientConstructor<T> = {
  new (address: string, credentials: ChannelCredentials, options?: ChannelOptions): T;
  readonly service: ServiceDefinition;
};

export interface NyxApi {
  readonly NodeService: ClientConstructor<NodeServiceClient>;
  readonly StreamService: ClientConstructor<StreamServiceClient>;
  readonly PathService: ClientConstructor<PathServiceClient>;
  readonly MessageService: ClientConstructor<MessageServiceClient>;
  readonly KeyService: ClientConstructor<KeyServiceClient>;
}

/** Full names of the services, as health and reflection know them. */
export const serviceNames = [
  'nyx.api.v1.NodeService',
  'nyx.api.v1.StreamService',
  'nyx.api.v1.PathService',
  'nyx.api.v1.MessageService',
  'nyx.api.v1.KeyService',
] as const;

let definition: PackageDefinition | undefined;
let api: NyxApi | undefined;

/** The parsed definition (for reflection); parsed once per process. */
export const loadDefinition = (): PackageDefinition => {
  definition ??= loadSync(protoPath, loaderOptions);
  return definition;
};

/** Client constructors with their service definitions, e.g. `new (loadApi().NodeService)('unix:/path', credentials)`. */
export const loadApi = (): NyxApi => {
  if (api === undefined) {
    const tree = loadPackageDefinition(loadDefinition()) as unknown as { nyx: { api: { v1: NyxApi } } };
    api = tree.nyx.api.v1;
  }
  return api;
};
