'use strict';

const { rawRows } = require('./raw-rows.js');

/**
 * Turn an answer of the JSON protocol into the GraphQL protocol's: the alias instead of the action's name, values
 * without their type tags, raw rows in the client's form.
 *
 * @param {{data?: Record<string, unknown>, errors?: unknown[]}} answer of one request
 * @param {string} alias
 * @returns {object} `{data: {[alias]: ...}}`, or the errors as they came
 */
function graphqlAnswer(answer, alias) {
  if (!answer.data) return answer;
  const [[action, value]] = Object.entries(answer.data);
  return { data: { [alias]: action === 'queryRaw' ? rawRows(value) : untagged(value) } };
}

/**
 * `{"$type": "DateTime", "value": "..."}` becomes `"..."`, at any depth and in place: the tree was just parsed and is
 * nobody else's. Content of Json fields cannot be mistaken for a tag: it arrives as a string.
 */
function untagged(value) {
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.$type === 'string') return value.value;
  for (const key of Object.keys(value)) value[key] = untagged(value[key]); // an array's keys are its indexes
  return value;
}

module.exports = { graphqlAnswer };
