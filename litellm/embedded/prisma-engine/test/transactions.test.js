'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { REMEMBERED_MS, Transactions } = require('../src/transactions.js');

test('an open transaction may be used, until it is closed', () => {
  const transactions = new Transactions(() => 0);
  transactions.opened('a', 100);
  assert.strictEqual(transactions.refusal('a', 'query'), undefined);
  transactions.closed('a');
  assert.match(transactions.refusal('a', 'query').error, /Transaction not found/);
});

test('an id that was never given is refused', () => {
  assert.strictEqual(new Transactions().refusal('a', 'commit').user_facing_error.error_code, 'P2028');
});

test('an expired transaction says so in the words that the client looks for, and is forgotten in the end', () => {
  let now = 0;
  const transactions = new Transactions(() => now);
  transactions.opened('a', 100);
  now = 100;
  const { error } = transactions.refusal('a', 'query');
  assert.ok(
    error.startsWith('Transaction already closed: A query cannot be executed on an expired transaction. The timeout'),
  );
  now += REMEMBERED_MS + 1;
  transactions.opened('b', 100);
  assert.deepStrictEqual([...transactions.open.keys()], ['b']);
});
