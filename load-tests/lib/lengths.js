// Prompts and lengths from a seeded distribution: request n of virtual user v is the same in every run of a seed.

import exec from 'k6/execution';
import { seed, workload } from './settings.js';

// mulberry32 by Tommy Ettinger (public domain): 32 bits of state are enough here, and k6 has no seeded generator.
export function generator(state) {
  let now = state >>> 0;
  return () => {
    now = (now + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(now ^ (now >>> 15), now | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// The generator of this request alone.
export function ofThisRequest() {
  const user = exec.vu.idInTest;
  return generator(Math.imul(seed, 0x9e3779b1) ^ Math.imul(user, 0x85ebca6b) ^ Math.imul(exec.vu.iterationInInstance + 1, 0xc2b2ae35));
}

// A log-normal length: `median` and `sigma` of the logarithm, cut at `least` and `most`.
export function length(random, distribution, most) {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()); // Box and Muller
  const drawn = Math.round(distribution.median * Math.exp(distribution.sigma * normal));
  return Math.max(distribution.least, Math.min(most, drawn));
}

export function words(random, count) {
  const list = workload.words;
  return Array.from({ length: count }, () => list[Math.floor(random() * list.length)]).join(' ');
}

// How many words a prompt and how many tokens an answer may have in a model's context.
export function room(model) {
  return {
    prompt: Math.floor(model.context * workload.context_share.prompt),
    answer: Math.floor(model.context * workload.context_share.answer),
  };
}

// Seconds that a person reads before the next request.
export function thinkTimeS(random) {
  const { least, most } = workload.think_time_s;
  return least + (most - least) * random();
}
