// A run's thresholds: the objectives that corral.yaml gives each model.

const SHOWN = {
  ttft: 'p(95)>=0', tpot: 'p(95)>=0', duration: 'p(95)>=0', errors: 'rate>=0', requests: 'count>=0', refused: 'count>=0',
  answered_by: 'count>=0', prompt_tokens: 'count>=0', answer_tokens: 'count>=0', embeddings: 'count>=0', cached_share: 'avg>=0',
};

// k6 keeps a metric apart by its tags only where a threshold names them, so what is merely shown gets one that holds.
export function shown(found, metric, selector) {
  const name = `${metric}{${selector}}`;
  if (!found[name]) found[name] = [SHOWN[metric]];
  return found;
}

// The objectives of models, and everything the table shows of them. `selector` narrows the judged requests: 'phase:after'.
export function objectives(models, selector = '') {
  const found = {};
  for (const model of models) {
    for (const metric of Object.keys(SHOWN)) if (metric !== 'answered_by') shown(found, metric, `model:${model.name}`);
    const judged = `model:${model.name}${selector ? `,${selector}` : ''}`;
    const wanted = model.objectives;
    found[`${model.mode === 'chat' ? 'ttft' : 'duration'}{${judged}}`] = [`p(95)<${wanted.ttft_p95_s * 1000}`];
    if (wanted.duration_p95_s) (found[`duration{${judged}}`] ??= []).push(`p(95)<${wanted.duration_p95_s * 1000}`);
    found[`errors{${judged}}`] = [`rate<=${wanted.error_share}`];
    for (const server of model.servers) shown(found, 'answered_by', `server:${server}`);
  }
  return found;
}

// Every server of these models must have answered something.
export function everyServerAnswers(models) {
  const found = {};
  for (const model of models) for (const server of model.servers) found[`answered_by{server:${server}}`] = ['count>0'];
  return found;
}

export function isObjective(source) {
  return !Object.values(SHOWN).includes(source);
}
