'use strict';

const fs = require('node:fs');
const { StartError } = require('./errors.js');
const { readDatamodel } = require('./datamodel.js');

/**
 * @typedef {object} Options what the engine was asked to do, read once
 * @property {string} host
 * @property {number} port
 * @property {import('./datamodel.js').Datamodel} datamodel
 * @property {string} databaseUrl
 * @property {string} databaseUrlName the variable it came from
 */

const VALUED = { '-p': 'port', '--port': 'port', '-H': 'host', '--host': 'host', '--datamodel-path': 'datamodelPath' };
// prisma-client-py passes these; what they turn on is always on here
const FLAGS = new Set([
  '--enable-metrics',
  '--enable-raw-queries',
  '--enable-playground',
  '--enable-telemetry-in-response',
  '--log-queries',
  '-r',
  '-m',
  '-g',
]);

/**
 * Read the arguments and environment of the native engine (its `opt.rs`): `-p -H --datamodel-path`, `PRISMA_DML`
 * (base64) or `PRISMA_DML_PATH`, `OVERWRITE_DATASOURCES` (JSON, maybe base64), and the variable that
 * the datamodel names.
 *
 * @param {string[]} argv
 * @param {NodeJS.ProcessEnv} env
 * @returns {Readonly<Options>}
 * @throws {StartError}
 */
function readOptions(argv, env) {
  const given = readArguments(argv);
  const port = given.port === undefined ? 4466 : Number(given.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new StartError(`--port ${given.port}: give a number from 0 to 65535`);
  const datamodel = readDatamodel(datamodelText(given.datamodelPath, env));
  const { url, name } = databaseUrl(datamodel, env);
  return Object.freeze({ host: given.host || '127.0.0.1', port, datamodel, databaseUrl: url, databaseUrlName: name });
}

/** @param {string[]} argv */
function readArguments(argv) {
  /** @type {{port?: string, host?: string, datamodelPath?: string}} */
  const given = {};
  for (let i = 0; i < argv.length; i++) {
    const [flag, inline] = argv[i].startsWith('--') ? argv[i].split(/=(.*)/s) : [argv[i]];
    if (FLAGS.has(flag)) continue;
    const key = VALUED[flag];
    if (!key) throw new StartError(`unknown argument ${argv[i]}: this engine takes ${Object.keys(VALUED).join(' ')}`);
    const value = inline === undefined ? argv[++i] : inline;
    if (value === undefined) throw new StartError(`${flag} needs a value`);
    given[key] = value;
  }
  return given;
}

function datamodelText(path, env) {
  if (env.PRISMA_DML) return Buffer.from(env.PRISMA_DML, 'base64').toString('utf8');
  const file = path || env.PRISMA_DML_PATH;
  if (!file) throw new StartError('no datamodel: set PRISMA_DML_PATH to the schema.prisma file');
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw new StartError(
      `the datamodel ${file} cannot be read (${error.code}): run \`prisma generate\`, or mend PRISMA_DML_PATH`,
    );
  }
}

function databaseUrl(datamodel, env) {
  const overwritten = overwrittenUrl(env.OVERWRITE_DATASOURCES);
  if (overwritten) return { url: overwritten, name: 'OVERWRITE_DATASOURCES' };
  if (datamodel.url) return { url: datamodel.url, name: "the datamodel's url" };
  const name = datamodel.urlVariable || 'DATABASE_URL';
  if (!env[name]) throw new StartError(`no ${name}: set it to postgresql://user:password@host:port/database`);
  return { url: env[name], name };
}

/** @param {string | undefined} value `[{"name": ..., "url": ...}]` as JSON or base64 of it */
function overwrittenUrl(value) {
  if (!value) return undefined;
  try {
    const text = value.trimStart().startsWith('[') ? value : Buffer.from(value, 'base64').toString('utf8');
    return JSON.parse(text)[0]?.url;
  } catch {
    throw new StartError(
      'OVERWRITE_DATASOURCES is neither JSON nor base64 of it: write [{"name": "client", "url": "postgresql://..."}]',
    );
  }
}

module.exports = { readOptions };
