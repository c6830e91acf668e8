import { ClarionError, type Client, type Publication, type Room } from '@clarion/client';
import { type Schedule, Store } from '../../shared/store.ts';
import { CHAT_MESSAGE, type ChatPayload, type Message, toMessage } from './message.ts';
import * as timeline from './timeline.ts';

const PAGE = 50;

export interface ChatRoomOptions {
  client: Client;
  name: string;
  /** What I am called at this moment. */
  author: () => string;
  /** Whether this session was me, now or before the page was loaded. */
  isMine: (client: string | undefined) => boolean;
  schedule: Schedule;
  now?: () => number;
}

/** One room of the chat: joins it, keeps its timeline, sends, counts what was not seen. */
export class ChatRoom {
  readonly name: string;
  readonly room: Room;
  readonly timeline: Store<timeline.Timeline>;
  /** Messages of others since the room was last looked at. */
  readonly unread = new Store(0);
  readonly #options: ChatRoomOptions;
  readonly #now: () => number;
  readonly #off: (() => void)[];
  #watched = false;
  #notices = 0;

  constructor(options: ChatRoomOptions) {
    const { client, name, schedule, now = Date.now } = options;
    this.#options = options;
    this.#now = now;
    this.name = name;
    this.room = client.room(name);
    this.timeline = new Store(timeline.EMPTY, schedule);
    this.#off = [
      this.room.on('publication', (publication) => this.#receive(publication)),
      this.room.on('gap', ({ reason, from, to }) => {
        if (from !== undefined && to !== undefined) {
          this.#notice({ kind: 'gap', count: to - from + 1 });
        } else {
          this.#notice({ kind: 'gap', isUncertain: reason === 'epoch' || reason === 'unknown' });
        }
      }),
      this.room.on('recovered', ({ from, to }) => {
        if (to >= from) this.#notice({ kind: 'recovered', count: to - from + 1 });
      }),
    ];
    this.join();
  }

  join(): void {
    this.room.setState({ name: this.#options.author() }).catch(() => {});
    const { room } = this;
    room.join({ last: PAGE, members: true }).catch((error: ClarionError) => {
      // A room without log has no last messages; it can be joined all the same.
      if (error.name === 'no_history' && room.state === 'left') room.join({ members: true });
    });
  }

  /** My name changed: the others should see it. */
  rename(): void {
    this.room.setState({ name: this.#options.author() }).catch(() => {});
  }

  leave(): void {
    for (const off of this.#off) off();
    this.room.leave().catch(() => {});
  }

  /** Whether somebody looks at this room now. */
  watch(watched: boolean): void {
    this.#watched = watched;
    if (watched) this.unread.set(0);
  }

  send(text: string): void {
    const now = this.#now();
    this.#publish({
      id: this.#options.client.newKey(),
      author: this.#options.author(),
      sender: this.#options.client.session?.client ?? '',
      text,
      time: now,
      mine: true,
      delivery: 'sending',
    });
  }

  /** With the same key: if it had arrived after all, it is not doubled. */
  retry({ error: _, ...message }: Message): void {
    this.#publish({ ...message, delivery: 'sending' });
  }

  discard(message: Message): void {
    this.timeline.update((before) => timeline.discarded(before, message.id));
  }

  async loadEarlier(): Promise<void> {
    const { oldest, earlier } = this.timeline.get();
    if (!oldest || earlier === 'loading' || earlier === 'none') return;
    this.timeline.update(timeline.loadingEarlier);
    try {
      const { publications, more } = await this.room.history({ before: oldest, limit: PAGE });
      const messages = publications
        .map((publication) => this.#toMessage(publication))
        .filter((message) => message !== undefined);
      this.timeline.update((before) =>
        timeline.earlierLoaded(before, messages, publications[0]?.position, more),
      );
    } catch (error) {
      // The log from which the oldest message came is gone: there is nothing earlier any more.
      const gone = error instanceof ClarionError && error.name === 'epoch_changed';
      this.timeline.update((before) =>
        gone
          ? timeline.earlierLoaded(before, [], undefined, false)
          : timeline.earlierFailed(before),
      );
    }
  }

  #publish(message: Message): void {
    const { id, author: user, text, time } = message;
    const payload: ChatPayload = { user, message: text, timestamp: new Date(time).toISOString() };
    this.timeline.update((before) => timeline.sending(before, message));
    this.room.publish(CHAT_MESSAGE, payload, this.room.logged === false ? {} : { key: id }).then(
      () => this.timeline.update((before) => timeline.sent(before, id)),
      (error: ClarionError) => this.timeline.update((before) => timeline.failed(before, id, error)),
    );
  }

  #receive(publication: Publication): void {
    const message = this.#toMessage(publication);
    this.timeline.update((before) => timeline.received(before, message, publication.position));
    if (message && !message.mine && !this.#watched) this.unread.update((count) => count + 1);
  }

  #toMessage(publication: Publication): Message | undefined {
    return toMessage(publication, this.#options.isMine(publication.from.client));
  }

  #notice(said: Omit<timeline.Notice, 'id' | 'time'>): void {
    const notice = { ...said, id: `notice-${++this.#notices}`, time: this.#now() };
    this.timeline.update((before) => timeline.noticed(before, notice));
  }
}
