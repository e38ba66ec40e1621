/** Defaults of a session, and what both ends assume of each other before they have heard anything. */
import type { SessionOptions } from './contract.ts';
import { Scheduler } from './path-choice.ts';

export const defaultSessionOptions: SessionOptions = {
  role: 'client',
  maxStreams: 256,
  streamWindowBytes: 4 * 1024 * 1024,
  sessionWindowBytes: 16 * 1024 * 1024,
  sendBufferBytes: 4 * 1024 * 1024,
  idleTimeoutMs: 60_000,
  keepAliveMs: 15_000,
  capabilities: [],
  mixRttMs: 0,
  scheduler: Scheduler.latencyWeighted,
  fec: undefined,
};

/** What a client may use before it has seen the peer's SETTINGS (0-RTT); smaller windows are raised to these. */
export const INITIAL_STREAM_WINDOW_BYTES = 65_536;
export const INITIAL_SESSION_WINDOW_BYTES = 262_144;
export const INITIAL_MAX_STREAMS = 64;
