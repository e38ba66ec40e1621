/**
 * What an exit says of the datagrams of an association (docs/protocol.md §5.1), as the data of a DATAGRAM frame of its flow:
 *
 *   0 (1) ‖ arrived (6) ‖ expired (6) ‖ dropped (6) ‖ answers dropped (6)
 *
 * Sums since the association began, so that a lost report is made good by the next.
 */
export interface UdpReport {
  /** Datagrams of the client that reached the exit, whatever became of them. */
  readonly arrived: number;
  /** Of them: too old when they came. */
  readonly expired: number;
  /** Of them: not sent on for another reason; policy, no such name, no room. */
  readonly dropped: number;
  /** What targets answered and the exit could not send back. */
  readonly answersDropped: number;
}

/** No family of addresses (udp-frame.ts). */
const REPORT = 0;
const COUNT_BYTES = 6;
const REPORT_BYTES = 1 + 4 * COUNT_BYTES;

export function encodeUdpReport({ arrived, expired, dropped, answersDropped }: UdpReport): Uint8Array {
  const bytes = Buffer.alloc(REPORT_BYTES);
  bytes[0] = REPORT;
  for (const [i, count] of [arrived, expired, dropped, answersDropped].entries()) {
    bytes.writeUIntBE(count, 1 + i * COUNT_BYTES, COUNT_BYTES);
  }
  return bytes;
}

/** Undefined: not a report, or one that contradicts itself. */
export function decodeUdpReport(bytes: Uint8Array): UdpReport | undefined {
  if (bytes.length !== REPORT_BYTES || bytes[0] !== REPORT) return undefined;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = (i: number) => view.readUIntBE(1 + i * COUNT_BYTES, COUNT_BYTES);
  const report = { arrived: count(0), expired: count(1), dropped: count(2), answersDropped: count(3) };
  return report.expired + report.dropped <= report.arrived ? report : undefined;
}
