// Strips of tokens, the rows as a whole, and the token in hand. All text goes in as text, never as markup.
{
  const page = JSON.parse(document.getElementById('token-data').textContent);
  const {vocabulary, kinds, rows} = page;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const dataset = (source) => page.sources[source].split('/')[0];
  const datasets = [...new Set(page.sources.map((_, source) => dataset(source)))];
  const WORST = 5;  // nats: a surprise of so much and more has the full colour

  // Values
  const significant = (value, digits) => String(Number(Number(value).toPrecision(digits)));
  function inverseMuLaw(c) {
    return Math.sign(c) * Math.expm1(Math.abs(c) * Math.log1p(vocabulary.mu * vocabulary.m)) / vocabulary.mu;
  }
  // What an id stands for where a token of a kind stands or is predicted: a number, a subword, or the name of the id.
  function decoded(id, kind) {
    const bin = id - vocabulary.continuousStart;
    if (bin >= 0 && bin < vocabulary.bins) {
      const centre = (2 * bin + 1) / vocabulary.bins - 1;
      return significant(kind === 'continuous observation' ? inverseMuLaw(centre) : centre, 4);
    }
    const names = {[vocabulary.separator]: '|', [vocabulary.patch]: 'a patch', [vocabulary.hiddenAction]: 'hidden',
      [vocabulary.padding]: 'padding'};
    if (id in names) return names[id];
    const value = id - vocabulary.discreteStart;
    if (kind.startsWith('discrete') && value >= 0 && value < vocabulary.discreteSize) return String(value);
    return id in page.pieces ? page.pieces[id] : `id ${id}`;
  }
  const visible = (text) => text.replaceAll(' ', '\u2423').replaceAll('\n', '\u23ce');
  const short = (id, kind) => {
    const text = decoded(id, kind);
    return kind.startsWith('continuous') && text !== 'hidden' ? significant(text, 2) : text;
  };
  function spoken(id, kind) {
    const text = decoded(id, kind);
    if (kind === 'text') return `\u201c${text}\u201d`;
    return kind === 'separator' || text === 'a patch' ? '' : text;
  }

  // Elements
  function make(name, properties = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in node && key !== 'role') node[key] = value; else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }
  document.head.append(make('style', {textContent: `.sheet { background-image: url(${page.sheet}); }`}));
  function patchStyle(node, patch, size) {
    const scale = size / 16;
    node.classList.add('sheet');
    node.style.backgroundSize = `${page.sheetSize[0] * scale}px ${page.sheetSize[1] * scale}px`;
    node.style.backgroundPosition = `${-(patch % page.sheetColumns) * size}px ${-Math.floor(patch / page.sheetColumns) * size}px`;
  }

  // Colours of the views
  const hue = (i) => dark.matches ? `hsl(${Math.round(i * 137.5) % 360} 45% 27%)` : `hsl(${Math.round(i * 137.5) % 360} 62% 83%)`;
  let style = new Map();  // of the root's variables: to ask for one makes the browser lay out the page
  function variable(name) {
    if (!style.has(name)) style.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
    return style.get(name);
  }
  const surprise = (row, i) => row.targetChances && row.targetChances[i] !== null ? -Math.log(Math.max(row.targetChances[i], 1e-9)) : null;
  function blend(share) {
    const [from, to] = ['--faint', '--surprise'].map((name) => variable(name).match(/\w\w/g).map((pair) => parseInt(pair, 16)));
    return `rgb(${from.map((value, i) => Math.round(value + share * (to[i] - value))).join(' ')})`;
  }
  const views = {
    kind: {colour: (row, i) => variable(`--kind-${row.kinds[i]}`), legend: () => kinds.map((name, i) => [name, variable(`--kind-${i}`)])},
    segment: {colour: (row, i) => hue(row.segments[i]), legend: () => [['a colour a segment', hue(1)]]},
    prompt: {colour: (row, i) => variable(row.prompts[i] ? '--kind-5' : '--faint'),
      legend: () => [['prompt', variable('--kind-5')], ['window', variable('--faint')]]},
    target: {colour: (row, i) => variable(row.targets[i] < 0 ? '--faint' : '--strong'),
      legend: () => [['its next token is a target', variable('--strong')], ['nothing is learned here', variable('--faint')]]},
    dataset: {colour: (row, i) => hue(datasets.indexOf(dataset(row.sources[i]))),
      legend: () => datasets.map((name, i) => [name, hue(i)])},
    surprise: {colour: (row, i) => surprise(row, i) === null ? variable('--page') : blend(Math.min(surprise(row, i) / WORST, 1)),
      legend: () => [['the target was certain', blend(0)], [`it was ${WORST} nats of surprise, or more`, blend(1)], ['nothing is learned here', variable('--page')]]},
  };

  // Strips
  function label(row, i) {
    const kind = kinds[row.kinds[i]];
    const parts = [`${i}: ${kind} ${spoken(row.ids[i], kind)}`.trim()];
    if (kind !== 'text' && kind !== 'separator') parts.push(page.items[row.items[i]]);
    if (row.targets[i] >= 0) parts.push(`predicts ${spoken(row.targets[i], kinds[row.kinds[i + 1]])}`);
    return parts.join(', ');
  }
  function cell(row, i, options) {
    const kind = kinds[row.kinds[i]];
    const face = make('span', {className: `kind-${row.kinds[i]}`});
    if (row.patches[i] >= 0) {
      face.className += ' patch';
      patchStyle(face, row.patches[i], 26);
    } else if (row.ids[i] === vocabulary.hiddenAction) {
      face.className += ' hidden-action';
      face.textContent = '?';
    } else face.textContent = visible(short(row.ids[i], kind));
    const token = make('div', {className: 'token', role: 'option', tabIndex: -1, 'aria-selected': 'false', 'aria-label': label(row, i)}, face);
    token.dataset.i = i;
    if (options.targets) {
      const on = row.targets[i] >= 0;
      token.append(make('span', {className: on ? 'target on' : 'target',
        textContent: on ? visible(short(row.targets[i], kinds[row.kinds[i + 1]])) : '\u00b7'}));
    }
    if (options.breaks && i && row.steps[i] !== row.steps[i - 1]) token.classList.add('begins');
    return token;
  }
  function draw(strip) {
    const row = rows[strip.dataset.row];
    const cells = [];
    for (let i = Number(strip.dataset.start); i < Number(strip.dataset.stop); i++) {
      cells.push(cell(row, i, {targets: strip.dataset.targets, breaks: strip.dataset.breaks}));
    }
    strip.replaceChildren(...cells);
    if (cells.length) cells[0].tabIndex = 0;
  }

  // The token in hand
  const inspector = make('section', {id: 'inspector', hidden: true, 'aria-label': 'The token'});
  const inside = make('div', {className: 'inside'});
  const close = make('button', {type: 'button', className: 'close', textContent: '\u00d7', 'aria-label': 'Close the token'});
  inspector.append(inside, close);
  document.body.append(inspector);
  let selected = null;

  function placeName(row, i) {
    const place = row.localPlaces[i];
    if (place === page.localPlaces.action) return 'that of all actions';
    if (place === page.localPlaces.separator) return 'that of all separators';
    if (place === page.localPlaces.document) return 'that of all text outside of observations';
    return place === page.localPlaces.last ? `${place}, the last there is` : String(place);
  }
  function facts(row, i) {
    const kind = kinds[row.kinds[i]];
    const source = page.sources[row.sources[i]];
    const number = typeof row.values[i] === 'number';
    const hidden = row.ids[i] === vocabulary.hiddenAction;
    const found = [['id', hidden ? `${row.ids[i]}, which hides the action` : String(row.ids[i])]];
    if (number) found.push(['value', kind.startsWith('continuous') && !hidden ? `${row.values[i]}, kept as ${decoded(row.ids[i], kind)}` : String(row.values[i])]);
    if (row.patches[i] >= 0) {
      const [top, bottom, left, right] = row.intervals[row.patches.slice(0, i).filter((patch) => patch >= 0).length];
      found.push(['patch', `rows ${top} to ${bottom}, columns ${left} to ${right} of 128`]);
    }
    found.push(['item', page.items[row.items[i]]], ['dataset', source]);
    found.push(['episode', `${row.episodes[i]}, timestep ${row.steps[i]}${row.prompts[i] ? ', as a prompt' : ''}`]);
    found.push(['position', `${i} in the row, ${row.places[i]} in segment ${row.segments[i]}`], ['place in the timestep', placeName(row, i)]);
    const target = row.targets[i] < 0 ? 'none: nothing is learned here' : `${visible(decoded(row.targets[i], kinds[row.kinds[i + 1]]))} (id ${row.targets[i]})`;
    found.push(['target', target]);
    return found;
  }
  function guesses(row, i) {
    if (!row.likeliest) return [make('p', {className: 'quiet', textContent: 'No model: give --workdir=RUN of a trained one to see its predictions.'})];
    if (!row.likeliest[i]) return [make('p', {className: 'quiet', textContent: 'The model learns no prediction here.'})];
    const kind = kinds[row.kinds[i + 1]];
    const list = make('ol', {'aria-label': 'The likeliest next tokens'});
    row.likeliest[i].forEach((id, place) => {
      const chance = row.chances[i][place];
      const bar = make('i', {'aria-hidden': 'true'});
      bar.style.width = `${100 * chance}%`;
      const text = visible(decoded(id, kind));
      list.append(make('li', {className: id === row.targets[i] ? 'right' : ''}, make('code', {textContent: text, title: `id ${id}`}), bar,
        make('b', {textContent: `${(100 * chance).toFixed(1)}%`})));
    });
    const chance = row.targetChances[i];
    return [make('p', {textContent: `The model gives the target ${significant(100 * chance, 3)}%.`}), list];
  }
  function show(strip, token) {
    const row = rows[strip.dataset.row], i = Number(token.dataset.i), kind = kinds[row.kinds[i]];
    if (selected) selected.setAttribute('aria-selected', 'false');
    for (const other of strip.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    selected = token;
    token.setAttribute('aria-selected', 'true');
    token.tabIndex = 0;
    const chip = make('span', {className: `kind-${row.kinds[i]}`, textContent: row.patches[i] >= 0 ? '\u00a0' : visible(decoded(row.ids[i], kind))});
    if (row.patches[i] >= 0) {
      chip.style.width = chip.style.height = '48px';
      chip.style.imageRendering = 'pixelated';
      patchStyle(chip, row.patches[i], 48);
    }
    const list = make('dl');
    for (const [name, value] of facts(row, i)) list.append(make('dt', {textContent: name}), make('dd', {textContent: value}));
    inside.replaceChildren(make('p', {className: 'title'}, chip, kind), list, make('div', {}, ...guesses(row, i)));
    inspector.hidden = false;
    document.body.classList.add('inspecting');
  }
  function dismiss() {
    inspector.hidden = true;
    document.body.classList.remove('inspecting');
    if (selected) selected.focus();
  }
  close.addEventListener('click', dismiss);
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !inspector.hidden) dismiss(); });

  function nearestInLine(token, down) {
    const box = token.getBoundingClientRect(), middle = box.left + box.width / 2;
    let best = null, least = Infinity;
    for (const other of token.parentElement.children) {
      const at = other.getBoundingClientRect(), away = down ? at.top - box.top : box.top - at.top;
      const distance = away > 4 ? 10000 * away + Math.abs(at.left + at.width / 2 - middle) : Infinity;
      if (distance < least) [best, least] = [other, distance];
    }
    return best;
  }
  function bring(strip) {
    const tokenOf = (event) => event.target.closest('.token');
    for (const kind of ['pointerover', 'focusin', 'click']) {
      strip.addEventListener(kind, (event) => {
        const token = tokenOf(event);
        if (token && !(kind === 'pointerover' && event.pointerType === 'touch')) show(strip, token);
      });
    }
    strip.addEventListener('keydown', (event) => {
      const token = tokenOf(event);
      if (!token) return;
      const to = {
        ArrowRight: () => token.nextElementSibling, ArrowLeft: () => token.previousElementSibling,
        Home: () => strip.firstElementChild, End: () => strip.lastElementChild,
        ArrowDown: () => nearestInLine(token, true), ArrowUp: () => nearestInLine(token, false),
      }[event.key];
      if (!to) return;
      event.preventDefault();
      (to() || token).focus();
    });
    draw(strip);
  }
  for (const strip of document.querySelectorAll('.tokens')) bring(strip);

  // The control loop
  const next = document.getElementById('next-timestep');
  if (next) {
    const strips = [...document.querySelectorAll('.loop .tokens')];
    const spans = strips.map((strip) => JSON.parse(strip.dataset.spans));
    let step = 0;
    next.addEventListener('click', () => {
      step = (step + 1) % spans[0].length;
      strips.forEach((strip, i) => {
        [strip.dataset.start, strip.dataset.stop] = spans[i][step];
        draw(strip);
      });
      document.getElementById('timestep').textContent = `timestep ${step} of ${spans[0].length}`;
    });
  }

  // Packed rows
  const overview = document.getElementById('overview'), packed = document.getElementById('packed');
  const choice = document.getElementById('row'), legend = document.getElementById('view-legend');
  const view = () => views[document.querySelector('input[name="view"]:checked').value];
  function paint() {
    style = new Map();
    const context = overview.getContext('2d'), colour = view().colour;
    context.fillStyle = variable('--surface');
    context.fillRect(0, 0, overview.width, overview.height);
    page.packed.forEach((number, y) => rows[number].ids.forEach((_, x) => {
      context.fillStyle = colour(rows[number], x);
      context.fillRect(x, y, 1, 1);
    }));
    overview.style.height = `${overview.height * 18}px`;
    legend.replaceChildren(...view().legend().map(([name, value]) => {
      const swatch = make('span', {className: 'swatch', 'aria-hidden': 'true'});
      swatch.style.background = value;
      return make('li', {}, swatch, name);
    }));
    for (const token of packed.children) {
      const face = token.firstElementChild;
      if (!face.classList.contains('patch')) face.style.background = colour(rows[packed.dataset.row], Number(token.dataset.i));
      else face.style.boxShadow = `inset 0 0 0 3px ${colour(rows[packed.dataset.row], Number(token.dataset.i))}`;
    }
  }
  function choose(number) {
    choice.value = String(number);
    packed.dataset.row = number;
    packed.dataset.stop = rows[number].ids.length;
    draw(packed);
    paint();
  }
  choice.addEventListener('change', () => choose(Number(choice.value)));
  overview.addEventListener('click', (event) => {
    const box = overview.getBoundingClientRect();
    choose(page.packed[Math.floor((event.clientY - box.top) / box.height * page.packed.length)]);
    const i = Math.floor((event.clientX - box.left) / box.width * overview.width);
    if (packed.children[i]) packed.children[i].focus();
  });
  for (const radio of document.querySelectorAll('input[name="view"]')) radio.addEventListener('change', paint);
  dark.addEventListener('change', paint);
  choose(Number(choice.value));
}
