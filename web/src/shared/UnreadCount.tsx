import { plural } from './format.ts';
import styles from './UnreadCount.module.css';

/** How many messages are unread; nothing for none. */
export function UnreadCount({ count }: { count: number }) {
  if (count === 0) return null;
  return (
    <>
      <span className={styles.count} aria-hidden="true">
        {count > 99 ? '99+' : count}
      </span>
      <span className="visually-hidden">, {plural(count, 'unread message')}</span>
    </>
  );
}
