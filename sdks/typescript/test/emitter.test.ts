import { expect, test } from 'vitest';
import { Emitter } from '../src/emitter.ts';
import { settled } from './support/clock.ts';

interface Events {
  a: number;
}

function setUp() {
  const thrown: unknown[] = [];
  return { emitter: new Emitter<Events>((error) => thrown.push(error)), thrown };
}

test('listener_that_throws_does_not_disturb_the_others', () => {
  const { emitter, thrown } = setUp();
  const heard: number[] = [];
  emitter.on('a', () => {
    throw new Error('mine');
  });
  emitter.on('a', (value) => heard.push(value));
  expect(emitter.emit('a', 1)).toBe(false);
  expect(heard).toEqual([1]);
  expect(thrown).toMatchObject([{ message: 'mine' }]);
});

test('listener_that_fails_later_is_reported_and_not_thrown_at_the_process', async () => {
  const { emitter, thrown } = setUp();
  emitter.on('a', async () => {
    throw new Error('later');
  });
  emitter.on('a', async () => {});
  expect(await emitter.emit('a', 1)).toBe(false);
  expect(thrown).toMatchObject([{ message: 'later' }]);
});

test('emit_tells_when_all_listeners_are_done', async () => {
  const { emitter } = setUp();
  let done = (_: unknown) => {};
  emitter.on('a', () => new Promise((resolve) => (done = resolve)));
  emitter.on('a', () => {});
  // What only looks like a promise counts as one.
  // biome-ignore lint/suspicious/noThenProperty: see above
  emitter.on('a', () => ({ then: (resolve: (value: unknown) => void) => resolve(1) }));
  let well: unknown = 'waits';
  Promise.resolve(emitter.emit('a', 1)).then((it) => {
    well = it;
  });
  await settled();
  expect(well).toBe('waits');
  done(undefined);
  await settled();
  expect(well).toBe(true);
});

test('unsubscribe_takes_off_one_listener_and_may_be_called_twice', () => {
  const { emitter } = setUp();
  const heard: number[] = [];
  const listener = (value: number) => heard.push(value);
  const off = emitter.on('a', listener);
  emitter.on('a', listener);
  off();
  off();
  emitter.emit('a', 1);
  expect(heard).toEqual([1]);
});

test('listeners_added_during_an_emit_count_from_the_next', () => {
  const { emitter } = setUp();
  let late = 0;
  emitter.on('a', () => {
    emitter.on('a', () => late++);
  });
  emitter.emit('a', 1);
  expect(late).toBe(0);
  emitter.emit('a', 2);
  expect(late).toBe(1);
});

test('emit_tells_whether_anybody_listened', () => {
  const { emitter } = setUp();
  expect(emitter.emit('a', 1)).toBeUndefined();
  emitter.on('a', () => {});
  expect(emitter.emit('a', 1)).toBe(true);
});
