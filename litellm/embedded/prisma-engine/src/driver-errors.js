'use strict';

const { engineError } = require('./errors.js');

/**
 * Errors of the driver (node-postgres, sockets) in the codes of the native engine.
 *
 * The engine knows an error of JavaScript only as "external error number N", P2036; the adapter's registry keeps the
 * error itself. LiteLLM decides by code and by words ("can't reach database server") whether to reconnect, wait, or
 * refuse a key (its `proxy/db/exception_handler.py`), so both must be right.
 *
 * @typedef {import('./errors.js').EngineError} EngineError
 * @typedef {{consumeError(id: number): {error: unknown} | undefined, registeredErrors: unknown[]}} Registry
 */

const NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ENOENT',
]);
/** node-postgres has no codes for these. */
const NETWORK_WORDS = /Connection terminated|connection error|not queryable|Connection ended/i;

/**
 * Does the server, or the way to it, fail rather than the query? SQLSTATE class 08 is connection exceptions, 57P01 to
 * 57P03 are shutdown, crash and start-up of the server.
 *
 * @param {any} error of node-postgres, or adapter-pg's description of one
 */
function isConnectionError(error) {
  const code = String(error?.code ?? '');
  return NETWORK.has(code) || /^(08...|57P0[123])$/.test(code) || NETWORK_WORDS.test(String(error?.message));
}

/**
 * @param {any} error of the driver
 * @param {string} server host:port
 * @returns {EngineError}
 */
function describeDriverError(error, server) {
  const message = String(error?.message || error?.code || error);
  if (/timeout exceeded when trying to connect/i.test(message)) {
    return engineError('P2024', 'Timed out fetching a new connection from the connection pool.', { message });
  }
  if (message === 'Query read timeout')
    return engineError('P1008', 'Operations timed out: socket_timeout of the database URL passed.', { message });
  if (isConnectionError(error))
    return engineError('P1001', `Can't reach database server at \`${server}\`: ${message}`, { message });
  const code = String(error?.code ?? 'N/A');
  return engineError('P2010', `Raw query failed. Code: \`${code}\`. Message: \`${message}\``, { code, message });
}

/**
 * Replace an external error by what it stands for.
 *
 * @param {EngineError} item as the engine answered
 * @param {Registry} registry
 * @param {string} server host:port
 * @returns {EngineError}
 */
function resolveExternalError(item, registry, server) {
  const { error_code: code, meta } = item.user_facing_error;
  if (code !== 'P2036') return withMeta(item);
  const id = Number(meta?.id);
  const record = registry.consumeError(id);
  if (!record) return withMeta(item);
  delete registry.registeredErrors[id]; // it is kept for ever otherwise
  return describeDriverError(record.error, server);
}

/** @param {EngineError} item */
function withMeta(item) {
  return { ...item, user_facing_error: { ...item.user_facing_error, meta: item.user_facing_error.meta ?? {} } };
}

module.exports = { describeDriverError, isConnectionError, resolveExternalError };
