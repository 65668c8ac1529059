'use strict';

const { parseDatabaseUrl } = require('./database-url.js');
const { Engine, isPanic } = require('./engine.js');
const { EXIT, StartError } = require('./errors.js');
const { hideInLog, log } = require('./log.js');
const { readOptions } = require('./options.js');
const { createServer } = require('./server.js');

/** Commit of prisma-engines that @prisma/client 5.17.0 carries, as the native binary prints it. */
const ENGINE_VERSION = '393aa359c9ad4a4bb28630fb5613f9c281cde053';
const PARENT_CHECK_MS = 500;
/** LiteLLM kills its engine half a second after SIGTERM, and its event loop stands still while it waits. */
const SHUTDOWN_MS = 400;

/**
 * Start the engine and serve until a signal, or until the process that started it is gone.
 *
 * @param {string[]} argv
 * @param {NodeJS.ProcessEnv} env
 */
async function main(argv, env) {
  const parent = process.ppid;
  process.stderr.on('error', () => {}); // the log's reader is gone: no reason to die mid-query
  if (argv.includes('--version') || argv.includes('-V')) {
    process.stdout.write(`query-engine ${ENGINE_VERSION}\n`);
    return;
  }
  process.on('unhandledRejection', (error) => {
    log(`unhandled: ${error instanceof Error ? error.stack : error}`);
    if (isPanic(error)) process.exit(EXIT.panic); // LiteLLM sees it end, and starts another
  });
  try {
    await serve(argv, env, parent);
  } catch (error) {
    log(error instanceof StartError ? error.message : `cannot start: ${error instanceof Error ? error.stack : error}`);
    process.exit(error instanceof StartError ? error.exitCode : EXIT.internal);
  }
}

/** @param {string[]} argv @param {NodeJS.ProcessEnv} env @param {number} parent */
async function serve(argv, env, parent) {
  const options = readOptions(argv, env);
  const database = parseDatabaseUrl(options.databaseUrl, options.databaseUrlName);
  hideInLog(String(database.pool.password));
  const engine = await Engine.open(options.datamodel, database);
  const server = createServer(engine, { onPanic: () => setImmediate(() => process.exit(EXIT.panic)) });
  await listen(server, options);
  stopWhenAsked(() => stop(server, engine), parent);
}

/** @param {import('node:http').Server} server @param {{host: string, port: number}} address */
function listen(server, { host, port }) {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, host, port)));
    server.listen(port, host, () => resolve(undefined));
  });
}

/** @param {NodeJS.ErrnoException} error @param {string} host @param {number} port */
function listenError(error, host, port) {
  if (error.code === 'EADDRINUSE')
    return new StartError(`${host}:${port} is taken: stop what listens there, or give another --port`, EXIT.portTaken);
  return new StartError(`cannot listen on ${host}:${port}: ${error.message}`);
}

/** @param {() => Promise<void>} stopOnce @param {number} parent process id */
function stopWhenAsked(stopOnce, parent) {
  let stopping = false;
  const stop = () => {
    if (!stopping) stopOnce().finally(() => process.exit(0));
    stopping = true;
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  setInterval(() => process.ppid === parent || stop(), PARENT_CHECK_MS); // kill -9 of the proxy sends no signal here
}

/** Take no new requests, answer those in flight, close the connections: all within SHUTDOWN_MS. */
async function stop(server, engine) {
  const deadline = new Promise((resolve) => setTimeout(resolve, SHUTDOWN_MS));
  const answered = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  await Promise.race([answered, deadline]);
  await Promise.race([engine.close().catch(() => {}), deadline]);
}

module.exports = { main };
