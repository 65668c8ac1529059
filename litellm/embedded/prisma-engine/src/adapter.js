'use strict';

const { PrismaPg } = require('@prisma/adapter-pg');
const { acceptedType } = require('./column-types.js');
const { isConnectionError } = require('./driver-errors.js');

/**
 * Change how one adapter or transaction of adapter-pg performs its queries:
 * columns of any type are taken; an error that says that the server goes or comes is thrown, to reach the client as
 * "can't reach database server", where adapter-pg would pass it on as an error of the query.
 *
 * @template {{performIO: Function}} Q
 * @param {Q} queryable
 * @returns {Q} the same object
 */
function mended(queryable) {
  const performIO = queryable.performIO.bind(queryable);
  queryable.performIO = async (query) => {
    const result = await performIO(query);
    if (result.ok) for (const field of result.value.fields ?? []) field.dataTypeID = acceptedType(field.dataTypeID);
    else if (isConnectionError(result.error))
      throw Object.assign(new Error(result.error.message), { code: result.error.code });
    return result;
  };
  return queryable;
}

/** adapter-pg's adapter, mended, inside transactions too. */
class Adapter extends PrismaPg {
  /** @param {import('pg').Pool} pool @param {{schema?: string}} options */
  constructor(pool, options) {
    super(pool, options);
    mended(this);
  }

  async startTransaction() {
    return (await super.startTransaction()).map(mended);
  }
}

module.exports = { Adapter };
