import { expect, test } from 'vitest';
import { changeMembers, NO_MEMBERS } from '../src/members.ts';

const ada = { client: 'a', user: 'ada' };
const bob = { client: 'b', user: 'bob' };
const snapshot = changeMembers(NO_MEMBERS, { all: [ada, bob], count: 2, users: 2 });

// [3.presence.repeats]
test('changes_apply_to_the_snapshot_and_make_a_new_one', () => {
  const eve = { client: 'e', user: 'eve' };
  const next = changeMembers(snapshot, {
    joined: [eve],
    left: [{ client: 'a', user: 'ada' }],
    changed: [{ ...bob, state: 'typing' }],
    count: 2,
    users: 2,
  });
  expect(next.list).toEqual([{ ...bob, state: 'typing' }, eve]);
  expect(snapshot.list).toEqual([ada, bob]);
});

// [4.entry.changed]
test('state_that_was_taken_back_is_gone', () => {
  const typing = changeMembers(snapshot, { changed: [{ ...ada, state: 1 }], count: 2, users: 2 });
  const back = changeMembers(typing, { changed: [ada], count: 2, users: 2 });
  expect(back.list).toContainEqual(ada);
});

// [4.members.void]
test('counts_alone_mean_that_the_room_is_too_large_for_a_list', () => {
  const large = changeMembers(snapshot, { count: 501, users: 400 });
  expect(large).toEqual({ list: [], count: 501, users: 400, detailed: false });
  const still = changeMembers(large, { joined: [ada], count: 502, users: 400 });
  expect(still.detailed).toBe(false);
  const small = changeMembers(large, { all: [ada], count: 1, users: 1 });
  expect(small).toEqual({ list: [ada], count: 1, users: 1, detailed: true });
});
