import { expectTypeOf, test } from 'vitest';
import { Client, type Publication } from '../src/index.ts';

interface Rooms {
  general: { chat_message: { user: string; message: string }; bell: null };
  [document: `doc/${string}`]: { cursor: [number, number] };
}

test('rooms_are_typed_by_name_and_publications_by_type', () => {
  const client = new Client<Rooms>('ws://nowhere');
  const general = client.room('general');
  general.on('publication', (publication) => {
    if (publication.type === 'bell') expectTypeOf(publication.payload).toBeNull();
    else expectTypeOf(publication.payload.message).toBeString();
  });
  expectTypeOf(client.room('doc/42').publish<'cursor'>)
    .parameter(1)
    .toEqualTypeOf<[number, number]>();
  // @ts-expect-error: no such room
  client.room('nowhere');
  // @ts-expect-error: no such type in this room
  const wrongType = () => general.publish('cursor', [1, 2]);
  // @ts-expect-error: not this type's payload
  const wrongPayload = () => general.publish('bell', 1);
  expectTypeOf(wrongType).toBeFunction();
  expectTypeOf(wrongPayload).toBeFunction();
});

test('without_types_everything_is_unknown_and_nothing_is_any', () => {
  const room = new Client('ws://nowhere').room('anything');
  room.on('publication', (publication) => {
    expectTypeOf(publication.payload).toBeUnknown();
    expectTypeOf(publication.type).toBeString();
  });
  expectTypeOf<Publication>().not.toBeAny();
});
