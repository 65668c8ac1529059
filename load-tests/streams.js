// So many streamed chats at the same time, each client asking again at once.
//
// Shows: tokens a second in all, TTFT and time a token at that concurrency; run it at 1, 2, 4, ... to see where more
//   streams bring no more tokens. docs/load-test-findings.md has such a table.
// If TTFT jumps from one step to the next: the slots are used up; if time a token does: the GPU is.
//
//   STREAMS=8 corral load-test streams --duration 60

import { chatOf, chatStream } from './lib/gate.js';
import { ofThisRequest } from './lib/lengths.js';
import { durationS, positive } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { chatSlots, required } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const model = required('chat')[0];

export const options = {
  scenarios: {
    streams: { executor: 'constant-vus', vus: positive('STREAMS', chatSlots()), duration: `${durationS}s`, gracefulStop: '300s' },
  },
  thresholds: objectives([model]),
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

export default function () {
  chatStream(model, chatOf(model, ofThisRequest()));
}

export const handleSummary = summary('streams', 'As many streams as there are slots are what the farm serves well; for more, add a server or slots.');
