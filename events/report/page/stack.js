// The stack diagram: each namespace that a packet visits is a box of layers.
// The packet's way goes from device to device between the boxes, up into the
// stack, and down again; where it was terminated it ends.

const STACK = {header: 42, socket: 40, row: 30, line: 14, pad: 10, gap: 34, gutter: 50, top: 26};

// textWidth is about how wide a text is in the diagrams' small type.
const textWidth = (s, mono) => [...s].length * (mono ? 6.7 : 6.1);

function cut(s, width, mono) {
  const fits = Math.floor(width / (mono ? 6.7 : 6.1));
  const runes = [...s];
  return runes.length > fits ? runes.slice(0, Math.max(1, fits - 1)).join('') + '…' : s;
}

// wrapped breaks a sentence into lines.
function wrapped(s, width, most) {
  const lines = [''];
  for (const w of s.split(' ')) {
    const last = lines[lines.length - 1];
    if (!last) lines[lines.length - 1] = w;
    else if (textWidth(last + ' ' + w) <= width) lines[lines.length - 1] = last + ' ' + w;
    else lines.push(w);
  }
  if (lines.length > most) lines.splice(most - 1, lines.length, lines.slice(most - 1).join(' '));
  return lines.map(l => cut(l, width));
}

// label is a text that shows all of itself when pointed at.
function label(x, y, shown, full, attrs) {
  return svg('text', {x, y, ...attrs}, shown, shown !== full && svg('title', {}, full));
}

// marksOf lists what is to be said inside a box: head, lines and class each.
function marksOf(p, v, last) {
  const marks = [];
  if (v.entered === 'kernel') marks.push({head: 'made by the kernel', lines: []});
  if (v.entered === 'unknown') marks.push({head: 'beginning not seen', lines: [], kind: 'warn'});
  if (v.bridged) marks.push({head: 'bridged', lines: [v.bridgeNF ? 'netfilter ran from the bridge' : 'not handed to IP']});
  const heads = new Map();
  for (const n of v.nat) {
    const head = natHead(n);
    if (!heads.has(head)) heads.set(head, []);
    heads.get(head).push(n);
  }
  for (const [head, list] of heads) {
    const [from, to] = changed(list[0]);
    const [was, is] = natNames(list[0]);
    const lines = [...from.split('→'), was, '→ ' + to.replace('→', ' → '), is].filter(Boolean);
    if (list.length > 1) lines.push('and ' + plural(list.length - 1, 'other'));
    marks.push({head, lines, kind: 'nat', mono: true, full: list.map(natText).join('\n')});
  }
  if (last && p.verdict === 'terminated') {
    marks.push({head: 'terminated in ' + whereWords(p.where), lines: [p.reason && spaced(p.reason)].filter(Boolean), kind: 'bad', full: p.summary});
  } else if (last && v.left === 'unknown') {
    marks.push({head: VERDICT_WORDS[p.verdict], lines: [p.where && 'last seen: ' + whereWords(p.where), p.reason && spaced(p.reason)].filter(Boolean), kind: 'warn', full: p.summary});
  }
  return marks;
}

// boxOf measures one visit.
function boxOf(p, v, i) {
  const last = i === p.visits.length - 1;
  const box = {v, last, marks: marksOf(p, v, last), up: [], down: []};
  v.devices.forEach((d, k) => (v.out[k] ? box.down : box.up).push(d));
  box.down.reverse(); // the one by which it leaves is at the bottom
  const widest = list => list.reduce((w, d) => Math.max(w, deviceWidth(d)), 0);
  box.left = widest(box.up);
  box.right = widest(box.down);
  const text = box.marks.reduce((w, m) => Math.max(w, textWidth(m.head), ...m.lines.map(l => textWidth(l, m.mono))), 0);
  box.w = Math.min(300, Math.max(132, box.left + box.right + 34, Math.min(text, 200) + 68, textWidth(v.name) * 1.3 + 30, textWidth(kindText(v)) + 24));
  box.inner = box.w - 64;
  for (const m of box.marks) m.lines = m.lines.flatMap(l => m.mono ? [cut(l, box.inner, true)] : wrapped(l, box.inner, 3));
  box.text = box.marks.reduce((h, m) => h + STACK.line * (1 + m.lines.length) + 6, 0);
  box.socketEnd = last && (v.left === 'socket' || (p.verdict === 'terminated' && p.where === 'socket'));
  box.socketStart = i === 0 && v.entered === 'socket';
  return box;
}

// stackDiagram draws the visits of a packet or a path. from and to are who
// holds the sockets at its ends, if that is known.
function stackDiagram(p, from, to) {
  const boxes = p.visits.map((v, i) => boxOf(p, v, i));
  if (!boxes.length) return el('p', {class: 'muted'}, 'No visit is known.');
  const rows = Math.max(1, ...boxes.map(b => Math.max(b.up.length, b.down.length)));
  const y = {top: STACK.top};
  y.socket = y.top + STACK.header;
  y.ip = y.socket + (boxes.some(b => b.socketStart || b.socketEnd) ? STACK.socket : 0);
  y.device = y.ip + 34 + Math.max(0, ...boxes.map(b => b.text));
  y.bottom = y.device + rows * STACK.row + STACK.pad;
  y.wire = y.bottom - STACK.pad - STACK.row / 2;
  let x = STACK.gutter;
  if (boxes[0].v.entered === 'device') x += STACK.gap;
  for (const b of boxes) { b.x = x; x += b.w + STACK.gap; }
  const away = boxes[boxes.length - 1].v.left === 'device' ? 96 : 0;
  const width = x - STACK.gap + away + 12, height = y.bottom + 8;

  const root = svg('svg', {viewBox: `0 0 ${width} ${height}`, width, height, class: 'diagram', role: 'img', 'aria-label': 'Stack diagram: ' + p.summary});
  root.append(...nodeFrames(boxes, y), ...layerNames(boxes, y));
  boxes.forEach((b, i) => root.append(drawBox(p, b, y, i === 0 ? from : '', b.last ? to : '')));
  boxes.forEach((b, i) => root.append(...wires(p, b, boxes[i + 1], y, i)));
  return el('div', {class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Stack diagram'}, root);
}

// nodeFrames frames the boxes that stand on one node.
function nodeFrames(boxes, y) {
  const out = [];
  for (let i = 0; i < boxes.length;) {
    let j = i;
    const node = boxes[i].v.node;
    while (node && j + 1 < boxes.length && boxes[j + 1].v.node === node) j++;
    if (node) {
      const x = boxes[i].x - 9, w = boxes[j].x + boxes[j].w + 9 - x;
      out.push(svg('rect', {x, y: 4, width: w, height: y.bottom, rx: 8, class: 'node-frame'}),
        label(x + 9, 18, cut('node ' + node, w - 12), 'node ' + node, {class: 'node-name'}));
    }
    i = j + 1;
  }
  return out;
}

function layerNames(boxes, y) {
  const out = [];
  const name = (text, at) => out.push(svg('text', {x: 0, y: at, class: 'layer'}, text));
  if (y.ip > y.socket) name('sockets', y.socket + STACK.socket / 2 + 4);
  name('IP', y.ip + 20);
  name('devices', y.wire + 4);
  return out;
}

const kindText = v => (v.kind ? v.kind + ' · ' : '') + (v.kind === 'network' ? 'not counted' : stackWords(v.stacks));

function drawBox(p, b, y, from, to) {
  const v = b.v, g = svg('g', {class: 'box ' + (v.kind || 'unnamed') + (b.last && p.verdict === 'terminated' ? ' ends' : '')});
  g.append(svg('rect', {x: b.x, y: y.top, width: b.w, height: y.bottom - y.top, rx: 6, class: 'frame'}),
    label(b.x + 12, y.top + 18, cut(v.name, (b.w - 24) / 1.3), visitText(v), {class: 'name'}),
    svg('text', {x: b.x + 12, y: y.top + 33, class: 'kind'}, kindText(v)));
  for (const at of y.ip > y.socket ? [y.socket, y.ip, y.device] : [y.ip, y.device]) {
    g.append(svg('line', {x1: b.x, x2: b.x + b.w, y1: at, y2: at, class: 'level'}));
  }
  const socket = (text, end) => {
    const middle = end ? b.x + 36 : b.x + b.w - 36;
    const shown = cut(text, b.w - 48);
    g.append(label(middle, y.socket + STACK.socket / 2 + 4, shown, text, {class: 'socket', 'text-anchor': end ? 'start' : 'end'}));
  };
  if (b.socketStart) socket(from || 'socket', false);
  if (b.socketEnd) socket(to || 'socket', true);
  let at = y.ip + 34;
  for (const m of b.marks) {
    const block = svg('g', {class: 'mark ' + (m.kind || '')}, svg('title', {}, m.full || [m.head, ...m.lines].join(' ')));
    for (const [k, l] of [m.head, ...m.lines].entries()) {
      at += STACK.line;
      block.append(svg('text', {x: b.x + b.w / 2, y: at - 2, 'text-anchor': 'middle', class: k ? (m.mono ? 'mono' : '') : 'head'}, k ? l : cut(l, b.inner + 8)));
    }
    at += 6;
    g.append(block);
  }
  return g;
}

// wires draws the way through a box and on to the next one, with its devices.
function wires(p, b, next, y, i) {
  const v = b.v, out = [], left = b.x + 22, right = b.x + b.w - 22;
  const rowY = k => y.wire - k * STACK.row;
  const turn = v.bridged ? rowY(Math.max(b.up.length, b.down.length, 2) - 1) : y.ip + 16;
  const end = endOf(p, b, y, turn);
  let d = '';
  if (v.entered === 'device') {
    if (i === 0) out.push(arrow(b.x - STACK.gap, b.x + 8, y.wire, false));
    d = `M${b.x + 8} ${y.wire}H${left}V${end.up}`;
  } else {
    const start = b.socketStart ? y.socket + STACK.socket / 2 : turn;
    d = `M${right} ${start}`;
    out.push(svg('circle', {cx: right, cy: start, r: 5, class: v.entered === 'unknown' ? 'dot warn' : 'dot'}));
  }
  if (end.down !== null) d += (v.entered === 'device' ? `H${right}` : '') + `V${end.down}`;
  if (v.left === 'device') d += `H${b.x + b.w - 8}`;
  out.unshift(svg('path', {d, class: 'way' + (v.left === 'unknown' ? ' dashed' : '')}));
  b.up.forEach((name, k) => out.push(device(b.x + 8, rowY(k), name, false)));
  b.down.forEach((name, k) => out.push(device(b.x + b.w - 8, rowY(k), name, true)));
  out.push(...end.signs);
  if (v.left === 'device') {
    if (next) out.push(arrow(b.x + b.w - 8, next.x + 8, y.wire, true));
    else out.push(arrow(b.x + b.w - 8, b.x + b.w + STACK.gap, y.wire, true),
      svg('text', {x: b.x + b.w + STACK.gap + 6, y: y.wire + 4, class: 'layer'}, p.verdict === 'left-node' ? 'left' : '…'));
  }
  return out;
}

// endOf says how far the way goes in a box: up to where it turns or ends, down
// to where it leaves (null: not at all), and the sign that stands at its end.
function endOf(p, b, y, turn) {
  const v = b.v, left = b.x + 22, right = b.x + b.w - 22, socket = y.socket + STACK.socket / 2;
  const entered = v.entered === 'device';
  if (v.left === 'device') return {up: turn, down: y.wire, signs: []};
  if (!b.last) return {up: turn, down: null, signs: []};
  const sign = (x, at, kind, text) => svg('g', {class: 'sign ' + kind}, svg('circle', {cx: x, cy: at, r: 9}), svg('text', {x, y: at + 4, 'text-anchor': 'middle'}, text));
  if (v.left === 'terminated') {
    if (p.where === 'socket' && entered) return {up: socket, down: null, signs: [sign(left, socket, 'bad', '✕')]};
    if (b.down.length || !entered) {
      const at = b.down.length ? y.wire - STACK.row / 2 : turn + 20;
      return {up: turn, down: at, signs: [sign(right, at, 'bad', '✕')]};
    }
    const low = ['bridge', 'device', 'tc', 'queue'].includes(p.where);
    const at = low ? y.device + 2 : turn;
    return {up: at, down: null, signs: [sign(left, at, 'bad', '✕')]};
  }
  if (v.left === 'socket') {
    const kind = p.verdict === 'delivered' ? 'good' : 'warn';
    return entered ? {up: socket, down: null, signs: [sign(left, socket, kind, VERDICT_SIGNS[p.verdict])]} : {up: turn, down: turn, signs: [sign(right, turn, kind, VERDICT_SIGNS[p.verdict])]};
  }
  const at = entered ? left : right;
  return {up: turn, down: entered ? null : turn + 16, signs: [sign(at, entered ? turn : turn + 16, 'warn', VERDICT_SIGNS[p.verdict])]};
}

// deviceText is a device's name; those of Linux have 15 characters at most.
const deviceText = name => cut(name, 120, true);
const deviceWidth = name => textWidth(deviceText(name), true) + 14;

function device(x, y, name, right) {
  const w = deviceWidth(name), x0 = right ? x - w : x;
  return svg('g', {class: 'device' + (name.startsWith('(') ? ' quiet' : '')},
    svg('rect', {x: x0, y: y - 10, width: w, height: 20, rx: 10}),
    label(x0 + w / 2, y + 4, deviceText(name), name, {'text-anchor': 'middle', class: 'mono'}));
}

function arrow(x1, x2, y, head) {
  return svg('path', {d: `M${x1} ${y}H${x2 - (head ? 2 : 0)}` + (head ? `m-6 -4l6 4l-6 4` : ''), class: 'way'});
}
