import { describe, expect, test } from 'vitest';
import type { GapPayload } from '../src/codec.ts';
import type { RoomState } from '../src/membership.ts';
import type { StateEvent } from '../src/status.ts';
import { settled } from './support/clock.ts';
import { type FakeSocket, outcome, setUp } from './support/server.ts';

/** A client connected and joined to `a` at offset 4 of epoch `e`, with everything it hears. */
async function joined(reply: object = { epoch: 'e', offset: 4, from: 5, recovered: false }) {
  const world = setUp();
  await world.connected();
  const room = world.client.room('a');
  const offsets: (number | undefined)[] = [];
  const log: string[] = [];
  const gaps: GapPayload[] = [];
  const states: StateEvent<RoomState>[] = [];
  room.on('publication', ({ position }) => {
    offsets.push(position?.offset);
    log.push(`publication ${position?.offset}`);
  });
  room.on('gap', (gap) => {
    gaps.push(gap);
    log.push(`gap ${gap.reason}`);
  });
  room.on('recovered', ({ from, to }) => log.push(`recovered ${from}..${to}`));
  room.on('state', (event) => {
    states.push(event);
    log.push(event.state);
  });
  const promise = outcome(room.join({ members: true }));
  world.socket.reply(world.socket.next('$join'), reply);
  await settled();
  log.length = 0;
  return Object.assign(world, { room, offsets, log, gaps, states, promise });
}

function publish(socket: FakeSocket, offset: number, epoch = 'e') {
  socket.send('x', offset, { room: 'a', epoch, offset, time: 't', from: {} });
}

describe('join', () => {
  test('same_name_is_the_same_handle', () => {
    const { client } = setUp();
    expect(client.room('a')).toBe(client.room('a'));
  });

  test('resolves_by_the_reply_and_delivers_what_follows_in_the_same_turn', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const heard: unknown[] = [];
    room.on('publication', ({ payload }) => heard.push(payload));
    const result = outcome(room.join({ last: 2 }));
    const join = world.socket.next('$join');
    expect(join).toMatchObject({ payload: { last: 2 }, metadata: { room: 'a' } });
    world.socket.reply(join, { epoch: 'e', offset: 9, from: 8, recovered: false });
    publish(world.socket, 8);
    publish(world.socket, 9);
    expect(heard).toEqual([8, 9]);
    expect(room.position).toEqual({ epoch: 'e', offset: 9 });
    await settled();
    expect('value' in result).toBe(true);
    expect(room.logged).toBe(true);
  });

  test('before_connecting_goes_into_the_hello', async () => {
    const world = setUp();
    const room = world.client.room('a');
    const result = outcome(room.join({ last: 50, members: true }));
    world.client.connect();
    const hello = world.socket.welcome();
    expect(hello.payload).toMatchObject({ rooms: { a: { last: 50, members: true } } });
    expect(room.state).toBe('joining');
    world.socket.send('$joined', { epoch: 'e', offset: 0, from: 1 }, { room: 'a' });
    await settled();
    expect(room.state).toBe('joined');
    expect('value' in result).toBe(true);
    expect(world.socket.unread).toBe(0);
  });

  test('refusal_leaves_and_rejects', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const result = outcome(room.join());
    world.socket.fail(world.socket.next('$join'), 403, 'forbidden');
    await settled();
    expect(result.error).toMatchObject({ name: 'forbidden', code: 403, temporary: false });
    expect(room.status).toMatchObject({ state: 'left', code: 403, willRetry: false });
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ rooms: {} });
  });

  test('refusal_in_the_hello_leaves_that_room_only', async () => {
    const world = setUp();
    const [a, b] = [world.client.room('a'), world.client.room('b')];
    a.join();
    b.join();
    world.client.connect();
    world.socket.welcome();
    world.socket.send(
      '$error',
      { code: 403, name: 'forbidden', message: 'no', temporary: false },
      { room: 'a' },
    );
    world.socket.send('$joined', {}, { room: 'b' });
    expect([a.state, b.state]).toEqual(['left', 'joined']);
    expect(world.errors).toEqual([]);
  });

  test('temporary_refusal_is_tried_again_after_the_time_that_the_server_names', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const result = outcome(room.join());
    const rest = { retry_after_ms: 1_000 };
    world.socket.fail(world.socket.next('$join'), 503, 'unavailable', rest);
    const { status } = room;
    expect(status).toMatchObject({ state: 'joining', code: 503, reason: 'unavailable' });
    expect(status.nextTryAt).toBe(world.clock.now() + 1_250);
    await world.clock.advance(1_249);
    expect(world.socket.unread).toBe(0);
    await world.clock.advance(1);
    world.socket.reply(world.socket.next('$join'), {});
    await settled();
    expect(room.state).toBe('joined');
    expect('value' in result).toBe(true);
  });

  test('timeout_rejects_the_promise_but_not_the_wish', async () => {
    const world = setUp();
    const room = world.client.room('a');
    const result = outcome(room.join());
    await world.clock.advance(5_000);
    expect(result.error?.name).toBe('timeout');
    expect(room.state).toBe('joining');
    world.client.connect();
    expect(world.socket.welcome().payload).toMatchObject({ rooms: { a: {} } });
  });

  test('late_reply_of_an_old_join_is_dropped_and_the_next_one_starts_clean', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    room.join();
    const first = world.socket.next('$join');
    await world.clock.advance(5_250);
    const second = world.socket.next('$join');
    world.socket.reply(first, { epoch: 'old', offset: 1, from: 2 });
    publish(world.socket, 2, 'old');
    expect(room.state).toBe('joining');
    // The first one had succeeded, so the server refuses the second: leave and start again.
    world.socket.fail(second, 409, 'already_joined', { temporary: false });
    world.socket.reply(world.socket.next('$leave'));
    await world.clock.advance(1_000);
    world.socket.reply(world.socket.next('$join'), { epoch: 'e', offset: 3, from: 4 });
    expect(room.state).toBe('joined');
    expect(room.position).toEqual({ epoch: 'e', offset: 3 });
  });

  test('abort_rejects_the_promise', async () => {
    const { client } = setUp();
    const abort = new AbortController();
    const result = outcome(client.room('a').join({ signal: abort.signal }));
    abort.abort();
    await settled();
    expect(result.error?.name).toBe('aborted');
  });

  test('rooms_of_the_protocol_are_not_joined_by_hand', async () => {
    const { client } = setUp();
    await expect(client.room('$all').join()).rejects.toMatchObject({ name: 'bad_room' });
    await expect(client.room('$all').leave()).rejects.toMatchObject({ name: 'bad_room' });
  });
});

describe('leave', () => {
  test('nothing_arrives_after_it_and_the_position_is_forgotten', async () => {
    const world = await joined();
    const result = outcome(world.room.leave());
    publish(world.socket, 5);
    world.socket.reply(world.socket.next('$leave'));
    await settled();
    expect('value' in result).toBe(true);
    expect(world.offsets).toEqual([]);
    expect(world.room.status).toMatchObject({ state: 'left', reason: 'leave' });
    expect(world.room.position).toBeUndefined();
  });

  test('leaving_and_joining_again_ignores_the_membership_between', async () => {
    const world = await joined();
    world.room.leave();
    world.room.join({ last: 10 });
    publish(world.socket, 5);
    world.socket.reply(world.socket.next('$leave'));
    const join = world.socket.next('$join');
    expect(join.payload).toEqual({ last: 10 });
    world.socket.reply(join, { epoch: 'e', offset: 5, from: 1, recovered: false });
    publish(world.socket, 1);
    expect(world.offsets).toEqual([1]);
  });

  test('during_a_join_wins', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const result = outcome(room.join());
    const join = world.socket.next('$join');
    room.leave();
    world.socket.reply(join, {});
    await settled();
    expect(room.state).toBe('left');
    expect(result.error?.name).toBe('aborted');
    world.socket.next('$leave');
  });

  test('between_hello_and_welcome_wins_over_the_hello', async () => {
    const world = setUp();
    const room = world.client.room('a');
    room.join();
    world.client.connect();
    world.socket.open();
    const hello = world.socket.next('$hello');
    room.leave();
    world.socket.send('$welcome', { client: 'c', user: 'u' }, { id: hello.metadata.id as number });
    const leave = world.socket.next('$leave');
    world.socket.send('$joined', {}, { room: 'a' });
    expect(room.state).toBe('left');
    world.socket.reply(leave);
  });

  test('that_was_never_sent_does_not_undo_a_later_join', async () => {
    const world = setUp();
    const room = world.client.room('a');
    room.join();
    world.client.connect();
    world.socket.open();
    const left = outcome(room.leave());
    world.socket.close(1006);
    room.join();
    await world.clock.advance(1_000);
    expect(world.socket.welcome().payload).toMatchObject({ rooms: { a: {} } });
    await settled();
    expect('value' in left).toBe(true);
    expect(world.socket.unread).toBe(0);
  });

  test('made_by_the_server_says_why', async () => {
    const world = await joined();
    world.socket.send('$left', { reason: 'kicked' }, { room: 'a' });
    publish(world.socket, 5);
    expect(world.room.status).toMatchObject({ state: 'left', reason: 'kicked', willRetry: false });
    expect(world.offsets).toEqual([]);
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ rooms: {} });
  });
});

describe('recovery', () => {
  // [5.8]
  test('one_message_resumes_everything_without_gap_or_duplicate', async () => {
    const world = await joined();
    publish(world.socket, 5);
    publish(world.socket, 6);
    const b = world.client.room('b');
    b.join({ last: 3 });
    world.socket.reply(world.socket.next('$join'), { epoch: 'f', offset: 0, from: 1 });
    world.log.length = 0;
    const { hello, socket } = await world.dropped();
    expect(hello.payload).toMatchObject({
      ticket: 'ticket-1',
      rooms: {
        a: { members: true, after: { epoch: 'e', offset: 6 } },
        b: { last: 3, after: { epoch: 'f', offset: 0 } },
      },
    });
    const reply = { epoch: 'e', offset: 8, from: 7, recovered: true };
    socket.send('$joined', reply, { room: 'a' });
    for (const offset of [6, 7, 8, 8, 9]) publish(socket, offset);
    expect(world.offsets).toEqual([5, 6, 7, 8, 9]);
    expect(world.log).toEqual([
      'joining',
      'joining',
      'joined',
      'recovered 7..8',
      'publication 7',
      'publication 8',
      'publication 9',
    ]);
    expect(world.socket.unread).toBe(0);
  });

  test('drop_in_the_middle_of_a_replay_resumes_in_the_middle', async () => {
    const world = await joined();
    const { socket } = await world.dropped();
    const reply = { epoch: 'e', offset: 9, from: 5, recovered: true };
    socket.send('$joined', reply, { room: 'a' });
    publish(socket, 5);
    const again = await world.dropped();
    expect(again.hello.payload).toMatchObject({ rooms: { a: { after: { offset: 5 } } } });
  });

  test('what_cannot_be_recovered_is_a_gap_before_the_next_publication', async () => {
    const world = await joined();
    const { socket } = await world.dropped();
    world.log.length = 0;
    const reply = { epoch: 'e', offset: 40, from: 31, recovered: false };
    socket.send('$joined', reply, { room: 'a' });
    publish(socket, 31);
    expect(world.log).toEqual(['joined', 'gap trimmed', 'publication 31']);
    expect(world.gaps[0]).toMatchObject({ from: 5, to: 30 });
  });

  test('new_epoch_is_a_gap', async () => {
    const world = await joined();
    const { socket } = await world.dropped();
    socket.send('$joined', { epoch: 'f', offset: 0, from: 1, recovered: false }, { room: 'a' });
    publish(socket, 1, 'f');
    expect(world.gaps).toMatchObject([{ reason: 'epoch', epoch: 'f' }]);
    expect(world.offsets).toEqual([1]);
  });

  // [4.gap]
  test('announced_gap_moves_the_position', async () => {
    const world = await joined();
    const gap = { reason: 'trimmed', epoch: 'e', offset: 20, from: 5, to: 20 };
    world.socket.send('$gap', gap, { room: 'a' });
    publish(world.socket, 21);
    expect(world.gaps).toEqual([gap]);
    expect(world.offsets).toEqual([21]);
  });

  test('unannounced_hole_is_not_hidden', async () => {
    const world = await joined();
    publish(world.socket, 7);
    expect(world.gaps).toMatchObject([{ reason: 'unknown', from: 5, to: 6 }]);
    expect(world.offsets).toEqual([7]);
  });

  test('absence_from_a_room_without_log_is_a_gap', async () => {
    const world = await joined({});
    expect(world.room.logged).toBe(false);
    expect(world.gaps).toEqual([]);
    const { hello, socket } = await world.dropped();
    expect(hello.payload).toMatchObject({ rooms: { a: { members: true } } });
    socket.send('$joined', {}, { room: 'a' });
    expect(world.gaps).toEqual([{ reason: 'unknown' }]);
  });

  test('leaving_a_room_without_log_and_coming_back_is_no_gap', async () => {
    const world = await joined({});
    world.room.leave();
    world.socket.reply(world.socket.next('$leave'));
    world.room.join();
    world.socket.reply(world.socket.next('$join'), {});
    expect(world.gaps).toEqual([]);
  });

  test('room_that_stopped_keeping_a_log_is_joined_live', async () => {
    const world = await joined();
    const { socket } = await world.dropped();
    const error = { code: 404, name: 'no_history', message: '', temporary: false };
    socket.send('$error', error, { room: 'a' });
    const join = socket.next('$join');
    expect(join.payload).toEqual({ members: true });
    socket.reply(join, {});
    expect(world.room.state).toBe('joined');
    expect(world.gaps).toEqual([{ reason: 'unknown' }]);
  });

  test('room_without_log_has_no_last_publications_and_is_joined_all_the_same', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const result = outcome(room.join({ last: 50, members: true }));
    world.socket.fail(world.socket.next('$join'), 404, 'no_history', { temporary: false });
    const again = world.socket.next('$join');
    expect(again.payload).toEqual({ members: true });
    world.socket.reply(again, {});
    await settled();
    expect('value' in result).toBe(true);
    expect(room.logged).toBe(false);
    // A room that refuses even that is not asked for ever.
    const other = world.client.room('b');
    const refused = outcome(other.join());
    world.socket.fail(world.socket.next('$join'), 404, 'no_history', { temporary: false });
    await settled();
    expect(refused.error?.name).toBe('no_history');
    expect(world.socket.unread).toBe(0);
  });

  test('wanted_rooms_that_do_not_fit_into_the_hello_are_joined_after_it', async () => {
    const world = setUp();
    await world.connected({ limits: { message_bytes: 1_000 } });
    for (let index = 0; index < 100; index++) {
      world.client.room(`room-${index}`).join();
      world.socket.reply(world.socket.next('$join'), { epoch: 'e', offset: 1, from: 2 });
    }
    const { hello, socket } = await world.dropped(1006, { limits: { message_bytes: 1_000 } });
    const { rooms } = hello.payload as { rooms: object };
    expect(JSON.stringify(hello).length).toBeLessThan(1_000);
    expect(Object.keys(rooms).length + socket.unread).toBe(100);
  });
});

describe('position', () => {
  test('kept_by_the_application_can_be_given_to_join', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const log: unknown[] = [];
    room.on('recovered', (event) => log.push(event));
    room.join({ after: { epoch: 'e', offset: 2 } });
    const join = world.socket.next('$join');
    expect(join.payload).toEqual({ after: { epoch: 'e', offset: 2 } });
    world.socket.reply(join, { epoch: 'e', offset: 3, from: 3, recovered: true });
    publish(world.socket, 3);
    expect(log).toEqual([{ from: 3, to: 3 }]);
  });
});

describe('members', () => {
  test('snapshot_and_changes', async () => {
    const all = [{ client: 'c1', user: 'u1' }];
    const world = await joined({
      epoch: 'e',
      offset: 0,
      from: 1,
      members: { all, count: 1, users: 1 },
    });
    const before = world.room.members;
    expect(before).toMatchObject({ list: all, count: 1, detailed: true });
    const eve = { client: 'c2', user: 'u2' };
    const change = { joined: [eve], left: [], changed: [], count: 2, users: 2 };
    world.socket.send('$members', change, { room: 'a' });
    expect(world.room.members.list).toEqual([...all, eve]);
    expect(world.room.members).not.toBe(before);
    world.room.leave();
    expect(world.room.members.count).toBe(0);
  });

  test('state_is_set_again_after_a_reconnect', async () => {
    const world = await joined();
    world.room.setState({ typing: true });
    world.socket.reply(world.socket.next('$state'));
    const { socket } = await world.dropped();
    socket.send('$joined', { epoch: 'e', offset: 4, from: 5, recovered: true }, { room: 'a' });
    expect(socket.next('$state').payload).toEqual({ typing: true });
  });
});

describe('what no server takes', () => {
  test('state_over_1_KiB_is_refused_here_and_not_kept', async () => {
    const world = setUp();
    const room = world.client.room('a');
    await expect(room.setState('x'.repeat(1_023))).rejects.toMatchObject({
      name: 'too_large',
      code: 413,
      limit: 1_024,
    });
    await world.connected();
    room.join();
    world.socket.reply(world.socket.next('$join'), { epoch: 'e', offset: 0, from: 1 });
    await expect(room.setState('é'.repeat(512))).rejects.toMatchObject({ name: 'too_large' });
    expect(world.socket.unread).toBe(0);
  });

  test.each([true, false])('command_that_is_too_long_is_refused_here_%s', async (isConnected) => {
    const world = setUp();
    const limits = { message_bytes: 1_000 };
    if (isConnected) await world.connected({ limits });
    const room = world.client.room('a');
    const [members, state] = [
      outcome(room.listMembers({ after: 'x'.repeat(1_000) })),
      outcome(world.client.room('é'.repeat(1_000)).history()),
    ];
    if (!isConnected) await world.connected({ limits });
    await settled();
    expect(members.error).toMatchObject({ name: 'too_large', limit: 1_000 });
    expect(state.error).toMatchObject({ name: 'too_large', limit: 1_000 });
    expect(world.socket.unread).toBe(0);
    expect(world.clock.timers).toBe(1);
  });

  test('room_with_a_name_that_no_room_has_is_not_in_the_hello', async () => {
    const world = setUp();
    const room = world.client.room('x'.repeat(129));
    await expect(room.join()).rejects.toMatchObject({ name: 'bad_room', limit: 128 });
    world.client.connect();
    expect(world.socket.welcome().payload).toMatchObject({ rooms: {} });
  });
});

describe('rooms of the server', () => {
  test('inbox_appears_by_itself_and_keeps_its_place', async () => {
    const world = setUp();
    const heard: unknown[] = [];
    world.client.on('room', (room) => {
      heard.push(room.name);
      room.on('publication', ({ payload }) => heard.push(payload));
    });
    await world.connected();
    const metadata = { room: '$user/u1' };
    world.socket.send('$joined', { epoch: 'e', offset: 1, from: 1 }, metadata);
    world.socket.send('x', 'hi', { ...metadata, epoch: 'e', offset: 1 });
    expect(heard).toEqual(['$user/u1', 'hi']);
    const inbox = world.client.room('$user/u1');
    inbox.ack().catch(() => {});
    expect(world.socket.next('$ack').payload).toEqual({ epoch: 'e', offset: 1 });
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ rooms: { '$user/u1': { after: { offset: 1 } } } });
    world.socket.send('$joined', { epoch: 'e', offset: 1, from: 2, recovered: true }, metadata);
    expect(inbox.state).toBe('joined');
  });

  test('group_keeps_its_place_and_ends_with_the_reason', async () => {
    const world = setUp();
    await world.connected();
    const metadata = { room: '$group/crew' };
    world.socket.send('$joined', { epoch: 'e', offset: 4, from: 5, recovered: false }, metadata);
    const group = world.client.room('$group/crew');
    const { hello, socket } = await world.dropped();
    const after = { epoch: 'e', offset: 4 };
    expect(hello.payload).toMatchObject({ rooms: { '$group/crew': { after } } });
    socket.send('$joined', { epoch: 'e', offset: 4, from: 5, recovered: true }, metadata);
    expect(group.state).toBe('joined');
    socket.send('$left', { reason: 'group' }, metadata);
    expect(group.status).toMatchObject({ state: 'left', reason: 'group', willRetry: false });
    expect((await world.dropped()).hello.payload).toMatchObject({ rooms: {} });
  });

  test('what_is_sent_to_all_or_to_this_client_arrives_without_having_joined', async () => {
    const world = setUp();
    await world.connected();
    const heard: unknown[] = [];
    for (const name of ['$all', '$client/c1']) {
      const room = world.client.room(name);
      room.on('publication', ({ payload }) => heard.push(payload));
      room.on('gap', ({ reason }) => heard.push(reason));
      world.socket.send('x', name, { room: name, time: 't' });
      world.socket.send('$gap', { reason: 'slow' }, { room: name });
    }
    expect(heard).toEqual(['$all', 'slow', '$client/c1', 'slow']);
    expect((await world.dropped()).hello.payload).toMatchObject({ rooms: {} });
  });

  test.each(['kicked', 'forbidden', 'deleted', 'something new'])(
    'left_because_%s_is_not_joined_again',
    async (reason) => {
      const world = await joined();
      world.socket.send('$left', { reason }, { room: 'a' });
      publish(world.socket, 5);
      expect(world.offsets).toEqual([]);
      expect(world.room.status).toMatchObject({ state: 'left', reason, willRetry: false });
      expect((await world.dropped()).hello.payload).toMatchObject({ rooms: {} });
    },
  );

  test('room_joined_through_the_api_is_kept_over_a_reconnect', async () => {
    const world = setUp();
    await world.connected();
    world.socket.send('$joined', {}, { room: 'a' });
    expect(world.client.room('a').state).toBe('joined');
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ rooms: { a: {} } });
  });
});

describe('reading', () => {
  test('history_returns_publications', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(
      world.client.room('a').history({ before: { epoch: 'e', offset: 9 }, limit: 2 }),
    );
    const command = world.socket.next('$history');
    expect(command.payload).toEqual({ before: { epoch: 'e', offset: 9 }, limit: 2 });
    const from = { client: 'c', user: 'u' };
    const metadata = { room: 'a', epoch: 'e', time: 't', from };
    world.socket.reply(command, {
      epoch: 'e',
      offset: 20,
      first: 1,
      more: true,
      publications: [
        { type: 'x', payload: 7, metadata: { ...metadata, offset: 7 } },
        { type: 'x', payload: 8, metadata: { ...metadata, offset: 8 } },
      ],
    });
    await settled();
    expect(result.value).toMatchObject({ first: 1, more: true });
    expect(result.value?.publications.map(({ position }) => position?.offset)).toEqual([7, 8]);
  });

  test('asked_without_a_connection_waits_for_one', async () => {
    const world = setUp();
    const result = outcome(world.client.room('a').listMembers({ limit: 5 }));
    await world.connected();
    const command = world.socket.next('$members');
    expect(command.payload).toEqual({ limit: 5 });
    world.socket.reply(command, { members: [], count: 0, users: 0, more: false });
    await settled();
    expect(result.value?.count).toBe(0);
  });

  test('asked_on_a_connection_that_breaks_fails_as_temporary', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').history());
    world.socket.close(1006);
    await settled();
    expect(result.error).toMatchObject({ name: 'connection_lost', temporary: true });
  });
});
