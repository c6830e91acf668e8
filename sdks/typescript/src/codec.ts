/**
 * The wire: one JSON object per WebSocket text message (PROTOCOL sections 2 to 4).
 *
 * Only this file turns text into objects and back; a binary form would take its place.
 */
export const SUBPROTOCOL = 'clarion.v1.json';

export interface Envelope {
  type: string;
  payload: unknown;
  metadata: Metadata;
}

export interface Metadata {
  room?: string;
  id?: string | number;
  key?: string;
  ephemeral?: boolean;
  echo?: boolean;
  offset?: number;
  epoch?: string;
  time?: string;
  from?: Sender;
}

/** A place in a room's log: which log, and after which publication. */
export interface Position {
  epoch: string;
  offset: number;
}

/** Who published. Absent members were not set by the HTTP API. */
export interface Sender {
  client?: string;
  user?: string;
  info?: unknown;
}

/** One session in one room. */
export interface Member {
  client: string;
  user?: string;
  info?: unknown;
  state?: unknown;
}

export interface HelloPayload {
  token?: string;
  ticket?: string;
  rooms?: Record<string, JoinPayload>;
  sdk?: string;
}

export interface JoinPayload {
  after?: Position;
  last?: number;
  members?: boolean;
}

/** What the server allows this connection; a missing or zero limit is no limit. */
export interface Limits {
  message_bytes?: number;
  delivery_bytes?: number;
  rooms?: number;
  page?: number;
  publish_per_s?: number;
}

export interface WelcomePayload {
  client: string;
  user: string;
  ticket?: string;
  ticket_ttl_ms?: number;
  resumed: boolean;
  limits?: Limits;
  heartbeat_ms?: number;
  expires_at?: string;
}

export interface JoinedPayload {
  epoch?: string;
  offset?: number;
  from?: number;
  recovered?: boolean;
  members?: MembersChange;
}

export interface MembersPage {
  members: Member[];
  count: number;
  users: number;
  /** There are entries after the last of this page. */
  more: boolean;
}

/** The payload of `$members`, and the snapshot in a join's reply: only counts in a large room. */
export interface MembersChange {
  joined?: Member[];
  left?: Member[];
  changed?: Member[];
  all?: Member[];
  count?: number;
  users?: number;
}

export type GapReason = 'trimmed' | 'slow' | 'epoch' | 'unknown' | (string & {});

export interface GapPayload {
  reason: GapReason;
  epoch?: string;
  offset?: number;
  from?: number;
  to?: number;
}

export interface ErrorPayload {
  code: number;
  name: string;
  message: string;
  field?: string;
  limit?: number;
  temporary: boolean;
  retry_after_ms?: number;
  /** The connection is about to be closed with this code. */
  close?: number;
  /** The type of the failed command, when it had no id. */
  command?: string;
  suppressed?: number;
  /** With `epoch_changed`: where the room is now. */
  epoch?: string;
  offset?: number;
}

export function encode(type: string, payload: unknown, metadata: Metadata = {}): string {
  return encodeText(type, JSON.stringify(payload) ?? 'null', metadata);
}

/** As `encode`, for a payload that is JSON text already. */
export function encodeText(type: string, payload: string, metadata: Metadata): string {
  return `{"type":${JSON.stringify(type)},"payload":${payload},"metadata":${JSON.stringify(metadata)}}`;
}

/** Reads one message of the server; throws a `SyntaxError` on anything that is not an envelope. */
export function decode(text: string): Envelope {
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || typeof value.type !== 'string') {
    throw new SyntaxError('not an envelope');
  }
  const { type, payload = null, metadata = {} } = value;
  if (!isObject(metadata)) throw new SyntaxError('metadata is not an object');
  return { type, payload, metadata };
}

/** What an application's publications look like: payloads by type. */
export type AnyEvents = Record<string, unknown>;

interface PublicationOf<Type, Payload> {
  type: Type;
  payload: Payload;
  room: string;
  /** Absent when the publication was not logged. */
  position?: Position;
  /** RFC 3339; neither unique nor monotonic: order by offset. */
  time: string;
  from: Sender;
  key?: string;
}

/** One item in a room. With typed rooms a union that `type` tells apart. */
export type Publication<Events extends object = AnyEvents> = {
  [Type in keyof Events & string]: PublicationOf<Type, Events[Type]>;
}[keyof Events & string];

export function toPublication({ type, payload, metadata }: Envelope): Publication {
  const { room = '', epoch, offset, time = '', from = {}, key } = metadata;
  return {
    type,
    payload,
    room,
    time,
    from,
    ...(epoch !== undefined && offset !== undefined && { position: { epoch, offset } }),
    ...(key !== undefined && { key }),
  };
}

/** The bytes of `text` in UTF-8, which is what the server's limits count. */
export function utf8Size(text: string): number {
  let size = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    // A surrogate pair is 2 units and 4 bytes: each half counts one extra.
    if (unit > 0x7f) size += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return size;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
