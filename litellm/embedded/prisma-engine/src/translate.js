'use strict';

const { RequestError } = require('./errors.js');
const { EnumValue, parseOperation } = require('./graphql.js');

/**
 * Translates the GraphQL that prisma-client-py renders into Prisma's JSON protocol, which the engine here speaks.
 *
 * Both protocols carry the same tree of arguments; they differ in the envelope and in how a value shows its type. In
 * GraphQL a Json is a string that holds JSON and a BigInt is digits; the JSON protocol tags both, `{"$type": "Json",
 * "value": "..."}`, so the translator walks the tree beside the datamodel to know which string is which.
 *
 * Sources: prisma-client-py 0.11 `builder.py`; prisma-engines 5.17.0
 * `query-engine/request-handlers/src/protocols/json/protocol_adapter.rs` and `schema/src/build/` (shapes of inputs).
 *
 * @typedef {{modelName?: string, action: string, query: {arguments: object, selection: object}}} JsonRequest
 * @typedef {{alias: string, request: JsonRequest}} Translated `alias`: the answer's name for the client
 */

const ACTIONS = {
  findUnique: ['findUnique', ''],
  findUniqueOrThrow: ['findUnique', 'OrThrow'],
  findFirst: ['findFirst', ''],
  findFirstOrThrow: ['findFirst', 'OrThrow'],
  findMany: ['findMany', ''],
  createOne: ['createOne', ''],
  createMany: ['createMany', ''],
  createManyAndReturn: ['createMany', 'AndReturn'],
  updateOne: ['updateOne', ''],
  updateMany: ['updateMany', ''],
  upsertOne: ['upsertOne', ''],
  deleteOne: ['deleteOne', ''],
  deleteMany: ['deleteMany', ''],
  aggregate: ['aggregate', ''],
  groupBy: ['groupBy', ''],
};
const RAW_ACTIONS = ['queryRaw', 'executeRaw'];

/** What an argument or a nested write's part holds: a filter of records, or their data. */
const PARTS = { where: 'filter', cursor: 'filter', data: 'data', create: 'data', update: 'data' };
/** Nested writes: what they hold directly, or 'parts' when they hold the parts named above. */
const NESTED_WRITES = {
  create: 'data',
  createMany: 'parts',
  connect: 'filter',
  connectOrCreate: 'parts',
  update: 'update',
  updateMany: 'parts',
  upsert: 'parts',
  set: 'filter',
  disconnect: 'filter',
  delete: 'filter',
  deleteMany: 'filter',
};
const RELATION_FILTERS = new Set(['is', 'isNot', 'some', 'every', 'none']);
/** Keys of a filter on a Json field whose values are not JSON. */
const JSON_FILTER_OPTIONS = new Set(['path', 'mode', 'string_contains', 'string_starts_with', 'string_ends_with']);

class Translator {
  /** @param {import('./datamodel.js').Datamodel} datamodel */
  constructor(datamodel) {
    this.models = datamodel.models;
    /** @type {Map<string, {action: string, modelName?: string}>} */
    this.operations = new Map(RAW_ACTIONS.map((action) => [action, { action }]));
    for (const modelName of this.models.keys()) {
      for (const [action, [before, after]] of Object.entries(ACTIONS))
        this.operations.set(before + modelName + after, { action, modelName });
    }
  }

  /**
   * @param {unknown} request `{query, variables}` as the client posts it
   * @returns {Translated}
   * @throws {RequestError}
   */
  translate(request) {
    if (typeof request?.query !== 'string') throw new RequestError('the request has no "query"');
    if (Object.keys(request.variables ?? {}).length > 0)
      throw new RequestError('GraphQL variables are not supported: write the values into the query');
    const { fields } = parseOperation(request.query);
    if (fields.length !== 1)
      throw new RequestError(`one root field a query is supported, ${fields.length} were sent: send a batch`);
    const [root] = fields;
    const operation = this.operations.get(root.name);
    if (!operation)
      throw new RequestError(
        `unknown operation ${root.name}: neither a raw query nor an action on a model of the datamodel`,
      );
    const model = this.models.get(operation.modelName);
    const query = { arguments: this.arguments(root.args, model), selection: this.selection(root.selection, model) };
    return { alias: root.alias, request: { ...operation, query } };
  }

  /**
   * @param {import('./graphql.js').Field[] | undefined} fields
   * @param {import('./datamodel.js').Model | undefined} model
   */
  selection(fields, model) {
    const selection = {};
    for (const field of fields ?? []) {
      if (field.alias !== field.name)
        throw new RequestError(`the alias ${field.alias} is below the root, where none is supported`);
      const related = this.related(model?.get(field.name));
      const plain = !field.selection && Object.keys(field.args).length === 0;
      selection[field.name] = plain || {
        arguments: this.arguments(field.args, related),
        selection: this.selection(field.selection, related),
      };
    }
    return selection;
  }

  /** Arguments of an operation on `model`, of a relation to it, or of neither (raw queries, aggregates). */
  arguments(args, model) {
    return model ? this.parts(args, model) : plain(args);
  }

  /** `{where, data, create, update, cursor, ...}`, each in its own way; the rest (take, orderBy, ...) as it is. */
  parts(value, model) {
    return each(value, (key, part) => (Object.hasOwn(PARTS, key) ? this[PARTS[key]](part, model) : plain(part)));
  }

  filter(value, model) {
    return each(value, (key, part) => {
      const field = model.get(key);
      if (!field) return this.filter(part, model); // AND, OR, NOT, or a compound key that holds fields of this model
      const related = this.related(field);
      return related ? this.relationFilter(part, related) : scalar(part, field.type);
    });
  }

  /** `{some: filter}`, or for a relation to one record the filter alone. */
  relationFilter(value, model) {
    return each(value, (key, part) =>
      RELATION_FILTERS.has(key) ? this.filter(part, model) : this.filter({ [key]: part }, model)[key],
    );
  }

  data(value, model) {
    return each(value, (key, part) => {
      const field = model.get(key);
      const related = this.related(field);
      return related ? this.nestedWrites(part, related) : scalar(part, field?.type);
    });
  }

  nestedWrites(value, model) {
    return each(value, (key, part) =>
      Object.hasOwn(NESTED_WRITES, key) ? this[NESTED_WRITES[key]](part, model) : plain(part),
    );
  }

  /** `update` of a relation: `{where, data}`, or for a relation to one record also the data alone. */
  update(value, model) {
    if (Array.isArray(value)) return value.map((item) => this.update(item, model));
    const wrapped = isObject(value) && 'data' in value && !model.has('data');
    return wrapped ? this.parts(value, model) : this.data(value, model);
  }

  /** @param {import('./datamodel.js').Field | undefined} field @returns {import('./datamodel.js').Model | undefined} */
  related(field) {
    return field && this.models.get(field.type);
  }
}

/** A scalar field's value, list of values, filter (`{gt: 1}`) or operation (`{increment: 1}`). */
function scalar(value, type) {
  if (Array.isArray(value)) return value.map((item) => scalar(item, type));
  if (isObject(value))
    return each(value, (key, part) =>
      type === 'Json' && JSON_FILTER_OPTIONS.has(key) ? plain(part) : scalar(part, type),
    );
  if (type === 'Json') return json(value);
  if (typeof value === 'bigint' && type === 'Float') return Number(value);
  if (typeof value === 'bigint' && type === 'Decimal') return String(value);
  return plain(value);
}

/** A Json field's value is a string of JSON; a bare word is one of the nulls, DbNull, JsonNull or AnyNull. */
function json(value) {
  if (typeof value === 'string') return { $type: 'Json', value };
  return value instanceof EnumValue ? { $type: 'Enum', value: value.name } : plain(value);
}

/** A value whose field does not matter. */
function plain(value) {
  if (typeof value === 'bigint') return { $type: 'BigInt', value: String(value) };
  if (value instanceof EnumValue) return value.name;
  return Array.isArray(value) || isObject(value) ? each(value, (key, part) => plain(part)) : value;
}

/** Apply `change` to each member of an object, or of each object in a list; anything else stays. */
function each(value, change) {
  if (Array.isArray(value)) return value.map((item) => each(item, change));
  if (!isObject(value)) return plain(value);
  const changed = {};
  for (const key of Object.keys(value)) changed[key] = change(key, value[key]);
  return changed;
}

function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof EnumValue);
}

module.exports = { Translator };
