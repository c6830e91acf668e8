import type { Client, Member } from '@clarion/client';
import type { RoomOptions } from '@clarion/client/react';
import { CHAT_MESSAGE } from './message.ts';

/** How a room of the chat is joined. */
export const CHAT: RoomOptions = { last: 50, members: true, types: [CHAT_MESSAGE] };

/** Where I write to somebody, whom only the server can bring together with it. */
export function directRoom(user: string): string {
  return `$user/${user}`;
}

/** The session of a user in one of these rooms, if there is one. */
export function findMember(
  client: Client,
  rooms: readonly string[],
  isIt: (member: Member) => boolean,
): Member | undefined {
  for (const name of rooms) {
    const member = client.room(name).members.list.find(isIt);
    if (member) return member;
  }
  return undefined;
}
