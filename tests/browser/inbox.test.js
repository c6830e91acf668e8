import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch, Person, refuseOnce, until } from './support/people.js';
import { Server } from './support/server.js';
import { Wire } from './support/wire.js';

let server;
let browser;
let people = [];
let users = 0;

before(async () => {
  server = await Server.start({ asRun: true });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  const complaints = people.flatMap((person) => person.complaints);
  await Promise.all(people.map((person) => person.leave()));
  people = [];
  assert.deepEqual(complaints, [], 'the page complained');
});

/** Somebody whom nobody has written to yet: what they are called, and a way to come. */
function account(name) {
  users += 1;
  const user = `${name.toLowerCase()}-${users}`;
  const come = async (place = '$inbox', { at = server, ...options } = {}) => {
    const token = await server.token(user);
    const person = await Person.signIn(browser, at, place, name, token, options);
    people.push(person);
    return person;
  };
  return { user, come };
}

const inbox = (person) => person.page.getByRole('main', { name: 'Inbox' });
const lines = (person) =>
  inbox(person).getByRole('list', { name: 'Who has written to you' }).getByRole('link');

/** Until the inbox says how much is unread. */
const says = (person, text) => inbox(person).getByRole('status').getByText(text).waitFor();

/** Until the page has acknowledged so many messages. */
function acknowledged(person, offset) {
  return until(`${offset} is acknowledged`, async () =>
    person.sent.some(({ type, payload }) => type === '$ack' && payload.offset === offset),
  );
}

async function gone(person) {
  await person.leave();
  people = people.filter((each) => each !== person);
}

describe('the inbox', () => {
  test('has what came while one was away and the server was killed, until it is seen', async () => {
    const ada = account('Ada');
    const ben = account('Ben');
    const first = await ada.come();
    await inbox(first).getByText('Nobody has written to you.').waitFor();
    await gone(first);

    const evil = '<img src=x onerror="document.title=1"> & <b>bold</b>';
    await server.write(ada.user, ben.user, 'Are you there?', 'Ben');
    await server.kill();
    await server.restart();
    await server.write(ada.user, ben.user, evil, 'Ben');
    await server.write(ada.user, 'cara', 'Lunch?', '<i>Cara</i>');

    const second = await ada.come('general');
    const link = second.page.getByRole('link', { name: /^Inbox ?, 3 unread messages$/ });
    await link.waitFor();
    await until('title', async () => (await second.page.title()).startsWith('(3)'));
    await link.click();
    await says(second, '3 unread messages');
    assert.equal(await lines(second).count(), 2);
    // The newest first; what they call themselves, who they are, and all of it as text.
    assert.match(await lines(second).nth(0).innerText(), /<i>Cara<\/i>\s+cara\s+Lunch\?/);
    const line = lines(second).nth(1);
    assert.ok((await line.innerText()).includes(evil));
    assert.ok((await line.innerText()).includes(ben.user));
    assert.equal(await second.page.locator('main img, main b, main i').count(), 0);

    await line.click();
    await second.sees(evil);
    await second.sees('Are you there?');
    await second.say('Here now.');
    await second.page.locator('[data-delivery=sent]', { hasText: 'Here now.' }).waitFor();
    await second.page.getByRole('link', { name: /^Inbox ?, 1 unread message$/ }).click();
    await says(second, '1 unread message');
    await gone(second);

    // Another device begins with what nobody has seen, and can read the rest.
    await server.kill();
    await server.restart();
    const third = await ada.come();
    await says(third, '1 unread message');
    await until('both are listed', async () => (await lines(third).count()) === 2);
    await lines(third).filter({ hasText: ben.user }).click();
    await third.sees('Are you there?');
    const said = await third.log.getByRole('article').allInnerTexts();
    assert.equal(said.length, 3);
    assert.match(said[2], /Here now\./);
    await third.page.getByText('Kept by the server, for all your devices.').waitFor();
    // What one device says, the others have at once.
    const fourth = await ada.come(`$user/${ben.user}`);
    await fourth.sees('Here now.');
    await third.say('From the other one.');
    await fourth.sees('From the other one.');
    await third.page.locator('[data-delivery=sent]', { hasText: 'From the other' }).waitFor();
    assert.equal(await third.message('From the other one.').count(), 1);

    // What was answered waits for Ben, who was never here.
    const there = await ben.come();
    await lines(there).filter({ hasText: 'From the other one.' }).click();
    await there.sees('Here now.');
  });

  test('counts what was not seen on any device, and forgets it when all is marked', async () => {
    const ada = account('Ada');
    await server.write(ada.user, 'ben', 'One');
    await server.write(ada.user, 'cara', 'Two');
    const first = await ada.come();
    await lines(first).filter({ hasText: 'Two' }).click();
    await first.sees('Two');
    await gone(first);
    // One came before Two and was not seen, so both come again.
    const second = await ada.come();
    await says(second, '2 unread messages');
    await inbox(second).getByRole('button', { name: 'Mark all as read' }).click();
    await says(second, 'Nothing unread.');
    await acknowledged(second, 2);
    await gone(second);
    const third = await ada.come();
    await until('both are listed', async () => (await lines(third).count()) === 2);
    await says(third, 'Nothing unread.');
  });

  test('is not seen by a page that nobody looks at', async () => {
    const ada = account('Ada');
    const first = await ada.come('$user/ben');
    await first.page.getByRole('main', { name: 'Conversation with ben' }).waitFor();
    await first.page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: true, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await server.write(ada.user, 'ben', 'Hello?');
    await first.sees('Hello?');
    await until('title', async () => (await first.page.title()).startsWith('(1)'));
    assert.ok(!first.sent.some(({ type }) => type === '$ack'));
    await first.page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: false, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await acknowledged(first, 1);
    await until('title', async () => !(await first.page.title()).startsWith('('));
  });

  test('goes on while there is no connection, and when it is back', async () => {
    const ada = account('Ada');
    const wire = await Wire.to(server.port);
    try {
      await server.write(ada.user, 'ben', 'Before');
      const person = await ada.come('$inbox', { at: wire });
      await lines(person).filter({ hasText: 'Before' }).waitFor();
      wire.cut();
      await person.page.getByText(/Next try in/).waitFor();
      await server.write(ada.user, 'ben', 'Meanwhile');
      await lines(person).filter({ hasText: 'Before' }).waitFor();
      wire.mend();
      await lines(person).filter({ hasText: 'Meanwhile' }).waitFor();
      await says(person, '2 unread messages');
    } finally {
      wire.close();
    }
  });

  test('says that something is gone before it was seen', async () => {
    const settings = '[[rooms]]\nmatch = "$user/*"\nlog = "durable"\nsize = 3\n';
    const small = await Server.start({ asRun: true, settings });
    try {
      for (let n = 1; n <= 5; n++) await small.write('ada', 'ben', `Number ${n}`);
      const token = await small.token('ada');
      const ada = await Person.signIn(browser, small, '$inbox', 'Ada', token);
      people.push(ada);
      await says(ada, '3 unread messages');
      await inbox(ada)
        .getByText(/not kept any more/)
        .waitFor();
    } finally {
      await small.stop();
    }
  });

  test('says that the server keeps nothing', async () => {
    const settings = '[[rooms]]\nmatch = "$user/*"\nlog = "none"\npublish = "everyone"\n';
    const forgetful = await Server.start({ asRun: true, settings });
    try {
      const token = await forgetful.token('ada');
      const ada = await Person.signIn(browser, forgetful, '$inbox', 'Ada', token);
      people.push(ada);
      await inbox(ada)
        .getByText(/This server keeps nothing/)
        .waitFor();
      await forgetful.write('ada', 'ben', 'Now or never');
      await lines(ada).filter({ hasText: 'Now or never' }).waitFor();
      assert.equal(await inbox(ada).getByRole('button', { name: 'Sign in' }).count(), 0);
    } finally {
      await forgetful.stop();
    }
  });

  test('says what it cannot read, and asks again', async () => {
    const ada = account('Ada');
    await server.write(ada.user, 'ben', 'Seen');
    const first = await ada.come('$user/ben');
    await first.sees('Seen');
    await acknowledged(first, 1);
    await gone(first);
    const second = await ada.come('$inbox', { before: refuseOnce('$history') });
    await inbox(second)
      .getByRole('alert')
      .getByText(/could not be loaded/)
      .waitFor();
    await inbox(second).getByRole('button', { name: 'Try again' }).click();
    await lines(second).filter({ hasText: 'Seen' }).waitFor();
    await inbox(second).getByRole('alert').waitFor({ state: 'detached' });
  });

  test('works by keyboard alone', async () => {
    const ada = account('Ada');
    for (const user of ['ben', 'cara', 'dora']) await server.write(ada.user, user, `I am ${user}`);
    const person = await ada.come('general');
    const { keyboard } = person.page;
    await person.joined('general');
    await keyboard.press('Alt+ArrowUp');
    await inbox(person).waitFor();
    await lines(person).first().waitFor();
    await keyboard.press('F6');
    await keyboard.press('F6');
    const focused = () => person.page.evaluate(() => document.activeElement?.textContent ?? '');
    await until('the inbox has the focus', async () => {
      const text = await focused();
      if (text.includes('dora') || text.includes('Mark all')) return true;
      await keyboard.press('F6');
      return text;
    });
    await until('the list has the focus', async () => {
      const text = await focused();
      if (text.includes('dora')) return true;
      await keyboard.press('Tab');
      return text;
    });
    await keyboard.press('ArrowDown');
    assert.match(await focused(), /cara/);
    await inbox(person).getByRole('button', { name: 'Mark all as read' }).focus();
    await keyboard.press('Enter');
    await says(person, 'Nothing unread.');
    // The button is gone, and the next stop is the list.
    await keyboard.press('Tab');
    assert.match(await focused(), /cara/);
    await keyboard.press('Enter');
    await person.sees('I am cara');
    await keyboard.type('By hand');
    await keyboard.press('Enter');
    await person.page.locator('[data-delivery=sent]', { hasText: 'By hand' }).waitFor();
  });
});

describe('an account', () => {
  test('is signed in to with a token, and out of again', async () => {
    const guest = await Person.enter(browser, server, 'general', 'Ada');
    people.push(guest);
    const { page } = guest;
    await page.getByRole('link', { name: 'Inbox' }).click();
    await inbox(guest)
      .getByText(/You are a guest here/)
      .waitFor();
    await inbox(guest).getByRole('button', { name: 'Sign in' }).click();
    const dialog = page.getByRole('dialog', { name: 'You' });
    await dialog.getByLabel(/^Token/).fill(await server.token('signed-in'));
    await dialog.getByRole('button', { name: 'Sign in' }).click();
    await inbox(guest).getByText('Nobody has written to you.').waitFor();
    await inbox(guest)
      .getByText(/You are a guest here/)
      .waitFor({ state: 'detached' });
    await page.getByRole('button', { name: /^You:/ }).click();
    await dialog.getByText('Signed in as signed-in.').waitFor();
    await dialog.getByRole('button', { name: 'Sign out' }).click();
    await inbox(guest)
      .getByText(/You are a guest here/)
      .waitFor();
    assert.equal(await page.evaluate(() => localStorage.getItem('clarion.token')), '""');
  });

  test('with a token that is not good says so, and can be left', async () => {
    const guest = await Person.enter(browser, server, 'general', 'Ada');
    people.push(guest);
    const { page } = guest;
    await page.getByRole('button', { name: /^You:/ }).click();
    const dialog = page.getByRole('dialog', { name: 'You' });
    await dialog.getByLabel(/^Token/).fill('not a token');
    await dialog.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText(/Your sign-in is not valid any more/).waitFor();
    await page.getByRole('button', { name: /^You:/ }).click();
    await dialog.getByRole('button', { name: 'Sign out' }).click();
    await guest.joined('general');
  });
});
