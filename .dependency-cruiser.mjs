// The layer rule of docs/architecture.md: who may import whom. scripts/check-layers.mjs runs it and fails if no file was read.
const core = '^core/';
/** Tests and what only tests use. */
const tests = '(\\.test|/testing|/test-circuit|/virtual-wire)\\.ts$|/testing/';
export default {
  forbidden: [
    {
      name: 'core-imports-only-core',
      comment: 'The core is pure: no I/O, no other layer, no Node module.',
      severity: 'error',
      from: { path: core, pathNot: tests },
      to: { path: '^(daemon|cli|sdk|proto|test|bench)/' },
    },
    {
      name: 'core-has-no-node-modules',
      severity: 'error',
      from: { path: core, pathNot: tests },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'core-uses-only-portable-packages',
      severity: 'error',
      from: { path: core, pathNot: tests },
      to: { path: 'node_modules/', pathNot: 'node_modules/(@noble/|cborg/|ipaddr\\.js/)' },
    },
    {
      name: 'io-knows-only-core',
      severity: 'error',
      from: { path: '^daemon/io/', pathNot: tests },
      to: { path: '^(daemon/(?!io/)|cli|sdk|proto|test|bench)' },
    },
    {
      name: 'packet-side-knows-no-actors-or-api',
      comment:
        'Pump, exit and proxies run in workers; what they share with the main thread is daemon/pump/contract.ts.',
      severity: 'error',
      from: { path: '^daemon/(pump|exit|proxy)/', pathNot: tests },
      to: { path: '^(daemon/(actors|api|supervision|telemetry|directory|config)/|cli|sdk|proto|test|bench)' },
    },
    {
      name: 'control-plane-knows-only-core',
      severity: 'error',
      from: { path: '^daemon/p2p/', pathNot: tests },
      to: { path: '^(daemon/(?!p2p/)|cli|sdk|proto|test|bench)' },
    },
    {
      name: 'control-plane-is-loaded-on-demand',
      comment: 'libp2p costs memory; a node without a control plane must not load it.',
      severity: 'error',
      from: { path: '^(core|daemon|cli|sdk|proto)/', pathNot: `^daemon/p2p/|${tests}` },
      to: {
        path: '^daemon/p2p/|node_modules/(@libp2p|libp2p|@multiformats|datastore-core|interface-datastore)/',
        pathNot: '^daemon/p2p/(contract|multiaddr-text)\\.ts$',
        dynamic: false,
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'costly-parts-are-loaded-on-demand',
      comment:
        'gRPC, schemas, YAML and the metrics library are a quarter of an idle node (docs/operating.md): they are loaded when needed.',
      severity: 'error',
      from: {
        path: '^daemon/',
        pathNot: `^daemon/(api/(?!child|host)|config/(load|load-worker|plan-reload|schema)\\.ts|telemetry/metrics-registry|local-network)|${tests}`,
      },
      to: {
        path: '^(daemon/(api/(?!child|host)|config/(load|plan-reload|schema)\\.ts|telemetry/metrics-registry)|proto/load)|node_modules/(zod|yaml|@grpc|grpc-health-check|prom-client)/',
        dynamic: false,
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'http-by-its-own-door',
      comment: "Importing node:http loads all of Node's fetch; daemon/io/http.ts does not.",
      severity: 'error',
      from: { path: '^daemon/', pathNot: tests },
      to: { path: '^(node:)?http$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'supervision-knows-nobody',
      severity: 'error',
      from: { path: '^daemon/supervision/', pathNot: tests },
      to: { path: '^(daemon/(?!supervision/)|cli|sdk|proto|test|bench)' },
    },
    {
      name: 'only-main-wires',
      comment: 'Actors do not reach into the API, nor the API into the pump.',
      severity: 'error',
      from: { path: '^daemon/actors/', pathNot: tests },
      to: { path: '^(daemon/(api|proxy|exit)/|cli|sdk|test|bench)' },
    },
    {
      name: 'sdk-speaks-only-the-api',
      severity: 'error',
      from: { path: '^sdk/', pathNot: tests },
      to: { path: '^(core|daemon|cli|test|bench)/' },
    },
    {
      name: 'nothing-imports-tests-or-benches',
      severity: 'error',
      from: { path: '^(core|daemon|cli|sdk|proto)/', pathNot: tests },
      to: { path: '^(test|bench)/' },
    },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js', '.json', '.node'],
    },
  },
};
