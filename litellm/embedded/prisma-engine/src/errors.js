'use strict';

/**
 * Exit codes. Everything that ends the process goes through one of them.
 * The native engine's exit code for a panic is 101, as of every Rust program.
 */
const EXIT = Object.freeze({ configuration: 2, portTaken: 3, nodeTooOld: 4, internal: 70, panic: 101 });

/** Something that whoever starts the engine must mend. `message` is one line: what is wrong, and the mend. */
class StartError extends Error {
  /**
   * @param {string} message
   * @param {number} [exitCode]
   */
  constructor(message, exitCode = EXIT.configuration) {
    super(message);
    this.name = 'StartError';
    this.exitCode = exitCode;
  }
}

/** A request that cannot be understood, or asks for what this engine does not do. The client gets it as P2009. */
class RequestError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'RequestError';
  }
}

/**
 * An error as Prisma's engines send it inside `{"errors": [...]}`.
 *
 * `meta` is never null: prisma-client-py calls `.get` on it without looking.
 *
 * @typedef {{is_panic: boolean, message: string, meta: Record<string, unknown>, error_code: string}} UserFacingError
 * @typedef {{error: string, user_facing_error: UserFacingError}} EngineError
 */

/**
 * @param {string} code Prisma's error code, https://www.prisma.io/docs/orm/reference/error-reference
 * @param {string} message
 * @param {Record<string, unknown>} [meta]
 * @returns {EngineError}
 */
function engineError(code, message, meta = {}) {
  return { error: message, user_facing_error: { is_panic: false, message, meta, error_code: code } };
}

module.exports = { EXIT, StartError, RequestError, engineError };
