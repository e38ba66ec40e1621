/** What `/metrics` says. Values are the pumps' own; labels are closed sets. */
import { measuredMix } from '@nyx/core/mix/anonymity-report.ts';
import { Counter, Gauge, Registry } from 'prom-client';
import type { ReloadState } from '../actors/config-reloader.ts';
import type { AuthorityCounters } from '../directory/authority.ts';
import type { DirectoryClient } from '../directory/directory-client.ts';
import type { MailboxHost } from '../messages/mailbox-host.ts';
import type { MessageFigures } from '../messages/messages.ts';
import type { P2pCounters, P2pState } from '../p2p/contract.ts';
import type { SupervisorSnapshot } from '../supervision/supervise.ts';
import type { Meter } from './meter.ts';

export interface MetricsHost {
  /** Undefined: no client. */
  readonly messages?: { readonly figures: MessageFigures };
  /** Undefined: keeps no mailboxes. */
  readonly mailboxes?: Pick<MailboxHost, 'figures'>;
  readonly meter: Meter;
  readonly measure: () => Promise<void>;
  readonly supervisor: () => { snapshot(maxDynamic?: number): SupervisorSnapshot };
  readonly controlPlane: { state(): P2pState | undefined; readonly counters: P2pCounters } | undefined;
  readonly directory: {
    readonly view:
      | { readonly verified: { readonly nodes: readonly unknown[]; readonly view: { readonly validAfter: number } } }
      | undefined;
    readonly client: Pick<DirectoryClient, 'accepted' | 'refused' | 'deltasAccepted' | 'deltasRefused'>;
    readonly evidence: readonly { readonly kind: string }[];
    /** Undefined: this node is no authority. */
    readonly voting:
      | {
          readonly size: number;
          readonly reachable: number;
          readonly measured: number;
          readonly counters: AuthorityCounters;
        }
      | undefined;
  };
  readonly cheats: { readonly all: readonly unknown[] };
  readonly paths: {
    entropy(): { readonly pathBits: number; readonly costBits: number } | undefined;
    guardInfos(): readonly { readonly droppedAt: number | null }[];
  };
  readonly reloader: { readonly state: ReloadState };
  readonly state: () => string;
  readonly startedAtMs: number;
}

export const createRegistry = (host: MetricsHost): Registry => {
  const registry = new Registry();
  const { meter } = host;
  const registers = [registry];
  const counter = (name: string, help: string, value: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  counter('nyx_link_datagrams_received_total', 'Datagrams received', () => meter.totals.datagramsIn);
  counter('nyx_link_datagrams_sent_total', 'Datagrams sent', () => meter.totals.datagramsOut);
  counter('nyx_link_received_bytes_total', 'Bytes received in datagrams', () => meter.bytesIn);
  counter('nyx_link_sent_bytes_total', 'Bytes sent in datagrams', () => meter.bytesOut);
  gauge('nyx_link_links', 'Links that are up', () => meter.sum((stats) => stats.links.length));
  counter('nyx_onion_cells_forward_total', 'Cells passed on towards the last hop', () => meter.totals.cellsForward);
  counter('nyx_onion_cells_backward_total', 'Cells passed on towards the client', () => meter.totals.cellsBackward);
  counter('nyx_onion_cells_delivered_total', 'Cells that ended here', () => meter.totals.cellsDelivered);
  counter('nyx_onion_cells_originated_total', 'Cells that began here', () => meter.totals.cellsOriginated);
  counter('nyx_onion_setups_total', 'Circuit set-ups processed', () => meter.totals.setups);
  gauge('nyx_onion_relay_circuits', "Others' circuits", () => meter.sum((stats) => stats.relayCircuits));
  counter('nyx_cover_sent_cells_total', 'Cover cells of links sent', () => meter.totals.coverOut);
  counter('nyx_cover_received_cells_total', 'Cover cells of links received', () => meter.totals.coverIn);
  counter('nyx_cover_drop_cells_total', 'Cover cells sent to last hops', () => meter.totals.coverDropOut);
  gauge('nyx_cover_rate_cells', 'Cover cells a second now', () => meter.sum((stats) => stats.cover.cellsPerSecond));
  gauge('nyx_cover_loops_sent', 'Loops sent', () => meter.sum((stats) => stats.loops?.sent ?? 0));
  gauge('nyx_cover_loops_lost', 'Loops that did not come back', () => meter.sum((stats) => stats.loops?.lost ?? 0));
  gauge('nyx_cover_alarm', '1 = loops are dropped or held back', () =>
    meter.sum((stats) => (stats.loops?.alarm === undefined ? 0 : 1)),
  );
  gauge('nyx_mix_waiting_cells', 'Cells of class mix that wait', () => meter.sum((stats) => stats.mixWaiting));
  gauge('nyx_cmix_waiting_cells', 'Cells of class cmix that wait', () => meter.sum((stats) => stats.cmix.waiting));
  gauge('nyx_cmix_batches', 'Batches of class cmix that left, of the workers that run', () =>
    meter.sum((stats) => stats.cmix.batches),
  );
  gauge('nyx_cmix_batch_cells', 'Their cells', () => meter.sum((stats) => stats.cmix.cells));
  gauge('nyx_cmix_delay_seconds', 'What the delay of the last batch took', () =>
    Math.max(0, ...meter.latest.map(({ stats }) => (stats.cmixDelayMs ?? 0) / 1000)),
  );
  new Gauge({
    name: 'nyx_cmix_neighbour_cells',
    help: 'Cells given to mixes of class cmix and got from them, by what the mixes prove of them',
    labelNames: ['state'],
    registers,
    collect() {
      this.reset();
      for (const state of ['proved', 'lost', 'withheld', 'unproved', 'missed', 'exchanged'] as const) {
        this.set(
          { state },
          meter.sum(({ cmix }) => cmix[state]),
        );
      }
    },
  });
  gauge('nyx_cmix_cheats', 'Pieces of evidence against mixes', () => host.cheats.all.length);
  counter('nyx_mix_released_cells_total', 'Cells of class mix that have waited', () => meter.totals.mixReleased);
  gauge('nyx_mix_bits', 'Entropy of a cell of class mix here', () => measuredMix(meter.mixWindows)?.bits ?? Number.NaN);
  gauge('nyx_mix_cells_per_second', 'Cells of class mix that come in', () =>
    meter.mixWindows.reduce((sum, { cells, seconds }) => sum + cells / seconds, 0),
  );
  gauge('nyx_cover_constant_served', "Clients' constant links", () => meter.sum((stats) => stats.cover.served));
  counter(
    'nyx_mix_delay_seconds_total',
    'Time that they and those that wait have waited',
    () => meter.totals.mixWaitedMs / 1000,
  );
  counter('nyx_message_received_packets_total', 'Packets of the message lane taken', () => meter.totals.messagesIn);
  counter('nyx_message_forwarded_packets_total', 'Those passed on', () => meter.totals.messagesForward);
  counter('nyx_message_delivered_packets_total', 'Those that ended here', () => meter.totals.messagesDelivered);
  counter('nyx_message_cover_packets_total', 'Those that were cover', () => meter.totals.messageCoverIn);
  counter('nyx_message_originated_packets_total', 'Own packets sent', () => meter.totals.messagesOriginated);
  gauge('nyx_message_waiting_packets', 'Packets of the message lane that wait', () =>
    meter.sum(({ messages }) => messages.waiting + messages.held),
  );
  const { messages, mailboxes } = host;
  if (messages !== undefined) {
    const own = () => messages.figures;
    gauge('nyx_message_outgoing', 'Own messages on their way', () => own().outgoing);
    gauge('nyx_message_outgoing_bytes', 'Their size', () => own().outgoingBytes);
    gauge('nyx_message_inbox', 'Messages that wait for the application', () => own().waiting);
    gauge('nyx_message_inbox_bytes', 'Their size', () => own().waitingBytes);
    gauge('nyx_message_reply_blocks', 'Own reply blocks that are out', () => own().replyBlocks);
    gauge('nyx_message_open_mailboxes', 'Own mailboxes that are open', () => own().openMailboxes);
    counter('nyx_message_slots_total', 'Slots for sending', () => own().slots);
    counter('nyx_message_slots_real_total', 'Those that carried what had to be sent', () => own().sentPackets);
    counter('nyx_message_slots_cover_total', 'Those that carried cover', () => own().coverPackets);
    counter('nyx_message_loops_total', 'Cover packets to ourselves, judged', () => own().loops.sent);
    counter('nyx_message_loops_lost_total', 'Those that did not come back', () => own().loops.lost);
    gauge('nyx_message_alarm', '1 = such packets are dropped or held back', () => (own().loops.alarm === '' ? 0 : 1));
    counter('nyx_message_postponed_total', 'Packets that found no way', () => own().postponedPackets);
    counter('nyx_message_stored_total', 'Messages that came', () => own().receivedMessages);
  }
  if (mailboxes !== undefined) {
    const kept = () => mailboxes.figures;
    gauge('nyx_mailbox_count', 'Mailboxes kept for others', () => kept().mailboxes);
    gauge('nyx_mailbox_held_packets', 'Packets held in them', () => kept().heldPackets);
    gauge('nyx_mailbox_held_bytes', 'Their size', () => kept().heldBytes);
    counter('nyx_mailbox_accepted_packets_total', 'Packets taken', () => kept().accepted);
    counter('nyx_mailbox_delivered_packets_total', 'Packets that owners took', () => kept().delivered);
    counter('nyx_mailbox_expired_packets_total', 'Packets that nobody came for', () => kept().expired);
    counter('nyx_mailbox_fetches_total', "Requests for recipients' keys", () => kept().fetches);
    counter('nyx_mailbox_forwards_total', 'Answers sent over reply blocks', () => kept().forwards);
    new Counter({
      name: 'nyx_mailbox_dropped_packets_total',
      help: 'Packets not taken',
      labelNames: ['reason'],
      registers,
      collect() {
        this.reset();
        for (const [reason, count] of Object.entries(kept().dropped)) this.inc({ reason }, count);
      },
    });
  }
  gauge('nyx_path_client_circuits', 'Own circuits', () => meter.sum((stats) => stats.clientCircuits.length));
  gauge('nyx_path_entropy_bits', 'Entropy of a path by default', () => host.paths.entropy()?.pathBits ?? 0);
  gauge('nyx_path_entropy_cost_bits', 'What the strategy costs of it', () => host.paths.entropy()?.costBits ?? 0);
  gauge(
    'nyx_path_guards_dropped',
    'Guards dropped for failing circuits',
    () => host.paths.guardInfos().filter(({ droppedAt }) => droppedAt !== null).length,
  );
  gauge('nyx_stream_streams', 'Client streams open', () => meter.sum((stats) => stats.streams.length));
  counter('nyx_fec_protected_packets_total', 'Packets protected', () => meter.totals.fecSourcesSent);
  counter('nyx_fec_sent_repairs_total', 'Repair symbols sent', () => meter.totals.fecRepairsSent);
  counter('nyx_fec_received_repairs_total', 'Repair symbols received', () => meter.totals.fecRepairsReceived);
  counter('nyx_fec_used_repairs_total', 'Those put to use', () => meter.totals.fecRepairsUsed);
  counter('nyx_fec_wasted_repairs_total', 'Those of no use', () => meter.totals.fecRepairsWasted);
  counter('nyx_fec_rejected_repairs_total', 'Those that fit nothing', () => meter.totals.fecRepairsRejected);
  counter('nyx_fec_recovered_packets_total', 'Packets that came back here', () => meter.totals.fecPacketsRecovered);
  counter('nyx_fec_peer_recovered_packets_total', 'Own packets that came back', () => meter.totals.fecRecoveredByPeer);
  counter('nyx_fec_over_budget_blocks_total', 'Blocks left alone for CPU', () => meter.totals.fecOverBudget);
  gauge('nyx_exit_streams', 'Exit streams open', () => meter.sum((stats) => stats.exitStreams));
  counter('nyx_exit_sockets_opened_total', 'Sockets that the exit opened', () => meter.totals.exitSocketsOpened);
  counter('nyx_exit_dropped_datagrams_total', 'UDP not passed on', () => meter.totals.exitDatagramsDropped);
  gauge('nyx_pump_buffered_bytes', 'Memory in queues and sessions', () => meter.sum((stats) => stats.bufferedBytes));
  counter('nyx_pump_shed_total', 'Circuits and sessions ended for memory', () => meter.totals.shedTotal);
  counter('nyx_pump_handed_over_datagrams_total', "Other workers' datagrams", () => meter.totals.handedOver);
  counter('nyx_pump_cpu_seconds_total', 'CPU time of the pump workers', () => meter.totals.cpuSeconds);
  gauge('nyx_directory_nodes', 'Nodes in the verified view', () => host.directory.view?.verified.nodes.length ?? 0);
  registerDirectory(host.directory, registry, { counter, gauge });
  registerConfiguration(host, registry, gauge);
  gauge('nyx_process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss());
  gauge('nyx_process_uptime_seconds', 'Since start', () => (performance.now() - host.startedAtMs) / 1000);
  new Counter({
    name: 'nyx_pump_dropped_total',
    help: 'Datagrams and cells dropped, by reason',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset();
      for (const [reason, count] of Object.entries(meter.totals.drops)) this.inc({ reason }, count);
    },
  });
  if (host.controlPlane !== undefined) registerControlPlane(host.controlPlane, registry, { counter, gauge });
  const supervised = (name: string, help: string, value: (child: SupervisorSnapshot['children'][number]) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['child'],
      registers,
      collect() {
        this.reset();
        for (const child of staticChildren(host.supervisor().snapshot(0))) this.set({ child: child.id }, value(child));
      },
    });
  supervised('nyx_supervision_restarts', 'Restarts of a child', (child) => child.restarts);
  supervised('nyx_supervision_inbox_messages', 'Messages that wait', (child) => child.inboxLength);
  supervised('nyx_supervision_inbox_dropped', 'Messages lost to a full inbox', (child) => child.inboxDropped);
  return registry;
};

type Register = (name: string, help: string, value: () => number) => unknown;

const registerConfiguration = ({ reloader, meter }: MetricsHost, registry: Registry, gauge: Register): void => {
  const state = () => reloader.state;
  gauge('nyx_config_generation', 'Of the configuration in force', () => state().generation);
  gauge('nyx_config_workers_behind', 'Workers that go by an earlier one', () =>
    meter.sum((stats) => (stats.generation < state().generation ? 1 : 0)),
  );
  gauge('nyx_config_applied_timestamp_seconds', 'Since when it is in force', () => state().appliedUnixMs / 1000);
  gauge('nyx_config_last_reload_timestamp_seconds', 'Of the last reload; NaN: none', () => {
    const { last } = state();
    return last === undefined ? Number.NaN : last.atUnixMs / 1000;
  });
  gauge('nyx_config_last_reload_refused', '1 = the last reload was refused', () =>
    state().lastError === undefined ? 0 : 1,
  );
  gauge('nyx_config_keys_need_restart', 'Keys of the file that wait for a restart', () => state().needRestart.length);
  new Counter({
    name: 'nyx_config_reloads_total',
    help: 'Reloads, by what came of them',
    labelNames: ['outcome'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [outcome, count] of Object.entries(state().counts)) this.inc({ outcome }, count);
    },
  });
};

const registerDirectory = (
  directory: MetricsHost['directory'],
  registry: Registry,
  { counter, gauge }: { readonly counter: Register; readonly gauge: Register },
): void => {
  const { client, voting } = directory;
  const byLabel = (name: string, help: string, label: string, values: () => Iterable<readonly [string, number]>) =>
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [registry],
      collect() {
        this.reset();
        for (const [key, count] of values()) this.set({ [label]: key }, count);
      },
    });
  gauge('nyx_directory_view_age_seconds', 'Since the view began', () => {
    const view = directory.view?.verified.view;
    return view === undefined ? Number.NaN : Math.max(0, Date.now() / 1000 - view.validAfter);
  });
  counter('nyx_directory_views_accepted_total', 'Views that verified', () => client.accepted);
  counter('nyx_directory_deltas_accepted_total', 'Deltas that led to these', () => client.deltasAccepted);
  counter('nyx_directory_deltas_refused_total', 'Deltas that led nowhere', () => client.deltasRefused);
  byLabel('nyx_directory_views_refused', 'Views that came and were refused, by reason', 'reason', () => client.refused);
  byLabel('nyx_directory_alarms', 'What authorities did that they must not do', 'kind', () =>
    ['fork', 'equivocation'].map((kind) => [kind, directory.evidence.filter((each) => each.kind === kind).length]),
  );
  if (voting === undefined) return;
  const { counters } = voting;
  gauge('nyx_authority_nodes', 'Nodes that have published', () => voting.size);
  gauge('nyx_authority_reachable_nodes', 'Nodes that answer probes', () => voting.reachable);
  gauge('nyx_authority_measured_nodes', 'Nodes whose bandwidth was measured', () => voting.measured);
  counter('nyx_authority_votes_total', 'Rounds in which it voted', () => counters.votes);
  counter('nyx_authority_views_total', 'Views that a threshold signed', () => counters.views);
  counter('nyx_authority_failed_rounds_total', 'Rounds without a view', () => counters.roundsFailed);
  counter('nyx_authority_bad_votes_total', 'Votes of others that were refused', () => counters.badVotes);
  counter('nyx_authority_equivocations_total', 'Double votes', () => counters.equivocations);
  counter('nyx_authority_descriptors_taken_total', 'Descriptors taken', () => counters.descriptorsTaken);
  counter('nyx_authority_measurements_total', 'Measurements of bandwidth', () => counters.measurements);
  counter('nyx_authority_measured_bytes_total', 'Bytes that these sent', () => counters.measuredBytes);
  byLabel('nyx_authority_descriptors_refused', 'Descriptors refused, by reason', 'reason', () =>
    Object.entries(counters.descriptorsRefused),
  );
};

const registerControlPlane = (
  plane: NonNullable<MetricsHost['controlPlane']>,
  registry: Registry,
  { counter, gauge }: { readonly counter: Register; readonly gauge: Register },
): void => {
  const { counters } = plane;
  const state = (value: (state: P2pState) => number) => () => {
    const present = plane.state();
    return present === undefined ? 0 : value(present);
  };
  gauge(
    'nyx_p2p_peers',
    'Connected peers',
    state(({ peers }) => peers.length),
  );
  gauge(
    'nyx_p2p_nodes',
    'Nodes among them',
    state(({ peers }) => new Set(peers.flatMap((p) => p.nodeId ?? [])).size),
  );
  gauge(
    'nyx_p2p_routing_peers',
    'Peers in the routing table',
    state(({ routingPeers }) => routingPeers),
  );
  gauge(
    'nyx_p2p_stored_peers',
    'Peers on disk',
    state(({ storedPeers }) => storedPeers),
  );
  gauge(
    'nyx_p2p_records',
    'DHT records held',
    state(({ records }) => records),
  );
  gauge(
    'nyx_p2p_denied_peers',
    'Peers denied now',
    state(({ deniedPeers }) => deniedPeers),
  );
  counter('nyx_p2p_peers_denied_total', 'Peers dropped and denied', () => counters.peersDenied);
  counter('nyx_p2p_connections_refused_total', 'Connections refused', () => counters.connectionsRefused);
  counter('nyx_p2p_descriptors_received_total', 'Descriptors of others', () => counters.descriptorsReceived);
  counter('nyx_p2p_descriptors_relayed_total', 'Descriptors passed on', () => counters.descriptorsRelayed);
  counter('nyx_p2p_descriptors_delivered_total', 'Deliveries to authorities', () => counters.descriptorsDelivered);
  counter('nyx_p2p_views_served_total', 'Views given to peers', () => counters.viewsServed);
  counter('nyx_p2p_deltas_served_total', 'Of these, as deltas', () => counters.deltasServed);
  counter('nyx_p2p_views_fetched_total', 'Newer views got from peers', () => counters.viewsFetched);
  counter('nyx_p2p_view_served_bytes_total', 'Bytes of views given', () => counters.viewBytesServed);
  counter('nyx_p2p_view_fetched_bytes_total', 'Bytes of views got', () => counters.viewBytesFetched);
  new Counter({
    name: 'nyx_p2p_refused_total',
    help: 'What peers sent and was refused, by reason',
    labelNames: ['reason'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, count] of Object.entries(counters.refusals)) this.inc({ reason }, count);
    },
  });
};

/** All but the actors of single links, circuits, sessions and streams, which are no closed set. */
const staticChildren = (snapshot: SupervisorSnapshot): SupervisorSnapshot['children'] =>
  snapshot.children.flatMap((child) => [
    child,
    ...(child.supervisor === undefined ? [] : staticChildren(child.supervisor)),
  ]);
