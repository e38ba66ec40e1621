/**
 * The implementation under test by default: a node that is relay, exit, mailbox and mix of class cmix, with real sockets, in a
 * process of its own. Its view has one other node, the suite's own: what to know of that comes in NYX_CONFORMANCE_PEER (as
 * peerContact() in node.ts). Says in one line of JSON what a peer has to know of it. Ends with its stdin.
 */
import { createSocket, type Socket } from 'node:dgram';
import { type EngineHost, type NodeContact, Via } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import { FecBudget } from '@nyx/core/fec/budget.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import { Mailboxes } from '@nyx/core/messages/mailboxes.ts';
import { BatchRecords, certifyBatchKey } from '@nyx/core/mix/batch-records.ts';
import { judge, proveBatch } from '@nyx/core/mix/batch-work.ts';
import { signPledge } from '@nyx/core/mix/circuit-pledge.ts';
import { RSA_2048, RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { runTurns } from '@nyx/core/mix/vdf.ts';
import { PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import { useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { complianceOf } from '@nyx/daemon/directory/compliance.ts';
import { Exit } from '@nyx/daemon/exit/exit.ts';
import { createNativePowMod } from '@nyx/daemon/io/modular-power.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { loadRaptorQ } from '@nyx/daemon/io/raptorq.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { makeNodeKeys } from '../sim/virtual-network.ts';

const epoch = 5;
const suite = createNativeSuite();
const identitySeed = new Uint8Array(32);
systemRandom.fill(identitySeed);
const identity = suite.ed25519(identitySeed);
const { secrets, contact } = makeNodeKeys(suite, systemRandom, [epoch], suite.blake3(identity.publicKey));
const unixSeconds = () => Math.floor(Date.now() / 1000);

const bytesOf = (hex: unknown): Uint8Array => new Uint8Array(Buffer.from(String(hex), 'hex'));
const other: NodeContact | undefined = (() => {
  const { NYX_CONFORMANCE_PEER: json } = process.env;
  if (json === undefined) return undefined;
  const { host: address, port, epoch: otherEpoch, ...keys } = JSON.parse(json) as Record<string, string | number>;
  return {
    nodeId: bytesOf(keys.nodeId),
    addresses: [{ address: String(address), port: Number(port) }],
    linkX25519: bytesOf(keys.linkX25519),
    linkKem: bytesOf(keys.linkKem),
    mixKeys: [{ epoch: Number(otherEpoch), x25519: bytesOf(keys.mixX25519), kem: bytesOf(keys.mixKem) }],
  };
})();

const exit = new Exit(
  {
    policy: ['accept *:*'],
    allowPrivate: true,
    maxStreamsPerCircuit: 64,
    connectTimeoutMs: 5000,
    idleTimeoutMs: 60_000,
    halfClosedTimeoutMs: 60_000,
    dnsServers: [],
  },
  { log() {} },
);
const mailboxes = new Mailboxes(
  { maxMailboxes: 4, packetsPerMailbox: 4, memoryBytes: 1024 * 1024, holdSeconds: 600 },
  suite,
);

// Class cmix: the proofs of a batch take some tens of milliseconds, which this process has time for.
const records = new BatchRecords(suite, new RsaGroup(RSA_2048, createNativePowMod()));
const batchSeed = new Uint8Array(32);
systemRandom.fill(batchSeed);
const batchKey = suite.ed25519(batchSeed);
const BATCH_RULES = { cells: 4, delayMs: 20 };
const BATCH_WAIT_MS = 40;
const signer = {
  certificate: certifyBatchKey(identity, batchKey.publicKey, unixSeconds() - 60, unixSeconds() + 3600),
  key: batchKey,
};
const bind = (): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1', () => resolve(socket));
  });
/** Few, so that it takes little to get a puzzle; more than the suite needs. */
const setupsPerSecond = 300;
const sockets = [await bind(), await bind()] as const;
const now = () => performance.now();

const host: EngineHost = {
  send(via, to, batch, length, release) {
    for (let at = 0; at < length; at += 1280) {
      const datagram = Buffer.from(batch.subarray(at, at + 1280));
      sockets[via]!.send(datagram, to.port, to.address);
    }
    release();
  },
  resolve: (nodeId) => (other !== undefined && suite.equal(nodeId, other.nodeId) ? other : undefined),
  onLink() {},
  onCircuit() {},
  onIncomingSession: (session, circuit) => exit.serve(session, circuit),
  onIncomingSessionEnd: (_session, circuit) => exit.sessionEnded(circuit),
  onMessagePacket(event) {
    if (event.kind === 'reply') {
      mailboxes.handleReply(event.replyId, event.payload, now());
      return;
    }
    mailboxes.handlePayload(event.payload, now(), (block, payload) => {
      const packet = new Uint8Array(PACKET_BYTES);
      const first = useReplyBlock(suite, block, payload, packet);
      const hop = first === undefined ? undefined : host.resolve(first);
      if (hop !== undefined) engine.sendMessagePacket(hop, packet, now());
      wake();
    });
  },
  cmix: {
    rules: () => [BATCH_RULES],
    statementBytes: records.statementBytes,
    prove: (job) =>
      void setImmediate(() => {
        const turns = proveBatch(records, suite, signer, 0, job, (said) => engine.batchProgress(said, now()), now);
        runTurns(turns);
        wake();
      }),
    check: (id, job) =>
      void setImmediate(() => {
        engine.checked(id, judge(records, job), now());
        wake();
      }),
    pledge: (id, fields) =>
      void setImmediate(() => {
        engine.pledged(id, signPledge(signer.certificate, signer.key, fields), now());
        wake();
      }),
    cheated() {},
    exchanged() {},
    suspected() {},
  },
  onWake: () => wake(),
  unixSeconds: () => Date.now() / 1000,
};
const engine = new Engine(
  {
    secrets,
    relay: true,
    exit: true,
    named: true,
    maxLinks: 1000,
    maxCircuits: 10_000,
    memoryBytes: 512 * 1024 * 1024,
    session: {
      fec: {
        resources: {
          codecs: [new ReedSolomon(), new RaptorQ(loadRaptorQ)],
          budget: new FecBudget(1_000_000),
          tally: new FecTally(),
        },
        policy: 'off',
      },
    },
    setupsPerSecond,
    cmix: { maxWaitMs: BATCH_WAIT_MS },
  },
  { suite, random: systemRandom, host },
);

let timer: NodeJS.Timeout | undefined;
let awake = false;
function wake(): void {
  if (awake) return;
  awake = true;
  setImmediate(() => {
    awake = false;
    engine.flush(now());
    clearTimeout(timer);
    const due = engine.nextTimeoutMs() - now();
    if (due !== Number.POSITIVE_INFINITY) timer = setTimeout(wake, Math.max(0, Math.ceil(due)));
  });
}
for (const via of [Via.listen, Via.dial]) {
  sockets[via].on('message', (datagram, { address, port }) => {
    engine.handleDatagrams(new Uint8Array(datagram), via, { address, port }, now());
    wake();
  });
}
process.stdin.resume().on('end', () => process.exit(0));

const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
const mix = contact.mixKeys[0]!;
process.stdout.write(
  `${JSON.stringify({
    host: '127.0.0.1',
    port: sockets[Via.listen].address().port,
    nodeId: hex(contact.nodeId),
    linkX25519: hex(contact.linkX25519),
    linkKem: hex(contact.linkKem),
    epoch,
    mixX25519: hex(mix.x25519),
    mixKem: hex(mix.kem),
    identity: hex(identity.publicKey),
    setupsPerSecond,
    compliance: complianceOf({ cmix: { enabled: true } }),
    cmixCells: BATCH_RULES.cells,
    cmixDelayMs: BATCH_RULES.delayMs,
    cmixWaitMs: BATCH_WAIT_MS,
  })}\n`,
);
