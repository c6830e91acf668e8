import { expect, test } from 'vitest';
import { Store } from '../src/shared/store.ts';

test('listeners_hear_of_changes_and_not_of_the_same_value', () => {
  const store = new Store(1);
  let heard = 0;
  const off = store.subscribe(() => heard++);
  store.set(1);
  store.set(2);
  off();
  store.set(3);
  expect(heard).toBe(1);
  expect(store.get()).toBe(3);
});

test('scheduled_changes_are_told_once', () => {
  const runs: (() => void)[] = [];
  const store = new Store(0, (run) => runs.push(run));
  let heard = 0;
  store.subscribe(() => heard++);
  store.set(1);
  store.set(2);
  expect([runs.length, heard]).toEqual([1, 0]);
  runs[0]?.();
  expect(heard).toBe(1);
  store.set(3);
  expect(runs).toHaveLength(2);
});
