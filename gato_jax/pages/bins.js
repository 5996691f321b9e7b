// The mu-law curve: a value, what it is squashed to, and its bin.
{
  const box = document.getElementById('bins');
  if (box) {
    const {vocabulary} = JSON.parse(document.getElementById('token-data').textContent);
    const {mu, m, bins, continuousStart} = vocabulary;
    const find = (id) => document.getElementById(id);
    const [curve, span, field, slider, output] = ['curve', 'span', 'value', 'slider', 'bin'].map(find);
    const WIDTH = 640, HEIGHT = 320, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 34;
    const law = () => document.querySelector('input[name="law"]:checked').value;
    const clip = (x) => Math.min(1, Math.max(-1, x));
    const muLaw = (x) => Math.sign(x) * Math.log1p(mu * Math.abs(x)) / Math.log1p(mu * m);
    const inverse = (c) => Math.sign(c) * Math.expm1(Math.abs(c) * Math.log1p(mu * m)) / mu;
    const squash = (x) => law() === 'observation' ? muLaw(x) : x;
    const stretch = (c) => law() === 'observation' ? inverse(c) : c;
    const binOf = (x) => Math.min(bins - 1, Math.floor((clip(squash(x)) + 1) / 2 * bins));
    const written = (x) => String(Number(x.toPrecision(4)));
    const reach = () => law() === 'observation' ? Number(span.value) : 1;
    const across = (x) => LEFT + (x / reach() + 1) / 2 * (WIDTH - LEFT - RIGHT);
    const up = (c) => TOP + (1 - c) / 2 * (HEIGHT - TOP - BOTTOM);

    function draw(name, attributes, text = '') {
      const node = document.createElementNS('http://www.w3.org/2000/svg', name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.textContent = text;
      curve.append(node);
    }
    function grid() {
      for (const share of [-1, -0.5, 0, 0.5, 1]) {
        draw('line', {class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: up(share), y2: up(share)});
        draw('line', {class: 'grid', x1: across(share * reach()), x2: across(share * reach()), y1: TOP, y2: HEIGHT - BOTTOM});
        draw('text', {x: LEFT - 6, y: up(share) + 4, 'text-anchor': 'end'}, String(share));
        draw('text', {x: across(share * reach()), y: HEIGHT - BOTTOM + 22, 'text-anchor': share === 1 ? 'end' : 'middle'}, written(share * reach()));
      }
    }
    function update() {
      const value = Math.fround(field.valueAsNumber);
      curve.replaceChildren();
      grid();
      const points = [];
      for (let i = 0; i <= 400; i++) {
        // closer together around 0, where it bends
        const x = reach() * Math.sign(i - 200) * ((i - 200) / 200) ** 2;
        points.push(`${across(x).toFixed(1)},${up(clip(squash(x))).toFixed(1)}`);
      }
      draw('polyline', {class: 'law', points: points.join(' ')});
      if (!Number.isFinite(value)) {
        output.textContent = 'Not a number: an episode with such a value is refused.';
        curve.setAttribute('aria-label', 'The curve without a value');
        return;
      }
      const bin = binOf(value), low = 2 * bin / bins - 1, high = low + 2 / bins, centre = (low + high) / 2;
      const x = across(Math.min(reach(), Math.max(-reach(), value))), y = up(clip(squash(value)));
      draw('rect', {class: 'bin', x: LEFT, width: WIDTH - LEFT - RIGHT, y: up(high), height: up(low) - up(high)});
      draw('path', {class: 'here', d: `M${x} ${HEIGHT - BOTTOM}V${y}H${LEFT}`});
      draw('circle', {cx: x, cy: y, r: 5});
      const outside = Math.abs(squash(value)) > 1;
      const past = outside && law() === 'action' ? ' An action outside [-1, 1] is refused.' : outside ? ' It is beyond the last bin, and clipped.' : '';
      output.textContent = `${written(value)} becomes ${clip(squash(value)).toFixed(4)}: bin ${bin} of ${bins}, id ${continuousStart + bin}. ` +
        `It stands for ${written(stretch(centre))}; the bin goes from ${written(stretch(low))} to ${written(stretch(high))}.${past}`;
      curve.setAttribute('aria-label', `The ${law() === 'observation' ? 'mu-law curve' : 'straight line'}, from ${-reach()} to ${reach()}: ${output.textContent}`);
      slider.setAttribute('aria-valuetext', output.textContent);
    }
    const follow = () => { slider.value = clip(field.valueAsNumber / reach()) || 0; };
    slider.addEventListener('input', () => { field.value = written(slider.value * reach()); update(); });
    field.addEventListener('input', () => { follow(); update(); });
    span.addEventListener('change', () => { follow(); update(); });
    for (const radio of document.querySelectorAll('input[name="law"]')) {
      radio.addEventListener('change', () => { span.disabled = law() === 'action'; follow(); update(); });
    }
    for (const button of document.querySelectorAll('button[data-value]')) {
      button.addEventListener('click', () => {
        const radio = document.querySelector(`input[name="law"][value="${button.dataset.law}"]`);
        radio.checked = true;
        radio.dispatchEvent(new Event('change'));
        const wide = [...span.options].find((option) => Number(option.value) >= Math.abs(button.dataset.value));
        span.value = (wide || span.options[span.options.length - 1]).value;
        field.value = button.dataset.value;
        follow();
        update();
        field.focus();
      });
    }
    follow();
    update();
  }
}
