'use strict';

const secrets = new Set();

/**
 * Never let `secret` reach the log, whatever message it comes in.
 *
 * @param {string} secret
 */
function hideInLog(secret) {
  if (!secret) return;
  secrets.add(secret);
  secrets.add(encodeURIComponent(secret));
}

/**
 * Make `text` one line, without the secrets.
 *
 * @param {unknown} text
 * @returns {string}
 */
function redact(text) {
  let line = String(text).replace(/\s*[\r\n]+\s*/g, ' ');
  for (const secret of secrets) line = line.split(secret).join('***');
  return line;
}

/**
 * Write one line to standard error.
 *
 * @param {unknown} text
 */
function log(text) {
  process.stderr.write(`query-engine: ${redact(text)}\n`);
}

module.exports = { hideInLog, log, redact };
