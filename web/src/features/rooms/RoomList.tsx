import { plural } from '../../shared/format.ts';
import { CloseIcon } from '../../shared/icons.tsx';
import styles from './RoomList.module.css';

interface RoomListProps {
  rooms: readonly string[];
  current: string;
  unread: { byRoom: Readonly<Record<string, number>> };
  linkTo: (room: string) => string;
  onPick: () => void;
  onLeave: (room: string) => void;
}

export function RoomList({ rooms, current, unread, linkTo, onPick, onLeave }: RoomListProps) {
  return (
    <nav className={styles.rooms} aria-label="Your rooms">
      <h2 className={styles.heading}>Rooms</h2>
      {rooms.length === 0 ? (
        <p className={styles.empty}>Rooms you join are listed here.</p>
      ) : (
        <ul className={styles.list}>
          {rooms.map((room) => (
            <li key={room} className={styles.item}>
              <a
                className={styles.link}
                href={linkTo(room)}
                aria-current={room === current ? 'page' : undefined}
                onClick={onPick}
              >
                <span className={styles.hash} aria-hidden="true">
                  #
                </span>
                <span className={styles.name}>{room}</span>
                <Count count={unread.byRoom[room] ?? 0} />
              </a>
              <button
                type="button"
                className={styles.leave}
                aria-label={`Leave ${room}`}
                title={`Leave ${room}`}
                onClick={() => onLeave(room)}
              >
                <CloseIcon />
              </button>
            </li>
          ))}
        </ul>
      )}
    </nav>
  );
}

function Count({ count }: { count: number }) {
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
