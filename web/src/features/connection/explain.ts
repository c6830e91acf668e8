import type { ClientState, Status } from '@clarion/client';

const REASONS: Record<string, string> = {
  connection_lost: 'The server cannot be reached.',
  connect_timeout: 'The server does not answer.',
  connect_failed: 'The connection could not be opened.',
  heartbeat_missed: 'The server has gone silent.',
  going_away: 'The server is restarting.',
  moved: 'The server is moving us to another place.',
  overloaded: 'The server is overloaded.',
  slow_consumer: 'This connection was too slow.',
  rate_limited: 'Too much at once.',
  token_expired: 'The sign-in expired.',
  token_failed: 'Signing in failed.',
  unauthenticated: 'The server does not let guests in from here.',
  forbidden: 'You may not connect to this server.',
  abuse: 'The server ended the connection because of repeated violations.',
  replaced: 'This chat goes on in another window.',
  disconnected: 'An operator ended the connection.',
};

/** Why there is no connection, for people. */
export function explainConnection(
  { code, reason }: Status<ClientState>,
  isSignedIn = false,
): string {
  if (isSignedIn && reason === 'unauthenticated') {
    return 'Your sign-in is not valid any more. Under your name you can sign out, and in again.';
  }
  return REASONS[reason] ?? (code ? `The connection ended (${code}, ${reason}).` : 'Connecting…');
}
