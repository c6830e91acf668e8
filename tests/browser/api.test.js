import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { launch, Person, PHONE } from './support/people.js';
import { Server } from './support/server.js';

/** The page to try the HTTP API, at `/api`. */
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
});

async function open(key, options) {
  const ops = await Person.visit(browser, `${server.url}/api`, options);
  await ops.page.getByLabel('API key').fill(key);
  await ops.page.getByRole('button', { name: 'Open' }).click();
  return ops;
}

test('whoever has the key publishes and reads', async () => {
  const ops = await open(server.apiKey);
  await ops.page.getByText('POST /v1/publish', { exact: true }).click();
  const publish = ops.page.locator('details[open]');
  const body = { type: 'm', payload: '<b>bold</b>', metadata: { room: 'tried' } };
  await publish.getByLabel('Body').fill(JSON.stringify(body));
  await publish.getByRole('button', { name: 'Send' }).click();
  await publish.getByText('"offset": 1').waitFor();
  await ops.page.getByText('POST /v1/publish', { exact: true }).click();
  await ops.page.getByText('GET /v1/history', { exact: true }).click();
  const history = ops.page.locator('details[open]');
  await history.getByLabel('room').fill('tried');
  await history.getByRole('button', { name: 'Send' }).click();
  await history.getByText('<b>bold</b>').waitFor();
  assert.equal(await ops.page.locator('b').count(), 0);
  // The key is nowhere but in the field and in the requests.
  assert.equal(ops.page.url(), `${server.url}/api`);
  const kept = await ops.page.evaluate(() =>
    JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
  );
  assert.ok(!kept.includes(server.apiKey));
  assert.deepEqual(ops.complaints, []);
  await ops.leave();
});

test('whoever has another key is told', async () => {
  const ops = await open('another-key');
  await ops.page.getByText('That did not work').waitFor();
  assert.equal(await ops.page.locator('details').count(), 0);
  await ops.leave();
});

for (const colorScheme of ['light', 'dark']) {
  test(`it can be used with a phone, ${colorScheme}`, async () => {
    const ops = await open(server.apiKey, { ...PHONE, colorScheme });
    await ops.page.getByText('POST /v1/publish/many').click();
    const width = await ops.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= PHONE.viewport.width, `it is ${width} px wide`);
    // The policy of the page forbids inline scripts; evaluated ones come in beside it.
    await ops.page.evaluate(axe);
    const { violations } = await ops.page.evaluate(() => window.axe.run());
    assert.deepEqual(
      violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
      [],
    );
    await ops.leave();
  });
}
