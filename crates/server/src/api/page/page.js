// The page to try the HTTP API: reads /openapi.json and makes a form of each operation.
//
// The key is in the variable below and nowhere else: not in an address, a cookie or a storage. What
// comes from the server is put in as text, never as markup.
'use strict';

let key = '';

const id = (name) => document.getElementById(name);

/** An element with properties and what is in it. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function call(method, path, body) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  return fetch(path, { method, headers, body, cache: 'no-store', redirect: 'error' });
}

id('open').addEventListener('submit', async (event) => {
  event.preventDefault();
  key = id('key').value.trim();
  id('operations').replaceChildren();
  try {
    const response = await call('GET', '/openapi.json');
    const answer = await response.json();
    if (response.status === 401) throw new Error('that is not the API key of this server.');
    if (!response.ok) throw new Error(answer.detail);
    id('operations').append(...operations(answer));
    id('said').textContent = `Clarion ${answer.info.version}`;
  } catch (error) {
    id('said').textContent = `That did not work: ${error.message}`;
  }
});

function operations(spec) {
  const all = Object.entries(spec.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
  );
  return spec.tags.flatMap((tag) => [
    element('h2', { textContent: tag.description.replace(/\.$/, '') }),
    ...all
      .filter(({ operation }) => operation.tags?.includes(tag.name))
      .map((it) => shown(spec, it)),
  ]);
}

function shown(spec, { method, path, operation }) {
  const form = element('form');
  if (operation.description) form.append(element('p', { textContent: operation.description }));
  const inputs = (operation.parameters ?? []).map((parameter) => {
    const input = element('input', {
      id: `${operation.operationId}-${parameter.name}`,
      name: parameter.name,
      required: parameter.required,
      autocomplete: 'off',
      title: parameter.description ?? '',
    });
    form.append(element('label', { htmlFor: input.id, textContent: parameter.name }), input);
    return input;
  });
  const schema = operation.requestBody?.content['application/json']?.schema;
  const body = schema && element('textarea', { id: `${operation.operationId}-body`, rows: 8 });
  if (body) {
    body.value = JSON.stringify(example(spec, schema), null, 2);
    const label = { htmlFor: body.id, textContent: 'Body', className: 'wide' };
    form.append(element('label', label), body);
  }
  const output = element('pre', { hidden: true, tabIndex: 0 });
  output.setAttribute('role', 'status');
  form.append(element('button', { textContent: 'Send' }));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const given = inputs.filter((input) => input.value !== '');
    const query = new URLSearchParams(given.map((input) => [input.name, input.value])).toString();
    output.hidden = false;
    output.textContent = '…';
    output.textContent = await answer(method, query ? `${path}?${query}` : path, body?.value);
  });
  const title = element('code', { textContent: `${method.toUpperCase()} ${path}` });
  return element('details', {}, element('summary', {}, title, ` ${operation.summary}`), form, output);
}

/** What the server says, to read. */
async function answer(method, path, body) {
  try {
    const response = await call(method.toUpperCase(), path, body);
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    const shown = isJson ? JSON.stringify(JSON.parse(text), null, 2) : text;
    return `${response.status} ${response.statusText}\n\n${shown}`;
  } catch (error) {
    return `No answer: ${error.message}`;
  }
}

/** The smallest value that a schema describes. */
function example(spec, schema) {
  const known = schema.$ref ? spec.components.schemas[schema.$ref.split('/').pop()] : schema;
  if (known.oneOf) return example(spec, known.oneOf[0]);
  const kind = Array.isArray(known.type) ? known.type[0] : known.type;
  if (kind === 'array') return [example(spec, known.items)];
  if (kind === 'object') {
    const members = Object.entries(known.properties ?? {});
    const wanted = members.filter(([name]) => known.required?.includes(name) || name === 'payload');
    return Object.fromEntries(wanted.map(([name, inner]) => [name, example(spec, inner)]));
  }
  if (kind === 'integer' || kind === 'number') return known.minimum ?? 0;
  if (kind === 'boolean') return false;
  if (kind === 'string') return 'example';
  return {};
}
