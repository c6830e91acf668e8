import { useClient, useConnection, useStore } from '@clarion/client/react';
import { useMemo, useRef } from 'react';
import { Avatar } from '../../shared/Avatar.tsx';
import { formatDay, formatMoment, formatTime, plural } from '../../shared/format.ts';
import { UnreadCount } from '../../shared/UnreadCount.tsx';
import { useRoving } from '../../shared/use-roving.ts';
import { seedOf, userName } from '../../shared/user-name.ts';
import { directRoom } from './chat-room.ts';
import type { DirectMessages, Thread } from './direct.ts';
import styles from './Inbox.module.css';
import { toMessage } from './message.ts';
import { unread } from './unread.ts';

interface InboxProps {
  direct: DirectMessages;
  linkTo: (conversation: string) => string;
  onSignIn: () => void;
}

/** Who has written to me, the newest first, and what of it I have not seen. */
export function Inbox({ direct, linkTo, onSignIn }: InboxProps) {
  const threads = useStore(direct.threads);
  const inbox = useStore(direct.inbox);
  const counts = useStore(unread);
  const client = useClient();
  const connection = useConnection();
  const place = useRef<HTMLDivElement>(null);
  const lines = useMemo(() => toLines(threads.values()), [threads]);
  const roving = useRoving(lines.map(({ user }) => user));
  const { isKept, earlier, isTrimmed } = inbox;
  const isLoading =
    earlier === 'loading' || (isKept === undefined && connection.state !== 'closed');
  const isGuest = client.session?.user.startsWith('guest:') ?? true;
  const total = lines.reduce((sum, { user }) => sum + (counts[directRoom(user)] ?? 0), 0);

  // What was pressed is about to go, and with it the focus.
  const leave = () => place.current?.focus({ preventScroll: true });

  return (
    <div ref={place} className={styles.inbox} data-part="inbox" aria-busy={isLoading} tabIndex={-1}>
      <div className={styles.head}>
        <p className={styles.total} role="status">
          {total > 0 ? plural(total, 'unread message') : lines.length > 0 && 'Nothing unread.'}
        </p>
        {total > 0 && (
          <button
            type="button"
            className={styles.button}
            onClick={() => {
              direct.seeAll();
              leave();
            }}
          >
            Mark all as read
          </button>
        )}
      </div>
      {isTrimmed && (
        <p className={styles.gap}>Some messages that you have not seen are not kept any more.</p>
      )}
      {isKept === false && (
        <div className={styles.guest}>
          <p>
            {isGuest ? 'You are a guest here' : 'This server keeps nothing'}: what is written to you
            while you are away is lost.
          </p>
          {isGuest && (
            <button type="button" className={styles.button} onClick={onSignIn}>
              Sign in
            </button>
          )}
        </div>
      )}
      {lines.length > 0 && (
        <ul className={styles.list} aria-label="Who has written to you" {...roving.list}>
          {lines.map((line) => (
            <li key={line.user}>
              <a
                {...roving.item(line.user)}
                className={styles.line}
                href={linkTo(directRoom(line.user))}
              >
                <Line line={line} count={counts[directRoom(line.user)] ?? 0} />
              </a>
            </li>
          ))}
        </ul>
      )}
      {lines.length === 0 && !(earlier === 'failed') && (
        <p className={styles.empty}>{placeholder(connection.state, isLoading)}</p>
      )}
      {earlier === 'failed' && (
        <p className={styles.failed} role="alert">
          What you have read before could not be loaded.
        </p>
      )}
      {(earlier === 'more' || earlier === 'failed') && (
        <button
          type="button"
          className={styles.earlier}
          onClick={() => {
            direct.loadEarlier();
            leave();
          }}
        >
          {earlier === 'failed' ? 'Try again' : 'Load earlier'}
        </button>
      )}
    </div>
  );
}

/** The newest of a conversation. */
interface Summary {
  user: string;
  name: string;
  text: string;
  time: number;
  mine: boolean;
}

function toLines(threads: Iterable<Thread>): Summary[] {
  const lines: Summary[] = [];
  for (const { user, name, entries } of threads) {
    const newest = entries.findLast((entry) => entry.kind === 'message');
    const message = newest && toMessage(newest, () => false);
    // What I have only opened is no message yet.
    if (!newest || !message) continue;
    const mine = newest.publication.room === directRoom(user);
    lines.push({ user, name, text: message.text, time: message.time, mine });
  }
  return lines.sort((one, other) => other.time - one.time);
}

function Line({ line, count }: { line: Summary; count: number }) {
  const { user, name, text, time, mine } = line;
  const now = Date.now();
  const day = formatDay(time, now);
  // What somebody calls themselves is their choice, and who they are is not.
  const id = userName(user);
  return (
    <>
      <Avatar name={name} seed={seedOf(user)} />
      <span className={count > 0 ? `${styles.text} ${styles.unread}` : styles.text}>
        <span className={styles.who}>
          <span className={styles.name}>{name}</span>
          {id !== name && <span className={styles.id}>{id}</span>}
        </span>
        <span className={styles.snippet} dir="auto">
          {mine && 'You: '}
          {text}
        </span>
      </span>
      <span className={styles.side}>
        <time dateTime={new Date(time).toISOString()} title={formatMoment(time)}>
          {day === 'Today' ? formatTime(time) : day}
        </time>
        <UnreadCount count={count} />
      </span>
    </>
  );
}

/** What stands where the conversations would be, when there are none. */
function placeholder(connection: string, isLoading: boolean): string {
  if (connection === 'closed') return 'Not connected.';
  if (connection === 'connecting') return 'Waiting for the connection…';
  if (isLoading) return 'Loading…';
  return 'Nobody has written to you. What somebody sends to you alone is listed here.';
}
