import { useEffect, useState } from 'react';
import { ConversationView } from '../features/chat/ConversationView.tsx';
import type { ChatRoom } from '../features/chat/chat-room.ts';
import { ConnectionBanner } from '../features/connection/ConnectionBanner.tsx';
import { ConnectionDot } from '../features/connection/ConnectionDot.tsx';
import { NameChooser } from '../features/identity/NameChooser.tsx';
import { MemberList } from '../features/members/MemberList.tsx';
import { MembersButton } from '../features/members/MembersButton.tsx';
import { JoinRoom } from '../features/rooms/JoinRoom.tsx';
import { RoomList } from '../features/rooms/RoomList.tsx';
import { recentRooms } from '../features/rooms/recent-rooms.ts';
import { roomNameProblem } from '../features/rooms/room-name.ts';
import { plural } from '../shared/format.ts';
import { Logo, MenuIcon } from '../shared/icons.tsx';
import { Panel } from '../shared/Panel.tsx';
import { useMedia } from '../shared/use-media.ts';
import { useStore } from '../shared/use-store.ts';
import { chat } from './chat.ts';
import { go, linkTo, route } from './route.ts';
import styles from './Shell.module.css';
import { useUnread } from './use-unread.ts';

type Drawer = 'rooms' | 'members' | 'name' | undefined;

/** Everything after the name: rooms on the left, the conversation, who is here on the right. */
export function Shell({ name }: { name: string }) {
  const current = useStore(route);
  const open = useStore(chat.rooms);
  const recent = useStore(recentRooms);
  const unread = useUnread(open);
  const isWide = useMedia('(min-width: 52rem)');
  const isVeryWide = useMedia('(min-width: 70rem)');
  const [drawer, setDrawer] = useState<Drawer>();
  const problem = current ? roomNameProblem(current) : undefined;
  const room = open.get(current);

  useOpenRoom(current, problem === undefined);
  useTitle(current, unread);

  const close = () => setDrawer(undefined);
  const leave = (left: string) => {
    chat.close(left);
    if (left === current) go('');
  };

  return (
    <div className={styles.shell}>
      <button type="button" className={styles.skip} onClick={focusComposer}>
        Skip to writing a message
      </button>
      <ConnectionBanner client={chat.client} />
      <Panel
        label="Rooms"
        isStatic={isWide}
        isOpen={drawer === 'rooms'}
        side="left"
        onClose={close}
      >
        <div className={styles.sidebar}>
          <p className={styles.brand}>
            <Logo /> Clarion
          </p>
          <RoomList
            rooms={recent}
            current={current}
            unread={unread}
            linkTo={linkTo}
            onPick={close}
            onLeave={leave}
          />
          <JoinRoom
            onJoin={(joined) => {
              go(joined);
              close();
            }}
          />
          <div className={styles.me}>
            <ConnectionDot client={chat.client} />
            <span className={styles.myName}>{name}</span>
            <button type="button" className={styles.quiet} onClick={() => setDrawer('name')}>
              Change name
            </button>
          </div>
        </div>
      </Panel>
      <main className={styles.main} aria-label={room ? `Room ${current}` : 'No room'}>
        <header className={styles.header}>
          {!isWide && (
            <button
              type="button"
              className={styles.icon}
              aria-label={
                unread.total ? `Rooms, ${plural(unread.total, 'unread message')}` : 'Rooms'
              }
              onClick={() => setDrawer('rooms')}
            >
              <MenuIcon />
              {unread.total > 0 && <span className={styles.badge} />}
            </button>
          )}
          <h1 className={styles.title}>{current ? <RoomTitle name={current} /> : 'Clarion'}</h1>
          {room && !isVeryWide && (
            <MembersButton room={room.room} onClick={() => setDrawer('members')} />
          )}
        </header>
        <Content current={current} problem={problem} room={room} />
      </main>
      {room && (
        <Panel
          label="Members"
          isStatic={isVeryWide}
          isOpen={drawer === 'members'}
          side="right"
          onClose={close}
        >
          <MemberList client={chat.client} room={room.room} name={name} />
        </Panel>
      )}
      {drawer === 'name' && (
        <Panel label="Your name" isStatic={false} isOpen side="center" onClose={close}>
          <NameChooser onDone={close} />
        </Panel>
      )}
    </div>
  );
}

interface ContentProps {
  current: string;
  problem: string | undefined;
  room: ChatRoom | undefined;
}

function Content({ current, problem, room }: ContentProps) {
  if (problem) {
    return (
      <div className={styles.empty}>
        <h2>This link leads to no room</h2>
        <p>{problem}</p>
        <JoinRoom onJoin={go} isProminent />
      </div>
    );
  }
  if (!current) {
    return (
      <div className={styles.empty}>
        <Logo />
        <h2>Which room?</h2>
        <p>Join one by its name. If nobody is there yet, be the first.</p>
        <JoinRoom onJoin={go} isProminent suggestion="general" />
      </div>
    );
  }
  return room && <ConversationView key={current} chatRoom={room} client={chat.client} />;
}

function RoomTitle({ name }: { name: string }) {
  return (
    <>
      <span className={styles.hash} aria-hidden="true">
        #
      </span>
      {name}
    </>
  );
}

function focusComposer() {
  document.getElementById('message')?.focus();
}

function useOpenRoom(name: string, isValid: boolean) {
  useEffect(() => {
    if (!name || !isValid) {
      chat.watch(undefined);
      return;
    }
    chat.open(name);
    const look = () => chat.watch(name);
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, [name, isValid]);
}

function useTitle(current: string, unread: { total: number }) {
  const count = unread.total ? `(${unread.total}) ` : '';
  const title = `${count}${current ? `#${current} – ` : ''}Clarion`;
  useEffect(() => {
    document.title = title;
  }, [title]);
}
