'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { graphqlAnswer } = require('../src/answers.js');
const { acceptedType } = require('../src/column-types.js');
const { describeDriverError, resolveExternalError } = require('../src/driver-errors.js');
const { metricsAsJson, metricsAsText } = require('../src/metrics.js');
const { rawRows } = require('../src/raw-rows.js');

const SERVER = 'db:5432';

test('an answer takes the alias and loses its type tags', () => {
  const data = {
    findManyOrder: [
      {
        at: { $type: 'DateTime', value: '2026-01-01T00:00:00.000Z' },
        data: { $type: 'Json', value: '{"$type":"x"}' },
        n: null,
        tags: ['a'],
      },
    ],
  };
  assert.deepStrictEqual(graphqlAnswer({ data }, 'result'), {
    data: { result: [{ at: '2026-01-01T00:00:00.000Z', data: '{"$type":"x"}', n: null, tags: ['a'] }] },
  });
});

test('nothing found, counts and errors pass', () => {
  assert.deepStrictEqual(graphqlAnswer({ data: { findUniqueOrder: null } }, 'result'), { data: { result: null } });
  assert.deepStrictEqual(graphqlAnswer({ data: { executeRaw: 3 } }, 'result'), { data: { result: 3 } });
  assert.deepStrictEqual(graphqlAnswer({ errors: [1] }, 'result'), { errors: [1] });
});

test('raw rows: each cell has its type, also in lists; null is a type of its own', () => {
  const table = {
    columns: ['n', 'l', 'x', 'j'],
    types: ['bigint', 'string-array', 'int', 'json'],
    rows: [['1', ['a', null], null, { a: [1] }]],
  };
  assert.deepStrictEqual(rawRows(table), [
    {
      n: { prisma__type: 'bigint', prisma__value: '1' },
      l: {
        prisma__type: 'array',
        prisma__value: [
          { prisma__type: 'string', prisma__value: 'a' },
          { prisma__type: 'null', prisma__value: null },
        ],
      },
      x: { prisma__type: 'null', prisma__value: null },
      j: { prisma__type: 'json', prisma__value: { a: [1] } },
    },
  ]);
  assert.deepStrictEqual(rawRows({ columns: [], types: [], rows: [] }), []);
});

test('column types: known ones stay, others become text or lists', () => {
  assert.strictEqual(acceptedType(23), 23);
  assert.strictEqual(acceptedType(19), 25, 'name');
  assert.strictEqual(acceptedType(2278), 25, 'void');
  assert.strictEqual(acceptedType(1003), 1009, 'name[]');
  assert.strictEqual(acceptedType(1185), 1115, 'timestamptz[]');
  assert.strictEqual(acceptedType(16400), 16400, "a user's enum");
});

for (const [error, code, message] of [
  [
    Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }),
    'P1001',
    /^Can't reach database server at `db:5432`/,
  ],
  [Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' }), 'P1001', /ECONNREFUSED/],
  [new Error('Connection terminated unexpectedly'), 'P1001', /^Can't reach database server/],
  [
    Object.assign(new Error('terminating connection due to administrator command'), { code: '57P01' }),
    'P1001',
    /^Can't reach/,
  ],
  [Object.assign(new Error('the database system is starting up'), { code: '57P03' }), 'P1001', /^Can't reach/],
  [new Error('timeout exceeded when trying to connect'), 'P2024', /^Timed out fetching a new connection/],
  [new Error('Query read timeout'), 'P1008', /^Operations timed out/],
  [Object.assign(new Error('too many clients already'), { code: '53300' }), 'P2010', /53300.*too many clients already/],
  ['odd', 'P2010', /odd/],
]) {
  test(`the driver's error ${error} is ${code}`, () => {
    const { user_facing_error: described } = describeDriverError(error, SERVER);
    assert.strictEqual(described.error_code, code);
    assert.match(described.message, message);
  });
}

test('an external error is looked up once and then forgotten', () => {
  const registry = {
    registeredErrors: [{ error: new Error('Connection terminated') }],
    consumeError(id) {
      return this.registeredErrors[id];
    },
  };
  const external = {
    error: 'x',
    user_facing_error: { is_panic: false, message: 'x', meta: { id: 0 }, error_code: 'P2036' },
  };
  assert.strictEqual(resolveExternalError(external, registry, SERVER).user_facing_error.error_code, 'P1001');
  assert.strictEqual(registry.registeredErrors[0], undefined);
  assert.strictEqual(resolveExternalError(external, registry, SERVER).user_facing_error.error_code, 'P2036');
});

test('an error never has a null meta, on which the client would fail', () => {
  const item = { error: 'x', user_facing_error: { is_panic: false, message: 'x', meta: null, error_code: 'P2002' } };
  assert.deepStrictEqual(resolveExternalError(item, undefined, SERVER).user_facing_error.meta, {});
});

test('metrics in both forms', () => {
  const figures = { queries: 7, active: 1, open: 3, idle: 2, busy: 1, waiting: 0 };
  assert.deepStrictEqual(metricsAsJson(figures, { a: 'b' }).counters[0], {
    key: 'prisma_client_queries_total',
    value: 7,
    labels: { a: 'b' },
    description: 'Total number of Prisma Client queries executed',
  });
  assert.match(metricsAsText(figures, { a: 'b' }), /^prisma_pool_connections_open\{a="b"\} 3$/m);
});
