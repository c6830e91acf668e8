import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { DESKTOP, launch, Person, PHONE, screenshots } from './support/people.js';
import { Server } from './support/server.js';
import { Wire } from './support/wire.js';

/** Every screen in every size and scheme: nothing overflows, axe finds nothing, and a picture of it. */
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let server;
/** Without direct messages. */
let strict;
let browser;

before(async () => {
  server = await Server.start();
  strict = await Server.start({ direct: false });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await strict?.stop();
  console.log(`# screenshots: ${screenshots}`);
});

/** What a crash forgets in a room that is kept in memory. */
async function talk() {
  for (const [user, message] of [
    ['Ada', 'Good morning! Who restarts node 2?'],
    ['Ada', 'It has been draining since nine.'],
    ['Ben', 'Me. 18,000 connections, all gone to their slots 🎉'],
    ['Chiara', `https://example.org/${'a-very-long-path-without-a-break-'.repeat(6)}`],
    ['Ben', 'Two\nlines'],
  ]) {
    await server.publish('general', user, message);
  }
}

for (const [size, options] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  for (const colorScheme of ['light', 'dark']) {
    describe(`${size}, ${colorScheme}`, () => {
      const look = { ...options, colorScheme };
      const check = async (person, name) => {
        await person.shows(`${name}-${size}-${colorScheme}`);
        const width = await person.page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= options.viewport.width, `${name} is ${width} px wide`);
        assert.deepEqual(await violations(person.page), [], name);
        assert.deepEqual(person.complaints, [], name);
      };

      before(talk);

      test('name', async () => {
        const ada = await Person.visit(browser, server.url, look);
        await ada.page.getByRole('heading', { name: 'Welcome to Clarion' }).waitFor();
        await check(ada, 'name');
        await ada.leave();
      });

      test('no room', async () => {
        const ada = await Person.visit(browser, server.url, look);
        await ada.page.getByLabel('What should others call you?').fill('Ada');
        await ada.page.keyboard.press('Enter');
        await ada.page.getByRole('heading', { name: 'Which room?' }).waitFor();
        await check(ada, 'no-room');
        await ada.leave();
      });

      test('conversation', async () => {
        const dora = await Person.enter(browser, server, 'general', 'Dora', look);
        await dora.sees('Two\nlines');
        const hello = `Hello from a ${colorScheme} ${size}`;
        await dora.say(hello);
        await dora.page.locator('[data-delivery=sent]', { hasText: hello }).waitFor();
        await check(dora, 'conversation');
        if (size === 'phone') {
          await dora.page.getByRole('button', { name: 'Conversations' }).click();
          await dora.page.getByRole('dialog', { name: 'Conversations' }).waitFor();
          await check(dora, 'rooms');
          await dora.page.keyboard.press('Escape');
          await dora.page.getByRole('button', { name: 'Members' }).click();
          await dora.page.getByRole('dialog', { name: 'Members' }).waitFor();
          await check(dora, 'members');
        }
        await dora.leave();
      });

      test('direct messages', async () => {
        const room = `direct/${size}/${colorScheme}`;
        const dora = await Person.enter(browser, server, room, 'Dora', look);
        const emil = await Person.enter(browser, server, room, 'Emil');
        await emil.page.getByRole('button', { name: /^You:/ }).click();
        await emil.page.getByLabel('Status', { exact: true }).fill('On the train until ten');
        await emil.page.getByRole('radio', { name: /^Away/ }).check();
        await emil.page.getByRole('button', { name: 'Save' }).click();
        await emil.page.getByRole('button', { name: 'Dora' }).click();
        await emil.page.getByRole('main', { name: 'Conversation with Dora' }).waitFor();
        await emil.say('Are you there?');
        await emil.say('It can wait.');
        if (size === 'phone') {
          await dora.page.getByRole('button', { name: /^Conversations/ }).click();
          await dora.page.getByRole('dialog', { name: 'Conversations' }).waitFor();
        }
        const link = dora.page.getByRole('link', { name: /^Emil ?, 2 unread messages$/ });
        await link.waitFor();
        await check(dora, 'unread');
        await link.click();
        await dora.sees('It can wait.');
        await dora.say('See you then');
        await emil.sees('See you then');
        await check(dora, 'direct');
        await emil.leave();
        await dora.page.getByText('Not in your rooms').waitFor();
        await check(dora, 'direct-gone');
        await dora.leave();
      });

      test('direct messages that the server does not allow', async () => {
        const dora = await Person.enter(browser, strict, 'strict', 'Dora', look);
        const emil = await Person.enter(browser, strict, 'strict', 'Emil');
        if (size === 'phone') await dora.page.getByRole('button', { name: 'Members' }).click();
        await dora.page.getByRole('button', { name: 'Emil' }).click();
        await dora.page.getByRole('main', { name: 'Conversation with Emil' }).waitFor();
        await dora.say('Hello?');
        await dora.page.getByText('This server does not let you write to single users.').waitFor();
        await check(dora, 'direct-forbidden');
        await dora.leave();
        await emil.leave();
      });

      test('dialogs', async () => {
        const dora = await Person.enter(browser, server, 'general', 'Dora', look);
        const openList = async () => {
          if (size === 'phone') {
            await dora.page.getByRole('button', { name: /^Conversations/ }).click();
          }
        };
        await openList();
        await dora.page.getByRole('button', { name: /^You:/ }).click();
        await dora.page.getByRole('dialog', { name: 'You' }).waitFor();
        await check(dora, 'you');
        await dora.page.keyboard.press('Escape');
        await dora.page.getByRole('dialog').waitFor({ state: 'detached' });
        await openList();
        await dora.page.getByRole('button', { name: 'Keyboard shortcuts' }).click();
        await dora.page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
        await check(dora, 'keyboard');
        await dora.leave();
      });

      test('link to no room', async () => {
        const dora = await Person.visit(browser, `${server.url}/#a//b`, look);
        await dora.page.getByLabel('What should others call you?').fill('Dora');
        await dora.page.keyboard.press('Enter');
        await dora.page.getByRole('heading', { name: 'This link leads to no room' }).waitFor();
        await check(dora, 'no-such-room');
        await dora.leave();
      });

      test('refused', async () => {
        const dora = await Person.visit(browser, `${server.url}/#closed/1`, look);
        await dora.page.getByLabel('What should others call you?').fill('Dora');
        await dora.page.keyboard.press('Enter');
        await dora.page.getByText('You may not join this room.').waitFor();
        await check(dora, 'refused');
        await dora.leave();
      });

      test('disconnected', async () => {
        const room = `ended/${size}/${colorScheme}`;
        const dora = await Person.enter(browser, server, room, 'Dora', look);
        await server.publish(room, 'Ada', 'The last thing you heard.');
        await dora.sees('The last thing you heard.');
        await server.api('/v1/disconnect', { user: await server.userIn(room) });
        await dora.page.getByText('An operator ended the connection.').waitFor();
        await check(dora, 'disconnected');
        await dora.leave();
      });

      test('back after an absence', async () => {
        const room = `absence/${size}/${colorScheme}`;
        const wire = await Wire.to(server.port);
        try {
          const dora = await Person.enter(browser, wire, room, 'Dora', look);
          await server.publish(room, 'Ada', 'I will be back at noon.');
          await dora.sees('I will be back at noon.');
          wire.cut();
          await dora.page.getByText(/Next try in/).waitFor();
          for (let number = 1; number <= 14; number++) {
            await server.publish(room, number % 3 ? 'Ada' : 'Ben', `Something new, part ${number}`);
          }
          wire.mend();
          await dora.page.getByRole('region', { name: 'While you were offline' }).waitFor();
          await dora.sees('Something new, part 14');
          await dora.page.getByText(/Next try in/).waitFor({ state: 'detached' });
          await check(dora, 'absence');
          await dora.page.getByRole('button', { name: 'Show' }).click();
          await dora.sees('Something new, part 1');
          await check(dora, 'absence-shown');
          await dora.leave();
        } finally {
          wire.close();
        }
      });

      test('back in a room that keeps nothing', async () => {
        const room = `unlogged/${size}/${colorScheme}`;
        const wire = await Wire.to(server.port);
        try {
          const dora = await Person.enter(browser, wire, room, 'Dora', look);
          await server.publish(room, 'Ada', 'Who remembers this?');
          await dora.sees('Who remembers this?');
          wire.cut();
          await dora.page.getByText(/Next try in/).waitFor();
          wire.mend();
          await dora.page
            .getByText('You were offline: some messages may be missing.')
            .first()
            .waitFor();
          await dora.page.getByText(/Next try in/).waitFor({ state: 'detached' });
          await check(dora, 'absence-gap');
          await dora.leave();
        } finally {
          wire.close();
        }
      });

      test('empty room', async () => {
        const dora = await Person.enter(
          browser,
          server,
          `empty/${size}/${colorScheme}`,
          'Dora',
          look,
        );
        await dora.page.getByText('No messages yet').waitFor();
        await check(dora, 'empty');
        await dora.leave();
      });

      test('offline', async () => {
        const dora = await Person.enter(browser, server, 'general', 'Dora', look);
        await dora.sees('Two\nlines');
        await server.kill();
        try {
          await dora.page.getByText(/Next try in \d+ s/).waitFor();
          await dora.say('Is anybody there?');
          await dora.page.getByText('Sending…').waitFor();
          await check(dora, 'offline');
        } finally {
          await dora.leave();
          await server.restart();
        }
      });
    });
  }
}

async function violations(page) {
  // The policy of the page forbids inline scripts; evaluated ones come in beside it.
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() => window.axe.run());
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}
