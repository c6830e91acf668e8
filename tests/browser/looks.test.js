import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { DESKTOP, launch, Person, PHONE, screenshots } from './support/people.js';
import { Server } from './support/server.js';

/** Every screen in every size and scheme: nothing overflows, axe finds nothing, and a picture of it. */
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
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
        await dora.say(`Hello from a ${colorScheme} ${size}`);
        await dora.page.locator('[data-delivery=sent]').last().waitFor();
        await check(dora, 'conversation');
        if (size === 'phone') {
          await dora.page.getByRole('button', { name: 'Rooms' }).click();
          await dora.page.getByRole('dialog', { name: 'Rooms' }).waitFor();
          await check(dora, 'rooms');
          await dora.page.keyboard.press('Escape');
          await dora.page.getByRole('button', { name: 'Members' }).click();
          await dora.page.getByRole('dialog', { name: 'Members' }).waitFor();
          await check(dora, 'members');
        }
        await dora.leave();
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
