import type { ClarionError, RoomState, Status } from '@clarion/client';
import type { Gap, Recovery } from '@clarion/client/react';
import { plural } from '../../shared/format.ts';

const LEFT: Record<string, string> = {
  forbidden: 'You may not join this room.',
  kicked: 'You were removed from this room.',
  deleted: 'This room was deleted.',
  group: 'You are no longer in this group.',
  bad_room: 'The server does not accept this name for a room.',
};

/** Why I am not in a room, for people. */
export function explainLeft({ reason }: Status<RoomState>): string {
  return LEFT[reason] ?? `This room cannot be joined (${reason}).`;
}

const FAILED: Record<string, string> = {
  timeout: 'No answer from the server.',
  queue_full: 'Too many messages are waiting already.',
  connection_lost: 'The connection was lost; it may have arrived.',
  closed: 'Not connected.',
  forbidden: 'You may not write here.',
  too_large: 'Too long for this server.',
  rate_limited: 'Too many messages at once.',
  unavailable: 'The server cannot store messages now.',
  not_connected: 'Not connected.',
};

/** Why a message was not sent, for people. */
export function explainFailure(error: ClarionError | undefined): string {
  return (error && FAILED[error.name]) ?? error?.message ?? 'Not sent.';
}

/** What is missing at this place, for people. */
export function explainGap({ gap: { reason, from, to } }: Gap): string {
  if (from !== undefined && to !== undefined) {
    return `${plural(to - from + 1, 'message')} could not be recovered.`;
  }
  if (reason === 'epoch' || reason === 'unknown') return 'Some messages may be missing here.';
  return 'Some messages could not be recovered.';
}

/** What was missed and begins here, for people. */
export function explainRecovery({ from, to }: Recovery): string {
  return `You were offline: ${plural(to - from + 1, 'new message')}`;
}

/** The same away from its place: what came after all, or what may never come. */
export function explainAbsence(notice: Gap | Recovery): string {
  if (notice.kind === 'recovered') return explainRecovery(notice);
  const { reason, from } = notice.gap;
  const isKnown = from !== undefined || (reason !== 'epoch' && reason !== 'unknown');
  return isKnown ? explainGap(notice) : 'You were offline: some messages may be missing.';
}

/** Who is typing, for people; names are the caller's. */
export function explainTyping(names: readonly string[]): string {
  const [first, second] = names;
  if (first === undefined) return '';
  if (second === undefined) return `${first} is typing…`;
  if (names.length === 2) return `${first} and ${second} are typing…`;
  return `${names.length} people are typing…`;
}
