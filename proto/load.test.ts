import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { decodeErrorDetails, encodeStatusDetails, STATUS_DETAILS_KEY } from './errors.ts';
import { loadApi, loadDefinition, serviceNames } from './load.ts';

test('every service and method of the definition is there under its name', () => {
  const api = loadApi();
  assert.deepEqual(Object.keys(api.NodeService.service).sort(), [
    'CrashActor',
    'GetAnonymity',
    'GetNodeInfo',
    'ListPeers',
    'ReloadConfig',
    'ShareEvidence',
    'Shutdown',
    'WatchEvents',
    'WatchStatistics',
  ]);
  assert.deepEqual(Object.keys(api.StreamService.service).sort(), [
    'CloseStream',
    'Data',
    'Datagrams',
    'GetStream',
    'ListStreams',
    'Resolve',
    'StatStream',
  ]);
  assert.deepEqual(Object.keys(api.PathService.service).sort(), [
    'BuildPath',
    'ChoosePaths',
    'ClosePath',
    'GetTopology',
    'ListNodes',
    'ListPaths',
  ]);
  assert.deepEqual(Object.keys(api.KeyService.service).sort(), ['ListKeys', 'RotateEpochKeys']);
  for (const name of serviceNames) assert.ok(name in loadDefinition(), name);
});

test('optional fields are absent when unset, others have defaults; big ids survive', () => {
  const { responseSerialize, responseDeserialize } = loadApi().StreamService.service.GetStream!;
  const id = 3 * 2 ** 32 + 7;
  const info = responseDeserialize(responseSerialize({ streamId: id, target: 'a:1' })) as Record<string, unknown>;
  assert.equal(info.streamId, id);
  assert.equal(info.pathId, undefined);
  assert.deepEqual(info.nodeIds, []);
  assert.equal(info.bytesSent, 0);
});

test('a oneof names its member', () => {
  const { requestSerialize, requestDeserialize } = loadApi().StreamService.service.Data!;
  const got = requestDeserialize(requestSerialize({ data: Buffer.from('abc') })) as Record<string, unknown>;
  assert.equal(got.request, 'data');
  assert.deepEqual(got.data, Buffer.from('abc'));
  assert.equal(got.open, undefined);
});

test('error details survive the trailer', () => {
  const metadata = new Metadata();
  const bytes = encodeStatusDetails(3, 'hops: 9', 'INVALID_ARGUMENT', { a: 'b' }, [
    { field: 'hops', description: '9 is more than 7' },
  ]);
  metadata.set(STATUS_DETAILS_KEY, bytes);
  assert.deepEqual(decodeErrorDetails({ metadata }), {
    reason: 'INVALID_ARGUMENT',
    domain: 'nyx',
    metadata: { a: 'b' },
    fieldViolations: [{ field: 'hops', description: '9 is more than 7' }],
  });
});

test('garbage in the trailer is no details and no throw', () => {
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS_KEY, Buffer.from([0xff, 0xff, 0xff, 0x01]));
  assert.deepEqual(decodeErrorDetails({ metadata }).fieldViolations, []);
  assert.equal(decodeErrorDetails({}).reason, undefined);
});
