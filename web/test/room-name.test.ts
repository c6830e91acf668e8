import { expect, test } from 'vitest';
import {
  isGroup,
  normalizeRoomName,
  roomNameProblem,
  roomTitle,
} from '../src/features/rooms/room-name.ts';

test.each(['general', 'chat/berlin', 'a.b:c@d|e+f=g~h-i_j', 'x'.repeat(128)])(
  '%s_is_a_name',
  (name) => {
    expect(roomNameProblem(name)).toBeUndefined();
  },
);

test.each(['', '$all', '/a', 'a/', 'a//b', 'a/../b', '.', 'a b', 'ä', '<b>', 'x'.repeat(129)])(
  '%j_is_none',
  (name) => {
    expect(roomNameProblem(name)).toBeTypeOf('string');
  },
);

test('what_people_type_is_taken_kindly', () => {
  expect(normalizeRoomName('  #my room ')).toBe('my-room');
});

test('room_of_a_group_is_called_by_the_group', () => {
  expect([isGroup('$group/crew'), roomTitle('$group/crew')]).toEqual([true, 'crew']);
  expect([isGroup('group/crew'), roomTitle('group/crew')]).toEqual([false, 'group/crew']);
});
