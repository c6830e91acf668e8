import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import {
  DESKTOP,
  holdFirst,
  launch,
  Person,
  PHONE,
  refuseOnce,
  screenshots,
} from './support/people.js';
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

      test('inbox', async () => {
        const user = `dora-${size}-${colorScheme}`;
        const come = async (options = {}, at = server) => {
          const token = await server.token(user);
          return Person.signIn(browser, at, '$inbox', 'Dora', token, { ...look, ...options });
        };
        const inbox = (person) => person.page.getByRole('main', { name: 'Inbox' });
        const lines = (person) => inbox(person).getByRole('listitem');
        const guest = await Person.enter(browser, server, 'general', 'Dora', look);
        await guest.page.evaluate(() => {
          location.hash = '#$inbox';
        });
        await inbox(guest)
          .getByText(/You are a guest here/)
          .waitFor();
        await check(guest, 'inbox-guest');
        await guest.leave();

        const first = await come();
        await inbox(first).getByText('Nobody has written to you.').waitFor();
        await check(first, 'inbox-empty');
        await first.leave();

        const early = await come({ before: holdFirst('$history') });
        await inbox(early).getByText('Loading…').waitFor();
        await check(early, 'inbox-loading');
        await early.leave();

        const long = 'a-user-whose-name-is-as-long-as-names-may-be-and-has-no-place-to-break';
        await server.write(user, 'ada', 'Are you there?', 'Ada');
        await server.write(
          user,
          long,
          'Wrapped'.repeat(80),
          'Somebody With Quite a Long Name Indeed',
        );
        await server.write(
          user,
          'chiara',
          'Lunch at noon? The place around the corner, as always.',
        );
        await server.write(
          user,
          'ada',
          'It can wait until tomorrow, but not longer than that.',
          'Ada',
        );
        const second = await come();
        await inbox(second).getByText('4 unread messages').waitFor();
        await check(second, 'inbox-unread');
        await lines(second).filter({ hasText: 'Lunch' }).getByRole('link').click();
        await second.sees('Lunch at noon? The place around the corner, as always.');
        await check(second, 'inbox-conversation');
        await second.page.goBack();
        await inbox(second).getByText('3 unread messages').waitFor();
        await check(second, 'inbox');
        if (size === 'phone') {
          await second.page.getByRole('button', { name: /^Conversations/ }).click();
          await second.page.getByRole('dialog', { name: 'Conversations' }).waitFor();
          await check(second, 'inbox-rooms');
          await second.page.keyboard.press('Escape');
        }
        await inbox(second).getByRole('button', { name: 'Mark all as read' }).click();
        await second.page.waitForFunction(() => document.title === 'Inbox – Clarion');
        await second.leave();

        const third = await come({ before: refuseOnce('$history') });
        await inbox(third).getByRole('alert').waitFor();
        await check(third, 'inbox-error');
        await third.leave();

        const wire = await Wire.to(server.port);
        try {
          const fourth = await come({}, wire);
          await lines(fourth).first().waitFor();
          wire.cut();
          await fourth.page.getByText(/Next try in/).waitFor();
          await check(fourth, 'inbox-offline');
          await fourth.leave();
        } finally {
          wire.close();
        }
      });

      test('account', async () => {
        const token = await server.token('dora');
        for (const [name, stored] of [
          ['account-guest', { name: 'Dora' }],
          ['account', { name: 'Dora', token }],
          ['account-refused', { name: 'Dora', token: 'no token' }],
        ]) {
          const dora = await Person.visit(browser, `${server.url}/#$inbox`, { ...look, stored });
          const status = name === 'account-refused' ? /not valid any more/ : 'Connected.';
          await dora.page.getByRole('status').getByText(status).waitFor();
          if (size === 'phone') {
            await dora.page.getByRole('button', { name: /^Conversations/ }).click();
          }
          await dora.page.getByRole('button', { name: /^You:/ }).click();
          await dora.page.getByRole('dialog', { name: 'You' }).waitFor();
          await check(dora, name);
          await dora.leave();
        }
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
