// What a run is told by its environment. `corral load-test` sets all of it; with bare k6, give it by `-e NAME=value`.
//
//   TARGETS       file with the gate and its models: load-tests/targets.json, rendered from corral.yaml
//   API_KEY       a key of the gate
//   DURATION_S    length of the run in seconds
//   SEED          lengths and words are the same for the same seed
//   WORKLOAD      file with lengths and shares; else workload.json beside the scripts
//   RESULTS       folder for summary.json and summary.html; without it only the table is printed

const DEFAULT_DURATION_S = 120;

export const durationS = positive('DURATION_S', DEFAULT_DURATION_S);
export const seed = positive('SEED', 1);
export const apiKey = __ENV.API_KEY || '';
export const results = __ENV.RESULTS || '';
export const workload = JSON.parse(open(__ENV.WORKLOAD || import.meta.resolve('../workload.json')));

// A whole number from the environment; anything else ends the run before it starts.
export function positive(name, otherwise) {
  const text = __ENV[name];
  if (text === undefined || text === '') return otherwise;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new Error(`${name}=${text} is no number above 0; give one like ${name}=${otherwise}`);
  return value;
}

// A stage or phase as a share of the run, in k6's notation; never nothing.
export function share(part) {
  return `${Math.max(1, Math.round(durationS * part))}s`;
}
