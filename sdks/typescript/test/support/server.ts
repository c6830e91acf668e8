import { Client } from '../../src/client.ts';
import type { Envelope, Metadata } from '../../src/codec.ts';
import type { Environment } from '../../src/environment.ts';
import type { ClientOptions } from '../../src/options.ts';
import type { SocketEvents } from '../../src/transport.ts';
import { FakeClock, settled } from './clock.ts';

/** One socket as the server sees it. */
export class FakeSocket {
  readonly url: string;
  readonly protocols: string[];
  readonly received: Envelope[] = [];
  readonly #events: SocketEvents;
  closedBy: { code: number; reason: string } | undefined;
  #read = 0;

  constructor(url: string, protocols: string[], events: SocketEvents) {
    this.url = url;
    this.protocols = protocols;
    this.#events = events;
  }

  open(): void {
    this.#events.onOpen();
  }

  send(type: string, payload: unknown = null, metadata: Metadata = {}): void {
    this.#events.onMessage(JSON.stringify({ type, payload, metadata }));
  }

  sendText(text: string): void {
    this.#events.onMessage(text);
  }

  close(code: number, reason = ''): void {
    this.#events.onClose(code, reason);
  }

  accept(text: string): void {
    this.received.push(JSON.parse(text));
  }

  /** The next message that the client sent; fails when there is none. */
  next(type?: string): Envelope {
    const envelope = this.received[this.#read];
    if (!envelope) throw new Error(`the client sent nothing${type ? `, not ${type}` : ''}`);
    if (type && envelope.type !== type) {
      throw new Error(`expected ${type}, got ${JSON.stringify(envelope)}`);
    }
    this.#read++;
    return envelope;
  }

  get unread(): number {
    return this.received.length - this.#read;
  }

  reply(to: Envelope, payload: unknown = {}): void {
    this.send('$reply', payload, { id: to.metadata.id as number });
  }

  fail(to: Envelope, code: number, name: string, rest: object = {}): void {
    const payload = { code, name, message: name, temporary: code >= 429, ...rest };
    this.send('$error', payload, { id: to.metadata.id as number });
  }

  /** Opens, reads the `$hello` and welcomes it. */
  welcome(payload: object = {}): Envelope {
    this.open();
    const hello = this.next('$hello');
    this.send(
      '$welcome',
      {
        client: 'c1',
        user: 'u1',
        ticket: 'ticket-1',
        ticket_ttl_ms: 600_000,
        resumed: false,
        limits: { message_bytes: 65_536, delivery_bytes: 65_536, rooms: 100, page: 100 },
        heartbeat_ms: 25_000,
        ...payload,
      },
      { id: hello.metadata.id as number },
    );
    return hello;
  }
}

/** A client, its clock and every socket it opened. */
export function setUp(options: ClientOptions = {}) {
  const clock = new FakeClock();
  const sockets: FakeSocket[] = [];
  const wakes = new Set<() => void>();
  const environment: Environment = {
    onWake: (listener) => {
      wakes.add(listener);
      return () => wakes.delete(listener);
    },
  };
  let refuse: Error | undefined;
  const client = new Client('ws://test/ws', {
    clock,
    environment,
    random: () => 0.5,
    transport: (url, protocols, events) => {
      if (refuse) throw refuse;
      const socket = new FakeSocket(url, protocols, events);
      sockets.push(socket);
      return {
        send: (text) => socket.accept(text),
        close: (code, reason) => {
          socket.closedBy = { code, reason };
        },
      };
    },
    ...options,
  });
  const errors: unknown[] = [];
  client.on('error', (error) => errors.push(error));
  return {
    client,
    clock,
    sockets,
    errors,
    wakes,
    wake: () => {
      for (const listener of [...wakes]) listener();
    },
    refuse: (error: Error | undefined) => {
      refuse = error;
    },
    /** The newest socket. */
    get socket(): FakeSocket {
      const socket = sockets.at(-1);
      if (!socket) throw new Error('no socket was opened');
      return socket;
    },
    /** Connects and is welcomed. */
    async connected(welcome: object = {}): Promise<FakeSocket> {
      client.connect();
      await settled();
      this.socket.welcome(welcome);
      return this.socket;
    },
    /** Drops the connection and takes the next one up to its welcome; returns its `$hello`. */
    async dropped(code = 1006, welcome: object = {}) {
      this.socket.close(code);
      await clock.advance((client.status.nextTryAt ?? 0) - clock.now());
      const hello = this.socket.welcome({ resumed: true, ...welcome });
      return { hello, socket: this.socket };
    },
  };
}

/** What a promise has come to by now. */
export function outcome<T>(promise: Promise<T>): { value?: T; error?: Error & { code?: number } } {
  const result: ReturnType<typeof outcome<T>> = {};
  promise.then(
    (value) => {
      result.value = value;
    },
    (error) => {
      result.error = error;
    },
  );
  return result;
}
