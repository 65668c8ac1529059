// The mixed load while servers die under it.
//
// Shows: that a server's death costs the requests it was answering and no others, and that it comes back by itself.
//   `corral load-test chaos` kills (SIGKILL) the llama-server of one server after another; with bare k6 give
//   GPU_SERVER_KEY, and the script restarts servers over HTTP, which is kinder than death.
// If the share of errors breaks: see x-corral-server of the failures (SHOW_ERRORS=1); retries want a second server.
//
//   corral load-test chaos --duration 120

import exec from 'k6/execution';
import http from 'k6/http';
import { sleep } from 'k6';
import { thinkTimeS } from './lib/lengths.js';
import { mix } from './lib/mix.js';
import { durationS, positive } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { ASKED, chatSlots, modelsOf, targets } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const models = modelsOf(...ASKED);
const users = positive('USERS', chatSlots());
const serverKey = __ENV.GPU_SERVER_KEY || '';
const BORNE = 0.1; // a server's death takes what it was answering: at most its slots, twice in a run
// Only servers that another stands in for: the death of a model's only server is the death of the model.
const victims = models.filter((model) => model.servers.length > 1).flatMap((model) => model.servers);

export const options = {
  scenarios: {
    users: { executor: 'constant-vus', vus: users, duration: `${durationS}s`, gracefulStop: '120s' },
    ...(serverKey && victims.length > 0 ? { restarts: {
      executor: 'constant-arrival-rate', rate: 1, timeUnit: `${Math.max(10, Math.round(durationS / 3))}s`, duration: `${durationS}s`,
      preAllocatedVUs: 1, exec: 'restart',
    } } : {}),
  },
  thresholds: judged(),
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

function judged() {
  const found = objectives(models);
  for (const model of models) found[`errors{model:${model.name}}`] = [`rate<=${BORNE}`];
  return found;
}

export default function () {
  sleep(thinkTimeS(mix()));
}

export function restart() {
  const name = victims[exec.scenario.iterationInTest % victims.length];
  const server = targets.servers.find((each) => each.name === name);
  http.post(`${server.url}/restart`, null, { headers: { authorization: `Bearer ${serverKey}` } });
}

export const handleSummary = summary('chaos', 'A farm of one server a model cannot do better; with two, see docs/faults.md for what each death costs.');
