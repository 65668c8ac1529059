// Many keys at once: half of them within their limit of requests a minute, half far over it.
//
// Shows: that limits hold (a key over its limit is refused by 429 and gets no more than it was given), and that a
//   greedy key takes nothing from a modest one.
// If a modest key is refused: the gate counts wrongly; see docs/keys.md. If a greedy one gets more: more than one worker
//   without Redis.
//
//   corral load-test keys --duration 60     makes the keys and revokes them
//   With bare k6: -e KEYS='[{"key":"sk-...","rpm":30,"greedy":false}, ...]'

import exec from 'k6/execution';
import { Counter, Rate } from 'k6/metrics';
import { chatWhole, embed } from './lib/gate.js';
import { ofThisRequest, words } from './lib/lengths.js';
import { durationS } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { modelsOf } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const keys = JSON.parse(__ENV.KEYS || '[]');
if (keys.length === 0) throw new Error('KEYS is missing; run `corral load-test keys`, or give KEYS as the header says');
const model = [...modelsOf('embedding'), ...modelsOf('chat')][0];
const modestRefused = new Rate('modest_refused');
const greedyServed = new Counter('greedy_served');
const odd = new Rate('odd'); // neither an answer nor a 429

const greedy = keys.filter((key) => key.greedy);
// A window of a minute that began before the run may end in it: each key may get its limit once more than minutes passed.
const most = greedy.reduce((sum, key) => sum + key.rpm * (Math.ceil(durationS / 60) + 1), 0);

export const options = {
  scenarios: Object.fromEntries(keys.map((key, number) => [`key-${number}`, {
    executor: 'constant-arrival-rate', rate: Math.max(1, Math.round(key.rpm * (key.greedy ? 4 : 0.5))), timeUnit: '1m',
    duration: `${durationS}s`, preAllocatedVUs: 2, maxVUs: 20, env: { KEY: String(number) },
  }])),
  thresholds: {
    ...shownOnly(), modest_refused: ['rate==0'], odd: ['rate<=0.01'], greedy_served: [`count<=${most}`], refused: ['count>0'],
  },
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

// Refusals are what is wanted here, so the share of errors is no objective.
function shownOnly() {
  const found = objectives([model]);
  delete found[`errors{model:${model.name}}`];
  return { ...found, [`errors{model:${model.name}}`]: ['rate>=0'] };
}

export default function () {
  const key = keys[Number(__ENV.KEY)];
  const random = ofThisRequest();
  const tags = { greedy: String(key.greedy), scenario: exec.scenario.name };
  const asked = { messages: [{ role: 'user', content: words(random, 5) }], max_tokens: 1 };
  const { ok, status } = model.mode === 'embedding' ? embed(model, random, 1, tags, key.key) : chatWhole(model, asked, tags, key.key);
  odd.add(!ok && status !== 429);
  if (key.greedy) greedyServed.add(ok ? 1 : 0);
  else modestRefused.add(status === 429);
}

export const handleSummary = summary('keys', 'Refused modest keys or too many answers of greedy ones: read docs/keys.md on workers and Redis.');
