'use strict';

const assert = require('node:assert');
const http = require('node:http');
const { after, before, test } = require('node:test');
const { EnginePanic } = require('../src/engine.js');
const { RequestError } = require('../src/errors.js');
const { createServer } = require('../src/server.js');

/** Records what it was asked, and does what the test tells it. */
class FakeEngine {
  constructor() {
    this.calls = [];
    this.act = () => ({ data: { result: 1 } });
  }

  async request(...args) {
    this.calls.push(args);
    return this.act();
  }

  async startTransaction(settings) {
    return { id: 'tx1', settings };
  }

  async finishTransaction(id, how) {
    return { id, how };
  }

  metrics() {
    return { queries: 1, active: 0, open: 0, idle: 0, busy: 0, waiting: 0 };
  }
}

const engine = new FakeEngine();
const panics = [];
let server;
let port;

before(async () => {
  server = createServer(engine, { onPanic: (panic) => panics.push(panic), maxBodyBytes: 1000 });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = server.address().port;
});
after(() => {
  server.close();
  server.closeAllConnections();
});

function send(method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, method, path, headers, agent: false, timeout: 10_000 }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      const isJson = response.headers['content-type'] === 'application/json';
      resolve({ status: response.statusCode, body: isJson ? JSON.parse(text) : text });
    });
    request.on('error', reject);
    request.end(body);
  });
}

test('a query is passed on with its transaction', async () => {
  const { status, body } = await send('POST', '/', '{"query":"{a}"}', { 'x-transaction-id': 'tx1' });
  assert.deepStrictEqual(
    [status, body, engine.calls.at(-1)],
    [200, { data: { result: 1 } }, [{ query: '{a}' }, 'tx1']],
  );
});

test('transactions, status, metrics', async () => {
  assert.deepStrictEqual((await send('POST', '/transaction/start', '{"timeout": 1}')).body, {
    id: 'tx1',
    settings: { timeout: 1 },
  });
  assert.deepStrictEqual((await send('POST', '/transaction/tx1/rollback')).body, { id: 'tx1', how: 'rollback' });
  assert.deepStrictEqual((await send('GET', '/status')).body, { status: 'ok' });
  assert.match((await send('GET', '/metrics?format=prometheus')).body, /^prisma_client_queries_total 1$/m);
  assert.strictEqual(
    (await send('GET', '/metrics?format=json', '{"a":"b"}', { 'content-length': '9' })).body.counters[0].labels.a,
    'b',
  );
});

test('what is malformed is answered as an error of the query', async () => {
  for (const body of ['', '{', '\u0000'])
    assert.strictEqual((await send('POST', '/', body)).body.errors[0].user_facing_error.error_code, 'P2009');
  engine.act = () => {
    throw new RequestError('no such thing');
  };
  assert.strictEqual((await send('POST', '/', '{}')).body.errors[0].error, 'no such thing');
});

test('an unforeseen error is answered and the server goes on', async () => {
  engine.act = () => {
    throw new TypeError('oops');
  };
  const { status, body } = await send('POST', '/', '{}');
  assert.deepStrictEqual([status, body.errors[0].user_facing_error.message], [200, 'the query engine failed: oops']);
  engine.act = () => ({ data: {} });
  assert.deepStrictEqual((await send('POST', '/', '{}')).body, { data: {} });
});

test('a panic is answered, then reported', async () => {
  engine.act = () => {
    throw new EnginePanic(new WebAssembly.RuntimeError('unreachable'));
  };
  assert.match((await send('POST', '/', '{}')).body.errors[0].error, /panicked: unreachable/);
  assert.strictEqual(panics.length, 1);
});

test('a body over the limit is refused, with and without a length, and the next request is served', async () => {
  const large = JSON.stringify({ query: 'x'.repeat(1000) });
  for (const headers of [{}, { 'transfer-encoding': 'chunked' }])
    assert.strictEqual((await send('POST', '/', large, headers)).status, 413);
  assert.strictEqual((await send('GET', '/status')).status, 200);
});

test('web pages and unknown routes are refused', async () => {
  assert.strictEqual((await send('POST', '/', '{}', { origin: 'http://evil.example' })).status, 403);
  for (const [method, path] of [
    ['GET', '/'],
    ['POST', '/status'],
    ['POST', '/transaction/x/steal'],
    ['GET', '//'],
  ]) {
    assert.strictEqual((await send(method, path)).status, 404, path);
  }
});

test('a client that hangs up in the middle of its body harms nobody', async () => {
  await new Promise((resolve) => {
    const request = http.request({
      port,
      method: 'POST',
      path: '/',
      headers: { 'content-length': '100' },
      agent: false,
    });
    request.on('error', resolve);
    request.write('half', () => request.destroy(new Error('hung up')));
  });
  assert.strictEqual((await send('GET', '/status')).status, 200);
});
