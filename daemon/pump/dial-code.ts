/** Session and circuit codes (numbers on the wire) as the DialError codes that proxies, API and SDK show. */
import { CircuitEnd } from '@nyx/core/engine/contract.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';
import { DialErrorCode } from './contract.ts';

const dialCodes: ReadonlyMap<number, DialErrorCode> = new Map<number, DialErrorCode>([
  [SessionError.noError, DialErrorCode.reset],
  [SessionError.cancelled, DialErrorCode.cancelled],
  [SessionError.connectRefused, DialErrorCode.refused],
  [SessionError.connectTimeout, DialErrorCode.timeout],
  [SessionError.hostUnreachable, DialErrorCode.hostUnreachable],
  [SessionError.networkUnreachable, DialErrorCode.networkUnreachable],
  [SessionError.resolveFailed, DialErrorCode.resolveFailed],
  [SessionError.exitPolicy, DialErrorCode.exitPolicy],
  [SessionError.limit, DialErrorCode.limit],
  [SessionError.idleTimeout, DialErrorCode.reset],
  [SessionError.peerReset, DialErrorCode.reset],
  [SessionError.shutdown, DialErrorCode.shutdown],
  [SessionError.sessionLost, DialErrorCode.sessionLost],
  [SessionError.cryptoFail, DialErrorCode.sessionLost],
]);

/** A stream's end as its user sees it; codes that only a broken peer sends are SESSION_LOST. */
export function dialCodeOf(sessionError: number): DialErrorCode {
  return dialCodes.get(sessionError) ?? DialErrorCode.sessionLost;
}

const sessionErrorNames = namesOf(SessionError);
const circuitEndNames = namesOf(CircuitEnd);

/** Name of a session error, or its number. */
export function describeSessionError(code: number): string {
  return sessionErrorNames.get(code) ?? `code ${code}`;
}

/** Name of a circuit's end, or its number. */
export function describeCircuitEnd(reason: number): string {
  return circuitEndNames.get(reason) ?? `reason ${reason}`;
}

/** What a dial fails with when the circuit that was to carry it ended so. */
export function dialCodeOfCircuitEnd(reason: number): DialErrorCode {
  if (reason === CircuitEnd.timeout) return DialErrorCode.timeout;
  if (reason === CircuitEnd.shutdown) return DialErrorCode.shutdown;
  if (reason === CircuitEnd.requested) return DialErrorCode.cancelled;
  return DialErrorCode.pathFailed;
}

/** `connectRefused` → `connect refused`. */
function namesOf(table: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(table).map(([name, code]) => [
      code,
      name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
    ]),
  );
}
