import { useCallback, useRef, useSyncExternalStore } from 'react';
import type { ChatRoom } from '../features/chat/chat-room.ts';

export interface Unread {
  total: number;
  byRoom: Readonly<Record<string, number>>;
}

/** What was not seen in all open rooms. */
export function useUnread(rooms: ReadonlyMap<string, ChatRoom>): Unread {
  const last = useRef<{ key: string; unread: Unread }>(undefined);
  const subscribe = useCallback(
    (changed: () => void) => {
      const off = [...rooms.values()].map((room) => room.unread.subscribe(changed));
      return () => {
        for (const stop of off) stop();
      };
    },
    [rooms],
  );
  return useSyncExternalStore(subscribe, () => {
    const counts = [...rooms].map(([name, room]) => [name, room.unread.get()] as const);
    const key = JSON.stringify(counts);
    // The same object for the same counts, or React would render for ever.
    if (last.current?.key !== key) {
      const total = counts.reduce((sum, [, count]) => sum + count, 0);
      last.current = { key, unread: { total, byRoom: Object.fromEntries(counts) } };
    }
    return last.current.unread;
  });
}
