import type { ReactNode } from 'react';
import { CloseIcon } from '../../shared/icons.tsx';
import { UnreadCount } from '../../shared/UnreadCount.tsx';
import { useRoving } from '../../shared/use-roving.ts';
import styles from './ConversationList.module.css';

/** One line: a room, or somebody. */
export interface Conversation {
  /** In the address. */
  key: string;
  name: string;
  icon: ReactNode;
  /** It is not mine to leave. */
  isKept?: boolean;
}

interface ConversationListProps {
  label: string;
  heading: string;
  conversations: readonly Conversation[];
  current: string;
  unread: Readonly<Record<string, number>>;
  empty: string;
  /** "Leave", "Close" */
  verb: string;
  linkTo: (key: string) => string;
  onPick: () => void;
  onLeave: (key: string) => void;
}

export function ConversationList(props: ConversationListProps) {
  const { label, heading, conversations, current, unread, empty, verb } = props;
  const { linkTo, onPick, onLeave } = props;
  const roving = useRoving(
    conversations.map(({ key }) => key),
    current,
  );

  return (
    <nav className={styles.rooms} aria-label={label}>
      <h2 className={styles.heading}>{heading}</h2>
      {conversations.length === 0 && <p className={styles.empty}>{empty}</p>}
      <ul className={styles.list} {...roving.list}>
        {conversations.map(({ key, name, icon, isKept = false }) => (
          <li key={key} className={styles.item}>
            <a
              {...roving.item(key)}
              className={styles.link}
              href={linkTo(key)}
              aria-current={key === current ? 'page' : undefined}
              onClick={onPick}
              onKeyDown={(event) => {
                if (event.key === 'Delete' && !isKept) onLeave(key);
              }}
            >
              {icon}
              <span className={styles.name}>{name}</span>
              <UnreadCount count={Object.hasOwn(unread, key) ? (unread[key] ?? 0) : 0} />
            </a>
            {!isKept && (
              <button
                type="button"
                className={styles.leave}
                aria-label={`${verb} ${name}`}
                title={`${verb} ${name}`}
                tabIndex={roving.isCurrent(key) ? 0 : -1}
                onClick={() => onLeave(key)}
              >
                <CloseIcon />
              </button>
            )}
          </li>
        ))}
      </ul>
    </nav>
  );
}
