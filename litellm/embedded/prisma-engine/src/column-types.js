'use strict';

const { types } = require('pg');
const { parse: parseArray } = require('postgres-array');

/**
 * adapter-pg 5.17 fails a whole query on a column type that it has no name for (`name`, `interval`, `regclass`, `void`,
 * `name[]`, `timestamptz[]`, ...): "Unsupported column type". LiteLLM's raw queries meet some of them in the catalogue.
 * Here such columns become text, or lists of text, and `timestamptz[]` becomes the list of times that it is.
 *
 * Numbers are PostgreSQL's type OIDs: https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
 */
const TEXT = 25;
const TEXT_ARRAY = 1009;
const TIMESTAMP_ARRAY = 1115;
const TIMESTAMPTZ_ARRAY = 1185;

/** Types that adapter-pg knows: `fieldToColumnType` in its conversion.ts. OIDs from 10000 on are users' types: text. */
const KNOWN = new Set([
  16, 17, 20, 21, 23, 25, 26, 114, 142, 143, 199, 650, 651, 700, 701, 790, 791, 869, 1000, 1001, 1002, 1005, 1007, 1009,
  1014, 1015, 1016, 1021, 1022, 1028, 1041, 1042, 1043, 1082, 1083, 1114, 1115, 1182, 1183, 1184, 1231, 1266, 1560,
  1561, 1562, 1563, 1700, 2950, 2951, 3802, 3807,
]);
const FIRST_USER_OID = 10000;

/**
 * Arrays of the types that it does not know: name, int2vector, regproc, tid, xid, cid, oidvector, point, lseg, path,
 * polygon, line, circle, macaddr, aclitem, interval, timetz, regtype and kin, pg_lsn, tsvector, ranges.
 * Not box[], which separates by `;`.
 */
const UNKNOWN_ARRAYS = new Set([
  1003, 1006, 1008, 1010, 1011, 1012, 1013, 1017, 1018, 1019, 1027, 629, 719, 1040, 1034, 1187, 1270, 2207, 2208, 2209,
  2210, 2211, 3221, 3643, 3645, 3735, 3770, 3905, 3907, 3909, 3911, 3913, 3927,
]);
/** Types that node-postgres would parse into objects of its own: point, circle, interval. */
const PARSED_SCALARS = [600, 718, 1186];

/** Make node-postgres hand these types over as text; the setting is the process's. */
function registerParsers() {
  for (const oid of PARSED_SCALARS) types.setTypeParser(oid, (text) => text);
  for (const oid of UNKNOWN_ARRAYS) types.setTypeParser(oid, (text) => parseArray(text, (item) => item));
  // The offset is +00: sessions are in UTC
  types.setTypeParser(TIMESTAMPTZ_ARRAY, (text) => parseArray(text, (item) => item.split('+')[0]));
}

/** @param {number} oid @returns {number} the OID of a type that adapter-pg takes, with values of the same form */
function acceptedType(oid) {
  if (KNOWN.has(oid) || oid >= FIRST_USER_OID) return oid;
  if (oid === TIMESTAMPTZ_ARRAY) return TIMESTAMP_ARRAY;
  return UNKNOWN_ARRAYS.has(oid) ? TEXT_ARRAY : TEXT;
}

module.exports = { acceptedType, registerParsers };
