import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { Client } from '../src/client.ts';
import { webSocketTransport } from '../src/transport.ts';

let server: WebSocketServer;
let url: string;

beforeEach(async () => {
  server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
});

afterEach(() => {
  for (const socket of server.clients) socket.terminate();
  server.close();
});

test('client_talks_over_a_real_socket', async () => {
  server.on('connection', (socket) => {
    expect(socket.protocol).toBe('clarion.v1.json');
    socket.on('message', (data) => {
      const { type, payload, metadata } = JSON.parse(String(data));
      const send = (kind: string, value: unknown, rest: object) =>
        socket.send(JSON.stringify({ type: kind, payload: value, metadata: rest }));
      if (type === '$hello') {
        send('$welcome', { client: 'c', user: 'u', resumed: false }, { id: metadata.id });
        for (const room of Object.keys(payload.rooms)) {
          send('$joined', { epoch: 'e', offset: 0, from: 1 }, { room });
        }
      } else {
        const position = { epoch: 'e', offset: 1, time: 't' };
        send(type, payload, { ...position, room: metadata.room, from: {}, key: metadata.key });
        send('$reply', position, { id: metadata.id });
      }
    });
  });
  const client = new Client(url, { WebSocket });
  const room = client.room('general');
  const heard = new Promise((resolve) => room.on('publication', resolve));
  client.connect();
  await room.join();
  const { key, offset } = await room.publish('note', { text: '😀' });
  expect(offset).toBe(1);
  await expect(heard).resolves.toMatchObject({ type: 'note', payload: { text: '😀' }, key });
  const closed = once([...server.clients][0] as WebSocket, 'close');
  client.close();
  expect((await closed)[0]).toBe(1000);
});

test('close_code_and_reason_of_the_server_arrive', async () => {
  server.on('connection', (socket) => socket.close(4003, 'forbidden'));
  const client = new Client(url, { WebSocket });
  const closed = new Promise((resolve) => {
    client.on('state', (event) => event.state === 'closed' && resolve(event));
  });
  client.connect();
  await expect(closed).resolves.toMatchObject({ code: 4003, reason: 'forbidden' });
});

test('server_that_is_not_there_is_an_abnormal_close', async () => {
  server.close();
  const client = new Client(url, { WebSocket });
  const retry = new Promise((resolve) => {
    client.on('state', (event) => event.nextTryAt !== null && resolve(event));
  });
  client.connect();
  await expect(retry).resolves.toMatchObject({ state: 'connecting', code: 1006, willRetry: true });
  client.close();
});

test('platform_without_websocket_says_so', () => {
  const events = { onOpen() {}, onMessage() {}, onClose() {} };
  const global = globalThis as { WebSocket?: unknown };
  const { WebSocket: original } = global;
  global.WebSocket = undefined;
  expect(() => webSocketTransport()(url, [], events)).toThrow(/no WebSocket/);
  global.WebSocket = original;
});
