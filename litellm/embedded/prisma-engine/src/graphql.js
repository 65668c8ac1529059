'use strict';

const { RequestError } = require('./errors.js');
const { decodeBlockString, decodeString } = require('./graphql-strings.js');

/**
 * A parser of GraphQL operations: the grammar of https://spec.graphql.org/draft/#sec-Document-Syntax without fragments,
 * directives and variables, which prisma-client-py never sends; each is refused by name.
 *
 * @typedef {{operation: string, fields: Field[]}} Operation
 * @typedef {{alias: string, name: string, args: Record<string, Value>, selection: Field[] | undefined}} Field
 * @typedef {null | boolean | number | bigint | string | EnumValue | Value[] | {[key: string]: Value}} Value
 *   an integer that a double cannot hold is a bigint; objects have no prototype, so any name is a safe key
 */

/** A bare word in the place of a value. */
class EnumValue {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }
}

/** Deeper than any real query; shallow enough for the stacks of this parser and of the engine. */
const MAX_DEPTH = 128;
const NAME = /[_A-Za-z][_0-9A-Za-z]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![_A-Za-z0-9.])/y;
const WORDS = { true: true, false: false, null: null };

/**
 * Parse a document that holds one operation.
 *
 * @param {string} source
 * @returns {Operation}
 * @throws {RequestError} with line and column
 */
function parseOperation(source) {
  return new Parser(source).operation();
}

class Parser {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
    this.position = 0;
    this.depth = 0;
    this.skipIgnored();
  }

  operation() {
    let operation = 'query';
    if (this.peek() !== '{') {
      operation = this.name();
      if (operation !== 'query' && operation !== 'mutation')
        this.fail(`expected query or mutation, found ${operation}`);
      if (/[_A-Za-z]/.test(this.peek())) this.name(); // the operation's name means nothing here
      if (this.peek() === '(') this.fail('variables are not supported: write the values into the query');
    }
    const fields = this.selection();
    if (this.peek() !== '') this.fail('expected one operation and then the end');
    return { operation, fields };
  }

  /** @returns {Field[]} */
  selection() {
    const fields = this.list('{', '}', () => this.field());
    if (fields.length === 0) this.fail('a selection must name a field');
    return fields;
  }

  /** @returns {Field} */
  field() {
    if (this.peek() === '.') this.fail('fragments are not supported');
    const first = this.name();
    const aliased = this.skip(':');
    const name = aliased ? this.name() : first;
    const args = this.peek() === '(' ? this.members('(', ')', 'argument') : Object.create(null);
    if (this.peek() === '@') this.fail('directives are not supported');
    return { alias: first, name, args, selection: this.peek() === '{' ? this.selection() : undefined };
  }

  /** @returns {Value} */
  value() {
    const next = this.peek();
    if (next === '"') return this.string();
    if (next === '{') return this.members('{', '}', 'key');
    if (next === '[') return this.list('[', ']', () => this.value());
    if (next === '-' || (next >= '0' && next <= '9')) return this.number();
    if (next === '$') return this.fail('variables are not supported: write the value into the query');
    const word = this.name();
    return Object.hasOwn(WORDS, word) ? WORDS[word] : new EnumValue(word);
  }

  /** `name: value` pairs between two brackets. */
  members(open, close, what) {
    const members = Object.create(null);
    this.list(open, close, () => {
      const name = this.name();
      if (name in members) this.fail(`the ${what} ${name} is given twice`);
      this.expect(':');
      members[name] = this.value();
    });
    return members;
  }

  /**
   * @template T
   * @param {string} open
   * @param {string} close
   * @param {() => T} item
   * @returns {T[]}
   */
  list(open, close, item) {
    this.expect(open);
    if (++this.depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH} levels`);
    const items = [];
    while (!this.skip(close)) {
      if (this.peek() === '') this.fail(`${open} is never closed`);
      items.push(item());
    }
    this.depth--;
    return items;
  }

  string() {
    const block = this.source.startsWith('"""', this.position);
    const quotes = block ? '"""' : '"';
    const start = this.position + quotes.length;
    let end = this.source.indexOf(quotes, start);
    while (end >= 0 && this.isEscaped(end, start, block)) end = this.source.indexOf(quotes, end + quotes.length);
    if (end < 0) this.fail('the string is never closed');
    const raw = this.source.slice(start, end);
    const text = this.locating(() => (block ? decodeBlockString(raw) : decodeString(raw)));
    this.advance(end + quotes.length);
    return text;
  }

  /** Is the quote at `index` part of the string that began at `start`? */
  isEscaped(index, start, block) {
    let first = index;
    while (first > start && this.source[first - 1] === '\\') first--;
    return block ? first < index : (index - first) % 2 === 1;
  }

  number() {
    const found = this.match(NUMBER);
    if (!found) return this.fail('not a number');
    const [text, fraction, exponent] = found;
    const number = Number(text);
    if (!Number.isFinite(number)) this.fail(`${text} is too large for a double`);
    return fraction || exponent || Number.isSafeInteger(number) ? number : BigInt(text);
  }

  name() {
    const found = this.match(NAME);
    return found
      ? found[0]
      : this.fail(this.peek() === '' ? 'unexpected end' : `expected a name, found ${JSON.stringify(this.peek())}`);
  }

  /** @param {string} character */
  expect(character) {
    if (!this.skip(character)) this.fail(`expected ${character}, found ${this.peek() || 'the end'}`);
  }

  /** @param {string} character @returns {boolean} whether it was there */
  skip(character) {
    if (this.peek() !== character) return false;
    this.advance(this.position + 1);
    return true;
  }

  peek() {
    return this.source.charAt(this.position);
  }

  /** @param {RegExp} pattern sticky */
  match(pattern) {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.source);
    if (found) this.advance(pattern.lastIndex);
    return found;
  }

  /** @param {number} position */
  advance(position) {
    this.position = position;
    this.skipIgnored();
  }

  /** White space, commas and comments: https://spec.graphql.org/draft/#Ignored */
  skipIgnored() {
    for (;;) {
      const next = this.peek();
      if (next === '#') while (!/^[\r\n]?$/.test(this.peek())) this.position++;
      else if (next === ' ' || next === '\n' || next === ',' || next === '\t' || next === '\r' || next === '\ufeff')
        this.position++;
      else return;
    }
  }

  /**
   * @template T
   * @param {() => T} decode
   * @returns {T}
   */
  locating(decode) {
    try {
      return decode();
    } catch (error) {
      return error instanceof RequestError ? this.fail(error.message) : this.fail(String(error));
    }
  }

  /** @param {string} message @returns {never} */
  fail(message) {
    const before = this.source.slice(0, this.position).split('\n');
    throw new RequestError(
      `GraphQL, line ${before.length}, column ${before[before.length - 1].length + 1}: ${message}`,
    );
  }
}

module.exports = { parseOperation, EnumValue, MAX_DEPTH };
