import { expect, test } from 'vitest';
import { nameOf, sortMembers } from '../src/features/members/name-of.ts';

test('name_comes_from_state_then_token_then_user', () => {
  const member = { client: 'c', user: 'u', info: { name: 'Info' }, state: { name: 'State' } };
  expect(nameOf(member)).toBe('State');
  expect(nameOf({ ...member, state: { name: ' ' } })).toBe('Info');
  expect(nameOf({ client: 'c', user: 'u', info: null, state: 'x' })).toBe('u');
  expect(nameOf({ client: 'c' })).toBe('c');
});

test('i_come_first_and_the_rest_by_name', () => {
  const members = ['b', 'a', 'me'].map((client) => ({ client, user: client }));
  expect(sortMembers(members, 'me').map(({ client }) => client)).toEqual(['me', 'a', 'b']);
});
