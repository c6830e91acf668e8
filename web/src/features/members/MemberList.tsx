import type { Client, MembersSnapshot, Room, RoomState } from '@clarion/client';
import { Avatar } from '../../shared/Avatar.tsx';
import { plural } from '../../shared/format.ts';
import { useMembers, useRoomStatus } from '../../shared/use-client.ts';
import styles from './MemberList.module.css';
import { nameOf, sortMembers } from './name-of.ts';

interface MemberListProps {
  client: Client;
  room: Room;
  /** What I am called, which the room may not know yet. */
  name: string;
}

export function MemberList({ client, room, name }: MemberListProps) {
  const { state } = useRoomStatus(room);
  const { list, count, users, detailed } = useMembers(room);
  const me = client.session?.client;

  return (
    <section className={styles.members} aria-label="Members">
      <h2 className={styles.heading}>
        Members {state === 'joined' && count > 0 && <span className={styles.count}>{count}</span>}
      </h2>
      <MembersHint state={state} count={count} users={users} detailed={detailed} />
      <ul className={state === 'joined' ? styles.list : `${styles.list} ${styles.stale}`}>
        {sortMembers(list, me).map((member) => {
          const isMe = member.client === me;
          const shown = isMe ? name : nameOf(member);
          return (
            <li key={member.client} className={styles.member} title={member.user}>
              <Avatar name={shown} seed={member.client} />
              <span className={styles.name}>{shown}</span>
              {isMe && <span className={styles.you}>you</span>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

type HintProps = { state: RoomState } & Pick<MembersSnapshot, 'count' | 'users' | 'detailed'>;

/** What the list alone does not tell. */
function MembersHint({ state, count, users, detailed }: HintProps) {
  let hint = '';
  if (state === 'left') hint = 'Unknown while not in the room.';
  else if (state === 'joining')
    hint = count > 0 ? 'As of when the connection was lost.' : 'Joining…';
  else if (count === 0) hint = 'This room does not show who is here.';
  else if (!detailed) {
    hint = `${plural(count, 'session')} of ${plural(users, 'user')}. Too many to list.`;
  }
  return hint && <p className={styles.hint}>{hint}</p>;
}
