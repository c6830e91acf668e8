import { Client } from '@clarion/client';
import { Store } from '@clarion/client/react';
import { DirectMessages } from '../features/chat/direct.ts';
import { isSignedIn, myName, myToken, rememberSession } from '../features/identity/identity.ts';
import { forgetRoom, rememberRoom } from '../features/rooms/recent-rooms.ts';
import { isGroup } from '../features/rooms/room-name.ts';

/** The app's one connection. */
export const client = new Client(
  socketUrl(window.location),
  isSignedIn() ? { token: myToken() ?? '' } : {},
);

/** Conversations with one user each. */
export const direct = new DirectMessages(client, myName.get);

/** Rooms that are joined as long as they are open, in the order in which they were opened. */
export const openRooms = new Store<readonly string[]>([]);

client.on('state', () => {
  if (client.session) rememberSession(client.session.client);
});
client.on('error', (error) => console.warn('clarion:', error));
// The server joined me, by its API or because of a group.
client.on('room', ({ name }) => {
  if (!name.startsWith('$') || isGroup(name)) openRoom(name);
});

export function openRoom(name: string): void {
  const rooms = openRooms.get();
  if (!rooms.includes(name)) openRooms.set([...rooms, name]);
  rememberRoom(name);
}

/** Leaves and forgets. */
export function closeRoom(name: string): void {
  openRooms.set(openRooms.get().filter((room) => room !== name));
  forgetRoom(name);
}

function socketUrl({ protocol, host }: Location): string {
  return `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}/ws`;
}
