import type { ClarionError, Publication } from '@clarion/client';
import type { Delivery, Message as Sent } from '@clarion/client/react';
import { userName } from '../../shared/user-name.ts';

export const CHAT_MESSAGE = 'chat_message';

/** The payload of a `chat_message`, as every Clarion chat writes it. */
export interface ChatPayload {
  user: string;
  message: string;
  /** RFC 3339, by the sender's clock. */
  timestamp: string;
}

/** Whether this session is or was me. */
export type IsMine = (client: string | undefined) => boolean;

/** One message as it is shown. */
export interface Message {
  /** Unique in the conversation, and the same before and after the server has it. */
  id: string;
  author: string;
  /** Tells authors of the same name apart: the session or, from the API, the user. */
  sender: string;
  text: string;
  /** Milliseconds since 1970. */
  time: number;
  mine: boolean;
  delivery: Delivery;
  error: ClarionError | undefined;
}

const NAME_LENGTH = 64;

export function chatPayload(user: string, message: string): ChatPayload {
  return { user, message, timestamp: new Date().toISOString() };
}

/** Reads what anybody may have published; undefined when it is not a chat message. */
export function toMessage(entry: Sent, isMine: IsMine): Message | undefined {
  const { id, publication, delivery, error } = entry;
  const { type, payload, from, time } = publication;
  const text = textOf(publication);
  if (type !== CHAT_MESSAGE || text === undefined) return undefined;
  const author = authorOf(payload as Partial<ChatPayload>, from.user);
  const parsed = Date.parse(time);
  return {
    id,
    author,
    // What the API publishes comes from no session: its authors are told apart by name alone.
    sender: from.client ?? from.user ?? `api/${author}`,
    text,
    time: Number.isNaN(parsed) ? Date.now() : parsed,
    mine: isOwn(entry) || isMine(from.client),
    delivery,
    error,
  };
}

/** What is said; undefined when nothing is. */
export function textOf({ type, payload }: Publication): string | undefined {
  if (type !== CHAT_MESSAGE || typeof payload !== 'object' || payload === null) return undefined;
  const { message } = payload as { message?: unknown };
  return typeof message === 'string' ? message : undefined;
}

export function authorOf({ user }: { user?: unknown }, id: string | undefined): string {
  const name = typeof user === 'string' ? user.trim() : '';
  return (name || userName(id) || 'Unknown').slice(0, NAME_LENGTH);
}

/** Only mine are on their way, or failed to be. */
function isOwn({ delivery }: Sent): boolean {
  return delivery !== 'sent';
}
