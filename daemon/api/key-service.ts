/** nyx.api.v1.KeyService: public parts only. */
import { status } from '@grpc/grpc-js';
import type { Empty, ListKeysResponse, MixKey, RotateEpochKeysResponse } from '@nyx/proto/types.ts';
import { ApiError } from './errors.ts';
import { unary } from './handlers.ts';
import type { ApiHost } from './host.ts';

export const keyService = (host: ApiHost) => ({
  ListKeys: unary<Empty, ListKeysResponse>(() => {
    const { store } = host.keys;
    return {
      nodeId: host.nodeId,
      identityPublicKey: hex(store.identity.publicKey),
      linkX25519PublicKey: hex(store.linkX25519),
      linkKemPublicKeySha256: hex(host.context.suite.sha256(store.linkKem)),
      mixKeys: mixKeys(host),
      encrypted: host.encrypted,
    };
  }),

  RotateEpochKeys: unary<Empty, RotateEpochKeysResponse>(() => {
    if (!host.keys.rotate()) {
      throw new ApiError(
        status.FAILED_PRECONDITION,
        'EPOCH_ENDING',
        `the next epoch's keys are in use already; try again in ${Math.ceil(host.keys.leadSeconds)} s`,
      );
    }
    return { mixKeys: mixKeys(host) };
  }),
});

const mixKeys = (host: ApiHost): MixKey[] => {
  const { epochSeconds } = host.context.config;
  return host.keys.store.mixPublicKeys().map(({ epoch, x25519, kem }) => ({
    epoch,
    x25519PublicKey: hex(x25519),
    kemPublicKeySha256: hex(host.context.suite.sha256(kem)),
    notBeforeUnixSeconds: epoch * epochSeconds,
    erasedAfterUnixSeconds: (epoch + 2) * epochSeconds,
  }));
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
