// The TypeScript client among those who publish and listen; `clients.py` starts it.
//
//     node typescript.mjs publish|subscribe URL NAME ROOM...
//
// Writes on its standard output what `checker.py` reads. A line on its standard input says that it
// is enough; when that is closed it ends.

import { createInterface } from 'node:readline';
import { crc32 } from 'node:zlib';
import { sdk, WebSocket } from '../blackbox/node/sdk.js';

const [role, url, name, ...rooms] = process.argv.slice(2);
const AGAIN_MS = 10;
const WINDOW = 16;

let socket;
/** When the newest connection was begun. */
let begunAt;
/** Writes down what the client acknowledges by itself. */
class Socket extends WebSocket {
  #acks = new Map();

  constructor(...args) {
    super(...args);
    socket = this;
    begunAt = now();
    this.on('message', (data) => this.#hear(data.toString()));
  }

  send(text) {
    if (text.includes('"$ack"')) {
      const { payload, metadata } = JSON.parse(text);
      const ack = { room: metadata.room, offset: payload.offset };
      this.#acks.set(metadata.id, ack);
      write('acking', ack);
    }
    super.send(text);
  }

  #hear(text) {
    if (this.#acks.size === 0 || !text.includes('"$reply"')) return;
    const { id } = JSON.parse(text).metadata;
    if (this.#acks.has(id)) write('kept', this.#acks.get(id));
    this.#acks.delete(id);
  }
}

/** The clock of all logs. */
const now = () => Number(process.hrtime.bigint()) / 1e9;
const write = (event, members) =>
  process.stdout.write(`${JSON.stringify({ at: now(), event, ...members })}\n`);
const place = (position) => position && [position.epoch, position.offset];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const { Client } = await sdk();
const client = new Client(url, {
  WebSocket: Socket,
  backoff: { base: 10, cap: 10 },
  ...(process.env.TOKEN && { token: process.env.TOKEN }),
});
let ticket = null;
client.on('state', ({ state }) => {
  if (state !== 'connected') return;
  const { client: id, resumed } = client.session;
  write('welcome', { client: id, ticket, resumed });
  ticket = id;
});
client.on('error', (error) => {
  throw error;
});

let isEnough = false;
const input = createInterface({ input: process.stdin });
input.on('line', () => {
  isEnough = true;
});
const isOver = new Promise((resolve) => input.on('close', resolve));
if (role === 'publish') await publish();
else subscribe();
await isOver;
client.close();

/** `WINDOW` at a time, each with a key, until it is enough. */
async function publish() {
  client.connect();
  await new Promise((resolve) => {
    client.on('state', ({ state }) => state === 'connected' && resolve());
  });
  let number = 0;
  async function one() {
    while (!isEnough) {
      number += 1;
      const room = client.room(pick(rooms));
      const key = `${name}-${number}`;
      // As JSON it is the same whoever writes it.
      const payload = `${name}.${number}.${'x'.repeat(pick([0, 20, 200, 200, 2_000]))}`;
      const names = { room: room.name, user: client.session.user, key };
      for (let isSettled = false; !isSettled; ) {
        write('sent', { ...names, what: JSON.stringify(payload) });
        try {
          const { epoch, offset, duplicate = false } = await room.publish('m', payload, { key });
          write('acked', { ...names, epoch, offset, duplicate });
          isSettled = true;
        } catch (error) {
          write('refused', { ...names, name: error.name });
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        }
      }
    }
  }
  await Promise.all(Array.from({ length: WINDOW }, one));
  write('done', {});
}

/** In all rooms, also its own; its connection is cut now and then. */
function subscribe() {
  for (const room of rooms.map((it) => client.room(it))) {
    // The last that was seen of it; the client says itself what it goes on from.
    let seen;
    const joined = (offset, from, recovered) => {
      const { epoch } = room.position;
      const names = { room: room.name, asked_at: begunAt, after: place(seen) ?? null };
      write('joined', { ...names, epoch, offset, from, recovered });
      seen = room.position;
    };
    // The server joins this one, and says by what follows from where.
    const isInbox = room.name.startsWith('$user/');
    room.on('state', ({ state }) => {
      if (state !== 'joined' || seen || isInbox) return;
      const { offset } = room.position;
      joined(offset, offset + 1, false);
    });
    room.on('recovered', ({ from, to }) => joined(to, from, true));
    room.on('gap', ({ reason, epoch, offset }) => {
      if (!seen) {
        joined(offset, offset + 1, false);
        return;
      }
      write('gap', { room: room.name, reason, epoch, offset });
      seen = { epoch, offset };
    });
    room.on('publication', async ({ payload, position, from, key = null }) => {
      const { epoch, offset } = position;
      const { user = null } = from ?? {};
      write('saw', { room: room.name, epoch, offset, user, key, what: what(payload) });
      seen = position;
      if (Math.random() < 0.001 && !isEnough) socket.terminate();
      if (!isInbox) return;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * AGAIN_MS));
      write('handled', { room: room.name, offset });
    });
    // It is joined as soon as that is possible, also if this is too early.
    if (!isInbox) room.join().catch(() => {});
  }
  client.connect();
}

/** What stands for a payload in the logs, as in `clients.py`: here it comes without its bytes. */
function what(payload) {
  if (typeof payload !== 'object' || !payload?.by) return JSON.stringify(payload);
  const members = Object.entries(payload).map(
    ([key, value]) => `"${key}": ${JSON.stringify(value)}`,
  );
  const sum = crc32(`{${members.join(', ')}}`)
    .toString(16)
    .padStart(8, '0');
  return `${payload.by}.${payload.n}#${sum}`;
}
