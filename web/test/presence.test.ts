import { expect, test } from 'vitest';
import { sortMembers } from '../src/features/members/sort-members.ts';
import { presenceOf } from '../src/shared/presence.ts';

const nameOf = (member: Parameters<typeof presenceOf>[0]) => presenceOf(member).name;

test('name_comes_from_state_then_token_then_user', () => {
  const member = { client: 'c', user: 'u', info: { name: 'Info' }, state: { name: 'State' } };
  expect(nameOf(member)).toBe('State');
  expect(nameOf({ ...member, state: { name: ' ' } })).toBe('Info');
  expect(nameOf({ client: 'c', user: 'u', info: null, state: 'x' })).toBe('u');
  expect(nameOf({ client: 'c' })).toBe('c');
});

test('state_may_be_anything', () => {
  for (const state of [null, 7, [], { name: 1, status: {}, text: [] }, { status: 'gone' }]) {
    expect(presenceOf({ client: 'c', state })).toEqual({ name: 'c', status: 'online', text: '' });
  }
  const state = { name: 'Ada', status: 'away', text: 'x'.repeat(1_000) };
  expect(presenceOf({ client: 'c', state })).toMatchObject({ name: 'Ada', status: 'away' });
  expect(presenceOf({ client: 'c', state }).text).toHaveLength(80);
});

test('i_come_first_and_the_rest_by_name', () => {
  const members = ['b', 'a', 'me'].map((client) => ({ client, user: client }));
  expect(sortMembers(members, 'me').map(({ client }) => client)).toEqual(['me', 'a', 'b']);
});
