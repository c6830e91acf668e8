import { useClient, useStore } from '@clarion/client/react';
import { useCallback, useEffect, useSyncExternalStore } from 'react';
import { directRoom, findMember } from '../features/chat/chat-room.ts';
import { setUnread, unread } from '../features/chat/unread.ts';
import { recentRooms } from '../features/rooms/recent-rooms.ts';
import { type Presence, presenceOf } from '../shared/presence.ts';
import { direct, openRoom, openRooms } from './chat.ts';
import { INBOX, type Place } from './route.ts';

/** The inbox, rooms by name and users by `$user/<id>`, as they are listed from top to bottom. */
export function useConversations(): string[] {
  const rooms = useStore(recentRooms);
  const threads = useStore(direct.threads);
  return [INBOX, ...rooms, ...[...threads.keys()].map(directRoom)];
}

/** Opens what is looked at, and keeps its count of unread messages at 0. */
export function useWatch(place: Place, isVisible: boolean): void {
  const room = place.kind === 'room' ? place.name : undefined;
  const user = place.kind === 'direct' ? place.user : undefined;
  useEffect(() => {
    if (room !== undefined) openRoom(room);
  }, [room]);
  useEffect(() => {
    direct.watch(isVisible ? user : undefined);
    if (isVisible && user !== undefined) setUnread(directRoom(user), 0);
  }, [user, isVisible]);
}

export function useVisible(): boolean {
  const subscribe = useCallback((changed: () => void) => {
    document.addEventListener('visibilitychange', changed);
    return () => document.removeEventListener('visibilitychange', changed);
  }, []);
  return useSyncExternalStore(subscribe, () => !document.hidden);
}

/** What a user says of themselves in one of my rooms; undefined when in none. */
export function usePresenceOf(user: string | undefined): Presence | undefined {
  const client = useClient();
  const rooms = useStore(openRooms);
  const subscribe = useCallback(
    (changed: () => void) => {
      const off = rooms.map((name) => client.room(name).on('members', changed));
      return () => {
        for (const stop of off) stop();
      };
    },
    [client, rooms],
  );
  const member = useSyncExternalStore(subscribe, () =>
    user === undefined ? undefined : findMember(client, rooms, (each) => each.user === user),
  );
  return member && presenceOf(member);
}

/** In the window's title, so that it shows in the tab. */
export function useTitle(title: string): number {
  const total = useStore(unread, sum);
  const shown = `${total ? `(${total}) ` : ''}${title ? `${title} – ` : ''}Clarion`;
  useEffect(() => {
    document.title = shown;
  }, [shown]);
  return total;
}

/** Of users, not of rooms. */
export function unreadDirect(counts: Readonly<Record<string, number>>): number {
  const ofUsers = Object.entries(counts).filter(([name]) => name.startsWith(directRoom('')));
  return sum(Object.fromEntries(ofUsers));
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
