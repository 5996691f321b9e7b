'use strict';
(() => {
  const find = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(find(id).textContent);
  const SVG = 'http://www.w3.org/2000/svg';

  function make(namespace, name, attributes, ...children) {
    const node = namespace ? document.createElementNS(namespace, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function figure5() {
    const slider = find('figure-5-slider');
    if (!slider) return;
    const {tasks, reached, sizes} = read('figure-5-data');
    const line = find('figure-5-line');
    const [left, right] = [Number(line.dataset.left), Number(line.dataset.right)];
    slider.addEventListener('input', () => {
      const share = Number(slider.value);
      const x = left + (right - left) * share / 100;
      line.setAttribute('x1', x);
      line.setAttribute('x2', x);
      const total = Object.values(reached).reduce((sum, counts) => sum + counts[share], 0);
      const each = Object.entries(reached).map(([domain, counts]) => `${domain} ${counts[share]} of ${sizes[domain]}`);
      find('figure-5-share').textContent = `${share}%`;
      find('figure-5-reading').textContent =
        `${total} of ${tasks} tasks reach ${share}% of the expert’s score: ${each.join(', ')}.`;
    });
  }

  function videos() {
    const button = find('play');
    const shown = [...document.querySelectorAll('.video')].map((figure) => {
      const image = figure.querySelector('img');
      return {image, still: image.src, moving: figure.querySelector('template').content.firstChild.getAttribute('src')};
    });
    if (!button || !shown.length) return;
    const set = (playing) => {
      for (const {image, still, moving} of shown) image.src = playing ? moving : still;
      button.textContent = playing ? 'Stop the videos' : 'Play the videos';
      button.setAttribute('aria-pressed', String(playing));
    };
    button.hidden = false;
    button.addEventListener('click', () => set(button.getAttribute('aria-pressed') !== 'true'));
    set(!matchMedia('(prefers-reduced-motion: reduce)').matches);
  }

  const percent = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // The strongest patch of a head over all pictures of the step, and how much of the head's attention is on them.
  function strongest(pictures, layer, head) {
    let best = {share: -1};
    for (const [number, picture] of pictures.entries()) {
      picture.weights[layer][head].forEach((share, patch) => {
        if (share <= best.share) return;
        const [row, column] = picture.cells[patch];
        best = {share, number, patch, row: Math.round(row[0] / (row[1] - row[0])) + 1,
                column: Math.round(column[0] / (column[1] - column[0])) + 1};
      });
    }
    best.all = sum(pictures.map((picture) => sum(picture.weights[layer][head])));
    return best;
  }

  function draw(picture, label, ...marks) {
    const {width, height, source} = picture;
    return make(SVG, 'svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label},
                make(SVG, 'image', {href: source, width, height}), ...marks);
  }

  function panel(pictures, layer, head) {
    const best = strongest(pictures, layer, head);
    const label = `Head ${head + 1}: ${percent(best.all)}% of its attention is on the picture, most on row ` +
      `${best.row}, column ${best.column}, ${percent(best.share)}%`;
    const drawings = pictures.map((picture, number) => {
      const places = picture.cells.map(([[top, bottom], [start, end]]) => ({
        x: start * picture.width, y: top * picture.height, width: (end - start) * picture.width,
        height: (bottom - top) * picture.height}));
      const marks = places.map((place, patch) => make(SVG, 'rect', {...place, class: 'patch', 'fill-opacity':
        (0.85 * picture.weights[layer][head][patch] / Math.max(best.share, 1e-9)).toFixed(3)}));
      if (number === best.number) marks.push(make(SVG, 'rect', {...places[best.patch], class: 'strongest'}));
      return draw(picture, label, ...marks);
    });
    const words = make('', 'p', {}, `head ${head + 1}: ${percent(best.all)}% on the picture`);
    return {node: make('', 'div', {}, ...drawings, words), best};
  }

  function attention() {
    const step = find('attention-step');
    if (!step) return;
    const layer = find('attention-layer');
    const steps = read('attention-data');
    const show = () => {
      const {name, pictures} = steps[Number(step.value)];
      const panels = pictures[0].weights[Number(layer.value)].map((_, head) => panel(pictures, Number(layer.value), head));
      const plain = pictures.map((picture) => draw(picture, `The picture of ${name}`));
      find('attention-heads').replaceChildren(
        make('', 'div', {}, ...plain, make('', 'p', {}, 'the picture')), ...panels.map(({node}) => node));
      find('attention-table').querySelector('tbody').replaceChildren(...panels.map(({best}, head) => make('', 'tr', {},
        make('', 'th', {scope: 'row'}, `${head + 1}`),
        ...[percent(best.all), best.row, best.column, percent(best.share)].map((value) =>
          make('', 'td', {class: 'number'}, String(value))))));
      const mean = sum(panels.map(({best}) => best.all)) / panels.length;
      find('attention-reading').textContent =
        `${name}, ${layer.selectedOptions[0].textContent}: on average ${percent(mean)}% of the attention is on the picture.`;
    };
    step.addEventListener('change', show);
    layer.addEventListener('change', show);
    show();
  }

  function map() {
    const legend = find('map-legend');
    if (!legend) return;
    legend.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (!button) return;
      const alone = button.getAttribute('aria-pressed') !== 'true';
      for (const each of legend.querySelectorAll('button')) each.setAttribute('aria-pressed', String(alone && each === button));
      for (const group of find('map-plot').querySelectorAll('g')) {
        group.classList.toggle('away', alone && group.dataset.dataset !== button.dataset.dataset);
      }
    });
  }

  figure5();
  videos();
  attention();
  map();
})();
