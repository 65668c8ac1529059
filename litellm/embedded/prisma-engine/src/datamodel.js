'use strict';

const { StartError } = require('./errors.js');

/**
 * The little of schema.prisma that translation needs: which fields each model has, of which type.
 *
 * @typedef {{type: string, list: boolean}} Field `type` is a scalar's, enum's or model's name
 * @typedef {Map<string, Field>} Model by field name
 * @typedef {object} Datamodel
 * @property {string} text the whole schema, which the engine wants
 * @property {Map<string, Model>} models by name; views are models here
 * @property {string | undefined} urlVariable the environment variable that the datasource's url names
 * @property {string | undefined} url the datasource's url, if it is written out
 */

const BLOCK = /^[ \t]*(model|view|type|datasource)[ \t]+(\w+)[ \t]*\{[ \t]*(?:\/\/.*)?\r?\n([\s\S]*?)^[ \t]*\}/gm;
const FIELD = /^[ \t]*(\w+)[ \t]+(\w+)(\[\])?/;

/**
 * @param {string} text schema.prisma, valid: the engine itself checks it and says what is wrong
 * @returns {Datamodel}
 * @throws {StartError} when there is no model in it
 */
function readDatamodel(text) {
  /** @type {Datamodel} */
  const datamodel = { text, models: new Map(), urlVariable: undefined, url: undefined };
  for (const [, kind, name, body] of text.matchAll(BLOCK)) {
    if (kind === 'datasource') Object.assign(datamodel, readUrl(body));
    else datamodel.models.set(name, readFields(body));
  }
  if (datamodel.models.size === 0)
    throw new StartError('the datamodel has no model: give the path of a complete schema.prisma');
  return datamodel;
}

/** @param {string} body */
function readFields(body) {
  /** @type {Model} */
  const fields = new Map();
  for (const line of body.split('\n')) {
    const found = FIELD.exec(line); // comments (//) and block attributes (@@) do not start with a word
    if (found) fields.set(found[1], { type: found[2], list: Boolean(found[3]) });
  }
  return fields;
}

/** @param {string} body */
function readUrl(body) {
  const found = /^[ \t]*url[ \t]*=[ \t]*(?:env\([ \t]*"([^"]*)"[ \t]*\)|"([^"]*)")/m.exec(body);
  return found ? { urlVariable: found[1], url: found[2] } : {};
}

module.exports = { readDatamodel };
