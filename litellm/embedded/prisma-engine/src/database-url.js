'use strict';

const fs = require('node:fs');
const { StartError } = require('./errors.js');

/**
 * @typedef {object} Database
 * @property {import('pg').PoolConfig & {host: string, port: number}} pool settings of the connection pool
 * @property {string | undefined} schema PostgreSQL schema of the tables, undefined for the server's default
 */

/**
 * Turn Prisma's connection URL into settings of node-postgres.
 *
 * Parameters honoured: `schema connection_limit pool_timeout connect_timeout socket_timeout
 * max_idle_connection_lifetime application_name options host sslmode sslaccept sslcert`; others are ignored, as the
 * native engine does. Times are seconds; 0 is no limit. Source:
 * https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments
 *
 * Difference: `sslmode=prefer` (Prisma's default) connects without TLS, because node-postgres cannot fall back.
 *
 * @param {string} text
 * @param {string} name what the URL is called in errors, which never show the URL: it holds a password
 * @returns {Database}
 * @throws {StartError} when it is not a PostgreSQL URL or a number in it is not one
 */
function parseDatabaseUrl(text, name = 'DATABASE_URL') {
  const shape = `postgresql://user:password@host:port/database`;
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new StartError(`${name} is not a URL: write it as ${shape}, with special characters percent-encoded`);
  }
  if (!/^postgres(ql)?:$/.test(url.protocol))
    throw new StartError(`${name} starts with ${url.protocol}//, not postgresql://: write it as ${shape}`);
  const query = url.searchParams;
  const seconds = (key, otherwise) => 1000 * number(query, key, otherwise, name);
  const schema = query.get('schema') || undefined;
  const connectTimeout = seconds('connect_timeout', 5);
  const poolTimeout = seconds('pool_timeout', 10);
  const pool = {
    host: query.get('host') || decode(url.hostname, name).replace(/^\[|\]$/g, '') || 'localhost',
    port: Number(url.port || 5432),
    user: decode(url.username, name),
    password: decode(url.password, name),
    database: decode(url.pathname.slice(1), name),
    max: number(query, 'connection_limit', 10, name) || 1,
    // node-postgres has one limit for the wait in the pool's queue and the connection that may follow it
    connectionTimeoutMillis: connectTimeout && poolTimeout ? Math.max(connectTimeout, poolTimeout) : 0,
    idleTimeoutMillis: seconds('max_idle_connection_lifetime', 300),
    query_timeout: seconds('socket_timeout', 0) || undefined,
    keepAlive: true,
    application_name: query.get('application_name') || 'prisma-engine',
    options: sessionOptions(schema, query.get('options')),
    ssl: tls(query, name),
  };
  if (!pool.database) throw new StartError(`${name} names no database: write it as ${shape}`);
  return { pool, schema };
}

/** Settings of each session. adapter-pg cuts the offset off a timestamptz, so the session's time zone must be UTC. */
function sessionOptions(schema, others) {
  const options = ['-c timezone=UTC'];
  if (schema && schema !== 'public')
    options.push(`-c search_path=${`"${schema.replace(/"/g, '""')}"`.replace(/[\\\s]/g, '\\$&')}`);
  if (others) options.push(others);
  return options.join(' ');
}

function tls(query, name) {
  const mode = query.get('sslmode') || 'prefer';
  if (mode === 'disable' || mode === 'prefer') return undefined;
  const strict = mode.startsWith('verify') || query.get('sslaccept') === 'strict';
  const file = query.get('sslcert');
  if (!file) return { rejectUnauthorized: strict };
  try {
    return { rejectUnauthorized: strict, ca: fs.readFileSync(file, 'utf8') };
  } catch (error) {
    throw new StartError(`${name} has sslcert=${file}, which cannot be read (${error.code}): name a readable PEM file`);
  }
}

function number(query, key, otherwise, name) {
  if (!query.has(key)) return otherwise;
  const text = query.get(key);
  if (!/^\d+$/.test(text)) throw new StartError(`${name} has ${key}=${text}: it must be a whole number`);
  return Number(text);
}

function decode(text, name) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new StartError(`${name} has a % that starts no percent-encoded character: write a % itself as %25`);
  }
}

module.exports = { parseDatabaseUrl };
