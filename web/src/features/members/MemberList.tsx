import type { Client, Room } from '@clarion/client';
import { Avatar } from '../../shared/Avatar.tsx';
import { plural } from '../../shared/format.ts';
import { useMembers, useRoomStatus } from '../../shared/use-client.ts';
import styles from './MemberList.module.css';
import { nameOf, sortMembers } from './name-of.ts';

export function MemberList({ client, room }: { client: Client; room: Room }) {
  const { state } = useRoomStatus(room);
  const { list, count, users, detailed } = useMembers(room);
  const me = client.session?.client;

  return (
    <section className={styles.members} aria-label="Members">
      <h2 className={styles.heading}>
        Members {state === 'joined' && count > 0 && <span className={styles.count}>{count}</span>}
      </h2>
      {state !== 'joined' && <p className={styles.hint}>Unknown while not in the room.</p>}
      {state === 'joined' && count === 0 && (
        <p className={styles.hint}>This room does not show who is here.</p>
      )}
      {state === 'joined' && count > 0 && !detailed && (
        <p className={styles.hint}>
          {plural(count, 'session')} of {plural(users, 'user')}. Too many to list.
        </p>
      )}
      <ul className={styles.list}>
        {sortMembers(list, me).map((member) => (
          <li key={member.client} className={styles.member} title={member.user}>
            <Avatar name={nameOf(member)} seed={member.client} />
            <span className={styles.name}>{nameOf(member)}</span>
            {member.client === me && <span className={styles.you}>you</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}
