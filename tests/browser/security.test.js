import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, Person, until } from './support/people.js';
import { Server } from './support/server.js';

/** What runs if it is taken for markup; each field gets its own, so that a hole has a name. */
const evil = (field) =>
  `<img src=x onerror="window.pwned='${field}'"><script>window.pwned='${field}'</script>`;

let server;
let browser;

before(async () => {
  server = await Server.start({ asRun: true });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Nothing ran, and nothing of it became an element. */
async function harmless({ page }) {
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  const made = await page.evaluate(
    () =>
      document.querySelectorAll(
        'img:not([src^="/"]), iframe, script:not([src]), [onerror], [onclick], [onload]',
      ).length,
  );
  assert.equal(made, 0, await page.content());
}

/** Answers commands of a type with an error whose every text is hostile, and says when. */
function refusing(type) {
  let resolve;
  const refused = new Promise((settle) => {
    resolve = settle;
  });
  const before = (context) =>
    context.routeWebSocket(/\/ws$/, (page) => {
      const upstream = page.connectToServer();
      page.onMessage((text) => {
        const message = JSON.parse(text);
        if (message.type !== type) return upstream.send(text);
        const payload = {
          code: 403,
          name: 'forbidden',
          message: evil('why'),
          field: evil('field'),
        };
        const metadata = { id: message.metadata.id };
        page.send(JSON.stringify({ type: '$error', payload, metadata }));
        resolve();
      });
    });
  return { before, refused };
}

// The policy would stop most of it, so it is off: what is tested here is that nothing gets so far.
const bare = { bypassCSP: true };

test('whatever others put into a field is text', async () => {
  const user = 'reader';
  const token = await server.token(user);
  const reader = await Person.signIn(browser, server, 'general', 'Reader', token, bare);
  await reader.joined('general');

  // Names and texts, as a person types them and as a back end sends them.
  const other = await Person.enter(browser, server, 'general', evil('name').slice(0, 60), bare);
  await other.say(evil('text'));
  await reader.sees(evil('text'));
  await until('both are members', async () => (await reader.members.count()) === 2);
  await server.publish('general', evil('user'), evil('published'));
  await reader.sees(evil('published'));
  const payload = { user: evil('x'), message: 'odd time', timestamp: evil('timestamp') };
  const metadata = { room: 'general' };
  await server.api('/broadcast', { type: 'chat_message', payload, metadata });
  // One that is not what a chat message should be.
  for (const odd of [evil('payload'), { user: [evil('a')], message: { html: evil('b') } }, null]) {
    await server.api('/broadcast', { type: 'chat_message', payload: odd, metadata });
  }
  await server
    .api('/broadcast', { type: evil('type').slice(0, 60), payload: 1, metadata })
    .catch(() => {});
  await server.write(user, 'stranger', evil('direct'), evil('direct name'));
  await reader.page.getByRole('link', { name: /^Inbox ?, 1 unread message$/ }).click();
  await reader.page.getByRole('main', { name: 'Inbox' }).getByText(evil('direct')).waitFor();
  await harmless(reader);
  await harmless(other);
  await other.leave();
  await reader.leave();
});

test('whatever is in the address is text', async () => {
  for (const place of [
    evil('hash'),
    encodeURIComponent(evil('hash')),
    'javascript:window.pwned="hash"',
    '$user/<svg onload=window.pwned=1>',
    '__proto__',
    'constructor',
  ]) {
    const person = await Person.visit(browser, `${server.url}/?${place}#${place}`, {
      ...bare,
      stored: { name: evil('stored'), token: evil('token') },
    });
    await person.page.locator('main').first().waitFor();
    await harmless(person);
    await person.leave();
  }
});

test('whatever a server says when it refuses is text', async () => {
  for (const type of ['$hello', 'chat_message']) {
    const { before, refused } = refusing(type);
    const stored = { name: 'Ada' };
    const person = await Person.visit(browser, `${server.url}/#refused`, {
      ...bare,
      stored,
      before,
    });
    if (type === 'chat_message') {
      await person.joined('refused');
      await person.say('hello');
    }
    await refused;
    // Two frames later the page has shown what it shows of it.
    await person.page.evaluate(
      () => new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown))),
    );
    await harmless(person);
    await person.leave();
  }
});

test('the policy of both pages stops scripts that are not theirs', async () => {
  const wanted = ['base-uri', 'object-src', 'script-src-attr', 'script-src-elem'];
  for (const path of ['/#general', '/api']) {
    const person = await Person.visit(browser, server.url + path, { stored: { name: 'Ada' } });
    const { page } = person;
    // In normal use nothing was refused.
    if (path !== '/api') await person.joined('general');
    assert.deepEqual(person.complaints, []);
    const refused = await page.evaluate(async (wanted) => {
      const seen = [];
      document.addEventListener('securitypolicyviolation', (event) => {
        seen.push(event.effectiveDirective);
      });
      const add = (name, change) =>
        document.body.append(Object.assign(document.createElement(name), change));
      add('script', { textContent: 'window.pwned = "inline"' });
      add('script', { src: 'data:text/javascript,window.pwned="data"' });
      add('script', { src: 'http://127.0.0.1:9/evil.js' });
      add('div', { innerHTML: '<img src="data:," onerror="window.pwned=1">' });
      add('iframe', { srcdoc: '<script>parent.pwned="frame"</script>' });
      add('object', { data: 'http://127.0.0.1:9/' });
      add('base', { href: 'http://127.0.0.1:9/' });
      const deadline = performance.now() + 10_000;
      // More may be refused, such as the picture's address.
      while (!wanted.every((it) => seen.includes(it)) && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return [...new Set(seen)].sort();
    }, wanted);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    for (const directive of wanted) {
      assert.ok(refused.includes(directive), `${path} refused only ${refused}`);
    }
    await person.leave();
  }
});

test('no page of another site shows ours in a frame', async () => {
  for (const path of ['/', '/api']) {
    const { headers } = await fetch(server.url + path);
    assert.match(headers.get('content-security-policy'), /frame-ancestors 'none'/);
    assert.doesNotMatch(headers.get('content-security-policy'), /unsafe|\*/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.ok(headers.get('referrer-policy'));
  }
});
