// The mixed load at a bearable rate for a long time.
//
// Shows: what changes with time and not with load: memory, descriptors, restarts, latency that creeps up.
//   `corral load-test soak` watches the farm's processes beside it, and holds the run's last third against its first.
//   A chat server's memory grows until its prompt cache (cache_ram_mib) is full: soak until it is.
// If memory or descriptors grow: the table names the part; its log and corral doctor come next.
//
//   corral load-test soak --duration 3600
//   RATE_RPM=60 corral load-test soak --duration 3600     requests a minute of all models together

import { objectives } from './lib/thresholds.js';
import { mix } from './lib/mix.js';
import { durationS, positive } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { ASKED, chatSlots, modelsOf } from './lib/targets.js';

const slots = chatSlots();
const rateRpm = positive('RATE_RPM', 12 * slots); // a slot is busy for some two seconds in five

export const options = {
  scenarios: {
    steady: {
      executor: 'constant-arrival-rate', rate: rateRpm, timeUnit: '1m', duration: `${durationS}s`, gracefulStop: '120s',
      preAllocatedVUs: 2 * slots, maxVUs: 40 * slots,
    },
  },
  thresholds: { ...objectives(modelsOf(...ASKED)), dropped_iterations: ['count<1'] },
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

export default function () {
  mix();
}

export const handleSummary = summary('soak', 'Halve RATE_RPM: if it still breaks, the load is not the cause; see the parts below.');
