/** One real network of daemon processes; everything that needs one is tested on it. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { after, before, test } from 'node:test';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { decodeErrorDetails } from '@nyx/proto/errors.ts';
import { loadApi } from '@nyx/proto/load.ts';
import type { DataResponse, Event, GetNodeInfoResponse, UnaryMethod } from '@nyx/proto/types.ts';
import { type LocalNetwork, startLocalNetwork } from './local-network.ts';

let network: LocalNetwork;
let echo: Server;
let echoPort = 0;
const api = loadApi();
const open: { close(): void }[] = [];

const clients = (socket: string) => {
  const made = {
    node: new api.NodeService(socket, credentials.createInsecure()),
    stream: new api.StreamService(socket, credentials.createInsecure()),
    path: new api.PathService(socket, credentials.createInsecure()),
    keys: new api.KeyService(socket, credentials.createInsecure()),
  };
  open.push(...Object.values(made));
  return made;
};
let client: ReturnType<typeof clients>;

type Request<M> = M extends (request: infer Req, ...rest: never[]) => unknown ? Req : never;
type Response<M> = M extends UnaryMethod<infer _Req, infer Res> ? Res : never;

const ask = <C, K extends keyof C>(target: C, method: K, request: Request<C[K]>): Promise<Response<C[K]>> =>
  new Promise((resolve, reject) => {
    const done = (error: ServiceError | null, response: Response<C[K]>) => (error ? reject(error) : resolve(response));
    (target as Record<K, (request: unknown, callback: typeof done) => void>)[method](request, done);
  });

const info = (): Promise<GetNodeInfoResponse> =>
  new Promise((resolve, reject) =>
    client.node.getNodeInfo({}, (error, response) => (error ? reject(error) : resolve(response!))),
  );

/** The call must fail with this status, reason and bad fields. */
const refused = async (
  promise: Promise<unknown>,
  code: status,
  reason: string,
  fields: string[] = [],
): Promise<void> => {
  const error = await promise.then(
    () => assert.fail('it was accepted'),
    (caught: ServiceError) => caught,
  );
  assert.equal(error.code, code, error.message);
  const details = decodeErrorDetails(error);
  assert.equal(details.reason, reason);
  assert.equal(details.domain, 'nyx');
  assert.deepEqual(
    details.fieldViolations.map((violation) => violation.field).sort(),
    [...fields].sort(),
    error.details,
  );
};

before(async () => {
  echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await new Promise((resolve) => echo.once('listening', resolve));
  echoPort = (echo.address() as { port: number }).port;
  network = await startLocalNetwork({ mixes: 3, exits: 1, allowCrash: true });
  client = clients(network.apiSocket);
});

after(async () => {
  for (const each of open) each.close();
  echo.close();
  const { folder, nodes } = network;
  await network.stop();
  assert.equal(existsSync(folder), false, 'the folder is left');
  for (const { pid } of nodes) assert.throws(() => process.kill(pid, 0), `process ${pid} is left`);
  assert.deepEqual(network.failures, []);
});

test('the client holds the full verified view and says how it stands', async () => {
  const got = await info();
  assert.equal(got.state, 'ready');
  assert.deepEqual(got.roles, ['client']);
  assert.equal(got.view?.nodes, 4);
  assert.equal(got.view?.exits, 1);
  assert.equal(got.coverRatio, undefined, 'it makes no cover traffic, so there is no rate of it');
  assert.equal(got.pid, network.clients[0]!.pid);
  const socket = network.apiSocket.slice('unix:'.length);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  const listed = await ask(client.path, 'listNodes', {});
  assert.deepEqual(
    listed.nodes.map((node) => node.nodeId).sort(),
    network.nodes
      .filter((node) => node.role !== 'client')
      .map((node) => node.nodeId)
      .sort(),
  );
  assert.ok(listed.nodes.some((node) => node.guard));
});

test('a stream over the API: opened first, bytes there and back, half-close, a clean end', async () => {
  const call = client.stream.data();
  const order: string[] = [];
  const received: Uint8Array[] = [];
  const finished = new Promise<void>((resolve, reject) => {
    call.on('data', (message: DataResponse) => {
      order.push(message.response!);
      if (message.data) {
        received.push(message.data);
        call.write({ creditBytes: message.data.length });
      }
    });
    call.on('end', resolve);
    call.on('error', reject);
  });
  const sent = Buffer.alloc(300_000, 'nyx!');
  call.write({ open: { host: '127.0.0.1', port: echoPort, initialCreditBytes: 65_536 } });
  for (let at = 0; at < sent.length; at += 50_000) call.write({ data: sent.subarray(at, at + 50_000) });
  call.write({ end: {} });
  await finished;
  assert.deepEqual(Buffer.concat(received), sent);
  assert.equal(order[0], 'opened');
  assert.ok(order.includes('connected'));
  assert.equal(order.at(-1), 'end');
});

test('a stream to a closed port fails with its code', async () => {
  const free = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => free.once('listening', resolve));
  const { port } = free.address() as { port: number };
  await new Promise((resolve) => free.close(resolve));
  const call = client.stream.data();
  const ended = new Promise((resolve, reject) => {
    call.on('data', () => {});
    call.on('end', resolve);
    call.on('error', reject);
  });
  call.write({ open: { host: '127.0.0.1', port } });
  await refused(ended, status.UNAVAILABLE, 'CONNECTION_REFUSED');
});

test('every bad field is named', async () => {
  const build = (request: Parameters<typeof client.path.buildPath>[0]) => ask(client.path, 'buildPath', request);
  await refused(build({ hops: 9 }), status.INVALID_ARGUMENT, 'INVALID_ARGUMENT', ['hops']);
  await refused(
    build({ nodeIds: ['zz'], timeoutMs: 700_000, exitTarget: { host: '', port: 70_000 } }),
    status.INVALID_ARGUMENT,
    'INVALID_ARGUMENT',
    ['node_ids[0]', 'node_ids', 'timeout_ms', 'exit_target.host', 'exit_target.port'],
  );
  await refused(build({ nodeIds: ['a', 'b', 'c'].map((c) => c.repeat(64)) }), status.INVALID_ARGUMENT, 'BAD_REQUEST');
  await refused(ask(client.path, 'closePath', { pathId: 12_345 }), status.NOT_FOUND, 'NOT_FOUND');
  await refused(ask(client.stream, 'getStream', {}), status.INVALID_ARGUMENT, 'INVALID_ARGUMENT', ['stream_id']);
  await refused(ask(client.stream, 'resolve', {}), status.INVALID_ARGUMENT, 'INVALID_ARGUMENT', ['query']);
  for (const [first, field] of [
    [{ data: Buffer.from('x') }, 'request'],
    [{ open: { host: 'a b', port: 80 } }, 'open.host'],
    [{ open: { host: 'a', port: 0 } }, 'open.port'],
    [{ open: { host: 'a', port: 1, options: { hops: 2 } } }, 'open.options.hops'],
    [{ open: { host: 'a', port: 1, options: { isolation: 'x'.repeat(256) } } }, 'open.options.isolation'],
  ] as const) {
    const call = client.stream.data();
    const ended = new Promise((resolve, reject) =>
      call
        .on('data', () => {})
        .on('end', resolve)
        .on('error', reject),
    );
    call.write(first);
    await refused(ended, status.INVALID_ARGUMENT, 'INVALID_ARGUMENT', [field]);
  }
});

test('paths are built on demand, listed and closed', async () => {
  const built = await ask(client.path, 'buildPath', { exitTarget: { host: '127.0.0.1', port: echoPort } });
  assert.equal(built.nodeIds.length, 3);
  assert.equal(new Set(built.nodeIds).size, 3);
  const exit = network.nodes.find((node) => node.role === 'exit')!;
  assert.equal(built.nodeIds.at(-1), exit.nodeId);
  const list = async () => (await ask(client.path, 'listPaths', {})).paths.map((path) => path.pathId);
  assert.ok((await list()).includes(built.pathId));
  await ask(client.path, 'closePath', { pathId: built.pathId });
  assert.ok(!(await list()).includes(built.pathId));
});

test('keys: public parts are listed, the next epoch can be renewed, the present one stays', async () => {
  const before = await ask(client.keys, 'listKeys', {});
  assert.equal(before.nodeId, network.clients[0]!.nodeId);
  const { epoch } = (await info()).view!;
  const outcome = await ask(client.keys, 'rotateEpochKeys', {}).catch((error: ServiceError) => error);
  // In the last seconds of an epoch the next keys are in use: then, and only then, it is refused.
  if (outcome instanceof Error) {
    assert.equal(decodeErrorDetails(outcome).reason, 'EPOCH_ENDING');
    return;
  }
  const of = (keys: typeof before.mixKeys, wanted: number) => keys.find((key) => key.epoch === wanted);
  assert.deepEqual(of(outcome.mixKeys, epoch!), of(before.mixKeys, epoch!));
  assert.notEqual(of(outcome.mixKeys, epoch! + 1)?.x25519PublicKey, of(before.mixKeys, epoch! + 1)?.x25519PublicKey);
});

test('a crashed pump is seen, healed, and streams run again; others can not be crashed', async () => {
  const events: Event[] = [];
  const watch = client.node.watchEvents({ kinds: ['supervision'] });
  const restarted = new Promise<void>((resolve) => {
    watch.on('data', (event: Event) => {
      events.push(event);
      if (event.name === 'restarted') resolve();
    });
    watch.on('error', () => {}); // cancelled below
  });
  // The watch is in place once the server has answered a later call.
  await info();
  await ask(client.node, 'crashActor', { actor: 'pumps/pump-0' });
  await restarted;
  watch.cancel();
  assert.deepEqual(
    events
      .filter((event) => ['crashed', 'restarted'].includes(event.name))
      .map((event) => `${event.name} ${event.subject}`),
    ['crashed pumps/pump-0', 'restarted pumps/pump-0'],
  );
  const got = await info();
  assert.equal(got.addresses?.socks, network.socks, 'the proxy is back at its address');
  const pumps = got.supervision!.children.find((child) => child.id === 'pumps')!;
  assert.equal(pumps.supervisor!.children[0]!.restarts, 1);
  assert.equal(pumps.supervisor!.children[0]!.lastError, 'crashed on request');
  const built = await ask(client.path, 'buildPath', {});
  assert.equal(built.nodeIds.length, 3);
  await refused(ask(client.node, 'crashActor', { actor: 'nobody' }), status.NOT_FOUND, 'NOT_FOUND');
});

test('statistics come at once, and metrics and health are served', async () => {
  const watch = client.node.watchStatistics({ intervalMs: 100 });
  const first = await new Promise<{ traffic?: { datagramsIn: number } | null }>((resolve, reject) => {
    watch.once('data', resolve);
    watch.once('error', reject);
  });
  watch.on('error', () => {}); // cancelled
  watch.cancel();
  assert.ok(first.traffic!.datagramsIn > 0);
  const metrics = await (await fetch(`http://${network.metrics}/metrics`)).text();
  assert.match(metrics, /^nyx_link_datagrams_received_total [1-9]/m);
  assert.match(metrics, /^nyx_supervision_restarts\{child="pump-0"\} 1$/m);
  assert.equal((await fetch(`http://${network.metrics}/healthz`)).status, 200);
  assert.equal((await fetch(`http://${network.metrics}/other`)).status, 404);
});
