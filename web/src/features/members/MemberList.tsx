import type { MembersSnapshot, RoomState } from '@clarion/client';
import { useClient, usePresence, useRoom } from '@clarion/client/react';
import { Avatar } from '../../shared/Avatar.tsx';
import { plural } from '../../shared/format.ts';
import { type Presence, presenceOf } from '../../shared/presence.ts';
import { useRoving } from '../../shared/use-roving.ts';
import styles from './MemberList.module.css';
import { sortMembers } from './sort-members.ts';

interface MemberListProps {
  room: string;
  /** What I say of myself, which the room may not know yet. */
  mine: Presence;
  onMessage: (user: string) => void;
}

export function MemberList({ room, mine, onMessage }: MemberListProps) {
  const { status } = useRoom(room);
  const { list, count, users, detailed } = usePresence(room);
  const me = useClient().session?.client;
  const { state } = status;
  const members = sortMembers(list, me);
  const others = members.filter(({ client, user }) => client !== me && user !== undefined);
  const roving = useRoving(others.map(({ client }) => client));

  return (
    <section className={styles.members} aria-label="Members" data-part="members">
      <h2 className={styles.heading}>
        Members {state === 'joined' && count > 0 && <span className={styles.count}>{count}</span>}
      </h2>
      <MembersHint state={state} count={count} users={users} detailed={detailed} />
      <ul
        {...roving.list}
        className={state === 'joined' ? styles.list : `${styles.list} ${styles.stale}`}
      >
        {members.map((member) => {
          const { client, user } = member;
          const isMe = client === me;
          const presence = isMe ? mine : presenceOf(member);
          const shown = <Shown presence={presence} seed={client} isMe={isMe} />;
          return (
            <li key={client}>
              {isMe || user === undefined ? (
                <div className={styles.member}>{shown}</div>
              ) : (
                <button
                  type="button"
                  className={`${styles.member} ${styles.other}`}
                  title={`Write to ${presence.name}`}
                  {...roving.item(client)}
                  onClick={() => onMessage(user)}
                >
                  {shown}
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Shown({ presence, seed, isMe }: { presence: Presence; seed: string; isMe: boolean }) {
  const { name, status, text } = presence;
  return (
    <>
      <Avatar name={name} seed={seed} status={status} />
      <span className={styles.who}>
        <span className={styles.name}>
          {name} {isMe && <span className={styles.you}>you</span>}
        </span>
        {(text || status === 'away') && <span className={styles.status}>{text || 'Away'}</span>}
        {text && status === 'away' && <span className="visually-hidden">, away</span>}
      </span>
    </>
  );
}

type HintProps = { state: RoomState } & Pick<MembersSnapshot, 'count' | 'users' | 'detailed'>;

/** What the list alone does not tell. */
function MembersHint({ state, count, users, detailed }: HintProps) {
  let hint = '';
  if (state === 'left') hint = 'Unknown while not in the room.';
  else if (state === 'joining')
    hint = count > 0 ? 'As of when the connection was lost.' : 'Joining…';
  else if (count === 0) hint = 'It is not known who is here.';
  else if (!detailed) {
    hint = `${plural(count, 'session')} of ${plural(users, 'user')}. Too many to list.`;
  }
  return hint && <p className={styles.hint}>{hint}</p>;
}
