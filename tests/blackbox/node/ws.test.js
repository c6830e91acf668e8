// The server as the npm package `ws` sees it. CLARION_URL says where it is.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';

const url = process.env.CLARION_URL;
const subprotocol = 'clarion.v1.json';

/** An open connection that keeps what comes, and whose replies can be awaited by id. */
class Client {
  messages = [];
  #waiting = [];
  #ids = 0;

  static async open({ path = '/ws', protocols = [subprotocol], hello = {}, ...options } = {}) {
    const client = new Client();
    client.socket = new WebSocket(url + path, protocols, options);
    client.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false);
      client.messages.push(JSON.parse(data.toString()));
      client.#wake();
    });
    await once(client.socket, 'open');
    if (hello) client.welcome = await client.request('$hello', hello);
    return client;
  }

  #wake() {
    this.#waiting = this.#waiting.filter(({ wanted, resolve }) => {
      const index = this.messages.findIndex(wanted);
      if (index < 0) return true;
      resolve(this.messages.splice(index, 1)[0]);
      return false;
    });
  }

  /** The next message that is wanted. */
  until(wanted) {
    return new Promise((resolve) => {
      this.#waiting.push({ wanted, resolve });
      this.#wake();
    });
  }

  send(type, payload, metadata = {}) {
    this.socket.send(JSON.stringify({ type, payload, metadata }));
  }

  async request(type, payload, metadata = {}) {
    const id = ++this.#ids;
    this.send(type, payload, { ...metadata, id });
    const answer = await this.until((message) => message.metadata.id === id);
    if (answer.type === '$error') throw Object.assign(new Error(answer.payload.name), answer.payload);
    return answer.payload;
  }

  async close(code = 1000) {
    this.socket.close(code);
    return once(this.socket, 'close');
  }
}

test('two clients chat', async () => {
  const room = 'node/chat';
  const [ada, bob] = await Promise.all([Client.open(), Client.open()]);
  assert.equal(ada.socket.protocol, subprotocol);
  await bob.request('$join', {}, { room });
  const reply = await ada.request('chat_message', { text: 'grüße' }, { room });
  assert.equal(reply.offset, 1);
  const message = await bob.until((m) => m.type === 'chat_message');
  assert.deepEqual(message.payload, { text: 'grüße' });
  assert.equal(message.metadata.from.client, ada.welcome.client);
  await Promise.all([ada.close(), bob.close()]);
});

test('a client without subprotocol is welcomed unasked', async () => {
  const client = await Client.open({ protocols: [], hello: null });
  const welcome = await client.until((m) => m.type === '$welcome');
  assert.match(welcome.payload.user, /^guest:/);
  await client.close();
});

test('deflate is agreed to, and both sides compress', async () => {
  const client = await Client.open({ perMessageDeflate: { threshold: 0 } });
  assert.equal(client.socket.extensions, 'permessage-deflate');
  const { bytesRead, bytesWritten } = client.socket._socket;
  for (let n = 0; n < 10; n += 1) {
    const pong = await client.request('$ping', 'x'.repeat(5000));
    assert.equal(pong, 'x'.repeat(5000));
  }
  assert.ok(client.socket._socket.bytesRead - bytesRead < 2000);
  assert.ok(client.socket._socket.bytesWritten - bytesWritten < 2000);
  await client.close();
});

test('deflate is not agreed to if it is not offered', async () => {
  const client = await Client.open({ perMessageDeflate: false });
  assert.equal(client.socket.extensions, '');
  assert.equal(await client.request('$ping', 'x'.repeat(5000)), 'x'.repeat(5000));
  await client.close();
});

test('messages may be sent in fragments', async () => {
  const client = await Client.open();
  const text = JSON.stringify({ type: '$ping', payload: 'ü'.repeat(100), metadata: { id: 'f' } });
  for (let at = 0; at < text.length; at += 10) {
    client.socket.send(text.slice(at, at + 10), { fin: at + 10 >= text.length });
  }
  const pong = await client.until((m) => m.metadata.id === 'f');
  assert.equal(pong.payload, 'ü'.repeat(100));
  await client.close();
});

test('pings are answered with their payload', async () => {
  const client = await Client.open();
  client.socket.ping('hello');
  const [payload] = await once(client.socket, 'pong');
  assert.equal(payload.toString(), 'hello');
  await client.close();
});

test('binary is refused with 1003', async () => {
  const client = await Client.open();
  client.socket.send(Buffer.from([1, 2, 3]));
  const [code] = await once(client.socket, 'close');
  assert.equal(code, 1003);
});

// A proxy may cut off who is still sending before the close frame has gone through.
const skip = Boolean(process.env.CLARION_PROXIED);
test('a message over the limit is refused with 1009', { skip }, async () => {
  const client = await Client.open();
  client.socket.on('error', () => {});
  client.socket.send('x'.repeat(100_000));
  const [code] = await once(client.socket, 'close');
  assert.equal(code, 1009);
});

test('the close code of the client comes back', async () => {
  const client = await Client.open();
  const [code] = await client.close(4321);
  assert.equal(code, 4321);
});

test('an unknown subprotocol is refused with 400', async () => {
  const socket = new WebSocket(url + '/ws', ['other']);
  const [, response] = await once(socket, 'unexpected-response');
  assert.equal(response.statusCode, 400);
  response.resume();
  socket.on('error', () => {});
  socket.terminate();
});

test('another origin is refused with 403', async () => {
  const socket = new WebSocket(url + '/ws', { origin: 'https://evil.example' });
  const [, response] = await once(socket, 'unexpected-response');
  assert.equal(response.statusCode, 403);
  response.resume();
  socket.on('error', () => {});
  socket.terminate();
});

test('the echo returns what it gets, also a megabyte', async () => {
  const socket = new WebSocket(url + '/echo');
  await once(socket, 'open');
  for (const data of ['', 'text', 'ü'.repeat(500_000), Buffer.alloc(1_000_000, 7)]) {
    socket.send(data);
    const [echo, isBinary] = await once(socket, 'message');
    assert.equal(isBinary, typeof data !== 'string');
    assert.ok(Buffer.from(data).equals(echo));
  }
  socket.close();
  await once(socket, 'close');
});

test('a hundred connections at once all get a broadcast to their room', async () => {
  const room = 'node/crowd';
  const clients = await Promise.all(Array.from({ length: 100 }, () => Client.open()));
  await Promise.all(clients.map((client) => client.request('$join', {}, { room })));
  await clients[0].request('news', 'hello', { room });
  const got = await Promise.all(clients.map((client) => client.until((m) => m.type === 'news')));
  assert.ok(got.every((message) => message.payload === 'hello'));
  await Promise.all(clients.map((client) => client.close()));
});
