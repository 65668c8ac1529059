// Conversations: each turn sends all that was said before, so the context grows and the prompt cache must help.
//
// Shows: how much of a prompt the servers remember ('cached'), and TTFT of first and later turns beside each other.
// If 'cached' is low: conversations move between servers (docs/routing.md), or cache_ram_mib is too small for them.
//
//   corral load-test chat-sessions --duration 120
//   SESSIONS=50 TURNS=6 LEAST_CACHED=0.5 corral load-test chat-sessions     fifty conversations at the same time

import { sleep } from 'k6';
import { chatOf, chatStream } from './lib/gate.js';
import { length, ofThisRequest, thinkTimeS, words } from './lib/lengths.js';
import { durationS, positive, workload } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { required } from './lib/targets.js';
import { objectives } from './lib/thresholds.js';

const model = required('chat')[0];
const sessions = positive('SESSIONS', model.slots);
const turns = positive('TURNS', 5);
const leastCached = Number(__ENV.LEAST_CACHED || 0.4);

export const options = {
  scenarios: { sessions: { executor: 'constant-vus', vus: sessions, duration: `${durationS}s`, gracefulStop: '300s' } },
  thresholds: judged(),
  summaryTrendStats: ['avg', 'med', 'p(95)'],
};

function judged() {
  const found = objectives([model]);
  const limit = [`p(95)<${model.objectives.ttft_p95_s * 1000}`];
  found[`ttft{model:${model.name},turn:first}`] = limit;
  if (turns > 1) {
    found[`ttft{model:${model.name},turn:later}`] = limit;
    found[`cached_share{model:${model.name},turn:later}`] = [`avg>=${leastCached}`];
  }
  return found;
}

export default function () {
  const random = ofThisRequest();
  const asked = chatOf(model, random);
  // A word is a token or so; what all turns say must fit one slot.
  const mostWords = Math.floor((model.context * 0.6) / turns);
  const messages = [{ role: 'user', content: words(random, Math.min(mostWords, length(random, workload.prompt_words, mostWords))) }];
  const maxTokens = Math.min(asked.max_tokens, Math.floor((model.context * 0.2) / turns));
  for (let turn = 0; turn < turns; turn += 1) {
    const answer = chatStream(model, { messages, max_tokens: maxTokens }, { turn: turn === 0 ? 'first' : 'later' });
    if (!answer.ok) return;
    const next = words(random, Math.max(4, Math.floor(mostWords / 4)));
    messages.push({ role: 'assistant', content: answer.text || '...' }, { role: 'user', content: `And now: ${next}` });
    sleep(thinkTimeS(random));
  }
}

export const handleSummary = summary('chat-sessions', 'Where little is cached, read docs/routing.md; else give the model more cache_ram_mib or another server.');
