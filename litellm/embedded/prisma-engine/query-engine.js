#!/usr/bin/env node
// Stands in for Prisma's native `query-engine` binary: see README.md.
'use strict';

var OLDEST_NODE = 18; // checked before anything newer than this file's own syntax is loaded
if (parseInt(process.versions.node, 10) < OLDEST_NODE) {
  process.stderr.write('query-engine: Node ' + process.versions.node + ' is too old: install Node ' + OLDEST_NODE);
  process.stderr.write(' or newer\n');
  process.exit(4);
}
require('./src/main.js').main(process.argv.slice(2), process.env);
