import { usePresence } from '@clarion/client/react';
import { plural } from '../../shared/format.ts';
import { PeopleIcon } from '../../shared/icons.tsx';
import styles from './MembersButton.module.css';

export function MembersButton({ room, onClick }: { room: string; onClick: () => void }) {
  const count = usePresence(room, (members) => members.count);
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
