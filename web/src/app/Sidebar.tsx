import { useClient, useConnection, useStore } from '@clarion/client/react';
import { directRoom } from '../features/chat/chat-room.ts';
import { unread } from '../features/chat/unread.ts';
import { ConnectionDot } from '../features/connection/ConnectionDot.tsx';
import { myPresence } from '../features/identity/identity.ts';
import { ConversationList } from '../features/rooms/ConversationList.tsx';
import { JoinRoom } from '../features/rooms/JoinRoom.tsx';
import { recentRooms } from '../features/rooms/recent-rooms.ts';
import { isGroup, roomTitle } from '../features/rooms/room-name.ts';
import { Avatar } from '../shared/Avatar.tsx';
import { InboxIcon, KeyboardIcon, Logo, PeopleIcon } from '../shared/icons.tsx';
import { UnreadCount } from '../shared/UnreadCount.tsx';
import { seedOf } from '../shared/user-name.ts';
import { direct } from './chat.ts';
import { go, INBOX, linkTo } from './route.ts';
import styles from './Sidebar.module.css';
import { unreadDirect } from './use-conversations.ts';

interface SidebarProps {
  current: string;
  onPick: () => void;
  onLeave: (conversation: string) => void;
  onMe: () => void;
  onHelp: () => void;
}

export function Sidebar({ current, onPick, onLeave, onMe, onHelp }: SidebarProps) {
  const rooms = useStore(recentRooms);
  const threads = useStore(direct.threads);
  const counts = useStore(unread);
  const waiting = unreadDirect(counts);
  const { name, status, text } = useStore(myPresence);
  const client = useClient();
  // The same color as for others, once it is known who I am.
  const seed = useConnection(() => client.session?.client ?? '');
  const list = { current, unread: counts, linkTo, onPick, onLeave };

  return (
    <div className={styles.sidebar} data-part="conversations">
      <p className={styles.brand}>
        <Logo /> Clarion <ConnectionDot />
      </p>
      <a
        className={styles.inbox}
        href={linkTo(INBOX)}
        aria-current={current === INBOX ? 'page' : undefined}
        onClick={onPick}
      >
        <InboxIcon />
        <span className={styles.label}>Inbox</span>
        <UnreadCount count={waiting} />
      </a>
      <ConversationList
        {...list}
        label="Your rooms"
        heading="Rooms"
        empty="Rooms you join are listed here."
        verb="Leave"
        conversations={rooms.map((room) => ({
          key: room,
          name: roomTitle(room),
          icon: isGroup(room) ? <PeopleIcon /> : <Hash />,
          isKept: isGroup(room),
        }))}
      />
      <JoinRoom
        onJoin={(joined) => {
          go(joined);
          onPick();
        }}
      />
      {threads.size > 0 && (
        <ConversationList
          {...list}
          label="Your direct messages"
          heading="Direct messages"
          empty=""
          verb="Close"
          conversations={[...threads.values()].map((thread) => ({
            key: directRoom(thread.user),
            name: thread.name,
            icon: <Avatar name={thread.name} seed={seedOf(thread.user)} isSmall />,
          }))}
        />
      )}
      <div className={styles.me}>
        <button type="button" className={styles.my} title="Your name and status" onClick={onMe}>
          <span className="visually-hidden">You:</span>
          <Avatar name={name} seed={seed} status={status} />
          <span className={styles.who}>
            <span className={styles.name}>{name}</span>
            <span className={styles.status}>{text || (status === 'away' ? 'Away' : 'Online')}</span>
          </span>
        </button>
        <button
          type="button"
          className={styles.icon}
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (Ctrl + /)"
          onClick={onHelp}
        >
          <KeyboardIcon />
        </button>
      </div>
    </div>
  );
}

function Hash() {
  return (
    <span className={styles.hash} aria-hidden="true">
      #
    </span>
  );
}
