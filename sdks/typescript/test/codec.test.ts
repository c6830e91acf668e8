import { describe, expect, test } from 'vitest';
import { decode, encode, encodeText, toPublication, utf8Size } from '../src/codec.ts';

describe('codec', () => {
  test('encodes_all_three_members', () => {
    expect(encode('$leave', undefined)).toBe('{"type":"$leave","payload":null,"metadata":{}}');
    expect(encodeText('a"b', '[1]', { room: 'x', id: 7 })).toBe(
      '{"type":"a\\"b","payload":[1],"metadata":{"room":"x","id":7}}',
    );
  });

  test('decodes_absent_members_to_their_defaults', () => {
    expect(decode('{"type":"x"}')).toEqual({ type: 'x', payload: null, metadata: {} });
  });

  test.each(['', '1', '[]', 'null', '{}', '{"type":1}', '{"type":"x","metadata":[]}'])(
    'refuses_%j',
    (text) => {
      expect(() => decode(text)).toThrow(SyntaxError);
    },
  );

  test('publication_has_a_position_only_when_logged', () => {
    const from = { client: 'c', user: 'u' };
    const metadata = { room: 'r', time: 't', from };
    expect(toPublication({ type: 'x', payload: 1, metadata })).toEqual({
      type: 'x',
      payload: 1,
      room: 'r',
      time: 't',
      from,
    });
    const logged = { ...metadata, epoch: 'e', offset: 3, key: 'k' };
    expect(toPublication({ type: 'x', payload: 1, metadata: logged })).toMatchObject({
      position: { epoch: 'e', offset: 3 },
      key: 'k',
    });
  });

  test.each(['', 'abc', 'é', '€', '😀', 'a😀é€\u0000', '\ud800'])('size_of_%j_in_utf8', (text) => {
    // A lone surrogate cannot be encoded and becomes U+FFFD, three bytes; JSON escapes it anyway.
    const expected = text === '\ud800' ? 2 : new TextEncoder().encode(text).length;
    expect(utf8Size(text)).toBe(expected);
  });
});
