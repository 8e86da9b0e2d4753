// Filters, and the state of the page, which is kept behind the # of its address.

const state = {verdict: [], proto: '', node: '', name: '', addr: '', q: '', path: null, t: null};
const filtered = () => state.verdict.length > 0 || ['proto', 'node', 'name', 'addr', 'q'].some(k => state[k]);

function hashOf(s) {
  const parts = [];
  const add = (name, value) => { if (value) parts.push(name + '=' + encodeURIComponent(value)); };
  add('verdict', s.verdict.join(','));
  for (const k of ['proto', 'node', 'name', 'addr', 'q']) add(k, s[k]);
  if (s.path !== null) add('path', String(s.path));
  add('t', s.t);
  return '#' + parts.join('&');
}

function readHash() {
  const got = new URLSearchParams(location.hash.slice(1).replaceAll('+', '%2B'));
  state.verdict = (got.get('verdict') || '').split(',').filter(v => VERDICTS.includes(v));
  for (const k of ['proto', 'node', 'name', 'addr', 'q']) state[k] = got.get(k) || '';
  const path = Number.parseInt(got.get('path') || '', 10);
  state.path = groups[path] ? path : null;
  state.t = rowOfID.has(got.get('t')) ? got.get('t') : null;
}

// go changes the state. The way back leads from a packet to the list.
function go(change) {
  const next = hashOf({...state, ...change});
  if (next === hashOf(state)) return;
  if ('t' in change && change.t) location.hash = next;
  else location.replace(next);
}

// matcher answers for a row whether the filters let it through. What can be
// said of a path or an endpoint is said once for each, not for each packet.
function matcher() {
  const terms = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const table = (list, text) => list.map(x => { const s = text(x).toLowerCase(); return terms.map(t => s.includes(t)); });
  const groupHas = table(groups, groupText), endHas = table(endpoints, e => addressText(e) + ' ' + nameText(e));
  const wordHas = new Map();
  const has = (i, k) => {
    if (!wordHas.has(i)) { const s = word(i).toLowerCase(); wordHas.set(i, terms.map(t => s.includes(t))); }
    return wordHas.get(i)[k];
  };
  const inNet = network(state.addr);
  const addr = state.addr ? endpoints.map(e => inNet(addressText(e)) || inNet(e.ip)) : null;
  const natAddr = state.addr ? groups.map(g => g.visits.some(v => v.nat.some(n => [n.from, n.to].some(s => s.split('→').some(inNet))))) : null;
  const isNamed = e => e.pod === state.name || e.service === state.name;
  const named = state.name ? endpoints.map(isNamed) : null;
  const namedPath = state.name ? groups.map(g => g.visits.some(v => isNamed(v) || v.nat.some(isNamed))) : null;
  const ok = groups.map(g => (!state.verdict.length || state.verdict.includes(g.verdict)) && (!state.proto || g.other || g.proto === state.proto) &&
    (!state.node || g.other || g.visits.some(v => v.node === state.node)));
  return r => {
    const g = R.group[r], s = R.src[r], d = R.dst[r];
    return ok[g] && (!groups[g].other || !state.proto || word(R.words[r]).split(' ')[0] === state.proto) && (!addr || addr[s] || addr[d] || natAddr[g]) && (!named || named[s] || named[d] || namedPath[g]) &&
      terms.every((t, k) => groupHas[g][k] || endHas[s][k] || endHas[d][k] || has(R.words[r], k) || has(R.summary[r], k) || R.id[r].startsWith(t) || D.flows[R.flow[r]].startsWith(t));
  };
}

function groupText(g) {
  return [VERDICT_WORDS[g.verdict], whereWords(g.where), spaced(g.reason), g.reason, g.proto, g.reply ? 'reply' : 'request', chain(g),
    ...g.visits.flatMap(v => [v.name, v.node, v.pod, v.bridged ? 'bridged' : '', ...v.nat.map(natText)])].join(' ');
}

// network answers whether an address is the one that was asked for: an address,
// the beginning of one, or a network of IPv4 in CIDR form.
function network(text) {
  const m = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(text.trim());
  if (!m) { const t = text.trim(); return s => s.startsWith(t); }
  const value = s => s.split('.').reduce((n, p) => n * 256 + Number(p), 0);
  const size = 2 ** (32 - Math.min(32, Number(m[2])));
  const net = Math.floor(value(m[1]) / size);
  return s => /^\d+\.\d+\.\d+\.\d+(:\d+)?$/.test(s) && Math.floor(value(s.split(':')[0]) / size) === net;
}

// filterForm makes the controls; each says what it would leave.
function filterForm() {
  const uniq = list => [...new Set(list)].filter(Boolean).sort();
  const select = (name, title, values) => values.length > (name === 'name' ? 0 : 1) && el('label', {}, title, el('select', {name, change: e => go({[name]: e.target.value, path: null})},
    el('option', {value: ''}, 'all'), values.map(v => el('option', {value: v}, v))));
  const input = (name, title, hint) => el('label', {class: name === 'q' && 'wide'}, title, el('input', {name, type: 'search', placeholder: hint, autocomplete: 'off', spellcheck: 'false', input: later(e => go({[name]: e.target.value, path: null}))}));
  byId('filters').append(
    ...[input('q', 'Search', 'pod, device, reason, process, ID …'), input('addr', 'Address', '10.0.0.0/8, 172.23.96.23'),
      select('name', 'Pod or service', uniq([...endpoints, ...groups.flatMap(g => g.visits.flatMap(v => [v, ...v.nat]))].flatMap(e => [e.pod, e.service]))),
      select('node', 'Node', uniq(groups.flatMap(g => g.visits.map(v => v.node)))),
      select('proto', 'Protocol', uniq(groups.map(g => g.proto)))].filter(Boolean),
    el('button', {type: 'button', id: 'clear', click: () => go({verdict: [], proto: '', node: '', name: '', addr: '', q: ''})}, 'Clear'));
  byId('filters').addEventListener('submit', e => e.preventDefault());
}

// later waits until the typing pauses.
function later(f) {
  let timer = 0;
  return e => { clearTimeout(timer); timer = setTimeout(() => f(e), 120); };
}

function showFilters() {
  for (const e of byId('filters').elements) if (e.name && e.value !== state[e.name] && e !== document.activeElement) e.value = state[e.name];
  byId('clear').hidden = !filtered();
  for (const b of document.querySelectorAll('.tile')) b.setAttribute('aria-pressed', String(state.verdict.includes(b.dataset.verdict)));
}
