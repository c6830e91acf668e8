import { CLOSE_ABNORMAL } from './codes.ts';

/** What a transport reports. Nothing is called after `onClose`. */
export interface SocketEvents {
  onOpen(): void;
  onMessage(text: string): void;
  onClose(code: number, reason: string): void;
}

export interface Socket {
  send(text: string): void;
  /** Starts closing. Events may still come and are ignored by the caller. */
  close(code: number, reason: string): void;
}

/** Opens one socket. May throw: that counts as a failed try. */
export type Transport = (url: string, protocols: string[], events: SocketEvents) => Socket;

/** The part of the standard `WebSocket` that is used, so that `ws` and others fit. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/**
 * The transport over a `WebSocket` class: the one given, or else the platform's, looked up when the
 * first socket is opened (so importing the SDK on a server without one is fine).
 */
export function webSocketTransport(given?: WebSocketConstructor): Transport {
  return (url, protocols, events) => {
    const WebSocket =
      given ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket ?? missing();
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => events.onOpen();
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (typeof data === 'string') events.onMessage(data);
    };
    // Always followed by `onclose`; without a listener, Node's `ws` would throw.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }: { code?: number; reason?: string }) =>
      events.onClose(code ?? CLOSE_ABNORMAL, reason ?? '');
    return {
      send: (text) => {
        // 1 is OPEN. Sending to a closing socket throws in some implementations and is lost in all.
        if (socket.readyState === 1) socket.send(text);
      },
      close: (code, reason) => socket.close(code, reason),
    };
  };
}

function missing(): never {
  throw new TypeError('this platform has no WebSocket: pass one as { WebSocket }');
}
