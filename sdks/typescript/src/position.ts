import type { GapPayload, JoinedPayload, Position } from './codec.ts';

/** Where a room stands after a join, and what became of the time between. */
export interface Resumption {
  position: Position | undefined;
  /** What was lost since `previous`, if anything was. */
  gap?: GapPayload;
}

/**
 * Compares the last position seen with a join's reply.
 *
 * The new position lies *before* what the server is about to replay and moves with each delivery,
 * so a connection that breaks in the middle of a replay resumes in the middle of it. It never moves
 * back within an epoch: a replay of `last: n` may repeat what was seen, and that is dropped. In an
 * inbox the user's acknowledged offset, which only the server knows, stands for a position.
 */
export function resume(
  previous: Position | undefined,
  reply: JoinedPayload,
  isInbox = false,
): Resumption {
  const { epoch, offset = 0, from = offset + 1, recovered } = reply;
  if (epoch === undefined) {
    return previous ? { position: undefined, gap: { reason: 'unknown' } } : { position: undefined };
  }
  const position = { epoch, offset: from - 1 };
  if (!previous) {
    const isTrimmed = isInbox && !recovered && from > 1;
    return isTrimmed
      ? { position, gap: { reason: 'trimmed', ...position, to: from - 1 } }
      : { position };
  }
  if (previous.epoch !== epoch) {
    return { position, gap: { reason: 'epoch', epoch, offset: from - 1 } };
  }
  // A head behind what was seen is not this log's future: take the server's word for where it is.
  if (previous.offset > offset) {
    return { position, gap: { reason: 'unknown', epoch, offset: from - 1 } };
  }
  if (from - 1 > previous.offset && !recovered) {
    const gap = {
      reason: 'trimmed',
      epoch,
      offset: from - 1,
      from: previous.offset + 1,
      to: from - 1,
    };
    return { position, gap };
  }
  return { position: { epoch, offset: Math.max(previous.offset, from - 1) } };
}

/** What to do with a publication at `next` when `seen` was the last. */
export function follow(
  seen: Position | undefined,
  next: Position,
): { action: 'deliver' | 'drop'; gap?: GapPayload } {
  if (!seen) return { action: 'deliver' };
  const before = next.offset - 1;
  if (seen.epoch !== next.epoch) {
    return { action: 'deliver', gap: { reason: 'epoch', epoch: next.epoch, offset: before } };
  }
  if (next.offset <= seen.offset) return { action: 'drop' };
  if (before === seen.offset) return { action: 'deliver' };
  const gap = {
    reason: 'unknown',
    epoch: next.epoch,
    offset: before,
    from: seen.offset + 1,
    to: before,
  };
  return { action: 'deliver', gap };
}
