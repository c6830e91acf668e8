import type { AnyEvents, GapPayload, Position, Publication } from '../codec.ts';
import type { ClarionError } from '../errors.ts';

export type Delivery = 'sending' | 'sent' | 'failed';

/** A publication of the room, or one of mine on its way there. */
export interface Message<Events extends object = AnyEvents> {
  readonly kind: 'message';
  /** Unique in the room, and the same before and after the server has it. */
  readonly id: string;
  readonly publication: Publication<Events>;
  readonly delivery: Delivery;
  /** Why it was not sent. */
  readonly error?: ClarionError;
}

/** Something is missing between the entry before and the one after. */
export interface Gap {
  readonly kind: 'gap';
  readonly id: string;
  readonly gap: GapPayload;
}

/** Back after a lost connection; the missed publications `from..to` follow. */
export interface Recovery {
  readonly kind: 'recovered';
  readonly id: string;
  readonly from: number;
  readonly to: number;
}

export type Entry<Events extends object = AnyEvents> = Message<Events> | Gap | Recovery;

/** Whether there is more above: not asked yet, asking, could not be asked, or this is the beginning. */
export type Earlier = 'more' | 'loading' | 'failed' | 'none';

/** What a room's conversation looks like. A new object on every change, never altered. */
export interface Feed<Events extends object = AnyEvents> {
  /** In the order of the log; what the room has not yet shown me of my own comes last. */
  readonly entries: readonly Entry<Events>[];
  readonly earlier: Earlier;
}

export const NO_FEED: Feed = { entries: [], earlier: 'none' };

/** More entries than this are not kept; the oldest quarter goes, and can be loaded again. */
const ENTRIES_MAX = 20_000;

/** Builds a feed. What it holds is altered in place: a burst costs one copy, at its end. */
export class FeedBuilder {
  earlier: Earlier = 'none';
  /** The oldest publication that is known, shown or not; history goes on below it. */
  oldest: Position | undefined;
  #entries: Entry[] = [];
  #outgoing: Message[] = [];
  #ids = 0;

  feed(): Feed {
    return { entries: [...this.#entries, ...this.#outgoing], earlier: this.earlier };
  }

  /** What follows the position is live; what is up to it is history. */
  joined({ epoch, offset }: Position): void {
    if (this.oldest) return;
    this.oldest = { epoch, offset: offset + 1 };
    this.#more(offset > 0);
  }

  /** `mine`: this session published it. */
  receive(publication: Publication, mine: boolean): void {
    const own = mine ? this.#outgoing.find((message) => isEcho(message, publication)) : undefined;
    if (own) this.discard(own.id);
    this.#add(this.#message(publication, own?.id));
  }

  note(entry: Omit<Gap, 'id'> | Omit<Recovery, 'id'>): void {
    this.#add({ ...entry, id: this.#newId() });
  }

  /** I am sending this, for the first time or again. */
  send(message: Message): void {
    this.discard(message.id);
    this.#outgoing.push(message);
  }

  outgoing(id: string): Message | undefined {
    return this.#outgoing.find((message) => message.id === id);
  }

  /** The server has it, or has refused it. What it has stays last until the room shows it, too. */
  settle(id: string, error?: ClarionError): void {
    this.#outgoing = this.#outgoing.map((message) => {
      if (message.id !== id) return message;
      return { ...message, delivery: error ? 'failed' : 'sent', ...(error && { error }) };
    });
  }

  discard(id: string): void {
    this.#outgoing = this.#outgoing.filter((message) => message.id !== id);
  }

  /** A page of history from below `oldest`. */
  prepend(publications: readonly Publication[], more: boolean): void {
    this.#entries.unshift(...publications.map((publication) => this.#message(publication)));
    this.#more(more);
  }

  #add(entry: Entry): void {
    this.#entries.push(entry);
    if (this.#entries.length <= ENTRIES_MAX) return;
    this.#entries.splice(0, ENTRIES_MAX / 4);
    this.oldest = this.#entries.find(isLogged)?.publication.position;
    this.#more(!!this.oldest);
  }

  #message(publication: Publication, known?: string): Message {
    const { position } = publication;
    const id = known ?? (position ? `${position.epoch}/${position.offset}` : this.#newId());
    return { kind: 'message', id, publication, delivery: 'sent' };
  }

  #more(more: boolean): void {
    this.earlier = more ? 'more' : 'none';
  }

  #newId(): string {
    return `#${++this.#ids}`;
  }
}

function isLogged(entry: Entry): entry is Message {
  return entry.kind === 'message' && !!entry.publication.position;
}

/** By key where the room keeps a log; else by what I said. */
function isEcho({ id, publication, delivery }: Message, echo: Publication): boolean {
  if (echo.key) return echo.key === id;
  return (
    delivery !== 'failed' &&
    publication.type === echo.type &&
    JSON.stringify(publication.payload) === JSON.stringify(echo.payload)
  );
}
