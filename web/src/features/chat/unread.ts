import { Store } from '@clarion/client/react';

/** Messages of others that nobody has looked at, by conversation; only where there are some. */
export const unread = new Store<Readonly<Record<string, number>>>({});

export function setUnread(conversation: string, count: number): void {
  const { [conversation]: before = 0, ...others } = unread.get();
  if (count !== before) unread.set(count > 0 ? { ...others, [conversation]: count } : others);
}
