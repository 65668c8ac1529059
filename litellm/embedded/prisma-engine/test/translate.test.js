'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { readDatamodel } = require('../src/datamodel.js');
const { RequestError } = require('../src/errors.js');
const { Translator } = require('../src/translate.js');
const { SCHEMA } = require('./support.js');

const translator = new Translator(readDatamodel(SCHEMA));
const translate = (query) => translator.translate({ query, variables: {} });
const argsOf = (query) => translate(query).request.query.arguments;
const json = (value) => ({ $type: 'Json', value });

test('the operation is split into action and model; the alias is kept for the answer', () => {
  const cases = {
    findUniqueCustomer: ['findUnique', 'Customer'],
    findUniqueCustomerOrThrow: ['findUniqueOrThrow', 'Customer'],
    findFirstOrderOrThrow: ['findFirstOrThrow', 'Order'],
    createManyOrder: ['createMany', 'Order'],
    upsertOneOrder: ['upsertOne', 'Order'],
    groupByOrder: ['groupBy', 'Order'],
  };
  for (const [name, [action, modelName]] of Object.entries(cases)) {
    const { alias, request } = translate(`{ result: ${name} { id } }`);
    assert.deepStrictEqual([alias, request.action, request.modelName], ['result', action, modelName]);
  }
});

test('raw queries pass their SQL and parameters through', () => {
  const { request } = translate(String.raw`mutation { result: queryRaw(query: "select $1", parameters: "[\"a\"]") }`);
  assert.deepStrictEqual(request, {
    action: 'queryRaw',
    query: { arguments: { query: 'select $1', parameters: '["a"]' }, selection: {} },
  });
});

test('selections: scalars, relations with arguments, aggregates', () => {
  const { selection } = translate(
    '{ r: findManyCustomer { id orders(where: {data: {equals: "1"}}, take: 2) { number } _count { _all } } }',
  ).request.query;
  assert.deepStrictEqual(selection, {
    id: true,
    orders: { arguments: { where: { data: { equals: json('1') } }, take: 2 }, selection: { number: true } },
    _count: { arguments: {}, selection: { _all: true } },
  });
});

test('values of Json fields are tagged, strings of other fields are not', () => {
  const { data } = argsOf(
    String.raw`mutation { r: createOneCustomer(data: {email: "{}", settings: "{\"a\":1}", tags: ["x"], level: GOLD}) { id } }`,
  );
  assert.deepStrictEqual(data, { email: '{}', settings: json('{"a":1}'), tags: ['x'], level: 'GOLD' });
});

test('the nulls of Json fields', () => {
  assert.deepStrictEqual(argsOf('{ r: findManyCustomer(where: {settings: {equals: DbNull}}) { id } }').where, {
    settings: { equals: { $type: 'Enum', value: 'DbNull' } },
  });
  assert.deepStrictEqual(argsOf('{ r: findManyCustomer(where: {settings: null}) { id } }').where, { settings: null });
});

test('Json filters: the path and the text conditions are no JSON', () => {
  const { where } = argsOf(
    '{ r: findManyOrder(where: {data: {path: ["a"], equals: "1", not: "2", string_contains: "x", array_contains: "[3]"}}) {number}}',
  );
  assert.deepStrictEqual(where.data, {
    path: ['a'],
    equals: json('1'),
    not: json('2'),
    string_contains: 'x',
    array_contains: json('[3]'),
  });
});

test('Json fields are found inside AND, OR, NOT, relation filters and compound keys', () => {
  const condition = '{data: {equals: "1"}}';
  const translated = { data: { equals: json('1') } };
  assert.deepStrictEqual(
    argsOf(`{ r: findManyOrder(where: {OR: [${condition}], NOT: ${condition}}) { number } }`).where,
    { OR: [translated], NOT: translated },
  );
  assert.deepStrictEqual(argsOf(`{ r: findManyCustomer(where: {orders: {some: ${condition}}}) { id } }`).where, {
    orders: { some: translated },
  });
  const shorthand = argsOf('{ r: findManyOrder(where: {customer: {settings: {equals: "1"}}}) { number } }').where;
  assert.deepStrictEqual(shorthand, { customer: { settings: { equals: json('1') } } });
  const compound = argsOf('{ r: findUniqueCustomer(where: {email_level: {email: "a", level: GOLD}}) { id } }').where;
  assert.deepStrictEqual(compound, { email_level: { email: 'a', level: 'GOLD' } });
});

test('nested writes: every operation reaches the data in it', () => {
  const order = '{number: 1, data: "2"}';
  const translated = { number: 1, data: json('2') };
  const cases = [
    [`{create: ${order}}`, { create: translated }],
    [`{create: [${order}]}`, { create: [translated] }],
    [
      `{createMany: {data: [${order}], skipDuplicates: true}}`,
      { createMany: { data: [translated], skipDuplicates: true } },
    ],
    ['{connect: [{number: 1}]}', { connect: [{ number: 1 }] }],
    [
      `{connectOrCreate: {where: {number: 1}, create: ${order}}}`,
      { connectOrCreate: { where: { number: 1 }, create: translated } },
    ],
    [
      '{updateMany: {where: {data: {equals: "1"}}, data: {data: "2"}}}',
      { updateMany: { where: { data: { equals: json('1') } }, data: { data: json('2') } } },
    ],
    [
      `{upsert: {where: {number: 1}, create: ${order}, update: {data: "3"}}}`,
      { upsert: { where: { number: 1 }, create: translated, update: { data: json('3') } } },
    ],
    ['{disconnect: true}', { disconnect: true }],
    ['{deleteMany: [{data: {equals: "1"}}]}', { deleteMany: [{ data: { equals: json('1') } }] }],
  ];
  for (const [written, expected] of cases) {
    assert.deepStrictEqual(
      argsOf(`mutation { r: updateOneCustomer(data: {orders: ${written}}) { id } }`).data.orders,
      expected,
    );
  }
});

test('update of a relation to one record: the data alone or beside a filter', () => {
  const update = (text) =>
    argsOf(`mutation { r: updateOneOrder(data: {customer: {update: ${text}}}) { number } }`).data.customer.update;
  assert.deepStrictEqual(update('{settings: "1"}'), { settings: json('1') });
  assert.deepStrictEqual(update('{where: {id: 1}, data: {settings: "1"}}'), {
    where: { id: 1 },
    data: { settings: json('1') },
  });
});

test('a related model with a field named data: update takes the data alone', () => {
  const { data } = argsOf('mutation { r: updateOneCustomer(data: {orders: {update: {data: "1"}}}) { id } }');
  assert.deepStrictEqual(data.orders.update, { data: json('1') });
});

test('large integers go by the type of their field', () => {
  const { data } = argsOf(
    'mutation { r: createOneCustomer(data: {visits: 9007199254740993, score: 9007199254740993, balance: 9007199254740993}) {id}}',
  );
  assert.deepStrictEqual(data, {
    visits: { $type: 'BigInt', value: '9007199254740993' },
    score: 9007199254740992,
    balance: '9007199254740993',
  });
});

test('unknown fields reach the engine, which names them', () => {
  assert.deepStrictEqual(argsOf('mutation { r: createOneCustomer(data: {nope: {a: 1}}) { id } }').data, {
    nope: { a: 1 },
  });
});

for (const [request, message] of [
  [{}, /no "query"/],
  [null, /no "query"/],
  [{ query: '{ findManyOrder { number } }', variables: { a: 1 } }, /variables are not supported/],
  [
    { query: '{ a: findManyOrder { number } b: findManyOrder { number } }' },
    /one root field a query is supported, 2 were sent/,
  ],
  [{ query: '{ findManyNothing { id } }' }, /unknown operation findManyNothing/],
  [{ query: '{ findManyOrder { n: number } }' }, /alias n is below the root/],
]) {
  test(`refused: ${JSON.stringify(request)}`, () => {
    assert.throws(
      () => translator.translate(request),
      (error) => error instanceof RequestError && message.test(error.message),
    );
  });
}
