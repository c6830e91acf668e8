import { Acks } from './acks.ts';
import type { Backoff } from './backoff.ts';
import {
  type GapPayload,
  type JoinedPayload,
  type JoinPayload,
  type MembersChange,
  type Position,
  type Publication,
  utf8Size,
} from './codec.ts';
import type { CallOptions } from './commands.ts';
import type { Heard } from './emitter.ts';
import { type ClarionError, invalid, localError } from './errors.ts';
import type { Link } from './link.ts';
import { changeMembers, type MembersSnapshot, NO_MEMBERS } from './members.ts';
import { follow, resume } from './position.ts';
import { type StateEvent, type Status, status } from './status.ts';
import { Timer } from './timer.ts';

export type RoomState = 'left' | 'joining' | 'joined';

/** What a membership tells its room. */
export interface MembershipEvents {
  onState(event: StateEvent<RoomState>): void;
  onPublication(publication: Publication): Heard;
  onGap(gap: GapPayload): void;
  onRecovered(from: number, to: number): void;
  onMembers(members: MembersSnapshot): void;
}

interface Waiter {
  resolve(): void;
  reject(error: ClarionError): void;
}

/** Stands for "the entry in `$hello.rooms`" where otherwise the id of a `$join` stands. */
const HELLO = 0;
/** The longest name of a room. */
const NAME_BYTES = 128;
/** Errors of a `$leave` after which we are as out as can be. */
const OUT = new Set(['not_joined', 'connection_lost', 'closed']);

/**
 * One client in one room: `left`, `joining` or `joined`, and the position in the log.
 *
 *            join()                  reply / $joined
 *   left ──────────────► joining ──────────────────────► joined
 *    ▲                    │   ▲                            │
 *    │ refused, leave(),  │   │ connection lost            │
 *    └─ close(), $left ───┴───┴────────────────────────────┘
 *
 * `awaiting` names the one answer that may end `joining`; every other one is of an old attempt and
 * is dropped. Publications count only in `joined`: what comes at another time belongs to a
 * membership that is over, or is replayed after the next join.
 */
export class Membership {
  readonly #room: string;
  readonly #link: Link;
  readonly #events: MembershipEvents;
  readonly #backoff: Backoff;
  readonly #retry: Timer;
  readonly #waiters = new Set<Waiter>();
  #status: Status<RoomState> = status('left', 'new');
  #wanted = false;
  #options: JoinPayload = {};
  #awaiting: number | undefined;
  #leaving: number | undefined;
  #position: Position | undefined;
  #logged: boolean | undefined;
  /** Was joined, lost the connection, and has not been joined again. */
  #away = false;
  #members = NO_MEMBERS;
  #presence: { value: unknown } | undefined;
  readonly #acks: Acks;

  constructor(room: string, link: Link, events: MembershipEvents) {
    this.#room = room;
    this.#link = link;
    this.#events = events;
    this.#backoff = link.backoff();
    this.#retry = new Timer(link.clock);
    this.#acks = new Acks(room, link);
  }

  get status(): Status<RoomState> {
    return this.#status;
  }

  get position(): Position | undefined {
    return this.#position;
  }

  get logged(): boolean | undefined {
    return this.#logged;
  }

  get members(): MembersSnapshot {
    return this.#members;
  }

  /** Rooms with `$` are joined by the server only. */
  get #managed(): boolean {
    return this.#room.startsWith('$');
  }

  /**
   * Whether what comes is for us. `$all` and `$client/<me>` are addresses: nobody is ever told to
   * have joined them, and whatever comes to them is meant for this connection.
   */
  get #hears(): boolean {
    return this.#status.state === 'joined' || /^\$(all$|client\/)/.test(this.#room);
  }

  join(options: JoinPayload, { timeout = this.#link.timeoutMs, signal }: CallOptions) {
    if (this.#managed) {
      return Promise.reject(invalid('bad_room', 'the server joins rooms with a $', 'room'));
    }
    // It would make the `$hello` too long, over which the server closes for good.
    if (utf8Size(this.#room) > NAME_BYTES) {
      return Promise.reject(invalid('bad_room', 'the name is too long', 'room', NAME_BYTES));
    }
    if (!this.#wanted) {
      this.#wanted = true;
      this.#options = options;
      if (options.after) this.#position = options.after;
    }
    if (this.#status.state === 'joined') return Promise.resolve();
    if (this.#status.state === 'left') {
      this.#backoff.reset();
      this.#become(status('joining', 'join', { willRetry: true }));
      this.#send();
    }
    const joined = new Promise<void>((resolve, reject) => {
      const fail = (name: 'timeout' | 'aborted') => waiter.reject(localError(name));
      const abort = () => fail('aborted');
      const timer = this.#link.clock.after(timeout, () => fail('timeout'));
      const done = () => {
        this.#waiters.delete(waiter);
        this.#link.clock.clear(timer);
        signal?.removeEventListener('abort', abort);
      };
      const waiter: Waiter = {
        resolve: () => {
          done();
          resolve();
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', abort);
      if (signal?.aborted) abort();
    });
    // Whoever follows the state may ignore the promise; that must not end a Node process.
    joined.catch(() => {});
    return joined;
  }

  leave(options: CallOptions): Promise<void> {
    if (this.#managed) {
      return Promise.reject(invalid('bad_room', 'the server joins rooms with a $', 'room'));
    }
    this.#wanted = false;
    const known = this.#status.state === 'joined' || this.#awaiting !== undefined;
    this.#end(status('left', 'leave'), localError('aborted'));
    return known ? this.#leave(options) : Promise.resolve();
  }

  /** The application has acknowledged by itself. */
  acknowledged(position: Position): void {
    this.#acks.acknowledged(position);
  }

  /** Presence state, kept and sent again after each join. */
  present(value: unknown): void {
    this.#presence = { value };
  }

  /** The entry for `$hello.rooms`, which from now on is what is awaited. */
  hello(): JoinPayload | undefined {
    const after = this.#position && { after: this.#position };
    // The server joins me to my inbox and my groups; I only tell it where I stopped reading.
    if (this.#managed) return after;
    if (!this.#wanted) return undefined;
    this.#retry.clear();
    this.#awaiting = HELLO;
    this.#become(status('joining', this.#status.reason, { willRetry: true }));
    return { ...this.#options, ...after };
  }

  /** There is a connection; joins what its `$hello` did not contain. */
  connected(): void {
    if (this.#wanted && this.#awaiting === undefined) this.#send();
  }

  /** There is none, or the next try was put off; `why` is the client's status. */
  dropped(why: Status<string>): void {
    this.#awaiting = undefined;
    this.#retry.clear();
    this.#acks.dropped();
    if (this.#leaving !== undefined) this.#link.cancel(this.#leaving);
    const { code, reason, willRetry, nextTryAt } = why;
    if (this.#status.state === 'joined') this.#away = true;
    if (this.#wanted && willRetry) {
      this.#become({ state: 'joining', code, reason, willRetry, nextTryAt });
    } else if (this.#status.state !== 'left') {
      this.#reset({ state: 'left', code, reason, willRetry, nextTryAt: null });
      this.#reject(localError('closed'));
    }
  }

  /** The reply of a `$hello.rooms` entry, or the server made us join. */
  handleJoined(reply: JoinedPayload): void {
    if (this.#awaiting === HELLO || this.#managed) {
      this.#joined(reply);
    } else if (this.#status.state === 'left' && this.#leaving === undefined) {
      // Joined through the API: from now on wanted, so that the next `$hello` keeps it.
      this.#wanted = true;
      this.#joined(reply);
    }
  }

  /** Returns false when the error is not about joining. */
  handleError(error: ClarionError): boolean {
    if (this.#awaiting !== HELLO) return false;
    this.#refused(error);
    return true;
  }

  handleLeft(reason: string): void {
    if (this.#status.state !== 'joined') return;
    this.#wanted = false;
    this.#end(status('left', reason), localError('aborted'));
  }

  handlePublication(publication: Publication): void {
    if (!this.#hears) return;
    const { position } = publication;
    if (position) {
      const next = follow(this.#position, position);
      if (next.action === 'drop') return;
      this.#position = position;
      if (next.gap) this.#events.onGap(next.gap);
    }
    const heard = this.#events.onPublication(publication);
    if (position && this.#link.acknowledges(this.#room)) this.#acks.delivered(position, heard);
  }

  handleGap(gap: GapPayload): void {
    if (!this.#hears) return;
    const { epoch, offset } = gap;
    if (epoch !== undefined && offset !== undefined) this.#position = { epoch, offset };
    this.#events.onGap(gap);
  }

  handleMembers(change: MembersChange): void {
    if (this.#status.state !== 'joined') return;
    this.#members = changeMembers(this.#members, change);
    this.#events.onMembers(this.#members);
  }

  #send(): void {
    this.#retry.clear();
    if (!this.#link.isConnected()) return;
    const payload = { ...this.#options, ...(this.#position && { after: this.#position }) };
    let answered = false;
    let id: number | undefined;
    id = this.#link.issue('$join', payload, { room: this.#room }, (error, reply) => {
      answered = true;
      if (this.#awaiting !== id) return;
      if (error) this.#refused(error);
      else this.#joined(reply as JoinedPayload);
    });
    if (!answered) this.#awaiting = id;
  }

  #joined(reply: JoinedPayload): void {
    const before = this.#position;
    const away = this.#away;
    this.#away = false;
    this.#awaiting = undefined;
    this.#backoff.reset();
    this.#logged = reply.epoch !== undefined;
    this.#link.learn(this.#room, this.#logged);
    const { position, gap } = resume(before, reply, this.#room.startsWith('$user/'));
    this.#position = position;
    this.#become(status('joined', 'joined'));
    if (reply.members) {
      this.#members = changeMembers(NO_MEMBERS, reply.members);
      this.#events.onMembers(this.#members);
    }
    if (gap) this.#events.onGap(gap);
    // Nobody can tell what was said in a room without log while we were away.
    else if (away && !this.#logged) this.#events.onGap({ reason: 'unknown' });
    else if (position && (before || reply.recovered)) {
      this.#events.onRecovered(position.offset + 1, reply.offset ?? 0);
    }
    this.#acks.joined();
    for (const waiter of [...this.#waiters]) waiter.resolve();
    if (this.#presence) {
      const ignore = () => {};
      this.#link.issue('$state', this.#presence.value, { room: this.#room }, ignore);
    }
  }

  #refused(error: ClarionError): void {
    this.#awaiting = undefined;
    // The client's status tells the rest, through `dropped`.
    if (error.name === 'connection_lost' || error.name === 'closed') return;
    const { code, name: reason } = error;
    const { after, last } = this.#options;
    if (error.name === 'no_history' && (this.#position ?? after ?? last) !== undefined) {
      // It keeps no log, or does not any more: there is nothing to begin with, and it can be joined.
      this.#position = undefined;
      this.#logged = false;
      const { members } = this.#options;
      this.#options = members === undefined ? {} : { members };
      this.#send();
      return;
    }
    // An earlier join of ours got through, but not its reply: without it our position is unknown.
    if (error.name === 'already_joined') this.#leave({});
    else if (!error.temporary) {
      this.#wanted = false;
      this.#end({ state: 'left', code, reason, willRetry: false, nextTryAt: null }, error);
      return;
    }
    const waitMs = this.#backoff.next() + (error.retryAfterMs ?? 0);
    const nextTryAt = this.#link.clock.now() + waitMs;
    this.#become({ state: 'joining', code, reason, willRetry: true, nextTryAt });
    this.#retry.set(waitMs, () => {
      this.#become(status('joining', reason, { code, willRetry: true }));
      this.#send();
    });
  }

  #leave(options: CallOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      let answered = false;
      let id: number | undefined;
      const settle = (error: ClarionError | undefined) => {
        answered = true;
        if (this.#leaving === id) this.#leaving = undefined;
        const out = !error || OUT.has(error.name);
        if (out || (error.name === 'aborted' && !options.signal?.aborted)) resolve();
        else reject(error);
      };
      id = this.#link.issue('$leave', {}, { room: this.#room }, settle, options);
      if (!answered) this.#leaving = id;
    });
  }

  /** Out, and not by accident: the position is forgotten. */
  #end(next: Status<RoomState>, error: ClarionError): void {
    this.#awaiting = undefined;
    this.#retry.clear();
    this.#position = undefined;
    this.#away = false;
    this.#reset(next);
    this.#reject(error);
  }

  #reset(next: Status<RoomState>): void {
    this.#become(next);
    if (this.#members === NO_MEMBERS) return;
    this.#members = NO_MEMBERS;
    this.#events.onMembers(NO_MEMBERS);
  }

  #reject(error: ClarionError): void {
    for (const waiter of [...this.#waiters]) waiter.reject(error);
  }

  #become(next: Status<RoomState>): void {
    const { state, code, reason, nextTryAt, willRetry } = this.#status;
    const same = state === next.state && nextTryAt === next.nextTryAt && code === next.code;
    if (same && reason === next.reason && willRetry === next.willRetry) return;
    this.#status = next;
    this.#events.onState({ ...next, previous: state });
  }
}
