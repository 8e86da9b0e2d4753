// The data of the page. Texts were made fit to be shown before they came here;
// they are put into the page as text, never as markup.

const byId = id => document.getElementById(id);
const parse = id => JSON.parse(byId(id).textContent);
const D = parse('data');
const R = parse('rows');
const word = i => D.dict[i];

const VERDICTS = ['terminated', 'incomplete', 'in-flight', 'left-node', 'delivered'];

// el makes an element. Attributes that are functions are listeners; children
// are elements or texts; null ones are left out.
function el(tag, attrs, ...children) {
  return fill(document.createElement(tag), attrs, children);
}

function svg(tag, attrs, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attrs, children);
}

function fill(e, attrs, children) {
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') e.addEventListener(name, value);
    else e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat(9).filter(c => c !== null && c !== undefined && c !== false && c !== ''));
  return e;
}

// visit turns a visit of the data into one with its texts.
function visitOf(v) {
  return {
    name: word(v.name), kind: word(v.kind), node: word(v.node), pod: word(v.pod), entered: word(v.entered), left: word(v.left),
    stacks: v.stacks, bridged: v.bridged, bridgeNF: v.bridge_nf, devices: v.devices.map(word), out: v.out, nat: [],
  };
}

// natOf turns [by, kind, masquerade, from, to] and [service, pod, node, mark] into a translation.
function natOf([by, kind, masquerade, from, to], [service, pod, node, mark]) {
  return {by: word(by), kind: word(kind), masquerade, from: word(from), to: word(to), service: word(service), pod: word(pod), node: word(node), mark: word(mark)};
}

// Paths, with the translations in the visits that made them.
const groups = D.groups.map((g, id) => {
  const visits = g.visits.map(visitOf);
  for (const [at, ...n] of g.nat) {
    visits[at].nat.push({...natOf(n.slice(0, 5), n.slice(5, 9)), count: n[9]});
  }
  return {
    id, visits, verdict: g.verdict, where: word(g.where), reason: word(g.reason), proto: word(g.proto), reply: g.reply,
    other: g.other, stacks: g.stacks, l3: g.l3, summary: word(g.summary), same: g.same, count: g.count, lost: g.lost,
    times: g.times, rest: g.rest,
  };
});

const endpoints = D.endpoints.map(([ip, port, pod, service, node, process, pid, stale]) =>
  ({ip: word(ip), port, pod: word(pod), service: word(service), node: word(node), process: word(process), pid, stale: stale === 1}));

const rowOfID = new Map();
for (let i = R.id.length - 1; i >= 0; i--) rowOfID.set(R.id[i], i);

// rowsOfFlow lists the packets of a flow, in order of time.
const rowsOfFlow = (() => {
  let all = null;
  return flow => {
    if (!all) {
      all = new Map();
      R.flow.forEach((f, row) => all.has(f) ? all.get(f).push(row) : all.set(f, [row]));
      for (const list of all.values()) list.sort((a, b) => R.time[a] - R.time[b]);
    }
    return all.get(flow) || [];
  };
})();

// details are the packets of a path that are in the page with their hooks, by
// row. They are read when the path is first looked at.
const details = (() => {
  const cache = new Map();
  return id => {
    if (!cache.has(id)) cache.set(id, byId('d' + id) ? parse('d' + id) : {});
    return cache.get(id);
  };
})();

// packetOf puts together what is known of a packet.
function packetOf(row) {
  const g = groups[R.group[row]];
  const d = details(g.id)[row] || null;
  const visits = (d && d.x ? d.x.map(visitOf) : g.visits).map(v => ({...v, nat: []}));
  const nat = [];
  (d ? d.v : []).forEach(([netns, start, end, hooks, nats], i) => {
    const v = visits[i];
    Object.assign(v, {netns, start, end, hooks: hooksOf(start, hooks)});
    for (const [by, kind, masquerade, hook, ns, from, to, service, pod, node, mark, stale, place] of nats) {
      const n = {...natOf([by, kind, masquerade, from, to], [service, pod, node, mark]), stale, hook: word(hook), ns, place};
      v.nat.push(n);
      nat.push(n);
    }
  });
  return {
    row, group: g, visits, nat, detail: d, verdict: g.verdict, where: g.where, reason: g.reason,
    summary: word(R.summary[row]), words: word(R.words[row]), src: endpoints[R.src[row]], dst: endpoints[R.dst[row]],
  };
}

function hooksOf(start, flat) {
  const list = [];
  let ns = start;
  for (let i = 0; i < flat.length; i += 4) {
    ns += flat[i + 1];
    list.push({hook: word(flat[i]), ns, step: flat[i + 1], device: word(flat[i + 2]), detail: word(flat[i + 3])});
  }
  return list;
}
