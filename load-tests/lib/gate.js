// Requests to the gate, each one measured and judged.

import http from 'k6/http';
import { length, room, words } from './lengths.js';
import * as metrics from './metrics.js';
import { apiKey, workload } from './settings.js';
import { targets } from './targets.js';

const TIMEOUT = '600s'; // the gate's own: a request that it gives up is its error, not ours

// A chat of lengths drawn for this request.
export function chatOf(model, random) {
  const most = room(model);
  const prompt = words(random, length(random, workload.prompt_words, most.prompt));
  return {
    messages: [{ role: 'user', content: `Tell a story with these words: ${prompt}` }],
    max_tokens: length(random, workload.answer_tokens, most.answer),
  };
}

// Ask for a streamed chat; returns {ok, text, tokens}.
export function chatStream(model, asked, tags = {}, key = apiKey) {
  const body = { model: model.name, ...asked, stream: true, stream_options: { include_usage: true } };
  const answer = post('/v1/chat/completions', body, key);
  const whole = answer.status === 200 && answer.body.includes('data: [DONE]') && !answer.body.includes('"error":');
  record(model, answer, whole, tags);
  if (!whole) return { ok: false, status: answer.status, text: '', tokens: 0 };
  const used = usage(answer.body);
  const marked = { model: model.name, ...tags };
  metrics.ttft.add(answer.timings.waiting, marked);
  if (used.answer > 1) metrics.tpot.add(answer.timings.receiving / (used.answer - 1), marked);
  count(used, marked);
  return { ok: true, status: 200, text: contentOf(answer.body), tokens: used.answer };
}

// Ask for a chat in one piece.
export function chatWhole(model, asked, tags = {}, key = apiKey) {
  const answer = post('/v1/chat/completions', { model: model.name, ...asked }, key);
  const ok = answer.status === 200 && answer.body.includes('"choices"');
  record(model, answer, ok, tags);
  if (ok) count(usage(answer.body), { model: model.name, ...tags });
  return { ok, status: answer.status };
}

// Ask for the vectors of so many texts.
export function embed(model, random, batch, tags = {}, key = apiKey) {
  const most = room(model).prompt;
  const input = Array.from({ length: batch }, () => words(random, length(random, workload.embedding_words, most)));
  const answer = post('/v1/embeddings', { model: model.name, input }, key);
  const ok = answer.status === 200 && (answer.body.match(/"embedding":/g) || []).length >= batch;
  record(model, answer, ok, tags);
  if (ok) metrics.embeddings.add(batch, { model: model.name, ...tags });
  return { ok, status: answer.status };
}

// Ask for the order of eight texts.
export function rerank(model, random, tags = {}, key = apiKey) {
  const most = Math.floor(room(model).prompt / 2); // query and document share a context
  const text = () => words(random, length(random, workload.embedding_words, most));
  const body = { model: model.name, query: text(), documents: Array.from({ length: 8 }, text) };
  const answer = post('/v1/rerank', body, key);
  const ok = answer.status === 200 && answer.body.includes('relevance_score');
  record(model, answer, ok, tags);
  return { ok, status: answer.status };
}

// What the mode of a model is asked for.
export function ask(model, random, tags = {}, key = apiKey) {
  if (model.mode === 'chat') return chatStream(model, chatOf(model, random), tags, key);
  if (model.mode === 'embedding') return embed(model, random, workload.embedding_batch, tags, key);
  return rerank(model, random, tags, key);
}

function post(path, body, key) {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
  const response = http.post(`${targets.gate}${path}`, JSON.stringify(body), { headers, timeout: TIMEOUT, tags: { name: path } });
  return { status: response.status, body: response.body || '', timings: response.timings, headers: response.headers };
}

function record(model, answer, ok, tags) {
  const marked = { model: model.name, ...tags };
  metrics.requests.add(1, marked);
  metrics.errors.add(!ok, marked);
  if (ok) metrics.duration.add(answer.timings.duration, marked);
  if (answer.status === 429) metrics.refused.add(1, marked);
  const server = answer.headers['X-Corral-Server'];
  if (ok && server) metrics.answeredBy.add(1, { server });
  if (!ok && __ENV.SHOW_ERRORS) console.warn(`${model.name}: ${answer.status} ${answer.body.slice(-300)}`);
}

function count(used, marked) {
  metrics.promptTokens.add(used.prompt, marked);
  metrics.answerTokens.add(used.answer, marked);
  if (used.prompt > 0) metrics.cachedShare.add(used.cached / used.prompt, marked);
}

// A stream's usage comes last, so the last figure counts.
function usage(body) {
  const last = (name) => Number((body.match(new RegExp(`"${name}":\\s*(\\d+)`, 'g')) || ['0']).pop().match(/\d+$/)[0]);
  return { prompt: last('prompt_tokens'), answer: last('completion_tokens'), cached: last('cached_tokens') };
}

function contentOf(body) {
  let text = '';
  for (const line of body.split('\n')) {
    if (!line.startsWith('data: {')) continue;
    const choice = JSON.parse(line.slice(6)).choices[0];
    text += (choice && choice.delta && choice.delta.content) || '';
  }
  return text;
}
