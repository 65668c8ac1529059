'use strict';

const { engineError } = require('./errors.js');

/** How long an expired transaction is still told from one that never was. */
const REMEMBERED_MS = 60_000;
const NOT_FOUND = 'Transaction not found. Its ID is invalid, or it was closed a while ago.';

/**
 * The interactive transactions that are open. The WebAssembly engine panics on an id that it does not know, and it
 * knows only its last hundred closed ones, so it is asked about none but these.
 *
 * Messages are the native engine's: prisma-client-py tells an expired transaction by how its message begins.
 */
class Transactions {
  /** @param {() => number} [now] milliseconds */
  constructor(now = Date.now) {
    this.now = now;
    /** @type {Map<string, {timeout: number, expires: number}>} */
    this.open = new Map();
  }

  /** @param {string} id @param {number} timeout milliseconds */
  opened(id, timeout) {
    for (const [other, { expires }] of this.open) if (expires + REMEMBERED_MS < this.now()) this.open.delete(other);
    this.open.set(id, { timeout, expires: this.now() + timeout });
  }

  /** @param {string} id */
  closed(id) {
    this.open.delete(id);
  }

  /**
   * @param {string} id
   * @param {'query' | 'commit' | 'rollback'} what is to be done in it
   * @returns {import('./errors.js').EngineError | undefined} why that cannot be, or undefined
   */
  refusal(id, what) {
    const transaction = this.open.get(id);
    if (!transaction) return engineError('P2028', `Transaction API error: ${NOT_FOUND}`);
    if (this.now() < transaction.expires) return undefined;
    const closed = `Transaction already closed: A ${what} cannot be executed on an expired transaction.`;
    const message = `${closed} The timeout for this transaction was ${transaction.timeout} ms.`;
    return { ...engineError('P2028', `Transaction API error: ${message}`), error: message };
  }
}

module.exports = { Transactions, REMEMBERED_MS };
