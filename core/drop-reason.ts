/**
 * Why a datagram was dropped: a closed set, so that every drop is counted under a name. On the packet path bad
 * input yields one of these numbers, never a throw. 0 means accepted.
 */
export const Drop = {
  none: 0,
  badLength: 1,
  unknownLink: 2,
  unknownCircuit: 3,
  badType: 4,
  badTag: 5,
  replayed: 6,
  tooOld: 7,
  badCounter: 8,
  badMac: 9,
  cookieRequired: 10,
  badHandshake: 11,
  handshakeReplayed: 12,
  staleEpoch: 13,
  badSetup: 14,
  setupReplayed: 15,
  badFrame: 16,
  limit: 17,
  memory: 18,
  notAllowed: 19,
  noRoute: 20,
  sendQueueFull: 21,
  expired: 22,
  closed: 23,
  mixQueueFull: 24,
  badMessage: 25,
  messageReplayed: 26,
  messageRate: 27,
  messageQueueFull: 28,
} as const;

export type Drop = (typeof Drop)[keyof typeof Drop];

export type DropName = keyof typeof Drop;

/** Names by number, for metrics. */
export const dropNames: readonly DropName[] = (Object.entries(Drop) as [DropName, number][])
  .sort((a, b) => a[1] - b[1])
  .map(([name]) => name);
