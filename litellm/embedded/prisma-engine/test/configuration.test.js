'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { parseDatabaseUrl } = require('../src/database-url.js');
const { readDatamodel } = require('../src/datamodel.js');
const { StartError } = require('../src/errors.js');
const { hideInLog, redact } = require('../src/log.js');
const { readOptions } = require('../src/options.js');
const { SCHEMA, litellmSchema } = require('./support.js');

const base64 = (text) => Buffer.from(text).toString('base64');
const URL_TEXT = 'postgresql://me:secret@db:5433/shop';
const ENV = { PRISMA_DML: base64(SCHEMA), SHOP_DATABASE_URL: URL_TEXT };
const refusal = (pattern) => (error) =>
  error instanceof StartError && pattern.test(error.message) && !error.message.includes('\n');

test('the datamodel: fields, lists, views, comments, the url', () => {
  const { models, urlVariable } = readDatamodel(`${SCHEMA}\nview Totals {\n  sum BigInt\n}`);
  assert.deepStrictEqual([...models.keys()], ['Customer', 'Order', 'Totals']);
  assert.deepStrictEqual(models.get('Customer').get('orders'), { type: 'Order', list: true });
  assert.deepStrictEqual(models.get('Customer').get('settings'), { type: 'Json', list: false });
  assert.strictEqual(models.get('Customer').has('unique'), false);
  assert.strictEqual(urlVariable, 'SHOP_DATABASE_URL');
  assert.strictEqual(
    readDatamodel('datasource d {\n url = "postgresql://x"\n}\nmodel A {\n id Int @id\n}').url,
    'postgresql://x',
  );
});

test('a datamodel without models is refused', () => {
  assert.throws(() => readDatamodel('generator client {\n}'), refusal(/has no model/));
});

test(
  "LiteLLM's schema is read whole",
  { skip: litellmSchema() === undefined && 'no virtual environment beside the checkout' },
  () => {
    const schema = litellmSchema();
    const { models, urlVariable } = readDatamodel(schema);
    assert.strictEqual(models.size, schema.match(/^model /gm).length);
    assert.strictEqual(urlVariable, 'DATABASE_URL');
    assert.deepStrictEqual(models.get('LiteLLM_VerificationToken').get('metadata').type, 'Json');
    assert.deepStrictEqual(models.get('LiteLLM_BudgetTable').get('keys'), {
      type: 'LiteLLM_VerificationToken',
      list: true,
    });
    assert.ok([...models.values()].every((fields) => fields.size > 0));
  },
);

test('arguments and environment as prisma-client-py gives them', () => {
  const options = readOptions(['-p', '4321', '--enable-metrics', '--enable-raw-queries'], ENV);
  assert.deepStrictEqual([options.host, options.port, options.databaseUrl], ['127.0.0.1', 4321, URL_TEXT]);
  assert.deepStrictEqual(readOptions(['--port=1', '--host=::1'], ENV).host, '::1');
});

test('the datamodel comes from a file too', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'prisma-engine-'));
  try {
    const file = path.join(folder, 'schema.prisma');
    fs.writeFileSync(file, SCHEMA);
    assert.strictEqual(readOptions([], { ...ENV, PRISMA_DML: '', PRISMA_DML_PATH: file }).datamodel.text, SCHEMA);
    assert.strictEqual(readOptions(['--datamodel-path', file], { ...ENV, PRISMA_DML: '' }).datamodel.text, SCHEMA);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('OVERWRITE_DATASOURCES, plain or base64, comes before the variable', () => {
  const overwrite = JSON.stringify([{ name: 'db', url: 'postgresql://replica/shop' }]);
  for (const value of [overwrite, base64(overwrite)]) {
    assert.strictEqual(
      readOptions([], { ...ENV, OVERWRITE_DATASOURCES: value }).databaseUrl,
      'postgresql://replica/shop',
    );
  }
});

for (const [argv, env, message] of [
  [[], { PRISMA_DML: ENV.PRISMA_DML }, /no SHOP_DATABASE_URL: set it to/],
  [[], { SHOP_DATABASE_URL: URL_TEXT }, /no datamodel: set PRISMA_DML_PATH/],
  [
    ['--datamodel-path', path.join(__dirname, 'nowhere.prisma')],
    { SHOP_DATABASE_URL: URL_TEXT },
    /nowhere.prisma cannot be read \(ENOENT\)/,
  ],
  [['-p', 'http'], ENV, /--port http: give a number/],
  [['-p', '70000'], ENV, /--port 70000/],
  [['-p'], ENV, /-p needs a value/],
  [['--engine-protocol', 'json'], ENV, /unknown argument --engine-protocol/],
  [[], { ...ENV, OVERWRITE_DATASOURCES: 'x' }, /neither JSON nor base64/],
]) {
  test(`refused at the start: ${argv.join(' ')} ${Object.keys(env).join(' ')}`, () =>
    assert.throws(() => readOptions(argv, env), refusal(message)));
}

test('a plain database URL', () => {
  const { pool, schema } = parseDatabaseUrl('postgresql://me:p%40ss%2F%25@db.example:5433/shop');
  const { host, port, user, password, database, max, ssl } = pool;
  assert.deepStrictEqual(
    { host, port, user, password, database },
    { host: 'db.example', port: 5433, user: 'me', password: 'p@ss/%', database: 'shop' },
  );
  assert.deepStrictEqual([max, ssl, schema], [10, undefined, undefined]);
  assert.match(pool.options, /timezone=UTC/);
});

test('parameters of the database URL', () => {
  const parse = (query) => parseDatabaseUrl(`postgres://me@db/shop?${query}`);
  assert.strictEqual(parse('connection_limit=3').pool.max, 3);
  assert.strictEqual(parse('pool_timeout=60').pool.connectionTimeoutMillis, 60_000);
  assert.strictEqual(parse('pool_timeout=0').pool.connectionTimeoutMillis, 0);
  assert.strictEqual(parse('socket_timeout=7').pool.query_timeout, 7_000);
  assert.strictEqual(parse('host=/run/postgresql').pool.host, '/run/postgresql');
  assert.strictEqual(parse('schema=my%20shop').schema, 'my shop');
  assert.match(parse('schema=my%20shop').pool.options, / -c search_path="my\\ shop"$/);
  assert.match(parse('options=-c%20statement_timeout%3D5').pool.options, / -c statement_timeout=5$/);
  assert.deepStrictEqual(parse('sslmode=require').pool.ssl, { rejectUnauthorized: false });
  assert.deepStrictEqual(parse('sslmode=verify-full').pool.ssl, { rejectUnauthorized: true });
  assert.deepStrictEqual(parse('sslmode=require&sslaccept=strict').pool.ssl, { rejectUnauthorized: true });
  assert.strictEqual(parse('pgbouncer=true&statement_cache_size=0').pool.host, 'db');
  assert.strictEqual(parseDatabaseUrl('postgresql://me@[::1]:1/shop').pool.host, '::1');
});

for (const [url, message] of [
  ['not a url', /is not a URL/],
  ['postgresql://me:se#cret@db/shop', /is not a URL/],
  ['mysql://me:secret@db/shop', /starts with mysql:\/\//],
  ['postgresql://me:secret@db', /names no database/],
  ['postgresql://me:100%secret@db/shop', /write a % itself as %25/],
  ['postgresql://me:secret@db/shop?connection_limit=many', /connection_limit=many: it must be a whole number/],
  [
    'postgresql://me:secret@db/shop?sslmode=require&sslcert=/nowhere.pem',
    /sslcert=\/nowhere.pem, which cannot be read/,
  ],
]) {
  test(`a bad database URL: ${url}`, () => {
    assert.throws(
      () => parseDatabaseUrl(url),
      (error) => refusal(message)(error) && !error.message.includes('cret'),
    );
  });
}

test('the log shows no password, in either spelling, and stays on one line', () => {
  hideInLog('p@ss/w');
  assert.strictEqual(redact('postgresql://me:p%40ss%2Fw@db\n p@ss/w'), 'postgresql://me:***@db ***');
});
