import {
  type Envelope,
  type GapPayload,
  type HelloPayload,
  type JoinedPayload,
  type MembersChange,
  toPublication,
  utf8Size,
} from './codec.ts';
import type { ClarionError } from './errors.ts';
import type { Link } from './link.ts';
import { Room } from './room.ts';
import type { Status } from './status.ts';

/**
 * The rooms of a client: one handle per name, for ever, so there are as many as the application has
 * names. Brings each what the server says of it.
 */
export class RoomSet {
  readonly #link: Link;
  readonly #onRoom: (room: Room) => void;
  readonly #onThrow: (thrown: unknown) => void;
  readonly #rooms = new Map<string, Room>();

  constructor(link: Link, onRoom: (room: Room) => void, onThrow: (thrown: unknown) => void) {
    this.#link = link;
    this.#onRoom = onRoom;
    this.#onThrow = onThrow;
  }

  get(name: string): Room {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room(name, this.#link, this.#onThrow);
      this.#rooms.set(name, room);
    }
    return room;
  }

  /** The wanted rooms for `$hello`, in about as many bytes; the others follow when connected. */
  hello(budgetBytes: number): NonNullable<HelloPayload['rooms']> {
    const rooms: NonNullable<HelloPayload['rooms']> = {};
    let left = budgetBytes;
    for (const { name, membership } of this.#rooms.values()) {
      if (left <= 0) break;
      const entry = membership.hello();
      if (!entry) continue;
      rooms[name] = entry;
      left -= utf8Size(JSON.stringify({ [name]: entry }));
    }
    return rooms;
  }

  connected(): void {
    for (const { membership } of this.#rooms.values()) membership.connected();
  }

  /** Stops when `isStill` says that a listener has changed everything. */
  dropped(why: Status<string>, isStill: () => boolean): void {
    for (const { membership } of this.#rooms.values()) {
      if (isStill()) membership.dropped(why);
    }
  }

  /** What is not for a room, or of a type that this version does not know, is left alone. */
  receive(envelope: Envelope): void {
    const { type, payload, metadata } = envelope;
    const { room: name } = metadata;
    if (name === undefined) return;
    if (type === '$joined') {
      this.#joined(name, payload as JoinedPayload);
      return;
    }
    const membership = this.#rooms.get(name)?.membership;
    if (type === '$left') membership?.handleLeft((payload as { reason: string }).reason);
    else if (type === '$gap') membership?.handleGap(payload as GapPayload);
    else if (type === '$members') membership?.handleMembers(payload as MembersChange);
    else if (!type.startsWith('$')) membership?.handlePublication(toPublication(envelope));
  }

  /** An error without id; returns false when it is not the answer to an entry of `$hello.rooms`. */
  refuse(name: string | undefined, command: string | undefined, error: ClarionError): boolean {
    if (name === undefined || (command !== undefined && command !== '$join')) return false;
    return this.#rooms.get(name)?.membership.handleError(error) ?? false;
  }

  #joined(name: string, reply: JoinedPayload): void {
    const isNew = !this.#rooms.has(name);
    const room = this.get(name);
    // Before the room joins, so that a listener added now hears everything.
    if (isNew) this.#onRoom(room);
    room.membership.handleJoined(reply);
  }
}
