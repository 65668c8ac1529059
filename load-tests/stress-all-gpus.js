// Every model and every server at once, up to twice as many requests as there are slots.
//
// Shows: whether all GPUs take part (each server must answer), what the farm gives at its limit, and whether the
//   objectives of corral.yaml hold while requests wait for a slot.
// If TTFT breaks: requests wait too long. Add a server, lower the limits of keys, or find the safe rate: corral capacity.
// If a server answers nothing: corral status, corral doctor; then its log.
//
//   corral load-test stress-all-gpus --duration 120
//   k6 run -e TARGETS=$PWD/load-tests/targets.json -e API_KEY=sk-... load-tests/stress-all-gpus.js

import exec from 'k6/execution';
import { ask } from './lib/gate.js';
import { ofThisRequest } from './lib/lengths.js';
import { share } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { ASKED, byName, modelsOf } from './lib/targets.js';
import { everyServerAnswers, objectives } from './lib/thresholds.js';

const models = modelsOf(...ASKED);

export const options = {
  scenarios: Object.fromEntries(models.map((model) => [`ramp-${model.name.replace(/[^\w-]/g, '_')}`, ramp(model)])),
  thresholds: { ...objectives(models), ...everyServerAnswers(models) },
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

function ramp(model) {
  return {
    executor: 'ramping-vus', startVUs: 1, gracefulStop: '120s', gracefulRampDown: '120s', env: { MODEL: model.name },
    stages: [
      { duration: share(0.3), target: model.slots },
      { duration: share(0.2), target: model.slots },
      { duration: share(0.2), target: 2 * model.slots },
      { duration: share(0.25), target: 2 * model.slots },
      { duration: share(0.05), target: 1 },
    ],
  };
}

export default function () {
  ask(byName(__ENV.MODEL), ofThisRequest(), { stage: exec.scenario.progress < 0.5 ? 'slots' : 'over' });
}

export const handleSummary = summary(
  'stress-all-gpus',
  'At twice as many requests as slots some wait; if that is too long for you, add a server or limit keys to the rate that corral capacity finds.',
);
