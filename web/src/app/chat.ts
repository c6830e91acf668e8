import { Client } from '@clarion/client';
import { ChatRoom } from '../features/chat/chat-room.ts';
import { isMySession, myName, rememberSession } from '../features/identity/identity.ts';
import { forgetRoom, rememberRoom } from '../features/rooms/recent-rooms.ts';
import { perFrame, Store } from '../shared/store.ts';

/** The app's one connection and the rooms that are open on it, outside of React. */
export class Chat {
  readonly client: Client;
  /** By name, in the order in which they were opened; a new map on every change. */
  readonly rooms = new Store<ReadonlyMap<string, ChatRoom>>(new Map());

  constructor(client: Client) {
    this.client = client;
    client.on('state', () => {
      if (client.session) rememberSession(client.session.client);
    });
    client.on('error', (error) => console.warn('clarion:', error));
    myName.subscribe(() => {
      for (const room of this.rooms.get().values()) room.rename();
    });
  }

  /** Joins unless that was done, and shows that somebody looks at this room and at no other. */
  open(name: string): void {
    const rooms = this.rooms.get();
    if (!rooms.has(name)) {
      const room = new ChatRoom({
        client: this.client,
        name,
        author: myName.get,
        isMine: isMySession,
        schedule: perFrame,
      });
      this.rooms.set(new Map([...rooms, [name, room]]));
      rememberRoom(name);
    }
    this.watch(name);
  }

  watch(watched: string | undefined): void {
    for (const [name, room] of this.rooms.get()) room.watch(name === watched && !document.hidden);
  }

  /** Leaves and forgets. */
  close(name: string): void {
    const rooms = new Map(this.rooms.get());
    rooms.get(name)?.leave();
    rooms.delete(name);
    this.rooms.set(rooms);
    forgetRoom(name);
  }
}

function socketUrl({ protocol, host }: Location): string {
  return `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}/ws`;
}

export const chat = new Chat(new Client(socketUrl(window.location)));
