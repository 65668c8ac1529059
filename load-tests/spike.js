// A quiet farm, a sudden crowd, quiet again.
//
// Shows: that a crowd is queued or refused with 429, never lost, and how soon the farm is itself again.
// Judged: nothing may fail during the crowd but by 429, and afterwards the objectives hold as if it had not been.
// If 'after' breaks: queues are too long for this model; lower its serving.max_queue.
//
//   corral load-test spike --duration 120
//   CROWD=100 corral load-test spike      chats at once in the crowd

import exec from 'k6/execution';
import { sleep } from 'k6';
import { Rate } from 'k6/metrics';
import { chatOf, chatStream } from './lib/gate.js';
import { ofThisRequest, thinkTimeS } from './lib/lengths.js';
import { durationS, positive } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { required } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const model = required('chat')[0];
const crowd = positive('CROWD', 8 * model.slots);
const lost = new Rate('lost'); // neither answered nor refused by 429
// The crowd comes at a quarter of the run and stays for a tenth; 'after' begins when its queue has had as long again.
const [comes, stays, settled] = [0.25, 0.1, 0.6].map((part) => Math.max(1, Math.round(durationS * part)));

export const options = {
  scenarios: {
    quiet: { executor: 'constant-vus', vus: 1, duration: `${durationS}s`, gracefulStop: '120s', exec: 'quiet' },
    crowd: { executor: 'constant-vus', vus: crowd, startTime: `${comes}s`, duration: `${stays}s`, gracefulStop: '600s', exec: 'crowded' },
  },
  thresholds: { ...judged(), lost: ['rate==0'] },
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

function judged() {
  const found = objectives([model], 'phase:after');
  delete found[`errors{model:${model.name},phase:after}`]; // `lost` judges the whole run, more strictly
  return found;
}

function phase() {
  const now = (Date.now() - exec.scenario.startTime) / 1000;
  return now < comes ? 'before' : now < settled ? 'crowd' : 'after';
}

function chat(tags) {
  const random = ofThisRequest();
  const { ok, status } = chatStream(model, chatOf(model, random), tags);
  lost.add(!ok && status !== 429);
  if (status === 429) sleep(1); // a client that honours Retry-After
  return random;
}

export function quiet() {
  sleep(thinkTimeS(chat({ phase: phase() })));
}

export function crowded() {
  chat({ phase: 'crowd' });
}

export const handleSummary = summary('spike', 'Lower serving.max_queue of the model: who cannot be served soon is then told at once.');
