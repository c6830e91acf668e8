import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Envelope, JoinPayload, Metadata, Publication } from '../src/codec.ts';
import { closePolicy } from '../src/codes.ts';
import { settled } from './support/clock.ts';
import { outcome, setUp } from './support/server.ts';

/**
 * Runs `spec/vectors/sessions` with the SDK as the client and this file as the server, as the README
 * there says. A connection is played by the SDK when everything that is sent on it is the SDK's: what
 * an application asked for, or the `$hello` after a lost connection. Others are other people.
 */
type Json = Record<string, unknown>;

interface Step {
  at?: string;
  connect?: { subprotocol: string | null };
  do?: Json;
  send?: Envelope;
  expect?: Envelope;
  expect_all?: Envelope[];
  expect_run?: { room: string; epoch: string; from: number; to: number; gaps?: string[] };
  skip_until?: Envelope;
  skip_until_close?: { code: number };
  expect_close?: { code: number };
  close?: { code: number };
  drop?: true;
  server?: string;
  wait_ms?: number;
  repeat?: number;
  steps?: Step[];
}

interface Session {
  name: string;
  steps: Step[];
}

const folder = new URL('../../../spec/vectors/sessions/', import.meta.url);

for (const file of readdirSync(folder).sort()) {
  const { sessions } = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as {
    sessions: Session[];
  };
  describe(file, () => {
    for (const session of sessions) {
      const labels = playedBySdk(session.steps);
      test.skipIf(labels.size === 0)(session.name, async () => {
        await new Runner(labels).run(session.steps);
      });
    }
  });
}

function playedBySdk(steps: Step[]): Set<string> {
  const labels = new Set<string>();
  const others = new Set<string>();
  const lost = new Set<string>();
  const started = new Set<string>();
  const joined = new Set<string>();
  const visit = (step: Step) => {
    for (const inner of step.steps ?? []) visit(inner);
    const { at, send } = step;
    if (step.server) for (const label of labels) lost.add(label);
    if (at === undefined) return;
    if (step.connect) (step.connect.subprotocol === 'clarion.v1.json' ? labels : others).add(at);
    if (step.drop) lost.add(at);
    if (step.do?.connect) started.add(at);
    if (step.do?.join) joined.add(`${at} ${step.do.join}`);
    if (!send || step.do) return;
    const { ticket, rooms = {} } = (send.payload ?? {}) as { ticket?: string; rooms?: Json };
    const isWanted = Object.keys(rooms).every((room) => joined.has(`${at} ${room}`));
    const isResume = send.type === '$hello' && lost.has(at) && isWanted;
    if (!isResume || !ticket?.startsWith(`<ticket:${at}`)) others.add(at);
  };
  for (const step of steps) visit(step);
  return new Set([...labels].filter((label) => started.has(label) && !others.has(label)));
}

class Player {
  readonly world: ReturnType<typeof setUp>;
  readonly publications: Publication[] = [];
  readonly gaps: string[] = [];
  readonly #heard = new Set<string>();
  /** Ids of the vector to those of the SDK. */
  readonly ids = new Map<unknown, number>();
  /** Outcomes of what the application asked for, by id of the vector. */
  readonly outcomes = new Map<unknown, ReturnType<typeof outcome<unknown>>>();

  constructor(token: string | undefined) {
    this.world = setUp(token === undefined ? {} : { token });
  }

  room(name: string) {
    const room = this.world.client.room(name);
    if (!this.#heard.has(name)) {
      this.#heard.add(name);
      room.on('publication', (publication) => this.publications.push(publication));
      room.on('gap', ({ reason }) => this.gaps.push(reason));
    }
    return room;
  }
}

class Runner {
  readonly #labels: Set<string>;
  readonly #players = new Map<string, Player>();
  /** Offsets that went by, for steps whose values depend on them. */
  #count: number | undefined;

  constructor(labels: Set<string>) {
    this.#labels = labels;
  }

  async run(steps: Step[]): Promise<void> {
    for (const step of steps) {
      if (step.repeat) {
        for (let count = 1; count <= step.repeat; count++) {
          this.#count = count;
          await this.run(step.steps ?? []);
        }
      } else if (step.server) {
        for (const player of this.#players.values()) this.#lose(player);
      } else if (step.wait_ms) {
        for (const { world } of this.#players.values()) await world.clock.advance(step.wait_ms);
      } else if (step.at !== undefined && this.#labels.has(step.at)) {
        await this.#step(step.at, step);
      }
    }
  }

  async #step(label: string, step: Step): Promise<void> {
    if (step.send) await this.#send(label, step.do, this.#fill(step.send) as Envelope);
    const player = this.#players.get(label);
    if (!player) return;
    if (step.expect) await this.#say(player, this.#fill(step.expect) as Envelope);
    for (const envelope of step.expect_all ?? []) {
      await this.#say(player, this.#fill(envelope) as Envelope);
    }
    if (step.skip_until) await this.#say(player, this.#fill(step.skip_until) as Envelope);
    if (step.expect_run) await this.#publish(player, this.#fill(step.expect_run) as never);
    const end = step.expect_close ?? step.skip_until_close;
    if (end) {
      player.world.socket.close(end.code);
      const expected = closePolicy(end.code) === 'stop' ? 'closed' : 'connecting';
      expect(player.world.client.state).toBe(expected);
    }
    if (step.drop) this.#lose(player);
    if (step.close) {
      player.world.client.close();
      expect(player.world.socket.closedBy?.code).toBe(step.close.code);
    }
    if (step.connect) await this.#reconnect(player);
  }

  #lose(player: Player) {
    if (player.world.client.state === 'connected') player.world.socket.close(1006);
  }

  async #reconnect({ world }: Player) {
    const { nextTryAt } = world.client.status;
    if (nextTryAt !== null) await world.clock.advance(nextTryAt - world.clock.now());
  }

  /** The application does something, or nothing, and the SDK sends this. */
  async #send(label: string, action: Json | undefined, expected: Envelope): Promise<void> {
    const { type, payload, metadata } = expected;
    if (type === '$hello') {
      const { token, rooms = {} } = payload as {
        token?: string;
        rooms?: Record<string, JoinPayload>;
      };
      let player = this.#players.get(label);
      if (!player) {
        player = new Player(token);
        this.#players.set(label, player);
        for (const [name, options] of Object.entries(rooms)) player.room(name).join(options);
        player.world.client.connect();
      }
      player.world.socket.open();
    }
    const player = this.#players.get(label) as Player;
    if (action) this.#act(player, action, expected);
    await settled();
    const sent = player.world.socket.next(type);
    const { id, ...rest } = metadata as Metadata;
    player.ids.set(id, sent.metadata.id as number);
    expect(sent.payload).toMatchObject((payload ?? {}) as object);
    expect(sent.metadata).toMatchObject(rest);
  }

  #act(player: Player, action: Json, { type, payload, metadata }: Envelope): void {
    const { room = '', id, key, ephemeral } = metadata;
    let promise: Promise<unknown> | undefined;
    if (action.join) promise = player.room(room).join(payload as JoinPayload);
    if (action.leave) promise = player.room(room).leave();
    if (action.publish) {
      const options = { ...(key !== undefined && { key }), ...(ephemeral && { ephemeral }) };
      promise = player.room(room).publish(type, payload, options);
    }
    if (promise) player.outcomes.set(id, outcome(promise));
  }

  /** The server says this, and the SDK has to understand it. */
  async #say(player: Player, envelope: Envelope): Promise<void> {
    const { type, payload, metadata } = envelope;
    const { world, publications } = player;
    const { id, room } = metadata;
    const sdkId = player.ids.get(id);
    const before = publications.length;
    world.socket.send(type, payload, { ...metadata, ...(sdkId !== undefined && { id: sdkId }) });
    await settled();
    if (type === '$welcome') {
      expect(world.client.session).toMatchObject({ client: (payload as Json).client });
    } else if (type === '$joined') {
      expect(player.room(room ?? '').state).toBe('joined');
    } else if (type === '$reply') {
      expect(player.outcomes.get(id)).toHaveProperty('value');
    } else if (type === '$error' && id !== undefined) {
      expect(player.outcomes.get(id)?.error).toMatchObject(payload as Json);
    } else if (!type.startsWith('$') && player.room(room ?? '').state === 'joined') {
      expect(publications.slice(before)).toMatchObject([{ type, payload, room }]);
      expect(publications.at(-1)?.position?.offset).toBe(metadata.offset);
    }
    expect(world.errors).toEqual([]);
  }

  async #publish(player: Player, run: NonNullable<Step['expect_run']>): Promise<void> {
    const { room, epoch, from, to, gaps } = run;
    const { world, publications } = player;
    const before = publications.length;
    const expected: number[] = [];
    // A log that is trimmed under its reader: the first half never arrives, and that is said.
    const start = gaps?.length ? Math.floor((from + to) / 2) : from;
    if (start > from) {
      const gap = { reason: gaps?.[0], epoch, offset: start - 1, from, to: start - 1 };
      world.socket.send('$gap', gap, { room });
      expect(player.gaps).toEqual([gaps?.[0]]);
    }
    for (let offset = start; offset <= to; offset++) {
      world.socket.send('m', offset, { room, epoch, offset, time: '', from: {} });
      expected.push(offset);
    }
    await settled();
    expect(publications.slice(before).map(({ position }) => position?.offset)).toEqual(expected);
    expect(world.errors).toEqual([]);
  }

  /** Replaces placeholders by values; `<absent>` members go. */
  #fill(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#fill(item));
    if (typeof value === 'object' && value !== null) {
      const entries = Object.entries(value).filter(([, member]) => member !== '<absent>');
      return Object.fromEntries(entries.map(([name, member]) => [name, this.#fill(member)]));
    }
    if (typeof value !== 'string' || !value.startsWith('<')) return value;
    const [kind = '', label = ''] = value.slice(1, -1).split(':');
    if (kind === 'n') return this.#count;
    if (kind === 'integer') return 1_000_000;
    if (kind === 'instant') return '2026-01-01T12:00:00.000Z';
    if (kind === 'text') return 'x'.repeat(Number(label));
    return `${kind}-${label}`;
  }
}
