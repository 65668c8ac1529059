// The gate and its models, from the file that `corral render` (or `corral load-test`, of a running farm) writes.

const path = __ENV.TARGETS || '../targets.json';
export const targets = read();

// What a load test can ask for; transcription and images have no script.
export const ASKED = ['chat', 'embedding', 'rerank'];

function read() {
  let text;
  try {
    text = open(path);
  } catch (error) {
    throw new Error(`${path} cannot be read; write it with: corral render, or run: corral load-test (${error})`);
  }
  return JSON.parse(text);
}

export function modelsOf(...modes) {
  return targets.models.filter((model) => modes.includes(model.mode));
}

// The models of a mode; a farm without one cannot run the script.
export function required(mode) {
  const found = modelsOf(mode);
  if (found.length === 0) throw new Error(`this farm has no ${mode} model; run another script`);
  return found;
}

export function byName(name) {
  return targets.models.find((model) => model.name === name);
}

// How many chats the farm answers at the same time; what a farm without chats does, it does one at a time.
export function chatSlots() {
  return modelsOf('chat').reduce((sum, model) => sum + model.slots, 0) || 1;
}
