import { useStore } from '@clarion/client/react';
import { useRef, useState } from 'react';
import { directRoom } from '../features/chat/chat-room.ts';
import { DirectConversation } from '../features/chat/DirectConversation.tsx';
import { Inbox } from '../features/chat/Inbox.tsx';
import { KeepRoom } from '../features/chat/KeepRoom.tsx';
import { RoomConversation } from '../features/chat/RoomConversation.tsx';
import { ConnectionBanner } from '../features/connection/ConnectionBanner.tsx';
import { isMySession, isSignedIn, myPresence } from '../features/identity/identity.ts';
import { NameChooser } from '../features/identity/NameChooser.tsx';
import { MemberList } from '../features/members/MemberList.tsx';
import { MembersButton } from '../features/members/MembersButton.tsx';
import { JoinRoom } from '../features/rooms/JoinRoom.tsx';
import { isGroup, roomTitle } from '../features/rooms/room-name.ts';
import { Avatar } from '../shared/Avatar.tsx';
import { plural } from '../shared/format.ts';
import { Logo, MenuIcon } from '../shared/icons.tsx';
import { Panel } from '../shared/Panel.tsx';
import type { Presence } from '../shared/presence.ts';
import { useMedia } from '../shared/use-media.ts';
import { seedOf, userName } from '../shared/user-name.ts';
import { closeRoom, direct, openRooms } from './chat.ts';
import { go, linkTo, type Place, placeOf, route } from './route.ts';
import styles from './Shell.module.css';
import { ShortcutsHelp } from './ShortcutsHelp.tsx';
import { Sidebar } from './Sidebar.tsx';
import {
  useConversations,
  usePresenceOf,
  useTitle,
  useVisible,
  useWatch,
} from './use-conversations.ts';
import { focusComposer, useShortcuts } from './use-shortcuts.ts';

type Drawer = 'rooms' | 'members' | 'me' | 'help' | undefined;

/** Everything after the name: conversations on the left, one of them, who is in it on the right. */
export function Shell() {
  const current = useStore(route);
  const presence = useStore(myPresence);
  const open = useStore(openRooms);
  const conversations = useConversations();
  const isWide = useMedia('(min-width: 52rem)');
  const isVeryWide = useMedia('(min-width: 70rem)');
  const isVisible = useVisible();
  const [drawer, setDrawer] = useState<Drawer>();
  const place = placeOf(current);
  const other = usePresenceOf(place.kind === 'direct' ? place.user : undefined);
  const title = useTitleOf(place, other);
  const unread = useTitle(place.kind === 'room' && !isGroup(place.name) ? `#${title}` : title);

  useWatch(place, isVisible);

  const menu = useRef<HTMLButtonElement>(null);
  const close = () => {
    setDrawer(undefined);
    // What opened it may have been in another drawer, and is gone.
    requestAnimationFrame(() => {
      if (document.activeElement === document.body) menu.current?.focus();
    });
  };
  const join = () => {
    if (!isWide) setDrawer('rooms');
    // The drawer is a dialog, which is there after it was rendered.
    requestAnimationFrame(() => document.querySelector<HTMLElement>('[data-part] input')?.focus());
  };
  const leave = (left: string) => {
    if (left.startsWith('$user/')) direct.close(left.slice('$user/'.length));
    else closeRoom(left);
    if (left === current) go('');
  };
  useShortcuts({
    onMove: (by) => {
      const at = conversations.indexOf(current);
      const next = at < 0 ? (by > 0 ? 0 : conversations.length - 1) : at + by;
      if (conversations[next] !== undefined) go(conversations[next]);
    },
    onJoin: join,
    onHelp: () => setDrawer('help'),
  });

  return (
    <div className={styles.shell}>
      <button type="button" className={styles.skip} onClick={focusComposer}>
        Skip to writing a message
      </button>
      <ConnectionBanner isSignedIn={isSignedIn()} />
      {open.map((name) => (
        <KeepRoom
          key={name}
          name={name}
          presence={presence}
          isWatched={isVisible && place.kind === 'room' && place.name === name}
          isMine={isMySession}
        />
      ))}
      <Panel
        label="Conversations"
        isStatic={isWide}
        isOpen={drawer === 'rooms'}
        side="left"
        onClose={close}
      >
        <Sidebar
          current={current}
          onPick={close}
          onLeave={leave}
          onMe={() => setDrawer('me')}
          onHelp={() => setDrawer('help')}
        />
      </Panel>
      <main className={styles.main} aria-label={mainLabel(place, title)}>
        <header className={styles.header}>
          {!isWide && (
            <button
              ref={menu}
              type="button"
              className={styles.icon}
              aria-label={
                unread ? `Conversations, ${plural(unread, 'unread message')}` : 'Conversations'
              }
              onClick={() => setDrawer('rooms')}
            >
              <MenuIcon />
              {unread > 0 && <span className={styles.badge} />}
            </button>
          )}
          <Title place={place} title={title} other={other} />
          {place.kind === 'room' && !isVeryWide && (
            <MembersButton room={place.name} onClick={() => setDrawer('members')} />
          )}
        </header>
        <Content place={place} presence={presence} other={other} onSignIn={() => setDrawer('me')} />
      </main>
      {place.kind === 'room' && (
        <Panel
          label="Members"
          isStatic={isVeryWide}
          isOpen={drawer === 'members'}
          side="right"
          onClose={close}
        >
          <MemberList
            room={place.name}
            mine={presence}
            onMessage={(user) => {
              close();
              go(directRoom(user));
            }}
          />
        </Panel>
      )}
      {drawer === 'me' && (
        <Panel label="You" isStatic={false} isOpen side="center" onClose={close}>
          <NameChooser onDone={close} />
        </Panel>
      )}
      {drawer === 'help' && (
        <Panel label="Keyboard" isStatic={false} isOpen side="center" onClose={close}>
          <ShortcutsHelp />
        </Panel>
      )}
    </div>
  );
}

interface ContentProps {
  place: Place;
  presence: Presence;
  other: Presence | undefined;
  onSignIn: () => void;
}

function Content({ place, presence, other, onSignIn }: ContentProps) {
  if (place.kind === 'invalid') {
    return (
      <div className={styles.empty}>
        <h2>This link leads to no room</h2>
        <p>{place.problem}</p>
        <JoinRoom onJoin={go} isProminent />
      </div>
    );
  }
  if (place.kind === 'nowhere') {
    return (
      <div className={styles.empty}>
        <Logo />
        <h2>Which room?</h2>
        <p>Join one by its name. If nobody is there yet, be the first.</p>
        <JoinRoom onJoin={go} isProminent suggestion="general" />
      </div>
    );
  }
  if (place.kind === 'inbox') {
    return <Inbox direct={direct} linkTo={linkTo} onSignIn={onSignIn} />;
  }
  if (place.kind === 'direct') {
    const { user } = place;
    return (
      <DirectConversation
        key={user}
        direct={direct}
        user={user}
        presence={other}
        isMine={isMySession}
      />
    );
  }
  const { name } = place;
  return (
    <RoomConversation
      key={name}
      name={name}
      title={roomTitle(name)}
      author={presence.name}
      isMine={isMySession}
    />
  );
}

interface TitleProps {
  place: Place;
  title: string;
  other: Presence | undefined;
}

function Title({ place, title, other }: TitleProps) {
  if (place.kind !== 'direct') {
    return (
      <h1 className={styles.title}>
        {place.kind === 'room' && !isGroup(place.name) && (
          <span className={styles.hash} aria-hidden="true">
            #
          </span>
        )}
        {title || 'Clarion'}
      </h1>
    );
  }
  const status = other && (other.text || (other.status === 'away' ? 'Away' : 'Online'));
  return (
    <div className={styles.person}>
      <Avatar name={title} seed={seedOf(place.user)} {...(other && { status: other.status })} />
      <div className={styles.who}>
        <h1 className={styles.title}>{title}</h1>
        <p className={styles.status}>{status ?? 'Not in your rooms'}</p>
      </div>
    </div>
  );
}

/** What the conversation is called; empty where there is none. */
function useTitleOf(place: Place, other: Presence | undefined): string {
  const user = place.kind === 'direct' ? place.user : '';
  const known = useStore(direct.threads, (threads) => threads.get(user)?.name);
  if (place.kind === 'room') return roomTitle(place.name);
  if (place.kind === 'inbox') return 'Inbox';
  if (place.kind === 'direct') return other?.name ?? known ?? userName(user) ?? '';
  return '';
}

function mainLabel(place: Place, title: string): string {
  if (place.kind === 'room') return `Room ${title}`;
  if (place.kind === 'inbox') return title;
  return place.kind === 'direct' ? `Conversation with ${title}` : 'No room';
}
