/** All fuzz targets: every decoder that takes bytes from outside. */
import type { FuzzTarget } from '../fuzzer.ts';
import { batchRecords } from './batches.ts';
import { engineClient } from './client.ts';
import { p2pFrames, p2pRecord, p2pStatements } from './control-plane.ts';
import {
  address,
  capabilities,
  descriptor,
  exitPolicy,
  guardState,
  params,
  secondLayer,
  strictCbor,
  view,
} from './directory.ts';
import {
  apiRequest,
  cliArguments,
  config,
  httpConnect,
  keyStore,
  rpcStatus,
  socks5,
  socks5Udp,
  udpFrame,
} from './edges.ts';
import { enginePeer } from './engine.ts';
import { exchangeEvidence } from './exchange.ts';
import { fecRepairs } from './fec.ts';
import { linkControl, linkHandshake, linkMoves } from './link.ts';
import {
  keyBundle,
  lanePayload,
  mailboxRecord,
  messageAddress,
  messageAnswer,
  messageFragment,
  replyToken,
} from './messages.ts';
import { sessionPaths } from './multipath.ts';
import { hopRoute, setupMessages, setupTrain } from './onion.ts';
import { sessionClient, sessionServer } from './session.ts';
import { sphinxPacket } from './sphinx.ts';
import { descriptorList, viewDelta, vote, votingMessage } from './voting.ts';
import { frames, varint } from './wire.ts';

export const targets: readonly FuzzTarget[] = [
  varint,
  frames,
  sessionClient,
  sessionServer,
  sessionPaths,
  fecRepairs,
  hopRoute,
  setupTrain,
  setupMessages,
  sphinxPacket,
  linkControl,
  linkHandshake,
  linkMoves,
  enginePeer,
  engineClient,
  batchRecords,
  exchangeEvidence,
  messageAddress,
  replyToken,
  keyBundle,
  lanePayload,
  messageFragment,
  messageAnswer,
  mailboxRecord,
  descriptor,
  view,
  vote,
  votingMessage,
  viewDelta,
  descriptorList,
  params,
  p2pRecord,
  p2pStatements,
  p2pFrames,
  strictCbor,
  capabilities,
  exitPolicy,
  address,
  guardState,
  secondLayer,
  socks5,
  socks5Udp,
  udpFrame,
  httpConnect,
  config,
  keyStore,
  rpcStatus,
  apiRequest,
  cliArguments,
];

/** Throws when there is none of that name. */
export function targetNamed(name: string): FuzzTarget {
  const found = targets.find((target) => target.name === name);
  if (found === undefined)
    throw new RangeError(`no fuzz target ${name}; there are ${targets.map((target) => target.name).join(', ')}`);
  return found;
}
