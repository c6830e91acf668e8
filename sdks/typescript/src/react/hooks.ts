import {
  createContext,
  createElement,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useSyncExternalStore,
} from 'react';
import type { Client, ClientState } from '../client.ts';
import type { AnyEvents, Sender } from '../codec.ts';
import type { Unsubscribe } from '../emitter.ts';
import type { MembersSnapshot } from '../members.ts';
import type { RoomState } from '../membership.ts';
import type { Room } from '../room.ts';
import type { Status } from '../status.ts';
import type { Feed } from './feed.ts';
import { type LiveRoom, liveRoom, type RoomOptions } from './live-room.ts';
import type { Readable } from './store.ts';

const ClientContext = createContext<Client | undefined>(undefined);

/** Gives the hooks below it their client. It neither connects nor closes it. */
export function ClarionProvider({ client, children }: { client: Client; children?: ReactNode }) {
  return createElement(ClientContext.Provider, { value: client }, children);
}

export function useClient(): Client {
  const client = useContext(ClientContext);
  if (!client) throw new Error('no ClarionProvider');
  return client;
}

/**
 * A part of a status, of presence, ...: renders again when the part changes. What it returns must
 * be the same (`Object.is`) as long as nothing changed, so it picks and does not build.
 */
export type Select<Whole, Part> = (whole: Whole) => Part;

const all = <T>(whole: T): T => whole;

/** Follows a store. */
export function useStore<T, Part = T>(
  { get, subscribe }: Readable<T>,
  select: Select<T, Part> = all as Select<T, never>,
): Part {
  const pick = () => select(get());
  return useSyncExternalStore(subscribe, pick, pick);
}

/** How the connection is, why, and when it is tried again. */
export function useConnection<Part = Status<ClientState>>(
  select: Select<Status<ClientState>, Part> = all as Select<Status<ClientState>, never>,
): Part {
  const client = useClient();
  return useEvent(client, 'state', () => select(client.status));
}

export interface LiveRoomHandle<Events extends object = AnyEvents> {
  room: Room<Events>;
  /** `left` with a reason when the server refused or removed us. */
  status: Status<RoomState>;
  /** Joins again after that. */
  rejoin(): void;
}

/**
 * In the room while mounted. Several components that name the same room share one membership,
 * which outlives the last of them by 250 ms. The options are those of whoever gives some, when the
 * room is joined; else `{last: 50, members: true}`.
 */
export function useRoom<Events extends object = AnyEvents>(
  name: string,
  options?: RoomOptions,
): LiveRoomHandle<Events> {
  const { room, rejoin } = useLive(name, options);
  const status = useEvent(room, 'state', () => room.status);
  return { room: room as unknown as Room<Events>, status, rejoin };
}

export interface Messages<Events extends object = AnyEvents> extends Feed<Events> {
  /** Shows it at once as `sending`; the room's own delivery takes its place, under the same id. */
  send<Type extends keyof Events & string>(type: Type, payload: Events[Type]): void;
  /** A failed one, with the key it had: if it had arrived after all, it is not doubled. */
  retry(id: string): void;
  /** Takes a failed one away. */
  discard(id: string): void;
  /** Reads the log before the first entry. */
  loadEarlier(): Promise<void>;
}

/** What is said in a room, once per frame. Is in the room while mounted, as `useRoom`. */
export function useMessages<Events extends object = AnyEvents>(
  name: string,
  options?: RoomOptions,
): Messages<Events> {
  const { feed, send, retry, discard, loadEarlier } = useLive(name, options);
  return { ...(useStore(feed) as Feed<Events>), send, retry, discard, loadEarlier };
}

/** Who is in a room. Is in it while mounted, as `useRoom`. */
export function usePresence<Part = MembersSnapshot>(
  name: string,
  select: Select<MembersSnapshot, Part> = all as Select<MembersSnapshot, never>,
): Part {
  const { room } = useLive(name);
  return useEvent(room, 'members', () => select(room.members));
}

/** Who else is typing, and how to say that I am: on each key, and false when I have stopped. */
export function useTyping(
  name: string,
): [typists: readonly Sender[], sayTyping: (isTyping: boolean) => void] {
  const { typists, sayTyping } = useLive(name);
  return [useStore(typists), sayTyping];
}

function useLive(name: string, options?: RoomOptions): LiveRoom {
  const live = liveRoom(useClient(), name);
  // Options count when the room is joined; another object on each render must not join again.
  // biome-ignore lint/correctness/useExhaustiveDependencies: see above
  useEffect(() => live.hold(options), [live]);
  return live;
}

function useEvent<E extends string, T>(
  source: { on(event: E, listener: () => void): Unsubscribe },
  event: E,
  get: () => T,
): T {
  const subscribe = useCallback(
    (changed: () => void) => source.on(event, changed),
    [source, event],
  );
  return useSyncExternalStore(subscribe, get, get);
}
