import type { Member, MembersChange } from './codec.ts';

/** Who is in a room, as of the last message. A new object on every change, never altered. */
export interface MembersSnapshot {
  /** One entry per session; empty when `detailed` is false. */
  list: readonly Member[];
  /** Sessions. */
  count: number;
  /** Different users. */
  users: number;
  /** False in a room with more members than the server lists (500 by default): only counts. */
  detailed: boolean;
}

export const NO_MEMBERS: MembersSnapshot = { list: [], count: 0, users: 0, detailed: false };

/** Applies a `$members` push, or the snapshot of a join to `NO_MEMBERS`. */
export function changeMembers(before: MembersSnapshot, change: MembersChange): MembersSnapshot {
  const { all, joined, left, changed, count = before.count, users = before.users } = change;
  if (all) return { list: all, count, users, detailed: true };
  if (!before.detailed || !(joined || left || changed)) return { ...NO_MEMBERS, count, users };
  const byClient = new Map(before.list.map((member) => [member.client, member]));
  for (const { client } of left ?? []) byClient.delete(client);
  for (const member of [...(joined ?? []), ...(changed ?? [])]) byClient.set(member.client, member);
  return { list: [...byClient.values()], count, users, detailed: true };
}
