import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decode, type Envelope, encode, type Metadata, toPublication } from '../src/codec.ts';

/** The golden frames of `spec/vectors/frames.json`; its README says what the members are. */
interface Frame {
  name: string;
  direction: 'to_server' | 'to_client';
  text: string;
  meaning?: Record<string, unknown>;
  canonical?: boolean;
}

const path = new URL('../../../spec/vectors/frames.json', import.meta.url);
const { frames } = JSON.parse(readFileSync(path, 'utf8')) as { frames: Frame[] };

const METADATA = ['room', 'id', 'key'] as const;

/** What a client hands its codec to say what the frame means. */
function toSend(meaning: Record<string, unknown>): [string, unknown, Metadata] {
  const { command, type, ephemeral, echo, payload_text, value_text, ...rest } = meaning;
  const metadata: Record<string, unknown> = {};
  for (const name of METADATA) {
    if (rest[name] === undefined) continue;
    metadata[name] = rest[name];
    delete rest[name];
  }
  const text = payload_text ?? value_text;
  const payload = text === undefined ? rest : JSON.parse(text as string);
  if (command !== 'publish') return [command as string, payload, metadata];
  if (ephemeral) metadata.ephemeral = true;
  if (echo === false) metadata.echo = false;
  return [type as string, payload, metadata];
}

describe('to_server', () => {
  const canonical = frames.filter((frame) => frame.direction === 'to_server' && frame.canonical);
  const publications = canonical.filter(({ meaning }) => meaning?.command === 'publish');

  test('there_are_some', () => {
    expect(publications.length).toBeGreaterThan(3);
  });

  test.each(publications.map((frame) => [frame.name, frame] as const))('%s', (_name, frame) => {
    const sent = encode(...toSend(frame.meaning ?? {}));
    expect(JSON.parse(sent)).toEqual(JSON.parse(frame.text));
  });
});

describe('to_client', () => {
  const incoming = frames.filter(({ direction }) => direction === 'to_client');

  test.each(incoming.map((frame) => [frame.name, frame] as const))('%s', (_name, frame) => {
    const envelope = decode(frame.text);
    const meaning = frame.meaning ?? {};
    if (meaning.push === 'publication') checkPublication(envelope, meaning);
    else if (meaning.push !== 'ignored') expect(envelope.type).toBe(meaning.push);
    for (const name of METADATA) expect(envelope.metadata[name]).toBe(meaning[name]);
  });
});

function checkPublication(envelope: Envelope, meaning: Record<string, unknown>) {
  const publication = toPublication(envelope);
  expect(publication).toMatchObject({ type: meaning.type, room: meaning.room });
  expect(publication.position).toEqual(meaning.position);
  expect(Date.parse(publication.time)).toBe(meaning.time_ms);
  expect(publication.payload).toEqual(JSON.parse(meaning.payload_text as string));
  const { client, user, info_text } = (meaning.from ?? {}) as Record<string, string>;
  expect(publication.from.client).toBe(client);
  expect(publication.from.user).toBe(user);
  if (info_text) expect(publication.from.info).toEqual(JSON.parse(info_text));
}
