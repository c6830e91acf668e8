import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
/** For machines without a display, a sandbox or a way out. */
const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

export const screenshots = await mkdtemp(join(tmpdir(), 'clarion-screenshots-'));

export function launch() {
  return chromium.launch({ executablePath: CHROMIUM, args: ARGS });
}

/** Somebody with a browser of their own, and what they see of the chat. */
export class Person {
  /** What went wrong in the page, but for connections that could not be made. */
  complaints = [];
  /** The messages that the page has sent over its WebSockets, read. */
  sent = [];

  constructor(page, name) {
    this.page = page;
    this.name = name;
    page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => this.sent.push(JSON.parse(payload)));
    });
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('console', (message) => {
      const text = message.text();
      const isNetwork = text.includes('WebSocket connection to') || text.includes('ERR_CONNECTION');
      if (message.type() === 'error' && !isNetwork) this.complaints.push(text);
    });
  }

  /** Comes to the page for the first time; nothing is typed yet. `before` is given its context. */
  static async visit(browser, url, { name = 'Somebody', stored = {}, before, ...options } = {}) {
    const context = await browser.newContext({ ...DESKTOP, locale: 'en-GB', ...options });
    context.setDefaultTimeout(15_000);
    await context.addInitScript((items) => {
      for (const [key, value] of Object.entries(items)) {
        localStorage.setItem(`clarion.${key}`, JSON.stringify(value));
      }
    }, stored);
    await before?.(context);
    const page = await context.newPage();
    const person = new Person(page, name);
    await page.goto(url);
    return person;
  }

  /** Comes with an account, on a device that is new but for the name. */
  static async signIn(browser, server, place, name, token, options = {}) {
    const context = { name, stored: { name, token }, ...options };
    return Person.visit(browser, `${server.url}/#${place}`, context);
  }

  /** Comes to a room and says who they are. */
  static async enter(browser, server, room, name, options = {}) {
    const person = await Person.visit(browser, `${server.url}/#${room}`, { ...options, name });
    await person.page.getByLabel('What should others call you?').fill(name);
    await person.page.getByRole('button', { name: 'Continue' }).click();
    await person.joined(room);
    return person;
  }

  /** Until the room is joined: then, and only then, the log is not busy. */
  async joined(room) {
    await this.page
      .locator(`[role=log][aria-busy=false][aria-label="Messages in ${room}"]`)
      .waitFor();
  }

  get composer() {
    return this.page.getByRole('textbox', { name: /^Message to/ });
  }

  get log() {
    return this.page.getByRole('log');
  }

  /** Messages with exactly this text. */
  message(text) {
    return this.log
      .getByRole('article')
      .filter({ has: this.page.getByText(text, { exact: true }) });
  }

  get members() {
    return this.page.getByRole('region', { name: 'Members' }).getByRole('listitem');
  }

  /** Scrolls to the oldest that is loaded, as often as it takes: the list may be on its way down. */
  async scrollUp(first) {
    await until(`${first} at the top`, async () => {
      await this.log.evaluate((log) => {
        log.scrollTop = 0;
      });
      return (await this.message(first).count()) === 1 && (await this.isAtTop());
    });
  }

  isAtTop() {
    return this.log.evaluate((log) => log.scrollTop === 0);
  }

  isAtEnd() {
    return this.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2);
  }

  async say(text) {
    await this.composer.fill(text);
    await this.composer.press('Enter');
  }

  async sees(text) {
    await this.message(text).first().waitFor();
  }

  async shows(name) {
    await this.page.screenshot({ path: join(screenshots, `${name}.png`) });
  }

  leave() {
    return this.page.context().close();
  }
}

/** Until `check` gives true; the last answer is in the error. */
export async function until(what, check, timeoutMs = 15_000) {
  const deadline = Date.now() + timeoutMs;
  let last;
  while (Date.now() < deadline) {
    last = await check();
    if (last === true) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${what}: still ${JSON.stringify(last)}`);
}

/** Has the first command of a type refused as by a server whose storage fails; for `before`. */
export function refuseOnce(type) {
  const payload = { code: 503, name: 'unavailable', message: 'not now', temporary: true };
  return catchFirst(type, (page, { id }) =>
    page.send(JSON.stringify({ type: '$error', payload, metadata: { id } })),
  );
}

/** Has it left without an answer. */
export function holdFirst(type) {
  return catchFirst(type, () => {});
}

function catchFirst(type, act) {
  let isOver = false;
  return (context) =>
    context.routeWebSocket(/\/ws$/, (page) => {
      const server = page.connectToServer();
      page.onMessage((text) => {
        const message = JSON.parse(text);
        if (isOver || message.type !== type) {
          server.send(text);
          return;
        }
        isOver = true;
        act(page, message.metadata);
      });
    });
}
