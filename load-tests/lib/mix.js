// One request of the mixture in workload.json: streamed chats, whole chats, vectors.

import { chatOf, chatStream, chatWhole, embed } from './gate.js';
import { ofThisRequest } from './lengths.js';
import { workload } from './settings.js';
import { modelsOf } from './targets.js';

const chats = modelsOf('chat');
const embedders = modelsOf('embedding');

// Ask one model, drawn by the shares; returns the request's generator for what comes after.
export function mix(tags = {}) {
  const random = ofThisRequest();
  const pick = (list) => list[Math.floor(random() * list.length)];
  const drawn = random();
  const { chat_stream: streamed, chat_whole: whole } = workload.shares;
  if (embedders.length > 0 && (chats.length === 0 || drawn >= streamed + whole)) {
    embed(pick(embedders), random, workload.embedding_batch, tags);
  } else if (chats.length === 0) {
    throw new Error('this farm has neither a chat nor an embedding model; run another script');
  } else {
    const model = pick(chats);
    (drawn < streamed ? chatStream : chatWhole)(model, chatOf(model, random), tags);
  }
  return random;
}
