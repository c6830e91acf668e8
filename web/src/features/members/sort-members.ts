import type { Member } from '@clarion/client';
import { presenceOf } from '../../shared/presence.ts';

/** In the order of their names; mine first. */
export function sortMembers(members: readonly Member[], me: string | undefined): Member[] {
  const named = members.map((member) => ({ member, name: presenceOf(member).name }));
  named.sort(
    (a, b) =>
      Number(b.member.client === me) - Number(a.member.client === me) ||
      a.name.localeCompare(b.name) ||
      (a.member.client < b.member.client ? -1 : 1),
  );
  return named.map(({ member }) => member);
}
