// What every script measures; each value carries the tag `model`, and what a script adds.

import { Counter, Rate, Trend } from 'k6/metrics';

// Of a stream: until its first byte. llama-server and the gate send nothing before the first token, so that is the
// time to first token; tests/e2e/test_load_test.py holds it against a client that reads the stream as it comes.
export const ttft = new Trend('ttft', true);
// Of a stream: from the first byte to the last, for each token after the first.
export const tpot = new Trend('tpot', true);
export const duration = new Trend('duration', true);
export const errors = new Rate('errors');
export const refused = new Counter('refused'); // 429, counted among the errors too
export const requests = new Counter('requests');
export const answeredBy = new Counter('answered_by');
export const promptTokens = new Counter('prompt_tokens');
export const answerTokens = new Counter('answer_tokens');
export const embeddings = new Counter('embeddings');
export const cachedShare = new Trend('cached_share'); // of a prompt's tokens, those that the server remembered
