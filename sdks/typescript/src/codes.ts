/**
 * What a close code tells the client to do. The ranges carry the policy, so that a server can
 * introduce a code without a new SDK (PROTOCOL section 6).
 */
export type ClosePolicy = 'stop' | 'backoff' | 'slot';

export const CLOSE_NORMAL = 1000;
/** What a browser reports when there was no close frame. */
export const CLOSE_ABNORMAL = 1006;
export const CLOSE_UNAUTHENTICATED = 4001;
export const CLOSE_TOKEN_EXPIRED = 4102;
export const CLOSE_MOVED = 4200;
export const CLOSE_HEARTBEAT_MISSED = 4201;

const STOP = new Set([CLOSE_NORMAL, 1002, 1003, 1007, 1008, 1009, 1010]);

export function closePolicy(code: number): ClosePolicy {
  if (STOP.has(code) || (code >= 4000 && code < 4100)) return 'stop';
  if (code >= 4200 && code < 4300) return 'slot';
  return 'backoff';
}

const REASONS: Record<number, string> = {
  1000: 'normal',
  1001: 'going_away',
  1006: 'connection_lost',
  1009: 'too_large',
  4001: 'unauthenticated',
  4003: 'forbidden',
  4004: 'abuse',
  4005: 'replaced',
  4006: 'disconnected',
  4100: 'overloaded',
  4102: 'token_expired',
  4108: 'slow_consumer',
  4129: 'rate_limited',
  4200: 'moved',
  4201: 'heartbeat_missed',
};

/**
 * A short stable name for the end of a connection. A close frame's own reason is a sentence for
 * people in a log, so it serves only where the code is unknown.
 */
export function closeReason(code: number, said = ''): string {
  return REASONS[code] ?? (said || `close_${code}`);
}
