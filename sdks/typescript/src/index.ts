export type { BackoffOptions } from './backoff.ts';
export {
  Client,
  type ClientEvents,
  type ClientState,
  type Session,
} from './client.ts';
export type {
  AnyEvents,
  GapPayload,
  GapReason,
  Limits,
  Member,
  MembersPage,
  Position,
  Publication,
  Sender,
} from './codec.ts';
export { type ClosePolicy, closePolicy, closeReason } from './codes.ts';
export type { CallOptions, Signal } from './commands.ts';
export type { GetToken, TokenReason } from './credentials.ts';
export type { Listener, Unsubscribe } from './emitter.ts';
export type { Environment } from './environment.ts';
export { ClarionError } from './errors.ts';
export type { MembersSnapshot } from './members.ts';
export type { RoomState } from './membership.ts';
export type { ClientOptions } from './options.ts';
export type { OutboxLimits, Published, PublishOptions } from './outbox.ts';
export type { HistoryOptions, HistoryPage, JoinOptions, Room, RoomEvents } from './room.ts';
export type { StateEvent, Status } from './status.ts';
export type { Clock } from './timer.ts';
export type {
  Socket,
  SocketEvents,
  Transport,
  WebSocketConstructor,
  WebSocketLike,
} from './transport.ts';
