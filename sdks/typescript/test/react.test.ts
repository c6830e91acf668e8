// @vitest-environment happy-dom
import { act, createElement, type ReactNode, StrictMode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ClarionProvider,
  type Messages,
  TYPING,
  useConnection,
  useMessages,
  usePresence,
  useRoom,
  useTyping,
} from '../src/react.ts';
import { settled } from './support/clock.ts';
import { type FakeSocket, setUp } from './support/server.ts';

// The rest of the SDK is checked without the types of a browser.
declare const document: { createElement(tag: string): Element };

const roots: Root[] = [];

beforeEach(() => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'requestAnimationFrame', 'Date'] });
});

afterEach(async () => {
  for (const root of roots.splice(0)) await act(async () => root.unmount());
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

type World = ReturnType<typeof setUp>;

/** Mounts into a new root; the function it returns renders something else there. */
async function mount(world: World, children: ReactNode, strict = false) {
  const root = createRoot(document.createElement('div'));
  roots.push(root);
  const render = (inside: ReactNode) =>
    act(async () => {
      const app = createElement(ClarionProvider, { client: world.client }, inside);
      root.render(strict ? createElement(StrictMode, null, app) : app);
    });
  await render(children);
  return render;
}

/** Lets a frame pass. */
function frame() {
  return act(async () => {
    await vi.advanceTimersByTimeAsync(20);
  });
}

function pass(ms: number) {
  return act(async () => {
    await vi.advanceTimersByTimeAsync(ms);
  });
}

function say(socket: FakeSocket, offset: number, text = `m${offset}`, metadata: object = {}) {
  const from = { client: 'c2', user: 'u2' };
  const rest = { room: 'a', epoch: 'e', offset, time: 't', from, ...metadata };
  socket.send('say', text, rest);
}

/** A component that shows what is said in `a`, and what it last saw. */
function chat(options?: Parameters<typeof useMessages>[1]) {
  const seen: Messages[] = [];
  function Chat() {
    seen.push(useMessages('a', options));
    return null;
  }
  const now = () => seen.at(-1) as Messages;
  const texts = () =>
    now().entries.map((entry) =>
      entry.kind === 'message' ? entry.publication.payload : entry.kind,
    );
  return { Chat, seen, now, texts };
}

/** Connected, mounted and joined to `a`, whose log is at `offset`. */
async function joined({ strict = false, offset = 0 } = {}) {
  const world = setUp();
  await world.connected();
  const view = chat();
  const render = await mount(world, createElement(view.Chat), strict);
  const join = world.socket.next('$join');
  world.socket.reply(join, { epoch: 'e', offset, from: offset + 1, recovered: false });
  await frame();
  return { ...world, ...view, world, render, join, socket: world.socket };
}

describe('membership', () => {
  test('strict_mode_joins_once_and_does_not_leave', async () => {
    const { socket, join } = await joined({ strict: true });
    expect(join.payload).toEqual({ last: 50, members: true });
    await pass(1_000);
    expect(socket.unread).toBe(0);
  });

  test('is_shared_and_outlives_the_last_by_a_grace', async () => {
    const { socket, render, Chat } = await joined();
    await render([createElement(Chat, { key: 1 }), createElement(Chat, { key: 2 })]);
    await render([createElement(Chat, { key: 2 })]);
    await pass(1_000);
    expect(socket.unread).toBe(0);
    await render(null);
    await pass(249);
    expect(socket.unread).toBe(0);
    await pass(1);
    expect(socket.next().type).toBe('$leave');
  });

  test('remounting_within_the_grace_is_no_leave', async () => {
    const { socket, render, Chat } = await joined();
    await render(null);
    await pass(200);
    await render(createElement(Chat));
    await pass(1_000);
    expect(socket.unread).toBe(0);
  });

  test('unmounted_while_joining_leaves', async () => {
    const world = setUp();
    await world.connected();
    const { Chat } = chat();
    const render = await mount(world, createElement(Chat));
    const join = world.socket.next('$join');
    await render(null);
    await pass(250);
    expect(world.socket.next().type).toBe('$leave');
    world.socket.reply(join, { epoch: 'e', offset: 0, from: 1 });
    await settled();
    expect(world.client.room('a').state).toBe('left');
  });

  test('options_are_those_of_whoever_gives_some_in_the_same_commit', async () => {
    const world = setUp();
    await world.connected();
    const { Chat } = chat();
    function Parent() {
      useRoom('a', { last: 7, members: false });
      return createElement(Chat);
    }
    await mount(world, createElement(Parent));
    expect(world.socket.next('$join').payload).toEqual({ last: 7, members: false });
    expect(world.socket.unread).toBe(0);
  });

  test('removed_says_why_and_rejoins_from_the_beginning', async () => {
    const world = setUp();
    await world.connected();
    const view = chat();
    const rooms: ReturnType<typeof useRoom>[] = [];
    function Both() {
      rooms.push(useRoom('a'));
      return createElement(view.Chat);
    }
    await mount(world, createElement(Both));
    const { socket } = world;
    const join = () =>
      act(async () => {
        socket.reply(socket.next('$join'), { epoch: 'e', offset: 1, from: 1 });
        say(socket, 1);
      });
    await join();
    await frame();
    await act(async () => socket.send('$left', { reason: 'kicked' }, { room: 'a' }));
    expect(rooms.at(-1)?.status).toMatchObject({ state: 'left', reason: 'kicked' });
    await frame();
    expect(view.texts()).toEqual(['m1']);
    await act(async () => rooms.at(-1)?.rejoin());
    await join();
    await frame();
    expect(view.texts()).toEqual(['m1']);
    expect(rooms.at(-1)?.status.state).toBe('joined');
  });

  test('server_joins_rooms_with_a_dollar', async () => {
    const world = setUp();
    await world.connected();
    const seen: Messages[] = [];
    function Inbox() {
      seen.push(useMessages('$user/u1'));
      return null;
    }
    await mount(world, createElement(Inbox));
    expect(world.socket.unread).toBe(0);
    world.socket.send('$joined', {}, { room: '$user/u1' });
    world.socket.send('say', 'psst', { room: '$user/u1', time: 't', from: { user: 'u2' } });
    await frame();
    expect(seen.at(-1)?.entries).toHaveLength(1);
  });
});

describe('messages', () => {
  test('burst_of_10000_is_one_render_and_keeps_all_of_them', async () => {
    const { socket, seen, now } = await joined();
    const before = seen.length;
    for (let offset = 1; offset <= 10_000; offset++) say(socket, offset);
    await frame();
    expect(seen.length - before).toBe(1);
    expect(now().entries).toHaveLength(10_000);
    expect(new Set(now().entries.map(({ id }) => id)).size).toBe(10_000);
  });

  test('snapshot_is_the_same_until_something_changes', async () => {
    const { seen, now, render, Chat } = await joined();
    const { entries } = now();
    await render(createElement(Chat));
    expect(now().entries).toBe(entries);
    expect(seen.length).toBeGreaterThan(1);
  });

  test('own_is_shown_at_once_and_replaced_by_the_rooms_under_the_same_id', async () => {
    const { socket, now, texts } = await joined();
    now().send('say', 'hello');
    await frame();
    expect(now().entries).toMatchObject([
      { delivery: 'sending', publication: { payload: 'hello' } },
    ]);
    const id = now().entries[0]?.id as string;
    const sent = socket.next('say');
    expect(sent.metadata.key).toBe(id);
    say(socket, 1, 'between');
    say(socket, 2, 'hello', { from: { client: 'c1', user: 'u1' }, key: id });
    socket.reply(sent, { offset: 2, epoch: 'e', time: 't' });
    await frame();
    expect(texts()).toEqual(['between', 'hello']);
    expect(now().entries[1]).toMatchObject({ id, delivery: 'sent' });
  });

  test('failed_is_tried_again_with_the_same_key_or_discarded', async () => {
    const { socket, now } = await joined();
    now().send('say', 'hello');
    const first = socket.next('say');
    socket.fail(first, 403, 'forbidden');
    await frame();
    const [entry] = now().entries;
    expect(entry).toMatchObject({ delivery: 'failed', error: { name: 'forbidden' } });
    now().retry(entry?.id as string);
    await frame();
    expect(now().entries).toMatchObject([{ id: entry?.id, delivery: 'sending' }]);
    const again = socket.next('say');
    expect(again.metadata.key).toBe(first.metadata.key);
    // Being sent is not failed: nothing is sent twice.
    now().retry(entry?.id as string);
    expect(socket.unread).toBe(0);
    socket.fail(again, 403, 'forbidden');
    await frame();
    now().discard(entry?.id as string);
    await frame();
    expect(now().entries).toEqual([]);
  });

  test('in_a_room_without_log_the_echo_is_known_by_what_it_says', async () => {
    const world = setUp();
    await world.connected();
    const { Chat, now } = chat();
    await mount(world, createElement(Chat));
    now().send('say', { x: 1 });
    const { socket } = world;
    const join = socket.next('$join');
    const keyed = socket.next('say');
    socket.fail(join, 404, 'no_history', { temporary: false });
    const again = socket.next('$join');
    expect(again.payload).toEqual({ members: true });
    socket.reply(again, {});
    socket.fail(keyed, 400, 'key_needs_log');
    await settled();
    const bare = socket.next('say');
    expect(bare.metadata.key).toBeUndefined();
    socket.reply(bare, { time: 't' });
    const from = { client: 'c1', user: 'u1' };
    socket.send('say', { x: 1 }, { room: 'a', time: 't', from });
    socket.send('say', { x: 1 }, { room: 'a', time: 't', from });
    await frame();
    expect(now().entries).toHaveLength(2);
    expect(now().entries.every((entry) => 'delivery' in entry && entry.delivery === 'sent')).toBe(
      true,
    );
  });

  test('history_is_read_from_before_the_first', async () => {
    const { socket, now, texts } = await joined({ offset: 3 });
    expect(now().earlier).toBe('more');
    say(socket, 4);
    void now().loadEarlier();
    await frame();
    expect(now().earlier).toBe('loading');
    void now().loadEarlier();
    const ask = socket.next('$history');
    expect(ask.payload).toEqual({ before: { epoch: 'e', offset: 4 }, limit: 50 });
    expect(socket.unread).toBe(0);
    const page = [2, 3].map((offset) => ({
      type: 'say',
      payload: `m${offset}`,
      metadata: { room: 'a', epoch: 'e', offset, time: 't', from: {} },
    }));
    socket.reply(ask, { epoch: 'e', offset: 4, first: 1, publications: page, more: true });
    await settled();
    await frame();
    expect(texts()).toEqual(['m2', 'm3', 'm4']);
    void now().loadEarlier();
    const second = socket.next('$history');
    expect(second.payload).toMatchObject({ before: { offset: 2 } });
    socket.fail(second, 503, 'unavailable');
    await settled();
    await frame();
    expect(now().earlier).toBe('failed');
    void now().loadEarlier();
    socket.fail(socket.next('$history'), 409, 'epoch_changed', { epoch: 'f', offset: 0 });
    await settled();
    await frame();
    expect(now().earlier).toBe('none');
  });

  test('gap_and_recovery_have_their_place', async () => {
    const { socket, texts, world } = await joined();
    say(socket, 1);
    const { socket: second } = await world.dropped();
    second.send('$joined', { epoch: 'e', offset: 3, from: 2, recovered: true }, { room: 'a' });
    say(second, 2);
    say(second, 3);
    second.send('$gap', { reason: 'slow', epoch: 'e', offset: 8, from: 4, to: 8 }, { room: 'a' });
    say(second, 9);
    await frame();
    expect(texts()).toEqual(['m1', 'recovered', 'm2', 'm3', 'gap', 'm9']);
  });

  test('types_choose_what_is_a_message', async () => {
    const world = setUp();
    await world.connected();
    const { Chat, texts } = chat({ types: ['say'] });
    await mount(world, createElement(Chat));
    const { socket } = world;
    socket.reply(socket.next('$join'), { epoch: 'e', offset: 0, from: 1 });
    socket.send('cursor', 1, { room: 'a', time: 't', from: { client: 'c2' } });
    say(socket, 1);
    await frame();
    expect(texts()).toEqual(['m1']);
  });
});

describe('presence, typing, connection', () => {
  test('selector_renders_only_when_its_part_changes', async () => {
    const { socket, render } = await joined();
    const counts: number[] = [];
    function Count() {
      counts.push(usePresence('a', ({ count }) => count));
      return null;
    }
    await render(createElement(Count));
    const push = (payload: object) =>
      act(async () => socket.send('$members', payload, { room: 'a' }));
    await push({ all: [{ client: 'c2' }], count: 1, users: 1 });
    await push({ changed: [{ client: 'c2', state: 'away' }], count: 1, users: 1 });
    await push({ joined: [{ client: 'c3' }], count: 2, users: 2 });
    expect(counts).toEqual([0, 1, 2]);
  });

  test('typing_is_said_seldom_and_ends_by_itself', async () => {
    const { socket, render, texts, Chat } = await joined();
    let typing: ReturnType<typeof useTyping> | undefined;
    function Typists() {
      typing = useTyping('a');
      return null;
    }
    await render([createElement(Chat, { key: 1 }), createElement(Typists, { key: 2 })]);
    for (let key = 0; key < 5; key++) typing?.[1](true);
    const said = socket.next(TYPING);
    expect(said).toMatchObject({ payload: true, metadata: { ephemeral: true, echo: false } });
    expect(socket.unread).toBe(0);
    typing?.[1](false);
    expect(socket.next(TYPING).payload).toBe(false);
    typing?.[1](false);
    expect(socket.unread).toBe(0);

    const hear = (client: string, isTyping: unknown) =>
      act(async () => {
        const from = { client, user: client };
        socket.send(TYPING, isTyping, { room: 'a', time: 't', from });
      });
    await hear('c2', true);
    await hear('c3', true);
    expect(typing?.[0].map(({ client }) => client)).toEqual(['c2', 'c3']);
    await act(async () => say(socket, 1));
    expect(typing?.[0].map(({ client }) => client)).toEqual(['c3']);
    await hear('c3', { nonsense: true });
    expect(typing?.[0]).toEqual([]);
    await hear('c3', true);
    await pass(6_000);
    expect(typing?.[0]).toEqual([]);
    expect(texts()).toEqual(['m1']);
  });

  test('connection_tells_its_status', async () => {
    const world = setUp();
    const states: string[] = [];
    function State() {
      states.push(useConnection(({ state }) => state));
      return null;
    }
    await mount(world, createElement(State));
    await act(async () => {
      await world.connected();
    });
    expect(states).toEqual(['idle', 'connecting', 'connected'].slice(-states.length));
    expect(states.at(-1)).toBe('connected');
  });

  test('renders_on_a_server', () => {
    vi.stubGlobal('window', undefined);
    const world = setUp();
    function Page() {
      const { entries } = useMessages('a');
      const { state } = useConnection();
      const count = usePresence('a', (members) => members.count);
      return `${state} ${entries.length} ${count} ${useTyping('a')[0].length}`;
    }
    const page = createElement(ClarionProvider, { client: world.client }, createElement(Page));
    expect(renderToString(page)).toBe('idle 0 0 0');
    expect(world.sockets).toEqual([]);
  });
});
