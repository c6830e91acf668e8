import type { ClarionError, Position, Publication } from '@clarion/client';
import { userName } from '../../shared/user-name.ts';

export const CHAT_MESSAGE = 'chat_message';

/** The payload of a `chat_message`, as every Clarion chat writes it. */
export interface ChatPayload {
  user: string;
  message: string;
  /** RFC 3339, by the sender's clock. */
  timestamp: string;
}

export type Delivery = 'sending' | 'sent' | 'failed';

/** One message as it is shown. */
export interface Message {
  /** Unique in the room, and the same before and after the server has it. */
  id: string;
  author: string;
  /** Tells authors of the same name apart: the session or, from the API, the user. */
  sender: string;
  text: string;
  /** Milliseconds since 1970. */
  time: number;
  mine: boolean;
  delivery: Delivery;
  error?: ClarionError;
  position?: Position;
}

const NAME_LENGTH = 64;

/** Reads what anybody may have published; undefined when it is not a chat message. */
export function toMessage(publication: Publication, mine: boolean): Message | undefined {
  const { type, payload, from, key, position, time } = publication;
  if (type !== CHAT_MESSAGE || typeof payload !== 'object' || payload === null) return undefined;
  const { user, message, timestamp } = payload as Partial<Record<keyof ChatPayload, unknown>>;
  if (typeof message !== 'string') return undefined;
  const name =
    typeof user === 'string' && user.trim() ? user.trim() : (userName(from.user) ?? 'Unknown');
  // What the API publishes comes from no session: its authors are told apart by name alone.
  const sender = from.client ?? from.user ?? `api/${name}`;
  const place = position
    ? `${position.epoch}/${position.offset}`
    : `${sender}/${timestamp}/${time}`;
  const parsed = Date.parse(time);
  return {
    id: mine && key !== undefined ? key : place,
    author: name.slice(0, NAME_LENGTH),
    sender,
    text: message,
    time: Number.isNaN(parsed) ? Date.now() : parsed,
    mine,
    delivery: 'sent',
    ...(position && { position }),
  };
}
