'use strict';

/**
 * Rows of a raw query. The 5.17 engine answers `{columns, types, rows}`; prisma-client-py before 0.14 (`_raw_query.py`)
 * reads one object a row, each cell with its type: `{"n": {"prisma__type": "int", "prisma__value": 1}}`.
 *
 * A column name that occurs twice keeps its last value, as in the native engine of that client.
 *
 * @param {{columns: string[], types: string[], rows: unknown[][]}} table
 * @returns {Record<string, Cell>[]}
 *
 * @typedef {{prisma__type: string, prisma__value: unknown}} Cell
 */
function rawRows({ columns, types, rows }) {
  return rows.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], cell(types[i], value)])));
}

/** @param {string} type e.g. `int`, `string-array` @param {unknown} value @returns {Cell} */
function cell(type, value) {
  if (value === null) return { prisma__type: 'null', prisma__value: null };
  if (!type.endsWith('-array')) return { prisma__type: type, prisma__value: value };
  const item = type.slice(0, -'-array'.length);
  return { prisma__type: 'array', prisma__value: value.map((element) => cell(item, element)) };
}

module.exports = { rawRows };
