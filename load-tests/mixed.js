// People and programs together: as many users as there are slots for chats, each asking, reading, asking again.
//
// Shows: what users of a farm that is well filled, not overfilled, see. load-tests/locustfile.py sends the same mixture.
// If TTFT breaks here: the farm is too small for as many users as it has slots; see which model, and corral capacity.
//
//   corral load-test mixed --duration 120
//   USERS=20 corral load-test mixed

import { sleep } from 'k6';
import { thinkTimeS } from './lib/lengths.js';
import { mix } from './lib/mix.js';
import { durationS, positive } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { ASKED, chatSlots, modelsOf } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const models = modelsOf(...ASKED);
const users = positive('USERS', chatSlots());

export const options = {
  scenarios: { users: { executor: 'constant-vus', vus: users, duration: `${durationS}s`, gracefulStop: '120s' } },
  thresholds: objectives(models),
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

export default function () {
  sleep(thinkTimeS(mix()));
}

export const handleSummary = summary('mixed', 'Fewer users (USERS=...) show how many it bears; the model whose TTFT broke wants another server.');
