import { describe, expect, test } from 'vitest';
import type { ClientOptions } from '../src/options.ts';
import { settled } from './support/clock.ts';
import { setUp } from './support/server.ts';

const INBOX = { room: '$user/u1' };

/** A client that is connected and in its inbox, which is empty. */
async function inbox(options: ClientOptions = {}) {
  const world = setUp(options);
  await world.connected();
  world.socket.send('$joined', { epoch: 'e', offset: 0, from: 1, recovered: false }, INBOX);
  const room = world.client.room('$user/u1');
  return Object.assign(world, {
    room,
    async deliver(...offsets: number[]) {
      for (const offset of offsets) {
        world.socket.send('x', offset, { ...INBOX, epoch: 'e', offset, time: 't', from: {} });
      }
      await settled();
    },
    /** The offset of the next `$ack`, which is answered. */
    acked() {
      const ack = world.socket.next('$ack');
      world.socket.reply(ack);
      return (ack.payload as { offset: number }).offset;
    },
    /** The connection breaks; on the next one the inbox is resumed. */
    async resumed() {
      const { hello } = await world.dropped();
      const joined = { epoch: 'e', offset: 9, from: 10, recovered: true };
      world.socket.send('$joined', joined, INBOX);
      return hello;
    },
  });
}

describe('a device without a position', () => {
  const arrived = async (reply: object) => {
    const heard: unknown[] = [];
    const world = setUp();
    world.client.on('room', (room) => {
      room.on('recovered', (event) => heard.push(event));
      room.on('gap', (event) => heard.push(event));
    });
    await world.connected();
    world.socket.send('$joined', { epoch: 'e', offset: 9, ...reply }, INBOX);
    await settled();
    return heard;
  };

  test('is_told_what_waited_for_it', async () => {
    expect(await arrived({ from: 7, recovered: true })).toEqual([{ from: 7, to: 9 }]);
    expect(await arrived({ from: 10, recovered: true })).toEqual([{ from: 10, to: 9 }]);
  });

  test('is_told_that_something_is_gone', async () => {
    const gap = { reason: 'trimmed', epoch: 'e', offset: 6, to: 6 };
    expect(await arrived({ from: 7, recovered: false })).toEqual([gap]);
  });
});

describe('what was handled', () => {
  test('is_acknowledged_after_the_listener_has_returned', async () => {
    const world = await inbox();
    const unread: number[] = [];
    world.room.on('publication', () => unread.push(world.socket.unread));
    await world.deliver(1);
    expect(unread).toEqual([0]);
    expect(world.socket.next('$ack')).toMatchObject({
      payload: { epoch: 'e', offset: 1 },
      metadata: INBOX,
    });
  });

  test('is_acknowledged_when_what_the_listener_returned_is_done_and_in_order', async () => {
    const world = await inbox();
    const done: (() => void)[] = [];
    world.room.on('publication', () => new Promise<void>((resolve) => done.push(resolve)));
    await world.deliver(1, 2, 3);
    done[1]?.();
    await settled();
    // The first is not handled, and an `$ack` of the second would say that it is.
    expect(world.socket.unread).toBe(0);
    done[0]?.();
    await settled();
    expect(world.acked()).toBe(1);
    expect(world.acked()).toBe(2);
    expect(world.socket.unread).toBe(0);
  });

  test('is_said_by_one_ack_at_a_time_and_the_newest_wins', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    await world.deliver(1);
    const first = world.socket.next('$ack');
    await world.deliver(2, 3, 4);
    expect(world.socket.unread).toBe(0);
    world.socket.reply(first);
    expect(world.acked()).toBe(4);
    expect(world.socket.unread).toBe(0);
  });

  test('is_said_after_the_next_join_if_the_connection_broke', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    await world.deliver(1);
    world.socket.next('$ack');
    await world.deliver(2);
    const hello = await world.resumed();
    expect(hello.payload).toMatchObject({ rooms: { '$user/u1': { after: { offset: 2 } } } });
    expect(world.acked()).toBe(2);
    await world.resumed();
    expect(world.socket.unread).toBe(0);
  });

  test('while_there_was_no_connection_is_said_on_the_next', async () => {
    const world = await inbox();
    let done = () => {};
    world.room.on('publication', () => new Promise<void>((resolve) => (done = resolve)));
    await world.deliver(1);
    world.socket.close(1006);
    done();
    await world.clock.advance((world.client.status.nextTryAt ?? 0) - world.clock.now());
    world.socket.welcome({ resumed: true });
    await settled();
    expect(world.socket.unread).toBe(0);
    world.socket.send('$joined', { epoch: 'e', offset: 1, from: 2, recovered: true }, INBOX);
    expect(world.acked()).toBe(1);
  });

  test('is_said_again_with_backoff_after_a_temporary_refusal', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    await world.deliver(1);
    world.socket.fail(world.socket.next('$ack'), 429, 'rate_limited', { retry_after_ms: 1_000 });
    await world.deliver(2);
    await world.clock.advance(1_249);
    expect(world.socket.unread).toBe(0);
    await world.clock.advance(1);
    expect(world.acked()).toBe(2);
  });

  test('is_given_up_after_a_refusal_for_good', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    await world.deliver(1);
    world.socket.fail(world.socket.next('$ack'), 404, 'unknown_type');
    await world.clock.advance(20_000);
    expect(world.socket.unread).toBe(0);
    await world.deliver(2);
    expect(world.acked()).toBe(2);
  });

  test('leaves_no_timer_behind_when_the_client_is_closed', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    await world.deliver(1);
    world.socket.fail(world.socket.next('$ack'), 503, 'unavailable');
    world.client.close();
    expect(world.clock.timers).toBe(0);
  });
});

describe('what was not handled', () => {
  test.each([
    [
      'throws',
      () => {
        throw new Error('mine');
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error('mine');
      },
    ],
  ])('because_a_listener_%s_is_not_acknowledged_nor_is_what_follows', async (_, listener) => {
    const world = await inbox();
    const fail = world.room.on('publication', listener);
    world.room.on('publication', () => {});
    await world.deliver(1);
    fail();
    await world.deliver(2);
    expect(world.errors).toMatchObject([{ message: 'mine' }]);
    await world.resumed();
    expect(world.socket.unread).toBe(0);
    // The application has dealt with it, and from there on it goes by itself.
    const ack = world.room.ack({ epoch: 'e', offset: 1 });
    expect(world.acked()).toBe(1);
    await ack;
    await world.deliver(10);
    expect(world.acked()).toBe(10);
  });

  test('because_nobody_listened_is_not_acknowledged', async () => {
    const world = await inbox();
    await world.deliver(1);
    world.room.on('publication', () => {});
    await world.deliver(2);
    expect(world.socket.unread).toBe(0);
  });

  test('needs_an_ack_of_the_application_that_reaches_the_newest_of_it', async () => {
    const world = await inbox();
    await world.deliver(1, 2);
    world.room.on('publication', () => {});
    world.room.ack({ epoch: 'e', offset: 1 });
    expect(world.acked()).toBe(1);
    await world.deliver(3);
    expect(world.socket.unread).toBe(0);
  });
});

describe('nothing is acknowledged', () => {
  test.each(['$user/u2', '$group/u1', 'a'])('in_%s', async (name) => {
    const world = await inbox();
    world.socket.send('$joined', { epoch: 'e', offset: 0, from: 1 }, { room: name });
    world.client.room(name).on('publication', () => {});
    world.socket.send('x', 1, { room: name, epoch: 'e', offset: 1 });
    await settled();
    expect(world.client.room(name).position).toEqual({ epoch: 'e', offset: 1 });
    expect(world.socket.unread).toBe(0);
  });

  test('of_what_has_no_place_in_a_log_as_for_guests', async () => {
    const world = await inbox();
    world.room.on('publication', () => {});
    world.socket.send('x', 1, { ...INBOX, time: 't' });
    await settled();
    expect(world.socket.unread).toBe(0);
  });

  test('if_the_application_wants_to_do_that_itself', async () => {
    const world = await inbox({ autoAck: false });
    world.room.on('publication', () => {});
    await world.deliver(1);
    expect(world.socket.unread).toBe(0);
    world.room.ack();
    expect(world.acked()).toBe(1);
  });
});
