/** Bearer tokens on TCP: `authorization: Bearer TOKEN`, compared in constant time. */
import { createHash, timingSafeEqual } from 'node:crypto';
import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import { ApiError, toStatus } from './errors.ts';

type Interceptor = (method: unknown, call: ServerInterceptingCallInterface) => ServerInterceptingCall;

export const tokenInterceptor = (token: string): Interceptor => {
  const expected = digest(`Bearer ${token}`);
  const isAllowed = (metadata: Metadata): boolean => {
    const [given] = metadata.get('authorization');
    return typeof given === 'string' && timingSafeEqual(digest(given), expected);
  };
  return (_method, call) => {
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        if (isAllowed(metadata)) {
          next(metadata);
          return;
        }
        call.sendStatus(
          toStatus(
            new ApiError(status.UNAUTHENTICATED, 'UNAUTHENTICATED', 'the call needs `authorization: Bearer TOKEN`'),
          ),
        );
      })
      .build();
    return new ServerInterceptingCall(call, new ResponderBuilder().withStart((next) => next(listener)).build());
  };
};

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
