import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** The way to the server, which can be cut for one person alone, or lose what the server says. */
export class Wire {
  #server;
  #to;
  #sockets = new Set();
  #isCut = false;
  #isMute = false;

  static async to(port) {
    const wire = new Wire();
    wire.#to = port;
    wire.#server = createServer((socket) => wire.#carry(socket));
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  cut() {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#isCut = false;
  }

  /** What the server says from now on is lost, until it is false again. */
  mute(isMute = true) {
    this.#isMute = isMute;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #carry(socket) {
    if (this.#isCut) {
      socket.destroy();
      return;
    }
    const other = connect(this.#to, '127.0.0.1');
    for (const [one, two] of [
      [socket, other],
      [other, socket],
    ]) {
      this.#sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        this.#sockets.delete(one);
        two.destroy();
      });
    }
    socket.pipe(other);
    other.on('data', (chunk) => this.#isMute || socket.write(chunk));
    other.on('end', () => socket.end());
  }
}
