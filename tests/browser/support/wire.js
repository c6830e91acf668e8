import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** The way to the server, which can be cut for one person alone. */
export class Wire {
  #server;
  #to;
  #sockets = new Set();
  #isCut = false;

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
      one.pipe(two);
    }
  }
}
