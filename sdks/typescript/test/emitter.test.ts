import { expect, test } from 'vitest';
import { Emitter } from '../src/emitter.ts';

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
  expect(emitter.emit('a', 1)).toBe(true);
  expect(heard).toEqual([1]);
  expect(thrown).toMatchObject([{ message: 'mine' }]);
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
  expect(emitter.emit('a', 1)).toBe(false);
});
