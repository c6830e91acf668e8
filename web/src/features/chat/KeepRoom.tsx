import { useMessages, useRoom } from '@clarion/client/react';
import { useEffect, useRef } from 'react';
import type { Presence } from '../../shared/presence.ts';
import { CHAT } from './chat-room.ts';
import { type IsMine, toMessage } from './message.ts';
import { setUnread } from './unread.ts';

interface KeepRoomProps {
  name: string;
  presence: Presence;
  /** Somebody looks at it now. */
  isWatched: boolean;
  isMine: IsMine;
}

/** Stays in a room that is open, looked at or not: says who is there, counts what was not seen. */
export function KeepRoom({ name, presence, isWatched, isMine }: KeepRoomProps) {
  const { room } = useRoom(name, CHAT);
  const { entries } = useMessages(name, CHAT);
  const seen = useRef<string>(undefined);

  useEffect(() => {
    // Kept by the room, and said when it is joined.
    room.setState(presence).catch(() => {});
  }, [room, presence]);

  useEffect(() => {
    if (isWatched) seen.current = entries.at(-1)?.id;
    let count = 0;
    for (let at = entries.length - 1; at >= 0 && entries[at]?.id !== seen.current; at--) {
      const entry = entries[at];
      if (entry?.kind === 'message' && toMessage(entry, isMine)?.mine === false) count++;
    }
    setUnread(name, count);
  }, [name, entries, isWatched, isMine]);

  useEffect(() => () => setUnread(name, 0), [name]);

  return null;
}
