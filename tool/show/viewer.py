"""Style and script of the report page's gallery and of its viewer, in which a picture opens large.

The script makes masks of the maps in the page (tool/show/report_page.py: map_uri) on canvases: red
is the score in hundredths, green the mask value. It writes text by textContent alone, so no name is
ever read as HTML.
"""

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 5px 12px;
  align-items: center; }
.bars .bar { background: var(--track); border-radius: 3px; height: 12px; }
.bars .bar i { display: block; height: 100%; border-radius: 3px; background: var(--accent); }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; }
.heat { font-size: 12px; } .heat td, .heat th { padding: 3px 6px; border: 0; text-align: right; }
.heat td, .heat td:last-child { width: 34px; min-width: 34px; }
.heat tbody th { font-weight: 400; }
.heat thead th { vertical-align: bottom; text-align: left; }
.heat thead th span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400; }
.first { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 12px; }
.first > div { display: grid; gap: 12px; align-content: start; min-width: 0; }
.first section { margin: 0; padding: 12px 16px; }
.first th, .first td, .first td:last-child { padding: 5px 8px; min-width: 0; }
.first th { white-space: normal; vertical-align: bottom; line-height: 1.25; }
.first td:last-child { white-space: nowrap; }
@media (max-width: 900px) { .first { grid-template-columns: minmax(0, 1fr); } }
.examples .row { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr));
  gap: 5px; width: 100%; padding: 0; border: 0; background: none; color: var(--soft);
  font: 12px/1.3 inherit; font-size: 12px; text-align: left; align-items: start; }
@media (max-width: 500px) { .examples .row { font-size: 10px; gap: 4px; } }
.examples img { width: 100%; max-height: 150px; object-fit: contain; object-position: left top;
  display: block; border-radius: 3px; }
.examples .what { margin: 8px 0 3px; font-size: 13px; }
.what b, figcaption b { font-variant-numeric: tabular-nums; margin-right: 7px; }
button { cursor: pointer; font: inherit; color: inherit; }
button:focus-visible, select:focus-visible, input:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 10px 0 0; font-size: 13px; }
.chip { white-space: nowrap; } .chip i { display: inline-block; width: 12px; height: 12px;
  border-radius: 3px; margin-right: 6px; vertical-align: -1px; border: 1px solid var(--line); }
.controls { display: flex; gap: 14px; align-items: center; margin: 0; flex-wrap: wrap; }
select { font: inherit; padding: 4px 8px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--panel); color: inherit; max-width: 100%; }
.cards { display: grid; gap: 16px 14px; margin-top: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); }
.card { margin: 0; min-width: 0; } .card[hidden] { display: none; }
.card button { display: block; width: 100%; padding: 0; border: 0; background: none; }
.card img { display: block; width: 100%; border-radius: 4px; aspect-ratio: 4 / 3;
  object-fit: contain; object-position: left bottom; }
.card figcaption { margin-top: 4px; font-size: 13px; overflow-wrap: anywhere; }
dialog { border: 0; padding: 12px 16px; margin: auto; width: 100vw; height: 100vh; height: 100dvh;
  max-width: none; max-height: none; background: var(--ground); color: var(--ink); overflow: auto; }
dialog .top { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; }
dialog .top .title { flex: 1 1 200px; overflow-wrap: anywhere; }
dialog .top button { padding: 3px 10px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--panel); }
.views { display: grid; gap: 10px 12px; margin-top: 10px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.view { margin: 0; min-width: 0; }
.view canvas { display: block; width: 100%; max-height: calc(50dvh - 82px); object-fit: contain;
  object-position: left top; border-radius: 4px; }
.view .name { font-size: 13px; font-weight: 600; display: flex; gap: 10px; }
.view .iou { font-weight: 400; color: var(--soft); margin-left: auto;
  font-variant-numeric: tabular-nums; }
.view label { display: flex; gap: 8px; align-items: center; font-size: 13px; }
.view input { flex: 1; min-width: 0; accent-color: var(--accent); }
.view output { font-variant-numeric: tabular-nums; min-width: 4ch; }
@media (max-width: 760px) { .view canvas { max-height: none; } }
"""

VIEWER = """<dialog id="viewer" aria-label="photograph and stages"><div class="top">
<span class="title"></span><button data-do="maps" aria-pressed="false">maps</button>
<button data-do="reset">thresholds as found</button>
<button data-do="previous" aria-label="previous">&larr;</button>
<button data-do="next" aria-label="next">&rarr;</button>
<button data-do="close">close</button></div><p class="legend"></p><div class="views"></div>
<p class="soft">Arrow keys: next and previous photograph. Esc closes. M: maps or masks. IoU: mean
over the classes in mask or ground truth, of the pictures as they are here, so about that of the
files.</p></dialog>"""

SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const select = document.getElementById("class");
const count = document.getElementById("count");
const cards = [...document.querySelectorAll(".card")];
function show() {
  let shown = 0;
  for (const card of cards) {
    card.hidden = select.value !== "" && !card.dataset.classes.split(" ").includes(select.value);
    shown += !card.hidden;
  }
  count.textContent = shown + " of " + cards.length + " images";
}
function fromAddress() {  // report.html#class=3 opens with the filter set, #image=ID with the image
  const match = /^#class=(\\d+)$/.exec(location.hash);
  if (match) select.value = match[1];
  show();
  if (!location.hash.startsWith("#image=")) return;
  const id = decodeURIComponent(location.hash.slice(7));
  const place = data.cards.findIndex(card => card.id === id);
  if (place >= 0) open(place);
}

// ============ the viewer ============
const viewer = document.getElementById("viewer");
const views = viewer.querySelector(".views");
const thresholds = data.stages.map(stage => stage.t);
let current = -1, turn = 0, painters = [], asMaps = false;

async function picture(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}
function pixels(image, width, height, smooth) {  // its RGBA at that size
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = smooth;
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}
function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}
function named(name, text) {  // isolated: a name cannot turn what stands beside it
  const made = element("bdi", "", text);
  if (name) made.className = name;
  return made;
}
function meanIou(labels, truth) {
  const hits = {}, unions = {};
  for (let i = 0; i < truth.length; i++) {
    const right = truth[i], given = labels[i];
    if (right === 255) continue;
    unions[right] = (unions[right] || 0) + 1;
    if (given === right) hits[right] = (hits[right] || 0) + 1;
    else unions[given] = (unions[given] || 0) + 1;
  }
  const names = Object.keys(unions);
  const sum = names.reduce((total, name) => total + (hits[name] || 0) / unions[name], 0);
  return names.length ? 100 * sum / names.length : NaN;
}
function border(one, other) {  // 255 is a border by itself
  return one !== other && one !== 255 && other !== 255;
}
function paint(canvas, photo, labels, heat) {
  const {width, height} = canvas;
  const context = canvas.getContext("2d");
  const made = context.createImageData(width, height), out = made.data;
  for (let i = 0; i < width * height; i++) {
    const label = labels[i];
    let colour = data.palette[label], share = label === 255 ? 0.85 : label ? 0.55 : 0;
    if (heat) { colour = data.heat[Math.min(255, Math.round(heat[i] * 2.55))]; share = 0.5; }
    else if ((i % width + 1 < width && border(label, labels[i + 1])) ||
             (i + width < width * height && border(label, labels[i + width]))) {
      colour = [255, 255, 255];
      share = 1;
    }
    for (let part = 0; part < 3; part++)
      out[4 * i + part] = (1 - share) * photo[4 * i + part] + share * colour[part];
    out[4 * i + 3] = 255;
  }
  context.putImageData(made, 0, 0);
}
function view(name, size) {  // a figure with a canvas of that size
  const figure = element("figure", "view"), line = element("div", "name");
  const canvas = element("canvas"), iou = element("span", "iou");
  canvas.width = size[0];
  canvas.height = size[1];
  line.append(named("", name), iou);
  figure.append(line, canvas);
  views.append(figure);
  return {figure, canvas, iou};
}
function slider(figure, place, repaint) {
  const label = element("label", "", "threshold "), input = element("input");
  const output = element("output");
  Object.assign(input, {type: "range", min: 0, max: 99});
  const update = () => {
    input.value = thresholds[place];
    output.textContent = (thresholds[place] / 100).toFixed(2);
  };
  input.addEventListener("input", () => {
    thresholds[place] = Number(input.value);
    update();
    repaint();
  });
  update();
  label.append(input, output);
  figure.append(label);
  return update;
}
async function layer(place, uri, size, photo, truth) {
  const stage = data.stages[place], shown = view(stage.name, size), image = await picture(uri);
  const sharp = pixels(image, ...size, false), total = size[0] * size[1];
  const smooth = stage.t === null ? null : pixels(image, ...size, true);
  const scores = smooth && Uint8Array.from({length: total}, (_, i) => smooth[4 * i]);
  const labels = new Uint8Array(total);
  const repaint = () => {
    for (let i = 0; i < total; i++)
      labels[i] = scores && scores[i] <= thresholds[place] ? 0 : sharp[4 * i + 1];
    paint(shown.canvas, photo, labels, asMaps && scores);
    shown.iou.textContent = truth ? "IoU " + meanIou(labels, truth).toFixed(1) : "";
  };
  const update = scores ? slider(shown.figure, place, repaint) : () => {};
  repaint();
  return () => { update(); repaint(); };
}
async function open(place) {
  const mine = ++turn;  // whatever was being drawn stops when its turn is over
  current = place;
  const card = data.cards[place];
  const title = viewer.querySelector(".title"), line = viewer.querySelector(".legend");
  title.replaceChildren(element("b", "", card.score === null ? "" : card.score + " "),
    named("", card.id), " ", element("span", "soft", place + 1 + " of " + data.cards.length));
  line.replaceChildren(...card.coloured.map(key => {
    const chip = element("span", "chip"), colour = element("i");
    colour.style.background = "rgb(" + data.palette[key + 1] + ")";
    chip.append(colour, named("", data.classes[key + 1]));
    return chip;
  }));
  if (!viewer.open) viewer.showModal();
  const image = await picture(card.photograph);
  const mask = card.truth && await picture(card.truth);
  if (turn !== mine) return;
  // small photographs enlarged, so that outlines are finer than pixels
  const {naturalWidth: wide, naturalHeight: high} = image;
  const times = Math.max(1, Math.min(3, Math.round(480 / Math.max(wide, high))));
  const size = [wide * times, high * times];
  const photo = pixels(image, ...size, true);
  views.replaceChildren();
  const first = view("photograph", size);
  paint(first.canvas, photo, new Uint8Array(size[0] * size[1]));
  let truth = null;
  if (mask) {
    const sharp = pixels(mask, ...size, false);
    truth = Uint8Array.from({length: size[0] * size[1]}, (_, i) => sharp[4 * i + 1]);
    paint(view("ground truth", size).canvas, photo, truth);
  }
  painters = [];
  for (let i = 0; i < card.layers.length; i++) {
    const painter = await layer(i, card.layers[i], size, photo, truth);
    if (turn !== mine) return;
    painters.push(painter);
  }
  viewer.dataset.shown = card.id;
}
function step(by) {  // to the next card that the filter shows
  for (let place = current + by; place >= 0 && place < cards.length; place += by)
    if (!cards[place].hidden) return open(place);
}
const actions = {
  close: () => viewer.close(),
  next: () => step(1),
  previous: () => step(-1),
  reset: () => {
    data.stages.forEach((stage, place) => { thresholds[place] = stage.t; });
    painters.forEach(painter => painter());
  },
  maps: () => {
    asMaps = !asMaps;
    viewer.querySelector("[data-do=maps]").setAttribute("aria-pressed", asMaps);
    viewer.querySelector("[data-do=maps]").textContent = asMaps ? "masks" : "maps";
    painters.forEach(painter => painter());
  },
};
const keys = {ArrowRight: "next", ArrowLeft: "previous", m: "maps", M: "maps", Escape: "close"};
viewer.addEventListener("click", event => {
  const action = event.target.closest("[data-do]");
  if (action) actions[action.dataset.do]();
});
document.addEventListener("keydown", event => {
  const ours = viewer.open && keys[event.key];
  // on a slider the arrows move it
  if (!ours || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
  event.preventDefault();
  actions[ours]();
});
viewer.addEventListener("close", () => {
  if (viewer.open) return;  // the event comes late: another photograph was opened meanwhile
  delete viewer.dataset.shown;
  current = -1;
  turn++;
});
for (const button of document.querySelectorAll("[data-card]"))
  button.addEventListener("click", () => open(Number(button.dataset.card)));
select.addEventListener("change", show);
addEventListener("hashchange", fromAddress);
fromAddress();
"""
