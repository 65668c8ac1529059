'use strict';

const fs = require('node:fs');
const path = require('node:path');
const pg = require('pg');
const { bindAdapter } = require('@prisma/driver-adapter-utils');
const { Adapter } = require('./adapter.js');
const { graphqlAnswer } = require('./answers.js');
const { registerParsers } = require('./column-types.js');
const { resolveExternalError } = require('./driver-errors.js');
const { engineError } = require('./errors.js');
const { log } = require('./log.js');
const { Transactions } = require('./transactions.js');
const { Translator } = require('./translate.js');

/** Prisma's defaults, milliseconds. */
const TRANSACTION_DEFAULTS = { max_wait: 2000, timeout: 5000 };

/** The WebAssembly code trapped or overflowed its stack: its memory can no longer be trusted. */
class EnginePanic extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super(`the query engine panicked: ${cause instanceof Error ? cause.message : cause}`, { cause });
    this.name = 'EnginePanic';
  }
}

/**
 * Prisma's query engine in WebAssembly over a pool of connections, taking and giving bodies of the GraphQL protocol.
 *
 * Nothing here needs the database to be up: connections are made on demand, and an error of one query is that query's.
 * Every method but `metrics` may throw RequestError (what was sent is wrong) and EnginePanic (end the process).
 */
class Engine {
  /**
   * @param {import('./datamodel.js').Datamodel} datamodel
   * @param {import('./database-url.js').Database} database
   * @returns {Promise<Engine>}
   */
  static async open(datamodel, database) {
    const engine = new Engine(datamodel, database);
    await engine.call('connect', '{}');
    return engine;
  }

  /** Use `Engine.open`. */
  constructor(datamodel, database) {
    this.server = `${database.pool.host}:${database.pool.port}`;
    this.translator = new Translator(datamodel);
    this.transactions = new Transactions();
    this.counts = { queries: 0, active: 0 };
    registerParsers();
    this.pool = new pg.Pool(database.pool);
    // Unheard, these events would end the process whenever PostgreSQL closes a connection
    this.pool.on('error', (error) => log(`lost an idle connection: ${error.message}`));
    this.pool.on('connect', (client) => client.on('error', () => {}));
    this.adapter = bindAdapter(new Adapter(this.pool, { schema: database.schema }));
    const settings = {
      datamodel: datamodel.text,
      logLevel: 'error',
      logQueries: false,
      datasourceOverrides: {},
      env: {},
      ignoreEnvVarErrors: true,
      engineProtocol: 'json',
      enableTracing: false,
    };
    const { QueryEngine } = loadWebAssembly();
    this.wasm = new QueryEngine(settings, logEvent, this.adapter);
  }

  /**
   * @param {any} body `{query, variables}` or `{batch: [{query, variables}], transaction}`
   * @param {string | undefined} transaction id of the interactive transaction it belongs to
   * @returns {Promise<object>} `{data}`, `{errors}` or `{batchResult}`
   */
  async request(body, transaction) {
    const refusal = transaction === undefined ? undefined : this.transactions.refusal(transaction, 'query');
    if (refusal) return { errors: [refusal] };
    if (!Array.isArray(body?.batch)) {
      const { alias, request } = this.translator.translate(body);
      return graphqlAnswer(await this.query(request, transaction), alias);
    }
    const translated = body.batch.map((item) => this.translator.translate(item));
    const batch = { batch: translated.map(({ request }) => request) };
    if (body.transaction) batch.transaction = { isolationLevel: body.isolationLevel ?? null };
    const answer = await this.query(batch, transaction);
    if (!answer.batchResult) return answer;
    return {
      ...answer,
      batchResult: answer.batchResult.map((item, i) => graphqlAnswer(this.resolved(item), translated[i].alias)),
    };
  }

  /**
   * The WebAssembly engine does not heed `max_wait` while the pool has no connection to give, so it is kept here.
   *
   * @param {{timeout?: number, max_wait?: number}} settings in milliseconds
   * @returns {Promise<object>} `{id}` or `{errors}`
   */
  async startTransaction(settings) {
    const complete = { ...TRANSACTION_DEFAULTS, ...settings };
    const starting = this.call('startTransaction', JSON.stringify(complete), '{}').then((text) => {
      const answer = this.transactionAnswer(text);
      if (answer.id) this.transactions.opened(answer.id, complete.timeout);
      return answer;
    });
    const answer = await withDeadline(starting, complete.max_wait);
    if (answer !== undefined) return answer;
    starting
      .then(({ id }) => id && this.finishTransaction(id, 'rollback'))
      .catch((error) => log(`a late transaction failed: ${error.message}`));
    return {
      errors: [engineError('P2028', 'Transaction API error: Unable to start a transaction in the given time.')],
    };
  }

  /**
   * @param {string} id
   * @param {'commit' | 'rollback'} how
   * @returns {Promise<object>} `{}` or `{errors}`
   */
  async finishTransaction(id, how) {
    const refusal = this.transactions.refusal(id, how);
    this.transactions.closed(id);
    if (refusal) return { errors: [refusal] };
    return this.transactionAnswer(await this.call(`${how}Transaction`, id, '{}'));
  }

  /** @returns {import('./metrics.js').Figures} */
  metrics() {
    const { totalCount: open, idleCount: idle, waitingCount: waiting } = this.pool;
    return { ...this.counts, open, idle, busy: open - idle, waiting };
  }

  /** Give up every connection. Does not wait for open transactions: PostgreSQL rolls those back. */
  async close() {
    await this.call('disconnect', '{}');
    this.pool.end().catch(() => {});
  }

  async query(request, transaction) {
    this.counts.queries++;
    this.counts.active++;
    try {
      return this.resolved(JSON.parse(await this.call('query', JSON.stringify(request), '{}', transaction)));
    } finally {
      this.counts.active--;
    }
  }

  /** A transaction's error comes without the envelope that errors of queries come in. */
  transactionAnswer(text) {
    const answer = JSON.parse(text);
    if (!answer?.error_code) return this.resolved(answer ?? {});
    return this.resolved({ errors: [{ error: answer.message, user_facing_error: answer }] });
  }

  resolved(answer) {
    if (!answer.errors) return answer;
    return {
      ...answer,
      errors: answer.errors.map((item) => resolveExternalError(item, this.adapter.errorRegistry, this.server)),
    };
  }

  /** @param {string} method @param {...(string | undefined)} values */
  async call(method, ...values) {
    try {
      return await this.wasm[method](...values);
    } catch (error) {
      if (isPanic(error)) throw new EnginePanic(error);
      throw error;
    }
  }
}

/**
 * A panic ends in a trap. One in the middle of a query rejects no promise that anybody awaits: it arrives as the
 * process's `unhandledRejection`, and the query is never answered.
 *
 * @param {unknown} error
 */
function isPanic(error) {
  return error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} milliseconds
 * @returns {Promise<T | undefined>} undefined when it takes longer; the promise is not cancelled
 */
async function withDeadline(promise, milliseconds) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Prisma's own glue code is a CommonJS module that is given its WebAssembly from outside. */
function loadWebAssembly() {
  const runtime = require('@prisma/client/runtime/query_engine_bg.postgresql.js');
  const folder = path.dirname(require.resolve('@prisma/client/package.json'));
  const code = fs.readFileSync(path.join(folder, 'runtime', 'query_engine_bg.postgresql.wasm'));
  const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { './query_engine_bg.js': runtime });
  runtime.__wbg_set_wasm(instance.exports);
  return runtime;
}

/** @param {string} event JSON */
function logEvent(event) {
  const { level, message, ...rest } = JSON.parse(event);
  if (String(level).toLowerCase() === 'error') log(message ?? JSON.stringify(rest));
}

module.exports = { Engine, EnginePanic, isPanic };
