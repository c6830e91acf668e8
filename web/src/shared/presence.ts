import type { Member } from '@clarion/client';
import { userName } from './user-name.ts';

/** What a member says of itself in a room, as its presence state there. */
export interface Presence {
  name: string;
  status: 'online' | 'away';
  /** In its own words; may be empty. */
  text: string;
}

export const STATUS_LENGTH = 80;
const NAME_LENGTH = 64;

/** Reads what anybody may have set; a name in the token's info, else the user's id, will do, too. */
export function presenceOf({ client, user, info, state }: Member): Presence {
  const { status } = fieldsOf(state);
  return {
    name: textOf(state, 'name') || textOf(info, 'name') || userName(user) || client,
    status: status === 'away' ? 'away' : 'online',
    text: textOf(state, 'text').slice(0, STATUS_LENGTH),
  };
}

function textOf(value: unknown, name: string): string {
  const text = fieldsOf(value)[name];
  return typeof text === 'string' ? text.trim().slice(0, Math.max(NAME_LENGTH, STATUS_LENGTH)) : '';
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
