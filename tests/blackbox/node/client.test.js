// The TypeScript client as an application uses it, against the real binary, which is killed at
// will. `crates/server/tests/client.rs` is the same for the Rust client.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import WebSocket from 'ws';
import { Server } from '../../browser/support/server.js';
import { Wire } from '../../browser/support/wire.js';
import { sdk } from './sdk.js';

const INBOX = '$user/ada';
const LIMITS = '[limits]\npublish_per_s = 0\ncommands_per_s = 0\npage = 1000\n';
const { Client } = await sdk();

let server;
let clients = [];

before(async () => {
  server = await Server.start({ asRun: true, settings: LIMITS });
});

after(() => server.stop());

afterEach(() => {
  for (const client of clients) client.close();
  clients = [];
});

function open({ url = server.url, ...options } = {}) {
  const backoff = { base: 10, cap: 50 };
  const client = new Client(`${url.replace('http', 'ws')}/ws`, { WebSocket, backoff, ...options });
  clients.push(client);
  return client;
}

/** A device of ada's: `handle` is given each publication; the first `recovered` is waited for. */
async function device(handle = () => new Promise(() => {})) {
  const client = open({ token: await server.token('ada') });
  const inbox = client.room(INBOX);
  const errors = [];
  client.on('error', (error) => errors.push(error));
  inbox.on('publication', handle);
  const recovered = new Promise((resolve) => inbox.on('recovered', resolve));
  client.connect();
  return { client, inbox, errors, recovered: await recovered };
}

/** Until a new device begins at this offset: what came before is acknowledged. */
async function newDeviceBeginsAt(wanted) {
  for (;;) {
    const { client, recovered } = await device();
    client.close();
    assert.ok(recovered.from <= wanted, `${recovered.from} was acknowledged`);
    if (recovered.from === wanted) return recovered;
  }
}

/** Somebody else writes to ada: the offsets. */
async function write(...payloads) {
  const client = open();
  client.connect();
  const sent = payloads.map((payload) => client.room(INBOX).publish('m', payload));
  return (await Promise.all(sent)).map(({ offset }) => offset);
}

/** Resolves when `list` has so many. */
async function many(list, count) {
  while (list.length < count) await new Promise((resolve) => setTimeout(resolve, 2));
  return list;
}

// [5.7.ack] [5.7.start]
test('what a handler failed on is given to the next device', async () => {
  const [first] = await write('a', 'b', 'c');
  const handled = [];
  const failing = await device(({ payload }) => {
    if (payload === 'b') throw new Error('this handler fails');
    handled.push(payload);
  });
  await many(handled, 2);
  assert.equal(failing.errors[0].cause?.message ?? failing.errors[0].message, 'this handler fails');
  // The device is still there, and what comes now is behind what it did not handle.
  await write('d');
  assert.deepEqual(await many(handled, 3), ['a', 'c', 'd']);
  await failing.client.ping();
  assert.deepEqual(await newDeviceBeginsAt(first + 1), { from: first + 1, to: first + 3 });

  const done = [];
  const next = await device(
    ({ payload }) => new Promise((resolve) => done.push([payload, resolve])),
  );
  assert.deepEqual(
    (await many(done, 3)).map(([payload]) => payload),
    ['b', 'c', 'd'],
  );
  await next.client.ping();
  // What is not done yet is not handled, and what is done out of turn has to wait.
  done[2][1]();
  done[1][1]();
  await next.client.ping();
  await newDeviceBeginsAt(first + 1);
  done[0][1]();
  await newDeviceBeginsAt(first + 4);
});

// [5.7.ack]
test('what was handled while the server was dead is acknowledged to its successor', async () => {
  const offsets = await write('a', 'b', 'c');
  const done = [];
  await device(({ payload }) => new Promise((resolve) => done.push([payload, resolve])));
  await many(done, 3);
  await server.kill();
  for (const [, resolve] of done) resolve();
  await server.restart();
  await newDeviceBeginsAt(offsets[2] + 1);
  // The device itself is given nothing twice.
  await write('d');
  assert.deepEqual(
    (await many(done, 4)).map(([payload]) => payload),
    ['a', 'b', 'c', 'd'],
  );
  done[3][1]();
  await newDeviceBeginsAt(offsets[2] + 2);
});

// [3.publish] [5.4.key]
test('publications around a crash are there once and every promise settles', async () => {
  // Up to here they are answered, or stored and not answered, or sent when there is nobody.
  const [answered, stored, offline] = [50, 250, 300];
  const wire = await Wire.to(server.port);
  const client = open({ url: wire.url, outbox: { messages: offline - answered } });
  const there = open();
  client.connect();
  there.connect();
  const room = client.room('general');
  const publish = (n) => room.publish('m', n);
  const some = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
  await Promise.all(some(0, answered).map(publish));
  await room.join();
  wire.mute();
  const sent = some(answered, stored).map(publish);
  const head = async () => (await there.room('general').history({ limit: 0 })).offset;
  while ((await head()) < stored);
  const lost = [client.ping(), room.history(), room.publish('m', 'gone', { ephemeral: true })];
  const settled = Promise.allSettled(lost);
  await server.kill();
  const names = (await settled).map(({ reason }) => reason?.name);
  assert.deepEqual(names, Array(3).fill('connection_lost'));
  // Those that are to be sent again wait, too, and there is room for so many.
  sent.push(...some(stored, offline).map(publish));
  await assert.rejects(room.publish('m', 'too many'), { name: 'queue_full' });
  await assert.rejects(room.publish('m', 'gone', { ephemeral: true }), { name: 'not_connected' });
  wire.mute(false);
  await server.restart();
  for (const [index, { offset, duplicate }] of (await Promise.all(sent)).entries()) {
    const n = answered + index;
    assert.deepEqual([offset, duplicate === true], [n + 1, n < stored]);
  }
  // Each is in the log at its place, once, in the order in which they were sent.
  const { publications } = await there.room('general').history({ limit: 1000 });
  assert.deepEqual(
    publications.map(({ payload }) => payload),
    some(0, offline),
  );
  wire.close();
});

// [3.revoked.renew]
test('whose user was revoked comes back by itself with a newer token', async () => {
  const token = (reason) => {
    reasons.push(reason);
    return server.token('ada');
  };
  const [reasons, recovered] = [[], []];
  const client = open({ getToken: token });
  const inbox = client.room(INBOX);
  inbox.on('recovered', (from) => recovered.push(from));
  client.connect();
  await many(recovered, 1);
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const { sessions } = await server.api('/v1/revoke', { user: 'ada', until });
  assert.ok(sessions >= 1);
  await many(recovered, 2);
  assert.ok(reasons.length > 1 && reasons.slice(1).every((reason) => reason === 'expired'));
});
