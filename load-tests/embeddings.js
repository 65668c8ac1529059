// Vectors: single texts, then batches.
//
// Shows: vectors a second and p95 by batch size, so which batch your indexing job should send.
// If p95 breaks: smaller batches, or fewer clients (CLIENTS) at a time; a batch is computed as one piece of work.
//
//   corral load-test embeddings --duration 60
//   CLIENTS=4 BATCHES=1,16,64 corral load-test embeddings

import { embed } from './lib/gate.js';
import { ofThisRequest } from './lib/lengths.js';
import { durationS, positive, workload } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { byName, required } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const models = required('embedding');
const clients = positive('CLIENTS', 2);
const batches = (__ENV.BATCHES || `1,${workload.embedding_batch}`).split(',').map(Number);
if (!batches.every((size) => Number.isInteger(size) && size > 0)) throw new Error('BATCHES are whole numbers, like BATCHES=1,16,64');
const partS = durationS / (batches.length * models.length);

const runs = models.flatMap((model) => batches.map((batch) => ({ model, batch })));

export const options = {
  scenarios: Object.fromEntries(runs.map(({ model, batch }, number) => [`part-${number}`, {
    executor: 'constant-vus', vus: clients, startTime: `${Math.round(number * partS)}s`, duration: `${Math.max(1, Math.round(partS))}s`,
    env: { MODEL: model.name, BATCH: String(batch) },
  }])),
  thresholds: judged(),
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

function judged() {
  const found = objectives(models);
  for (const { model, batch } of runs) found[`duration{model:${model.name},batch:${batch}}`] = [`p(95)<${model.objectives.ttft_p95_s * 1000}`];
  return found;
}

export default function () {
  embed(byName(__ENV.MODEL), ofThisRequest(), Number(__ENV.BATCH), { batch: __ENV.BATCH });
}

// The rate of the whole run mixes the batch sizes, so the rate of each is told beside it.
export function handleSummary(data) {
  const files = summary('embeddings', 'Send smaller batches, or fewer at a time; more slots do not help where the CPU or GPU is full.')(data);
  const lines = runs.map(({ model, batch }) => {
    const { med, ['p(95)']: p95 } = data.metrics[`duration{model:${model.name},batch:${batch}}`].values;
    return med ? `${model.name}, ${clients} clients, batches of ${batch}: p50 ${med.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms, about ${((clients * batch * 1000) / med).toFixed(0)} vectors/s` : '';
  });
  files.stdout += `${lines.filter(Boolean).join('\n')}\n`;
  return files;
}
