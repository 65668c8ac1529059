'use strict';

const http = require('node:http');
const { RequestError, engineError } = require('./errors.js');
const { EnginePanic } = require('./engine.js');
const { log } = require('./log.js');
const { metricsAsJson, metricsAsText } = require('./metrics.js');

/**
 * The routes of the native engine that prisma-client-py 0.11 uses (its `engine/query.py`, `engine/http.py`):
 * `POST /`, `POST /transaction/start`, `POST /transaction/{id}/{commit,rollback}`, `GET /status`, `GET /metrics`.
 *
 * Errors of queries and transactions are answers 200 with `{"errors": [...]}`: of any other status the client keeps
 * only the number. (The native engine answers failing transactions with a status; the client then loses the cause.)
 */

const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** httpx keeps idle connections; closing one just as it is used again would fail a request. */
const KEEP_ALIVE_MS = 60 * 60 * 1000;

/** An answer by its status alone. */
class HttpError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {import('./engine.js').Engine} engine
 * @param {{onPanic: (panic: EnginePanic) => void, maxBodyBytes?: number}} options
 * @returns {http.Server} not listening yet
 */
function createServer(engine, { onPanic, maxBodyBytes = MAX_BODY_BYTES }) {
  const server = http.createServer(async (request, response) => {
    try {
      send(response, 200, await route(engine, request, maxBodyBytes));
    } catch (error) {
      fail(response, error);
      if (error instanceof EnginePanic) onPanic(error);
    }
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return server;
}

/**
 * @param {import('./engine.js').Engine} engine
 * @param {http.IncomingMessage} request
 * @param {number} maxBodyBytes
 * @returns {Promise<object | string>}
 */
async function route(engine, request, maxBodyBytes) {
  // Only browsers send Origin: a web page must not reach the database through its visitor's loopback
  if (request.headers.origin !== undefined) throw new HttpError(403, 'requests from web pages are refused');
  const [pathname, query] = (request.url ?? '/').split('?');
  const body = await readBody(request, maxBodyBytes);
  const finish = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(pathname);
  if (request.method === 'GET' && pathname === '/status') return { status: 'ok' };
  if (request.method === 'GET' && pathname === '/metrics') {
    const render = new URLSearchParams(query).get('format') === 'prometheus' ? metricsAsText : metricsAsJson;
    return render(engine.metrics(), body ? parse(body) : {});
  }
  if (request.method === 'POST' && pathname === '/')
    return engine.request(parse(body), header(request, 'x-transaction-id'));
  if (request.method === 'POST' && pathname === '/transaction/start') return engine.startTransaction(parse(body));
  if (request.method === 'POST' && finish)
    return engine.finishTransaction(finish[1], /** @type {'commit'} */ (finish[2]));
  throw new HttpError(404, `no route ${request.method} ${pathname}`);
}

/**
 * @param {http.IncomingMessage} request
 * @param {number} limit bytes
 * @returns {Promise<string>}
 */
async function readBody(request, limit) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= limit) chunks.push(chunk);
    else chunks.length = 0; // read on: a client that is still writing would not see the answer
  }
  if (size > limit) throw new HttpError(413, `the body is larger than ${limit} bytes: split the batch`);
  return Buffer.concat(chunks).toString('utf8');
}

/** @param {string} body */
function parse(body) {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new RequestError(`the body is not JSON: ${error.message}`);
  }
}

/** @param {http.IncomingMessage} request @param {string} name @returns {string | undefined} */
function header(request, name) {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** @param {http.ServerResponse} response @param {unknown} error */
function fail(response, error) {
  if (response.req.errored) return; // the client is gone: nobody to tell
  if (error instanceof HttpError) {
    send(response, error.status, { error: error.message });
  } else if (error instanceof RequestError) {
    send(response, 200, { errors: [engineError('P2009', error.message)] });
  } else {
    log(
      error instanceof EnginePanic
        ? error.message
        : `a request failed: ${error instanceof Error ? error.stack : error}`,
    );
    send(response, 200, {
      errors: [engineError('P2037', `the query engine failed: ${error instanceof Error ? error.message : error}`)],
    });
  }
}

/** @param {http.ServerResponse} response @param {number} status @param {object | string} answer */
function send(response, status, answer) {
  const text = typeof answer === 'string' ? answer : JSON.stringify(answer);
  const type = typeof answer === 'string' ? 'text/plain; version=0.0.4; charset=utf-8' : 'application/json';
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

module.exports = { createServer, MAX_BODY_BYTES };
