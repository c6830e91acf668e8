import { usePresence } from '@clarion/client/react';
import { plural } from '../../shared/format.ts';
import { PeopleIcon } from '../../shared/icons.tsx';
import styles from './MembersButton.module.css';

export function MembersButton({ room, onClick }: { room: string; onClick: () => void }) {
  // Nobody is in a room without being one of its members: 0 is not known.
  const count = usePresence(room, (members) => members.count);
  return (
    <button
      type="button"
      className={styles.button}
      aria-label={count > 0 ? `Members: ${plural(count, 'session')}` : 'Members'}
      onClick={onClick}
    >
      <PeopleIcon />
      {count > 0 && <span aria-hidden="true">{count}</span>}
    </button>
  );
}
