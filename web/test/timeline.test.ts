import { ClarionError } from '@clarion/client';
import { describe, expect, test } from 'vitest';
import type { Message } from '../src/features/chat/message.ts';
import {
  discarded,
  EMPTY,
  earlierLoaded,
  failed,
  ITEMS_MAX,
  noticed,
  received,
  sending,
  sent,
  type Timeline,
} from '../src/features/chat/timeline.ts';

function message(offset: number, rest: Partial<Message> = {}): Message {
  const position = { epoch: 'e', offset };
  return {
    id: `e/${offset}`,
    author: 'Ada',
    sender: 'a',
    text: `text ${offset}`,
    time: offset,
    mine: false,
    delivery: 'sent',
    position,
    ...rest,
  };
}

function outgoing(id: string, text = 'hi'): Message {
  return { id, author: 'Me', sender: 'me', text, time: 0, mine: true, delivery: 'sending' };
}

function receive(timeline: Timeline, ...messages: Message[]): Timeline {
  return messages.reduce((before, next) => received(before, next, next.position), timeline);
}

const texts = ({ items }: Timeline) =>
  items.map((item) => ('message' in item ? item.message.text : item.notice.kind));

describe('receiving', () => {
  test('messages_stand_in_the_order_in_which_they_came', () => {
    expect(texts(receive(EMPTY, message(5), message(6)))).toEqual(['text 5', 'text 6']);
  });

  test('first_offset_tells_whether_there_is_more_above', () => {
    expect(receive(EMPTY, message(5)).earlier).toBe('more');
    expect(receive(EMPTY, message(1)).earlier).toBe('none');
  });

  test('other_publications_count_for_the_position_only', () => {
    const timeline = received(EMPTY, undefined, { epoch: 'e', offset: 9 });
    expect(timeline).toMatchObject({ items: [], oldest: { offset: 9 }, earlier: 'more' });
  });

  test('memory_is_bounded_and_what_is_dropped_can_be_loaded_again', () => {
    let timeline = EMPTY;
    for (let offset = 1; offset <= ITEMS_MAX + 1; offset++) {
      timeline = receive(timeline, message(offset));
    }
    expect(timeline.items.length).toBeLessThanOrEqual(ITEMS_MAX);
    expect(timeline.earlier).toBe('more');
    expect(timeline.oldest?.offset).toBe(ITEMS_MAX + 1 - timeline.items.length + 1);
  });
});

describe('sending', () => {
  test('message_waits_below_until_the_room_shows_it', () => {
    let timeline = sending(receive(EMPTY, message(1)), outgoing('k1'));
    expect(timeline.outgoing).toMatchObject([{ id: 'k1', delivery: 'sending' }]);
    timeline = sent(timeline, 'k1');
    expect(timeline.outgoing).toMatchObject([{ id: 'k1', delivery: 'sent' }]);
    timeline = receive(timeline, message(2, { id: 'k1', mine: true, text: 'hi' }));
    expect(timeline.outgoing).toEqual([]);
    expect(texts(timeline)).toEqual(['text 1', 'hi']);
  });

  test('echo_may_come_before_the_reply', () => {
    let timeline = sending(EMPTY, outgoing('k1'));
    timeline = receive(timeline, message(1, { id: 'k1', mine: true, text: 'hi' }));
    expect(sent(timeline, 'k1')).toBe(timeline);
    expect(timeline.items).toHaveLength(1);
  });

  test('echo_without_key_is_known_by_its_text_and_keeps_its_identity', () => {
    const { position: _, ...echo } = message(1, { id: 'x', mine: true, text: 'hi' });
    const timeline = received(sending(EMPTY, outgoing('k1')), echo, undefined);
    expect(timeline.outgoing).toEqual([]);
    expect(timeline.items).toMatchObject([{ message: { id: 'k1' } }]);
  });

  test('same_words_of_somebody_else_are_no_echo', () => {
    const timeline = receive(sending(EMPTY, outgoing('k1')), message(1, { text: 'hi' }));
    expect(timeline.outgoing).toHaveLength(1);
  });

  test('failed_message_says_why_and_can_be_sent_again_or_discarded', () => {
    const error = new ClarionError({ name: 'rate_limited' });
    const timeline = failed(sending(EMPTY, outgoing('k1')), 'k1', error);
    expect(timeline.outgoing).toMatchObject([{ delivery: 'failed', error }]);
    const again = sending(timeline, outgoing('k1'));
    expect(again.outgoing).toMatchObject([{ id: 'k1', delivery: 'sending' }]);
    expect(again.outgoing[0]).not.toHaveProperty('error');
    expect(discarded(timeline, 'k1').outgoing).toEqual([]);
  });

  test('message_that_timed_out_and_arrived_after_all_is_not_shown_twice', () => {
    const error = new ClarionError({ name: 'timeout' });
    const timeline = failed(sending(EMPTY, outgoing('k1')), 'k1', error);
    const after = receive(timeline, message(1, { id: 'k1', mine: true, text: 'hi' }));
    expect(after.outgoing).toEqual([]);
    expect(after.items).toHaveLength(1);
  });
});

describe('history', () => {
  test('earlier_messages_come_above', () => {
    const before = receive(EMPTY, message(5));
    const page = [message(3), message(4)];
    const timeline = earlierLoaded(before, page, { epoch: 'e', offset: 3 }, true);
    expect(texts(timeline)).toEqual(['text 3', 'text 4', 'text 5']);
    expect(timeline).toMatchObject({ oldest: { offset: 3 }, earlier: 'more' });
    expect(earlierLoaded(timeline, [], undefined, false).earlier).toBe('none');
  });

  test('notices_stand_where_they_happened', () => {
    const gap = { id: 'n1', kind: 'gap', time: 0 } as const;
    const timeline = receive(noticed(receive(EMPTY, message(1)), gap), message(5));
    expect(texts(timeline)).toEqual(['text 1', 'gap', 'text 5']);
  });
});
