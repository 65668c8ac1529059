'use strict';

/**
 * @typedef {object} Figures
 * @property {number} queries requests and batches passed to the engine since the start
 * @property {number} active of them, running now
 * @property {number} open connections to the database
 * @property {number} idle
 * @property {number} busy
 * @property {number} waiting requests for a connection that wait for one
 */

/** Names and kinds: https://www.prisma.io/docs/orm/prisma-client/observability-and-logging/metrics */
const METRICS = [
  ['counters', 'prisma_client_queries_total', 'queries', 'Total number of Prisma Client queries executed'],
  ['gauges', 'prisma_client_queries_active', 'active', 'Number of currently active Prisma Client queries'],
  [
    'gauges',
    'prisma_client_queries_wait',
    'waiting',
    'Number of Prisma Client queries currently waiting for a connection',
  ],
  ['gauges', 'prisma_pool_connections_open', 'open', 'Number of currently open Pool Connections'],
  ['gauges', 'prisma_pool_connections_idle', 'idle', 'Number of currently unused Pool Connections'],
  ['gauges', 'prisma_pool_connections_busy', 'busy', 'Number of currently busy Pool Connections'],
];

/** @param {Figures} figures @param {Record<string, string>} labels @returns {object} for `Prisma.get_metrics()` */
function metricsAsJson(figures, labels) {
  const answer = { counters: [], gauges: [], histograms: [] };
  for (const [kind, key, figure, description] of METRICS)
    answer[kind].push({ key, value: figures[figure], labels, description });
  return answer;
}

/** @param {Figures} figures @param {Record<string, string>} labels @returns {string} Prometheus' text format */
function metricsAsText(figures, labels) {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(String(value))}`);
  const set = pairs.length ? `{${pairs.join(',')}}` : '';
  const lines = METRICS.flatMap(([kind, key, figure, description]) => [
    `# HELP ${key} ${description}`,
    `# TYPE ${key} ${kind.slice(0, -1)}`,
    `${key}${set} ${figures[figure]}`,
  ]);
  return `${lines.join('\n')}\n`;
}

module.exports = { metricsAsJson, metricsAsText };
