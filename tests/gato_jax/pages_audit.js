// What is wrong with the page that is open, as a list of sentences: the return value of this script.
const problems = [];
const describe = (node) => node.outerHTML.slice(0, 120).replace(/\s+/g, ' ');
const say = (what, node) => problems.push(`${what}: ${describe(node)}`);
const hidden = (node) => node.closest('[aria-hidden="true"], [hidden]') !== null || getComputedStyle(node).display === 'none';
const byId = (ids) => (ids || '').split(/\s+/).filter(Boolean).map((id) => document.getElementById(id));

function named(node) {
  const labels = byId(node.getAttribute('aria-labelledby'));
  if (labels.some((label) => label && label.textContent.trim())) return true;
  const label = node.labels && [...node.labels].some((each) => each.textContent.trim());
  return Boolean(label || (node.getAttribute('aria-label') || '').trim() || (node.getAttribute('title') || '').trim());
}

// Text alternatives
for (const image of document.querySelectorAll('img')) if (!hidden(image) && !(image.alt || '').trim()) say('no alt text', image);
for (const drawing of document.querySelectorAll('svg')) {
  if (!hidden(drawing) && !(drawing.getAttribute('role') === 'img' && named(drawing))) say('no text alternative', drawing);
}
for (const canvas of document.querySelectorAll('canvas')) if (!hidden(canvas) && !named(canvas)) say('no text alternative', canvas);

// Structure
if (!document.documentElement.lang) problems.push('the page has no language');
if (!document.title.trim()) problems.push('the page has no title');
for (const name of ['main', 'h1', 'header']) {
  const count = document.querySelectorAll(`body > ${name}, body > header > ${name}`).length;
  if (count !== 1) problems.push(`${count} elements <${name}>`);
}
let level = 0;
for (const heading of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) say(`heading of level ${next} after level ${level}`, heading);
  if (!heading.textContent.trim()) say('empty heading', heading);
  level = next;
}
const seen = new Set();
for (const node of document.querySelectorAll('[id]')) {
  if (seen.has(node.id)) say('an id that stands twice', node);
  seen.add(node.id);
}
for (const link of document.querySelectorAll('a[href]')) {
  const target = link.getAttribute('href');
  if (target.startsWith('#') && !document.getElementById(target.slice(1))) say('a link to nowhere', link);
}
for (const table of document.querySelectorAll('table')) {
  if (!table.caption && !named(table)) say('a table without caption', table);
  if (!table.querySelector('th')) say('a table without headers', table);
}
for (const attribute of ['aria-labelledby', 'aria-describedby', 'aria-controls']) {
  for (const node of document.querySelectorAll(`[${attribute}]`)) {
    if (byId(node.getAttribute(attribute)).includes(null)) say(`${attribute} of nothing`, node);
  }
}

// Keyboard and touch
for (const node of document.querySelectorAll('button, a[href], input, select, textarea, summary, [tabindex]')) {
  if (hidden(node)) continue;
  if (node.tabIndex > 0) say('a tab order of its own', node);
  const ownText = node.matches('button, a, summary') && (node.textContent.trim() || node.querySelector('img[alt]'));
  if (!ownText && !named(node) && node.id !== 'content') say('no name', node);
  const box = node.getBoundingClientRect();
  const target = node.matches('button, select, summary, input');
  if (target && box.width && (box.width < 23.5 || box.height < 23.5)) say(`${box.width}x${box.height} is too small`, node);
}

// Width: only what scrolls by itself may be wider than the screen
const overflow = document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth;
if (overflow > 0) {
  problems.push(`the page is ${overflow} pixels wider than the screen`);
  const wide = [...document.querySelectorAll('main *')].filter((node) => node.getBoundingClientRect().right > innerWidth + 1);
  for (const node of wide.slice(0, 5)) say('reaches beyond the screen', node);
}
for (const node of document.querySelectorAll('main *')) {
  const scrolls = ['auto', 'scroll'].includes(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth + 1;
  if (scrolls && node.tabIndex < 0 && !node.querySelector('button, a[href], input')) say('scrolls, but not by keyboard', node);
}

// Contrast
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const colours = new Map();
function rgba(colour) {
  if (!colours.has(colour)) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    colours.set(colour, [r, g, b, a / 255]);
  }
  return colours.get(colour);
}
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
function background(node) {
  const layers = [];
  for (let each = node; each; each = each.parentElement) {
    const layer = rgba(getComputedStyle(each).backgroundColor);
    if (layer[3] > 0) layers.push(layer);
    if (layer[3] === 1) break;
  }
  return layers.reduceRight((below, layer) => over(layer, below), rgba('Canvas'));
}
function luminance(colour) {
  const linear = colour.slice(0, 3).map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const complained = new Set();
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || complained.has(node) || node.closest('script, style, option')) continue;
  const box = node.getBoundingClientRect();
  if (!box.width || hidden(node) || node.closest('.hidden')) continue;
  const style = getComputedStyle(node);
  const below = background(node);
  const paint = node.closest('svg') ? style.fill : style.color;
  const ink = over(rgba(paint), below);
  const [light, dark] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) {
    complained.add(node);
    say(`contrast ${ratio.toFixed(2)} of ${paint} on ${below.slice(0, 3).map(Math.round)}`, node);
  }
}
return problems.slice(0, 40);
