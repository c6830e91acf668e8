import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { DevelopmentApp } from './support/app.js';
import { launch, Person, PHONE, screenshots, until } from './support/people.js';
import { Server } from './support/server.js';
import { Wire } from './support/wire.js';

let server;
let browser;
let people = [];
let wires = [];

async function enter(room, name, options) {
  const person = await Person.enter(browser, server, room, name, options);
  people.push(person);
  return person;
}

async function visit(path, options) {
  const person = await Person.visit(browser, server.url + path, options);
  people.push(person);
  return person;
}

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
  console.log(`# screenshots: ${screenshots}`);
});

/** A way to the server that can be cut. */
async function lay() {
  const wire = await Wire.to(server.port);
  wires.push(wire);
  return wire;
}

afterEach(async () => {
  const complaints = people.flatMap((person) => person.complaints);
  await Promise.all(people.map((person) => person.leave()));
  people = [];
  for (const wire of wires) wire.close();
  wires = [];
  assert.deepEqual(complaints, [], 'the page complained');
});

describe('talking', () => {
  test('two people talk and see each other', async () => {
    const ada = await enter('lobby', 'Ada');
    const ben = await enter('lobby', 'Ben');
    await until('Ada sees two members', async () => (await ada.members.count()) === 2);
    assert.match(await ada.members.first().innerText(), /Ada.*you/s);
    assert.match(await ada.members.last().innerText(), /Ben/);

    await ada.say('Hello Ben');
    await ben.sees('Hello Ben');
    assert.match(await ben.message('Hello Ben').innerText(), /Ada/);
    await ben.say('Hello Ada');
    await ada.sees('Hello Ada');
    assert.match(await ben.message('Hello Ada').innerText(), /You/);
    await until(
      'sent',
      async () => (await ada.message('Hello Ben').getAttribute('data-delivery')) === 'sent',
    );
    assert.equal(await ada.message('Hello Ben').count(), 1);

    await ben.page.goto('about:blank');
    await until('Ada is alone', async () => (await ada.members.count()) === 1);
    await ada.shows('talking');
  });

  test('what others write is text and nothing else', async () => {
    const ada = await enter('markup', 'Ada');
    const eve = await enter('markup', '<img src=x onerror=alert(1)>');
    let alerted = false;
    ada.page.on('dialog', () => {
      alerted = true;
    });
    const text = '<script>alert(1)</script><b>bold</b><img src=x onerror="alert(2)">';
    await eve.say(text);
    await ada.sees(text);
    await ada.page.getByText('<img src=x onerror=alert(1)>').first().waitFor();
    assert.equal(await ada.log.locator('script, b, img').count(), 0);
    assert.equal(alerted, false);
  });

  test('new lines, emoji and other scripts arrive as they were written', async () => {
    const ada = await enter('unicode', 'Ada');
    const ben = await enter('unicode', 'Бен');
    await ben.composer.pressSequentially('שלום 😀');
    await ben.composer.press('Shift+Enter');
    await ben.composer.pressSequentially('second line');
    await ben.composer.press('Enter');
    const message = ada.log.getByRole('article').first();
    await message.waitFor();
    assert.equal(await message.locator('[dir=auto]').innerText(), 'שלום 😀\nsecond line');
    assert.match(await message.innerText(), /Бен/);
  });

  test('message over the limit of the server is not sent', async () => {
    const ada = await enter('long', 'Ada');
    await ada.composer.fill('x'.repeat(70_000));
    await ada.page.getByText(/Too long by/).waitFor();
    assert.equal(await ada.page.getByRole('button', { name: 'Send' }).isDisabled(), true);
    await ada.composer.fill('x'.repeat(60_000));
    await ada.composer.press('Enter');
    await until('sent', async () => (await ada.log.locator('[data-delivery=sent]').count()) === 1);
  });
});

describe('history', () => {
  test('who comes late reads what was said, and what was said before that', async () => {
    for (let number = 1; number <= 120; number++) {
      await server.publish('late', 'Ada', `Message ${number}`);
    }
    const ben = await enter('late', 'Ben');
    await ben.sees('Message 120');
    await ben.scrollUp('Message 71');
    assert.equal(await ben.message('Message 70').count(), 0);

    const top = (text) =>
      ben.message(text).evaluate((row) => Math.round(row.getBoundingClientRect().top));
    const earlier = ben.page.getByRole('button', { name: 'Load earlier' });
    const before = await top('Message 73');
    await earlier.click();
    await ben.sees('Message 70');
    // What one reads stays where it is.
    await until('in its place', async () => Math.abs((await top('Message 73')) - before) <= 1);
    await ben.scrollUp('Message 21');
    await earlier.click();
    await ben.sees('Message 20');
    await ben.scrollUp('Message 1');
    await ben.page.getByText('This is where it begins.').waitFor();

    // Nor does what is new move it, which is told and waits.
    const first = await top('Message 1');
    await server.publish('late', 'Ada', 'Message 121');
    await ben.page.getByRole('button', { name: '1 new message' }).waitFor();
    assert.equal(await top('Message 1'), first);
    assert.equal(await ben.message('Message 121').count(), 0);
    await ben.page.getByRole('button', { name: '1 new message' }).click();
    await ben.sees('Message 121');
    await until('at the end', () => ben.isAtEnd());
    // At the end one stays there.
    await server.publish('late', 'Ada', 'Message 122');
    await ben.sees('Message 122');
    await until('at the end', () => ben.isAtEnd());
    assert.equal(await ben.page.getByRole('button', { name: 'Newest messages' }).count(), 0);
  });

  test('thousands of messages are as light as those that are seen', async () => {
    const ada = await enter('many', 'Ada');
    const count = 2_000;
    for (let sent = 0; sent < count; sent += 50) {
      const batch = Array.from({ length: 50 }, (_, index) => `Message ${sent + index}`);
      await Promise.all(batch.map((text) => server.publish('many', 'Ben', text)));
    }
    await server.publish('many', 'Ben', 'The last one');
    await ada.sees('The last one');
    await until('at the end', () => ada.isAtEnd());
    const rows = await ada.log.getByRole('article').count();
    assert.ok(rows < 100, `${rows} rows are in the page`);
    const height = await ada.log.evaluate((log) => log.scrollHeight);
    assert.ok(height > count * 20, `the list is ${height} px high`);
    await ada.log.focus();
    await ada.page.keyboard.press('Home');
    await ada.page.getByText('This is where it begins.').waitFor();
    await ada.page.keyboard.press('End');
    await ada.sees('The last one');
  });

  test('after a reload the messages are there and mine are still mine', async () => {
    const ada = await enter('reload', 'Ada');
    await ada.say('Before');
    await until('sent', async () => (await ada.log.locator('[data-delivery=sent]').count()) === 1);
    await ada.page.reload();
    await ada.sees('Before');
    assert.match(await ada.message('Before').innerText(), /You/);
  });
});

describe('rooms', () => {
  test('unread messages of other rooms are counted', async () => {
    const ada = await enter('first', 'Ada');
    const join = ada.page.getByRole('textbox', { name: 'Join a room' });
    await join.fill('#second room');
    await join.press('Enter');
    await ada.joined('second-room');
    assert.match(ada.page.url(), /#second-room$/);
    await server.publish('first', 'Ben', 'psst');
    const link = ada.page.getByRole('link', { name: /^first ?, 1 unread message$/ });
    await link.waitFor();
    await until('title', async () => (await ada.page.title()).startsWith('(1)'));
    await link.click();
    await ada.sees('psst');
    await until('title', async () => (await ada.page.title()) === '#first – Clarion');
    await ada.page.reload();
    await ada.page.getByRole('link', { name: 'second-room' }).waitFor();
    await ada.page.getByRole('button', { name: 'Leave second-room' }).click();
    await ada.page.getByRole('link', { name: 'second-room' }).waitFor({ state: 'detached' });
  });

  test('link to what cannot be a room says so', async () => {
    const ada = await visit('/#a//b', { name: 'Ada' });
    await ada.page.getByLabel('What should others call you?').fill('Ada');
    await ada.page.keyboard.press('Enter');
    await ada.page.getByRole('heading', { name: 'This link leads to no room' }).waitFor();
    await ada.shows('bad-link');
  });

  test('new name is what others see', async () => {
    const ada = await enter('names', 'Ada');
    const ben = await enter('names', 'Ben');
    await ada.page.getByRole('button', { name: /^You:/ }).click();
    const dialog = ada.page.getByRole('dialog', { name: 'You' });
    await dialog.getByLabel('What should others call you?').fill('Ada Lovelace');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await ben.page.getByText('Ada Lovelace').waitFor();
  });

  test('one is in a room once, however often React mounts it', async () => {
    const app = await DevelopmentApp.before(server.port);
    try {
      const ben = await enter('strict', 'Ben');
      const ada = await Person.enter(browser, app, 'strict', 'Ada');
      people.push(ada);
      await ada.say('Hello');
      await ben.sees('Hello');
      await until('two members', async () => (await ben.members.count()) === 2);
      const types = ada.sent.map(({ type }) => type);
      const joins = ada.sent.filter(
        ({ type, payload }) => type === '$join' || payload?.rooms?.strict,
      );
      assert.equal(joins.length, 1, `${types}`);
      assert.ok(!types.includes('$leave'), `${types}`);
      // Going away and coming back at once is no leave either.
      await ada.page.evaluate(() => {
        window.location.hash = '#$user/ben';
      });
      await ada.page.getByRole('main', { name: 'Conversation with ben' }).waitFor();
      await ada.page.evaluate(() => {
        window.location.hash = '#strict';
      });
      await ada.joined('strict');
      await ada.say('Still here');
      await ben.sees('Still here');
      assert.ok(!ada.sent.some(({ type }) => type === '$leave'));
    } finally {
      await app.close();
    }
  });
});

describe('what the server decides', () => {
  test('removed from a room says so, and one may come back', async () => {
    const ada = await enter('kicked', 'Ada');
    const user = await server.userIn('kicked');
    await ada.say('Once');
    await until('sent', async () => (await ada.log.locator('[data-delivery=sent]').count()) === 1);
    await server.api('/v1/kick', { room: 'kicked', user });
    await ada.page.getByText('You were removed from this room.').waitFor();
    assert.equal(await ada.composer.isDisabled(), true);
    await ada.page.getByText('Unknown while not in the room.').waitFor();
    await ada.sees('Once');
    await ada.shows('kicked');
    await ada.page.getByRole('button', { name: 'Try to join again' }).click();
    await ada.joined('kicked');
    await ada.page.getByText('You were removed from this room.').waitFor({ state: 'detached' });
    await ada.sees('Once');
    await ada.say('Twice');
    await ada.sees('Twice');
    assert.equal(await ada.log.getByRole('article').count(), 2);
  });

  test('room that lets nobody in says so', async () => {
    const ada = await enter('open', 'Ada');
    await ada.page.getByRole('textbox', { name: 'Join a room' }).fill('closed/1');
    await ada.page.keyboard.press('Enter');
    await ada.page.getByText('You may not join this room.').waitFor();
    await ada.page.getByText('You are not in this room.').waitFor();
  });

  test('room and group that one is brought into are listed, and the group ends', async () => {
    const ada = await enter('here', 'Ada');
    const user = await server.userIn('here');
    await server.api('/v1/join', { room: 'there', user });
    await ada.page.getByRole('link', { name: 'there' }).waitFor();
    await server.api('/v1/groups/add', { group: 'crew', user });
    const crew = ada.page.getByRole('link', { name: 'crew' });
    await crew.click();
    await ada.joined('crew');
    await server.publish('$group/crew', 'Ben', 'All hands');
    await ada.sees('All hands');
    assert.equal(await ada.page.getByRole('button', { name: 'Leave crew' }).count(), 0);
    await server.api('/v1/groups/remove', { group: 'crew', user });
    await ada.page.getByText('You are no longer in this group.').waitFor();
    await ada.shows('group');
    await ada.page.getByRole('link', { name: 'there' }).click();
    await ada.joined('there');
    await server.publish('there', 'Ben', 'Welcome');
    await ada.sees('Welcome');
  });

  test('ended by an operator is over until one connects again', async () => {
    const ada = await enter('operator', 'Ada');
    const user = await server.userIn('operator');
    await server.publish('operator', 'Ben', 'Before');
    await ada.sees('Before');
    await server.api('/v1/disconnect', { user });
    await ada.page.getByText('An operator ended the connection.').waitFor();
    await ada.page.getByText('You cannot write without a connection.').waitFor();
    await server.publish('operator', 'Ben', 'Meanwhile');
    await ada.page.getByRole('button', { name: 'Connect again' }).click();
    await ada.joined('operator');
    await ada.sees('Meanwhile');
    assert.equal(await ada.message('Before').count(), 1);
  });
});

describe('presence', () => {
  test('who is typing is seen until they have said it', async () => {
    const ada = await enter('typing', 'Ada');
    const ben = await enter('typing', 'Ben');
    await ben.composer.pressSequentially('Wait');
    await ada.page.getByText('Ben is typing…').waitFor();
    assert.equal(await ben.page.getByText('is typing').count(), 0);
    await ben.composer.press('Enter');
    await ada.sees('Wait');
    await ada.page.getByText('Ben is typing…').waitFor({ state: 'detached' });
    await ben.composer.pressSequentially('x');
    await ada.page.getByText('Ben is typing…').waitFor();
    await ben.composer.press('Backspace');
    await ada.page.getByText('Ben is typing…').waitFor({ state: 'detached' });
    const said = ben.sent.filter(({ type }) => type === 'typing');
    assert.deepEqual(
      said.map(({ payload, metadata }) => [payload, metadata.ephemeral, metadata.echo]),
      [
        [true, true, false],
        [true, true, false],
        [false, true, false],
      ],
    );
  });

  test('what one says of oneself is what others see', async () => {
    const ada = await enter('status', 'Ada');
    const ben = await enter('status', 'Ben');
    await ben.page.getByRole('button', { name: /^You:/ }).click();
    const dialog = ben.page.getByRole('dialog', { name: 'You' });
    await dialog.getByRole('radio', { name: /^Away/ }).check();
    await dialog.getByLabel('Status', { exact: true }).fill('<b>Back at three</b>');
    await dialog.getByRole('button', { name: 'Save' }).click();
    const member = ada.members.filter({ hasText: 'Ben' });
    await member.getByText('<b>Back at three</b>').waitFor();
    assert.match(await member.innerText(), /, away/);
    await ben.page.reload();
    await ada.members.filter({ hasText: '<b>Back at three</b>' }).waitFor();
  });
});

describe('direct messages', () => {
  test('go to one and back, are counted, and are said to be lost with the window', async () => {
    const ada = await enter('direct', 'Ada');
    const ben = await enter('direct', 'Ben');
    const eve = await enter('direct', 'Eve');
    await until('Ben sees three members', async () => (await ben.members.count()) === 3);
    await ben.page.getByRole('button', { name: 'Ada' }).click();
    await ben.page.getByRole('main', { name: 'Conversation with Ada' }).waitFor();
    await ben.say('<i>psst</i>');
    const link = ada.page.getByRole('link', { name: /^Ben ?, 1 unread message$/ });
    await link.waitFor();
    await until('title', async () => (await ada.page.title()).startsWith('(1)'));
    await link.click();
    await ada.sees('<i>psst</i>');
    await ada.page.getByRole('main', { name: 'Conversation with Ben' }).waitFor();
    await until('title', async () => (await ada.page.title()) === 'Ben – Clarion');
    await ada.say('Who is it?');
    await ben.sees('Who is it?');
    await until(
      'sent',
      async () => (await ben.message('<i>psst</i>').getAttribute('data-delivery')) === 'sent',
    );
    assert.equal(await ben.log.getByRole('article').count(), 2);
    assert.equal(await eve.page.getByText('psst').count(), 0);

    await ada.page.getByText(/what a guest misses while away is lost/).waitFor();
    await ben.leave();
    people = people.filter((person) => person !== ben);
    await ada.page.getByText('Ben is in none of your rooms and may not be reached.').waitFor();
    await ada.page.getByRole('button', { name: 'Close Ben' }).click();
    await ada.page.getByRole('heading', { name: 'Which room?' }).waitFor();
  });

  test('are refused by a server that does not allow them, and it is said so', async () => {
    const strict = await Server.start({ direct: false });
    try {
      const ada = await Person.enter(browser, strict, 'refused', 'Ada');
      const ben = await Person.enter(browser, strict, 'refused', 'Ben');
      people.push(ada, ben);
      await ada.page.getByRole('button', { name: 'Ben' }).click();
      await ada.page.getByRole('main', { name: 'Conversation with Ben' }).waitFor();
      await ada.say('Only for you');
      await ada.page.getByText('This server does not let you write to single users.').waitFor();
      await ada.message('Only for you').getByText('You may not write here.').waitFor();
      await ada.message('Only for you').getByRole('button', { name: 'Discard' }).click();
      await ada.message('Only for you').waitFor({ state: 'detached' });
      assert.equal(await ben.page.getByText('Only for you').count(), 0);
    } finally {
      await strict.stop();
    }
  });
});

describe('rooms without log', () => {
  test('are for who is there, and say that something may be missing', async () => {
    const ada = await enter('unlogged/1', 'Ada');
    const wire = await lay();
    const ben = await Person.enter(browser, wire, 'unlogged/1', 'Ben');
    people.push(ben);
    await ada.say('One');
    await ben.sees('One');
    await until('sent', async () => (await ada.log.locator('[data-delivery=sent]').count()) === 1);
    assert.equal(await ada.log.getByRole('article').count(), 1);
    wire.cut();
    await ben.page.getByText(/Next try in/).waitFor();
    wire.mend();
    await ben.page.getByText('Some messages may be missing here.').waitFor();
    await ben.page
      .getByRole('region', { name: 'While you were offline' })
      .getByText('You were offline: some messages may be missing.')
      .waitFor();
    await ada.say('Two');
    await ben.sees('Two');
  });
});

describe('when the connection breaks', () => {
  /** Cut off until so many messages were said, and back. */
  async function away(room, count) {
    const wire = await lay();
    const ben = await Person.enter(browser, wire, room, 'Ben');
    people.push(ben);
    for (let number = 1; number <= 30; number++)
      await server.publish(room, 'Ada', `Seen ${number}`);
    await ben.sees('Seen 30');
    wire.cut();
    await ben.page.getByText(/Next try in/).waitFor();
    for (let number = 1; number <= count; number++) {
      await server.publish(room, 'Ada', `Missed ${number}`);
    }
    wire.mend();
    await ben.sees(`Missed ${count}`);
    return ben;
  }

  test('one is told how much came meanwhile, shown where it begins, and can dismiss it', async () => {
    const ben = await away('away', 40);
    const { page } = ben;
    const bar = page.getByRole('region', { name: 'While you were offline' });
    await bar.getByText('You were offline: 40 new messages').waitFor();
    await until('said aloud', async () => {
      const said = await page.getByRole('main').getByRole('status').allInnerTexts();
      return said.includes('You were offline: 40 new messages');
    });
    await until('at the end', () => ben.isAtEnd());
    // By the keyboard: it is the last thing before the messages.
    await page.getByRole('log').focus();
    await page.keyboard.press('Shift+Tab');
    assert.equal(await focused(page), 'Dismiss');
    await page.keyboard.press('Shift+Tab');
    assert.equal(await focused(page), 'Show');
    await page.keyboard.press('Enter');
    await bar.waitFor({ state: 'detached' });
    await ben.sees('Missed 1');
    await ben.log.getByText('You were offline: 40 new messages').waitFor();
    assert.equal(await ben.message('Missed 40').count(), 0);
    assert.equal(await focused(page), 'Messages in away');
    await page.getByRole('button', { name: 'Newest messages' }).click();
    await ben.sees('Missed 40');
  });

  test('what was dismissed stays so, and the next absence is told again', async () => {
    const ben = await away('again', 3);
    const { page } = ben;
    const bar = page.getByRole('region', { name: 'While you were offline' });
    await bar.getByText('You were offline: 3 new messages').waitFor();
    await bar.getByRole('button', { name: 'Dismiss' }).click();
    await bar.waitFor({ state: 'detached' });
    await page.getByRole('textbox', { name: 'Join a room' }).fill('elsewhere');
    await page.keyboard.press('Enter');
    await ben.joined('elsewhere');
    await page.getByRole('link', { name: 'again' }).click();
    await ben.joined('again');
    await ben.sees('Missed 3');
    await ben.log.getByText('You were offline: 3 new messages').waitFor();
    assert.equal(await bar.count(), 0);
    const [wire] = wires;
    wire.cut();
    await page.getByText(/Next try in/).waitFor();
    await server.publish('again', 'Ada', 'Once more');
    wire.mend();
    await tryNow(ben);
    await bar.getByText('You were offline: 1 new message').waitFor();
    await bar.getByRole('button', { name: 'Show' }).click();
    await ben.sees('Once more');
    await until('at the end', () => ben.isAtEnd());
    assert.equal(await page.getByRole('button', { name: 'Newest messages' }).count(), 0);
  });

  test('what was missed comes once, in order, and is announced', async () => {
    const ada = await enter('wire', 'Ada');
    const wire = await lay();
    const ben = await Person.enter(browser, wire, 'wire', 'Ben');
    people.push(ben);
    await ada.say('1');
    await ben.sees('1');
    wire.cut();
    await ben.page.getByText(/Next try in/).waitFor();
    for (const text of ['2', '3', '4']) await ada.say(text);
    await ben.say('5');
    await until('sent', async () => (await ada.log.locator('[data-delivery=sent]').count()) === 4);
    wire.mend();
    await ben.log.getByText('You were offline: 3 new messages').waitFor();
    await ada.sees('5');
    await ben.page.getByText('Sending…').waitFor({ state: 'detached' });
    const texts = await ben.log.locator('[dir=auto]').allInnerTexts();
    assert.deepEqual(texts, ['1', '2', '3', '4', '5']);
    assert.equal(await ben.page.getByText('missing').count(), 0);
    await until('Ben is there once', async () => (await ada.members.count()) === 2);
    await ben.shows('recovered');
  });
});

describe('with the settings of `make run`', () => {
  test('what was said is there when the server is back, without a reload and with one', async () => {
    const durable = await Server.start({ asRun: true });
    try {
      const ada = await Person.enter(browser, durable, 'kept', 'Ada');
      const ben = await Person.enter(browser, durable, 'kept', 'Ben');
      people.push(ada, ben);
      await ada.say('Before');
      await ben.sees('Before');
      for (const end of ['kill', 'terminate']) {
        await durable[end]();
        await ben.page.getByText(/Next try in/).waitFor();
        await durable.restart();
        await ben.joined('kept');
        await ben.sees('Before');
        await ben.say(`After ${end}`);
        await ada.sees(`After ${end}`);
      }
      // It is the same log: nothing is missing, and nothing is said to be.
      assert.equal(await ben.page.getByText('missing').count(), 0);
      const texts = ['Before', 'After kill', 'After terminate'];
      assert.deepEqual(await ben.log.locator('[dir=auto]').allInnerTexts(), texts);
      await ada.page.reload();
      await ada.joined('kept');
      await ada.sees('After terminate');
      assert.deepEqual(await ada.log.locator('[dir=auto]').allInnerTexts(), texts);
      const eve = await Person.enter(browser, durable, 'kept', 'Eve');
      people.push(eve);
      await eve.sees('Before');
      await ben.shows('restarted');
    } finally {
      await durable.stop();
    }
  });
});

describe('when the server dies', () => {
  test('it says goodbye when it is stopped in order', async () => {
    const ada = await enter('deploy', 'Ada');
    const ben = await enter('deploy', 'Ben');
    await server.terminate();
    await ada.page.getByText(/Next try in \d+ s/).waitFor();
    await server.restart();
    await ada.say('Nice deploy');
    await ben.sees('Nice deploy');
  });

  test('the chat says so, waits, and goes on', async () => {
    const ada = await enter('crash', 'Ada');
    const ben = await enter('crash', 'Ben', { ...PHONE, colorScheme: 'dark' });
    await ada.say('Before the crash');
    await ben.sees('Before the crash');

    await server.kill();
    await ada.page.getByText('The server cannot be reached.').waitFor();
    await ada.page.getByText(/Next try in \d+ s/).waitFor();
    await ada.say('Into the dark');
    await ada.page.getByText('Sending…').waitFor();
    await ada.page.getByText('messages go out when the connection is back').waitFor();
    await ben.page.getByText(/Next try in \d+ s/).waitFor();
    await ada.shows('crash-desktop-light');
    await ben.shows('crash-phone-dark');

    await server.restart();
    // Both come back by themselves; Ada cannot wait.
    await tryNow(ada);
    await ben.sees('Into the dark');
    await ada.page.getByText('Sending…').waitFor({ state: 'detached' });
    assert.equal(await ada.message('Into the dark').count(), 1);
    await ben.say('Still here');
    await ada.sees('Still here');
    await until('both are members', async () => (await ada.members.count()) === 2);
    await ada.shows('after-crash-desktop-light');
    await ben.shows('after-crash-phone-dark');
  });
});

describe('keyboard', () => {
  test('is enough for everything', async () => {
    const ada = await visit('/', { name: 'Ada' });
    const { page } = ada;
    const { keyboard } = page;
    await page.getByLabel('What should others call you?').waitFor();
    await keyboard.press('Enter');
    await page.getByText('Please type a name.').waitFor();
    await keyboard.type('Ada');
    await keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Which room?' }).waitFor();

    await tabTo(page, 'Join a room');
    await keyboard.press('ControlOrMeta+A');
    await keyboard.type('typed');
    await keyboard.press('Enter');
    await ada.joined('typed');

    // In a room one can write at once.
    await until('focus', async () => (await focused(page)) === 'Message to typed');
    await keyboard.type('no mouse');
    await keyboard.press('Enter');
    await ada.sees('no mouse');

    await tabTo(page, 'Skip to writing a message');
    assert.notEqual(await outline(page), 'none', 'focus can be seen');
    await keyboard.press('Enter');
    assert.equal(await focused(page), 'Message to typed');
    await tabTo(page, 'Messages in typed');
    await tabTo(page, 'Leave typed');
    await keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Which room?' }).waitFor();
  });

  test('shortcuts go through the whole page, and are listed', async () => {
    const ada = await enter('keys-1', 'Ada');
    const ben = await enter('keys-2', 'Ben');
    const { page } = ada;
    const { keyboard } = page;
    const isFocused = (name) =>
      until(`focus on ${name}`, async () => (await focused(page)) === name);

    await keyboard.press('Control+k');
    await isFocused('Join a room');
    await keyboard.type('keys-2');
    await keyboard.press('Enter');
    await ada.joined('keys-2');
    await isFocused('Message to keys-2');
    await until('two members', async () => (await ada.members.count()) === 2);

    await keyboard.press('Alt+ArrowUp');
    await ada.joined('keys-1');
    await isFocused('Message to keys-1');
    await keyboard.press('Alt+ArrowDown');
    await ada.joined('keys-2');
    await isFocused('Message to keys-2');

    // F6 through the parts: one stop each, and the arrows within.
    await keyboard.press('F6');
    await isFocused('Ben');
    await keyboard.press('F6');
    await isFocused('keys-2');
    await keyboard.press('ArrowUp');
    await isFocused('keys-1');
    assert.notEqual(await outline(page), 'none', 'focus can be seen');
    await keyboard.press('End');
    await isFocused('keys-2');
    await keyboard.press('F6');
    await isFocused('Messages in keys-2');
    await keyboard.press('F6');
    await isFocused('Message to keys-2');
    await keyboard.press('Shift+F6');
    await isFocused('Messages in keys-2');
    await keyboard.press('Escape');
    await isFocused('Message to keys-2');

    // A member is written to, and the way back is short.
    await keyboard.press('F6');
    await keyboard.press('Enter');
    await page.getByRole('main', { name: 'Conversation with Ben' }).waitFor();
    await isFocused('Message to Ben');
    await keyboard.press('Alt+ArrowUp');
    await ada.joined('keys-2');

    // Leaving a room from the list keeps the focus in the list.
    await keyboard.press('F6');
    await keyboard.press('F6');
    await isFocused('keys-2');
    await keyboard.press('Home');
    await isFocused('keys-1');
    await keyboard.press('Delete');
    await page.getByRole('link', { name: 'keys-1' }).waitFor({ state: 'detached' });
    await isFocused('keys-2');

    await keyboard.press('Control+/');
    const help = page.getByRole('dialog', { name: 'Keyboard' });
    await help.getByText('Next conversation').waitFor();
    await keyboard.press('Escape');
    await help.waitFor({ state: 'detached' });
    await isFocused('keys-2');
    await ben.say('Nobody used a mouse');
    await ada.sees('Nobody used a mouse');
  });

  test('drawers of a phone give the focus back', async () => {
    const ada = await enter('drawers', 'Ada', PHONE);
    const { page } = ada;
    await page.getByRole('button', { name: 'Conversations' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Conversations' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await until('focus', async () => (await focused(page)) === 'Conversations');
  });
});

/** Waits no longer for the next try; the button is gone for who is back already. */
async function tryNow({ page }) {
  await page
    .getByRole('button', { name: 'Try now' })
    .click({ timeout: 1_000 })
    .catch(() => {});
}

/** The accessible name of what has the focus, roughly. */
function focused(page) {
  return page.evaluate(() => {
    const { activeElement: element } = document;
    const label = element?.labels?.[0]?.textContent;
    const shown = element?.cloneNode(true);
    for (const hidden of shown?.querySelectorAll('[aria-hidden=true]') ?? []) hidden.remove();
    return element?.getAttribute('aria-label') ?? label ?? shown?.textContent?.trim() ?? '';
  });
}

function outline(page) {
  return page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
}

async function tabTo(page, name) {
  const passed = [];
  for (let press = 0; press < 60; press++) {
    await page.keyboard.press('Tab');
    const current = await focused(page);
    if (current === name) return;
    passed.push(current);
  }
  assert.fail(`no way to "${name}" by Tab; passed ${passed.join(', ')}`);
}
