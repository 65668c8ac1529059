'use strict';

const { RequestError } = require('./errors.js');

const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
const ESCAPE = /\\(u\{[^}"]*\}|u[\s\S]{0,4}|[\s\S])/g;

/**
 * Decode what stands between the quotes of a GraphQL string.
 *
 * https://spec.graphql.org/draft/#sec-String-Value. Half of a surrogate pair is refused: PostgreSQL cannot store it,
 * and the engine would silently put U+FFFD in its place.
 *
 * @param {string} raw
 * @returns {string}
 * @throws {RequestError}
 */
function decodeString(raw) {
  if (/[\u0000-\u0008\u000a-\u001f]/.test(raw))
    throw new RequestError('a string has a line break or control character: write it as an escape');
  return wellFormed(raw.includes('\\') ? raw.replace(ESCAPE, decodeEscape) : raw);
}

/**
 * Decode what stands between the quotes of a `"""block string"""`: common indentation and blank ends go.
 *
 * https://spec.graphql.org/draft/#BlockStringValue()
 *
 * @param {string} raw
 * @returns {string}
 * @throws {RequestError}
 */
function decodeBlockString(raw) {
  const lines = raw.replace(/\\"""/g, '"""').split(/\r\n|[\n\r]/);
  const indents = lines
    .slice(1)
    .map((line) => line.search(/[^ \t]/))
    .filter((indent) => indent >= 0);
  const common = indents.length ? Math.min(...indents) : 0;
  const stripped = lines.map((line, i) => (i === 0 ? line : line.slice(common)));
  while (stripped.length && !/[^ \t]/.test(stripped[0])) stripped.shift();
  while (stripped.length && !/[^ \t]/.test(stripped[stripped.length - 1])) stripped.pop();
  return wellFormed(stripped.join('\n'));
}

/** @param {string} whole @param {string} escape */
function decodeEscape(whole, escape) {
  if (escape[0] !== 'u') {
    if (!(escape in ESCAPES)) throw new RequestError(`${whole} is no escape of GraphQL`);
    return ESCAPES[escape];
  }
  const hex = escape[1] === '{' ? escape.slice(2, -1) : escape.slice(1);
  const code = /^[0-9a-fA-F]{1,8}$/.test(hex) ? parseInt(hex, 16) : Infinity;
  if (code > 0x10ffff || (escape[1] !== '{' && hex.length !== 4))
    throw new RequestError(`${whole} is no Unicode escape: write \\u00e9 or \\u{1f600}`);
  // The halves of \uD83D\uDE00 join by themselves
  return escape[1] === '{' ? String.fromCodePoint(code) : String.fromCharCode(code);
}

/** @param {string} text */
function wellFormed(text) {
  if (/\p{Surrogate}/u.test(text))
    throw new RequestError('a string has half of a surrogate pair, which is no character');
  return text;
}

module.exports = { decodeString, decodeBlockString };
