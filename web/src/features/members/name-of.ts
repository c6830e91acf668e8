import type { Member } from '@clarion/client';
import { userName } from '../../shared/user-name.ts';

/** What a member calls itself in its presence state, or the token in its info; else the user's id. */
export function nameOf({ client, user, info, state }: Member): string {
  return named(state) ?? named(info) ?? userName(user) ?? client;
}

function named(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('name' in value)) return undefined;
  const { name } = value;
  return typeof name === 'string' && name.trim() ? name.trim().slice(0, 64) : undefined;
}

/** In the order of their names; mine first. */
export function sortMembers(members: readonly Member[], me: string | undefined): Member[] {
  return [...members].sort(
    (a, b) =>
      Number(b.client === me) - Number(a.client === me) ||
      nameOf(a).localeCompare(nameOf(b)) ||
      (a.client < b.client ? -1 : 1),
  );
}
