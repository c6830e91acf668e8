export type { Delivery, Earlier, Entry, Feed, Gap, Message, Recovery } from './react/feed.ts';
export {
  ClarionProvider,
  type LiveRoomHandle,
  type Messages,
  type Select,
  useClient,
  useConnection,
  useMessages,
  usePresence,
  useRoom,
  useStore,
  useTyping,
} from './react/hooks.ts';
export { type RoomOptions, TYPING } from './react/live-room.ts';
export { type Readable, Store } from './react/store.ts';
