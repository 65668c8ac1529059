'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { EnumValue, MAX_DEPTH, parseOperation } = require('../src/graphql.js');
const { RequestError } = require('../src/errors.js');

/** The value of the one argument of a query. */
const value = (text) => parseOperation(`query { result: f(v: ${text}) }`).fields[0].args.v;
const plain = (parsed) => JSON.parse(JSON.stringify(parsed));

test('a query as prisma-client-py renders it', () => {
  const { operation, fields } = parseOperation(`query {
  result: findManyUser
  (
    take: 5
    where: {
      AND: [{
          email: "a@b.c"
        },
{
          age: { gte: 3 }
        }]
    }
  )
  {
    id
    posts(
      take: 1
    )
    {
      title
    }
  }
}`);
  assert.strictEqual(operation, 'query');
  assert.deepStrictEqual(plain(fields), [
    {
      alias: 'result',
      name: 'findManyUser',
      args: { take: 5, where: { AND: [{ email: 'a@b.c' }, { age: { gte: 3 } }] } },
      selection: [
        { alias: 'id', name: 'id', args: {} },
        { alias: 'posts', name: 'posts', args: { take: 1 }, selection: [{ alias: 'title', name: 'title', args: {} }] },
      ],
    },
  ]);
});

test('a bare selection, a named operation, several root fields, comments and commas', () => {
  assert.strictEqual(parseOperation('{ a }').operation, 'query');
  assert.strictEqual(parseOperation('\ufeffmutation Name {a,,b # c }\n d}').fields.length, 3);
});

test('strings: each escape, both spellings of Unicode, raw characters', () => {
  assert.strictEqual(value(String.raw`"\"\\\/\b\f\n\r\t"`), '"\\/\b\f\n\r\t');
  assert.strictEqual(value(String.raw`"\u00e9 \uD83D\uDE00 \u{1f600} \u{e9}"`), 'é 😀 😀 é');
  assert.strictEqual(value('"é\u2028\u2029😀\t\uffff"'), 'é\u2028\u2029😀\t\uffff');
  assert.strictEqual(value('""'), '');
  assert.strictEqual(value(String.raw`"ends in a backslash\\"`), 'ends in a backslash\\');
  assert.strictEqual(value('"# no, { comment"'), '# no, { comment');
});

test('what Python writes as JSON comes back as it was', () => {
  const text = Array.from({ length: 0xd800 }, (_, i) => String.fromCharCode(i)).join('') + '😀𐍈';
  assert.strictEqual(value(JSON.stringify(text)), text);
});

test('strings of megabytes do not overflow a stack', () => {
  const text = 'a\\"'.repeat(2_000_000);
  assert.strictEqual(value(JSON.stringify(text)).length, text.length);
  assert.strictEqual(parseOperation(`${' '.repeat(5_000_000)}{a}`).fields.length, 1);
});

test('block strings lose their common indentation and blank ends', () => {
  assert.strictEqual(value('"""\n    Hello,\n      World!\n\n    Yours\n  """'), 'Hello,\n  World!\n\nYours');
  assert.strictEqual(value('"""one \\""" two \\n"""'), 'one """ two \\n');
  assert.strictEqual(value('"""\\""""""'), '"""');
  assert.strictEqual(value('""""""'), '');
});

test('numbers: integers beyond 2^53 keep every digit', () => {
  assert.strictEqual(value('0'), 0);
  assert.strictEqual(value('-12'), -12);
  assert.strictEqual(value('1.5e3'), 1500);
  assert.strictEqual(value('1E-2'), 0.01);
  assert.strictEqual(value('9007199254740991'), 9007199254740991);
  assert.strictEqual(value('9007199254740993'), 9007199254740993n);
  assert.strictEqual(value('-9223372036854775808'), -9223372036854775808n);
});

test('words: booleans, null, enum values; their spellings as keys', () => {
  assert.deepStrictEqual([value('true'), value('false'), value('null')], [true, false, null]);
  assert.deepStrictEqual(value('GOLD'), new EnumValue('GOLD'));
  assert.deepStrictEqual(value('constructor'), new EnumValue('constructor'));
  assert.deepStrictEqual(plain(value('{null: 1, true: 2}')), { null: 1, true: 2 });
});

test('empty objects and lists; keys that JavaScript treats specially', () => {
  assert.deepStrictEqual(plain(value('{}')), {});
  assert.deepStrictEqual(value('[]'), []);
  assert.deepStrictEqual(Object.keys(value('{__proto__: {polluted: 1}, constructor: 2}')), [
    '__proto__',
    'constructor',
  ]);
  assert.strictEqual({}.polluted, undefined);
});

test('nesting is taken to the limit and refused beyond', () => {
  const nested = (depth) => value('['.repeat(depth) + ']'.repeat(depth));
  assert.ok(nested(MAX_DEPTH - 2)); // the selection and the arguments are two levels
  assert.throws(() => nested(MAX_DEPTH - 1), /nested deeper than 128 levels/);
  assert.throws(() => nested(1_000_000), RequestError);
});

for (const [source, message] of [
  ['', /unexpected end/],
  ['   ', /unexpected end/],
  ['{', /\{ is never closed/],
  ['{ }', /must name a field/],
  ['{ a', /\{ is never closed/],
  ['{ a } }', /expected one operation/],
  ['{ a } { b }', /expected one operation/],
  ['subscription { a }', /expected query or mutation, found subscription/],
  ['query q($id: Int) { a }', /variables are not supported/],
  ['{ a(x: $id) }', /variables are not supported/],
  ['{ ...f }', /fragments are not supported/],
  ['{ a @skip(if: true) }', /directives are not supported/],
  ['{ a(x: 1, x: 2) }', /argument x is given twice/],
  ['{ a(x: {k: 1, k: 2}) }', /key k is given twice/],
  ['{ a(x 1) }', /expected :, found 1/],
  ['{ a(x: [1 }', /expected a name, found "}"/],
  ['{ a(x: "open) }', /string is never closed/],
  ['{ a(x: """open") }', /string is never closed/],
  ['{ a(x: "two\nlines") }', /line break or control character/],
  [String.raw`{ a(x: "\x") }`, /no escape of GraphQL/],
  [String.raw`{ a(x: "\u12g4") }`, /no Unicode escape/],
  [String.raw`{ a(x: "\u{110000}") }`, /no Unicode escape/],
  [String.raw`{ a(x: "\u{}") }`, /no Unicode escape/],
  [String.raw`{ a(x: "\ud83d") }`, /half of a surrogate pair/],
  ['{ a(x: 01) }', /not a number/],
  ['{ a(x: 1.) }', /not a number/],
  ['{ a(x: 1x) }', /not a number/],
  ['{ a(x: -Infinity) }', /not a number/],
  ['{ a(x: 1e999) }', /too large/],
  ['{ a(x: ) }', /expected a name/],
  ['{ a(x: §) }', /expected a name, found "§"/],
]) {
  test(`malformed: ${JSON.stringify(source)}`, () => {
    assert.throws(
      () => parseOperation(source),
      (error) => error instanceof RequestError && message.test(error.message),
    );
  });
}

test('an error says the line and column', () => {
  assert.throws(() => parseOperation('{\n  a(x: %)\n}'), /line 2, column 8/);
});

test('fuzz: any damage to a query parses or is a RequestError, and ends', () => {
  const query = String.raw`query { r: f(a: {b: [1, -2.5e1, "x\"\u00e9", """b\"""lock""", E, null, true], c: {}}) { id p(take: 1) { t } } }`;
  let seed = 20261121; // a fixed sequence: a failure can be run again
  const random = (below) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
  const pieces = [
    '"',
    '\\',
    '{',
    '}',
    '(',
    ')',
    '[',
    ']',
    ':',
    '$',
    '"""',
    '\n',
    '#',
    '-',
    '9',
    'e',
    '\u0000',
    '\ud800',
    '@',
    '...',
  ];
  for (let i = 0; i < 20_000; i++) {
    const at = random(query.length);
    const damaged = query.slice(0, at) + pieces[random(pieces.length)].repeat(random(2)) + query.slice(at + random(4));
    try {
      parseOperation(damaged);
    } catch (error) {
      if (!(error instanceof RequestError)) throw new Error(`on ${JSON.stringify(damaged)}`, { cause: error });
    }
  }
});
