import type { Room } from '@clarion/client';
import { plural } from '../../shared/format.ts';
import { PeopleIcon } from '../../shared/icons.tsx';
import { useMembers } from '../../shared/use-client.ts';
import styles from './MembersButton.module.css';

export function MembersButton({ room, onClick }: { room: Room; onClick: () => void }) {
  const { count } = useMembers(room);
  return (
    <button
      type="button"
      className={styles.button}
      aria-label={`Members: ${plural(count, 'session')}`}
      onClick={onClick}
    >
      <PeopleIcon />
      <span aria-hidden="true">{count}</span>
    </button>
  );
}
