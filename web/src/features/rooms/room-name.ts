const NAME_BYTES = 128;
const SEGMENT = /^[A-Za-z0-9_.:@|+=~-]+$/;

/** What people type, as a name: without a leading #, and with - for spaces. */
export function normalizeRoomName(typed: string): string {
  return typed.trim().replace(/^#+/, '').replace(/\s+/g, '-');
}

/** Why this cannot be a room's name (PROTOCOL section 1), or undefined when it can. */
export function roomNameProblem(name: string): string | undefined {
  if (name === '') return 'A room needs a name.';
  if (name.length > NAME_BYTES) return `At most ${NAME_BYTES} characters, please.`;
  if (name.startsWith('$')) return 'Names that begin with $ are the server’s.';
  const segments = name.split('/');
  if (segments.includes('')) return 'No / at the beginning or end, nor two in a row.';
  if (segments.includes('.') || segments.includes('..')) return 'No . or .. between slashes.';
  if (!segments.every((segment) => SEGMENT.test(segment))) {
    return 'Letters a–z, digits, and any of _ . : @ | + = ~ - / will do.';
  }
  return undefined;
}

const GROUP = '$group/';

/** A room of a group: the server joins it, for as long as one is in the group. */
export function isGroup(room: string): boolean {
  return room.startsWith(GROUP);
}

/** A room as people call it. */
export function roomTitle(room: string): string {
  return isGroup(room) ? room.slice(GROUP.length) : room;
}
