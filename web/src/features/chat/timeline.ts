import type { ClarionError, Position } from '@clarion/client';
import type { Message } from './message.ts';

/** Said between messages. */
export interface Notice {
  id: string;
  kind: 'gap' | 'recovered';
  time: number;
  /** How many messages, when that is known. */
  count?: number;
  /** Of a gap: nobody can tell whether anything was lost at all. */
  isUncertain?: boolean;
}

export type Item = { message: Message } | { notice: Notice };

/** Whether there is more above: asked, asking, could not be asked, or this is the beginning. */
export type Earlier = 'more' | 'loading' | 'failed' | 'none';

/**
 * What a room's conversation looks like: the items in the order of the log, and below them what I
 * have sent that the server has not yet shown me. A value; each function returns the next one.
 */
export interface Timeline {
  readonly items: readonly Item[];
  readonly outgoing: readonly Message[];
  /** The oldest publication that is known, of whatever type; history goes on below it. */
  readonly oldest: Position | undefined;
  readonly earlier: Earlier;
}

export const EMPTY: Timeline = { items: [], outgoing: [], oldest: undefined, earlier: 'none' };

/** More items than this are not kept; they can be loaded again. */
export const ITEMS_MAX = 2_000;

/** The room published something; `message` is undefined when it is nothing for people. */
export function received(
  before: Timeline,
  message: Message | undefined,
  position: Position | undefined,
): Timeline {
  const first = before.oldest === undefined;
  const timeline: Timeline = {
    ...before,
    oldest: before.oldest ?? position,
    earlier: first && position && position.offset > 1 ? 'more' : before.earlier,
  };
  if (!message) return timeline;
  const own = message.mine ? before.outgoing.find((mine) => isEcho(mine, message)) : undefined;
  const shown = own ? { ...message, id: own.id } : message;
  const items = [...before.items, { message: shown }];
  return bounded({
    ...timeline,
    items,
    outgoing: own ? before.outgoing.filter((mine) => mine !== own) : before.outgoing,
  });
}

/** I am sending this, for the first time or again. */
export function sending(before: Timeline, message: Message): Timeline {
  const others = before.outgoing.filter(({ id }) => id !== message.id);
  return { ...before, outgoing: [...others, message] };
}

/** The server has it. It stays below until the room shows it to me, too. */
export function sent(before: Timeline, id: string): Timeline {
  return changed(before, id, ({ error: _, ...message }) => ({ ...message, delivery: 'sent' }));
}

export function failed(before: Timeline, id: string, error: ClarionError): Timeline {
  return changed(before, id, (message) => ({ ...message, delivery: 'failed', error }));
}

export function discarded(before: Timeline, id: string): Timeline {
  return { ...before, outgoing: before.outgoing.filter((message) => message.id !== id) };
}

export function noticed(before: Timeline, notice: Notice): Timeline {
  return bounded({ ...before, items: [...before.items, { notice }] });
}

export function loadingEarlier(before: Timeline): Timeline {
  return { ...before, earlier: 'loading' };
}

export function earlierFailed(before: Timeline): Timeline {
  return { ...before, earlier: 'failed' };
}

/** A page of history from below `oldest`. */
export function earlierLoaded(
  before: Timeline,
  messages: readonly Message[],
  oldest: Position | undefined,
  more: boolean,
): Timeline {
  return {
    ...before,
    items: [...messages.map((message) => ({ message })), ...before.items],
    oldest: oldest ?? before.oldest,
    earlier: more ? 'more' : 'none',
  };
}

/** By key where the room keeps a log; else by what I said and when I said it. */
function isEcho(mine: Message, message: Message): boolean {
  if (mine.id === message.id) return true;
  return !message.position && mine.text === message.text && mine.delivery !== 'failed';
}

function changed(before: Timeline, id: string, change: (message: Message) => Message): Timeline {
  if (!before.outgoing.some((message) => message.id === id)) return before;
  const outgoing = before.outgoing.map((message) =>
    message.id === id ? change(message) : message,
  );
  return { ...before, outgoing };
}

function bounded(timeline: Timeline): Timeline {
  const { items } = timeline;
  if (items.length <= ITEMS_MAX) return timeline;
  // A quarter at once, so that this is not done for each message from now on.
  const kept = items.slice(ITEMS_MAX / 4);
  const first = kept.find((item) => 'message' in item && item.message.position);
  const oldest = first && 'message' in first ? first.message.position : undefined;
  return { ...timeline, items: kept, oldest, earlier: oldest ? 'more' : 'none' };
}
