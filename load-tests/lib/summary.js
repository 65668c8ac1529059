// What a run ends with: a table for people, summary.json for programs, summary.html to pass on.

import { durationS, results, seed } from './settings.js';
import { targets } from './targets.js';
import { isObjective } from './thresholds.js';

// `title` names the script; `advice` says what to do where an objective is not kept.
export function summary(title, advice) {
  return (data) => {
    const found = figures(data, title);
    const text = table(found, advice);
    const files = { stdout: `\n${text}\n` };
    if (results) {
      files[`${results}/summary.json`] = JSON.stringify(found, null, 1);
      files[`${results}/summary.html`] = html(found, advice);
    }
    return files;
  };
}

function figures(data, title) {
  const value = (name, which) => data.metrics[name] && data.metrics[name].values[which];
  const seconds = data.state.testRunDurationMs / 1000;
  const models = targets.models.map((model) => {
    const of = (metric, which) => value(`${metric}{model:${model.name}}`, which);
    const ofChat = (metric, which) => (model.mode === 'chat' ? of(metric, which) || null : null); // k6 gives 0 for none
    return {
      model: model.name, mode: model.mode, requests: of('requests', 'count') || 0, refused: of('refused', 'count') || 0,
      error_share: of('errors', 'rate') || 0, ttft_p50_ms: ofChat('ttft', 'med'), ttft_p95_ms: ofChat('ttft', 'p(95)'),
      duration_p50_ms: of('duration', 'med'), duration_p95_ms: of('duration', 'p(95)'), tpot_p50_ms: ofChat('tpot', 'med'),
      answer_tokens_per_second: (of('answer_tokens', 'count') || 0) / seconds, cached_share: model.mode === 'chat' ? of('cached_share', 'avg') : null,
      embeddings_per_second: (of('embeddings', 'count') || 0) / seconds, requests_per_minute: ((of('requests', 'count') || 0) * 60) / seconds,
    };
  }).filter((model) => model.requests > 0);
  const asked = targets.models.filter((model) => models.some((each) => each.model === model.name)).flatMap((model) => model.servers);
  const servers = asked.map((server) => ({ server, requests: value(`answered_by{server:${server}}`, 'count') || 0 }));
  return { script: title, farm: targets.farm, gate: targets.gate, duration_s: durationS, seconds, seed, models, servers, thresholds: thresholds(data) };
}

function thresholds(data) {
  const found = [];
  for (const [metric, { values, thresholds: its }] of Object.entries(data.metrics)) {
    for (const [source, { ok }] of Object.entries(its || {})) {
      if (isObjective(source)) found.push({ metric, source, found: values[source.match(/^[a-z]+(\([\d.]+\))?/)[0]], kept: ok });
    }
  }
  return found.sort((a, b) => (a.metric < b.metric ? -1 : 1));
}

const blank = (value) => value === undefined || value === null;
const time = (ms) => (blank(ms) ? '-' : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`);
const percent = (share) => (blank(share) ? '-' : `${(share * 100).toFixed(1)} %`);
const rate = (value) => (value ? value.toFixed(1) : '-');

function sections(found) {
  const ofModels = found.models.map((each) => [
    each.model, `${each.requests}`, `${each.requests_per_minute.toFixed(0)}`, percent(each.error_share), `${each.refused}`, time(each.ttft_p50_ms),
    time(each.ttft_p95_ms), time(each.duration_p50_ms), time(each.duration_p95_ms), time(each.tpot_p50_ms), rate(each.answer_tokens_per_second),
    rate(each.embeddings_per_second), percent(each.cached_share),
  ]);
  const total = found.servers.reduce((sum, each) => sum + each.requests, 0) || 1;
  return [
    {
      head: ['model', 'requests', 'a minute', 'errors', 'of these 429', 'TTFT p50', 'TTFT p95', 'answer p50', 'answer p95', 'a token', 'tokens/s', 'vectors/s', 'cached'],
      rows: ofModels,
    },
    { head: ['server', 'answered', 'share'], rows: found.servers.map((each) => [each.server, `${each.requests}`, percent(each.requests / total)]) },
    { head: ['objective', 'found', 'kept'], rows: found.thresholds.map((each) => [words(each), value(each), each.kept ? 'yes' : 'NO']) },
  ];
}

const NAMES = {
  ttft: 'time to first token', duration: 'time of an answer', errors: 'share of errors', answered_by: 'answers', tpot: 'time a token',
  cached_share: 'share of the prompt remembered', requests: 'requests', refused: 'refused by a limit',
  greedy_served: 'answers for greedy keys', modest_refused: 'share of refused modest keys', odd: 'share that got neither answer nor 429',
  lost: 'share that got neither answer nor 429', dropped_iterations: 'requests not sent in time',
};

// 'ttft{model:chat}' and 'p(95)<5000' as 'chat: time to first token, p95 < 5.00 s'.
function words({ metric, source }) {
  const [, name, tags] = metric.match(/^([a-z_]+)(?:\{(.*)\})?$/);
  const subject = (tags || '').split(',').map((tag) => tag.split(':')[1]).join(', ');
  const [, which, sign, limit] = source.match(/^([a-z]+(?:\([\d.]+\))?)([<>=]+)(.*)$/);
  const kind = which.startsWith('p(') ? `, p${which.slice(2, -1)}` : which === 'avg' ? ', mean' : '';
  return `${subject ? `${subject}: ` : ''}${NAMES[name] || name}${kind} ${sign} ${unit(which, name, Number(limit))}`;
}

const value = ({ metric, source, found }) => unit(source.match(/^[a-z]+/)[0], metric.split('{')[0], found);

function unit(which, metric, number) {
  if (blank(number)) return '-';
  if (which === 'rate' || metric === 'cached_share') return percent(number);
  return which === 'count' ? `${number}` : time(number);
}

function table(found, advice) {
  const lines = [`${found.script}: ${found.seconds.toFixed(0)} s, seed ${found.seed}, ${found.gate}`, ''];
  for (const { head, rows } of sections(found)) {
    const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column].length)));
    const line = (cells) => cells.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join('  ').trimEnd();
    lines.push(line(head), ...rows.map(line), '');
  }
  const broken = found.thresholds.filter((each) => !each.kept).length;
  lines.push(broken ? `${broken} of ${found.thresholds.length} objectives are not kept. ${advice}` : `All ${found.thresholds.length} objectives are kept.`);
  return lines.join('\n');
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]);

function html(found, advice) {
  const tables = sections(found).map(({ head, rows }) => {
    const row = (cells, kind) => `<tr>${cells.map((cell) => `<${kind}${cell === 'NO' ? ' class="no"' : ''}>${escaped(cell)}</${kind}>`).join('')}</tr>`;
    return `<table><thead>${row(head, 'th')}</thead><tbody>${rows.map((cells) => row(cells, 'td')).join('')}</tbody></table>`;
  });
  const style = 'body{font:15px system-ui,sans-serif;margin:2em;max-width:90em}table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .8em;border-bottom:1px solid #8884;text-align:right}td:first-child,th:first-child{text-align:left}.no{color:#c00;font-weight:bold}';
  const said = found.thresholds.every((each) => each.kept) ? 'All objectives are kept.' : escaped(advice);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(found.script)}</title><style>${style}</style>` +
    `<h1>${escaped(found.script)}</h1><p>${found.seconds.toFixed(0)} s, seed ${found.seed}, ${escaped(found.gate)}</p>${tables.join('')}<p>${said}</p></html>\n`;
}
