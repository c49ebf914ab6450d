// The document: the list of faces, the chosen one, filters, keys. Every text is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const VERDICTS = ["mislabelled", "ambiguous", "clean"];
const GAP = 12, NAMES = 40, MARGIN = 3;  // pixels between tiles and below an image; rows drawn out of sight

const review = new Review(DATA, storage());
const filters = { verdict: "all", given: "", suggested: "", split: "", review: "all", least: 0, sort: "score" };
let list = [], at = 0, drawn = new Map();
let byMouse = false;  // whether the last thing that the user did was with the mouse, or a finger

/** The browser's storage, or one that forgets, where the page may not use it. */
function storage() {
  try {
    return window.localStorage;
  } catch {
    return { getItem() { throw new Error("no storage"); }, setItem() { throw new Error("no storage"); } };
  }
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0) + " %";
const source = (face) => "data:image/jpeg;base64," + face.jpeg;
const name = (label) => DATA.classes[label];
const current = () => list[at];

function wording(face, decision) {
  if (!decision) return "";
  return { relabel: "→ " + name(decision.to), distribution: "distribution", drop: "dropped", keep: "kept", skip: "skipped" }[decision.action];
}

function described(face, place) {
  const parts = [`face ${place + 1}`, `labelled ${name(face.label)}`, `suggested ${name(face.suggested)}`, face.verdict, `score ${face.score.toFixed(2)}`];
  const decision = review.of(face);
  return parts.concat(decision ? [wording(face, decision).replace("→", "relabelled")] : []).join(", ");
}

// The list: only rows in sight are in the document, so that thousands of faces open at once.

function columns() {
  const least = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--tile"));
  const width = $("tiles").clientWidth + GAP;
  const count = Math.max(1, Math.floor(width / (least + GAP)));
  const tile = Math.floor(width / count) - GAP;
  return { count, tile, height: tile + NAMES + GAP };
}

function drawList() {
  const { count, tile, height } = columns(), grid = $("grid");
  const rows = Math.ceil(list.length / count);
  $("tiles").style.height = Math.max(0, rows * height - GAP) + "px";
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - MARGIN);
  const last = Math.min(rows, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + MARGIN);
  const wanted = new Map();
  for (let place = first * count; place < Math.min(last * count, list.length); place++) wanted.set(place, list[place]);
  for (const [place, tileElement] of drawn) {
    if (wanted.get(place) !== tileElement.face) { tileElement.remove(); drawn.delete(place); }
  }
  for (const [place, face] of wanted) {
    if (!drawn.has(place)) { drawn.set(place, makeTile(face)); $("tiles").append(drawn.get(place)); }
    const made = drawn.get(place);
    made.style.width = tile + "px";
    made.style.height = tile + NAMES + "px";
    made.style.left = (place % count) * (tile + GAP) + "px";
    made.style.top = Math.floor(place / count) * height + "px";
    update(made, face, place);
  }
  if (list.length) grid.setAttribute("aria-activedescendant", "tile-" + at);
  else grid.removeAttribute("aria-activedescendant");
}

function makeTile(face) {
  const thumb = element("div", { class: "thumb" });
  thumb.append(face.jpeg ? element("img", { src: source(face), alt: "", draggable: "false" }) : element("p", {}, "no image"));
  const names = element("div", { class: "names" }, element("span"), element("span", { class: "number" }), element("b"));
  const tile = element("div", { class: "tile", role: "option" }, thumb, names, element("span", { class: "badge" }));
  tile.face = face;
  tile.addEventListener("click", () => { choose(tile.place); toList(); });
  return tile;
}

function update(tile, face, place) {
  const state = review.state(face), [given, score] = tile.querySelectorAll(".names span");
  tile.place = place;
  tile.id = "tile-" + place;
  tile.setAttribute("aria-selected", String(place === at));
  tile.setAttribute("aria-setsize", list.length);
  tile.setAttribute("aria-posinset", place + 1);
  tile.setAttribute("aria-label", described(face, place));
  tile.classList.toggle("decided", state === "decided");
  given.textContent = name(face.label);
  score.textContent = face.score.toFixed(2);
  const below = tile.querySelector("b"), badge = tile.querySelector(".badge");
  below.className = face.verdict;
  below.textContent = face.verdict === "clean" ? "as given" : face.verdict === "ambiguous" ? "ambiguous" : "→ " + name(face.suggested);
  badge.hidden = state === "open";
  badge.classList.toggle("light", state === "skipped");
  badge.textContent = wording(face, review.of(face));
}

function choose(place) {
  at = Math.max(0, Math.min(place, list.length - 1));
  const { count, height } = columns(), grid = $("grid");
  const top = Math.floor(at / count) * height, bottom = top + height + GAP;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (bottom > grid.scrollTop + grid.clientHeight) grid.scrollTop = bottom - grid.clientHeight;
  draw();
}

// The chosen face.

function drawFace() {
  const face = current();
  $("nothing").hidden = Boolean(face);
  $("face").hidden = !face;
  if (!face) return;
  const alt = `Face labelled ${name(face.label)}, enlarged`;
  $("picture").replaceChildren(face.jpeg ? element("img", { src: source(face), alt }) : element("p", {}, "This page embeds no images. " + face.path));
  const chip = element("span", { class: "chip " + face.verdict }, face.verdict);
  const pair = face.suggested === face.label ? name(face.label) : `${name(face.label)} → ${name(face.suggested)}`;
  $("pair").replaceChildren(pair + " ", chip);
  const facts = [face.split, face.path, `score ${face.score.toFixed(3)}`];
  if (face.copies > 1) facts.push(`${face.copies} identical images with this label: decided together`);
  if (face.duplicates) facts.push(face.duplicates === 1 ? "1 near-identical image" : `${face.duplicates} near-identical images`);
  $("place").textContent = facts.join(" · ");
  const decision = review.of(face);
  $("decision").textContent = decision ? "Decided: " + wording(face, decision).replace("→ ", "") : "";
  drawClasses(face, decision);
  drawTriangle(face);
  const word = { relabel: `Accept ${name(face.suggested)}`, distribution: "Accept distribution", keep: `Accept ${name(face.label)}` };
  $("accept").querySelector("span").textContent = word[review.suggestion(face).action];
}

function drawClasses(face, decision) {
  const label = decision && (decision.action === "relabel" ? decision.to : decision.action === "keep" ? face.label : -1);
  const buttons = $("classes").querySelectorAll("button");
  DATA.classes.forEach((text, c) => {
    const button = buttons[c], isGiven = c === face.label, isSuggested = c === face.suggested && !isGiven;
    button.className = isGiven ? "given" : isSuggested ? "suggested" : "";
    button.setAttribute("aria-pressed", String(c === label));
    const role = isGiven ? ", given" : isSuggested ? ", suggested" : "";
    const share = face.q ? `, suggested share ${percent(face.q[c])}` : "";
    button.setAttribute("aria-label", `${text}${role}, probability ${percent(face.p[c])}${share}`);
    const [bar, second] = button.querySelectorAll(".bars i");
    bar.style.width = 100 * face.p[c] + "%";
    second.hidden = !(face.q && face.q[c]);
    if (face.q) second.style.width = 100 * face.q[c] + "%";
    button.querySelector(".percent").textContent = percent(face.p[c]);
  });
}

function drawTriangle(face) {
  const at = ([x, y]) => `${(100 * x).toFixed(1)},${(100 * (1 - y)).toFixed(1)}`;
  const end = face.place;
  $("trail").setAttribute("points", face.trail.map(at).join(" "));
  $("spot").setAttribute("cx", 100 * end[0]);
  $("spot").setAttribute("cy", 100 * (1 - end[1]));
  $("spot").setAttribute("class", face.verdict);
  $("triangle-text").textContent =
    `Place in the triangle: probability of the label ${end[0].toFixed(2)}, of the nearest other class ${end[1].toFixed(2)}` +
    (face.trail.length > 1 ? `, and its path over ${face.trail.length} epochs` : "");
}

// Decisions.

function decide(decision) {
  const face = current();
  if (!face) return;
  review.decide(face, decision);
  refresh(face, true);
  say(`${name(face.label)} ${wording(face, decision)}`);
}

function undo() {
  const id = review.undo();
  if (id === null) return;
  refresh(review.faces.find((face) => face.id === id), false);
  say("Undone");
}

/** Draws the list again, and goes on to the next open face, or back to `face`. */
function refresh(face, goOn) {
  const before = at;
  list = chosen(review, filters);
  const here = list.indexOf(face), start = here < 0 ? before : here;
  if (!goOn) return choose(here < 0 ? before : here);
  const next = list.findIndex((other, place) => place >= start && other !== face && review.state(other) === "open");
  choose(next < 0 ? start : next);
}

function filter() {
  const face = current();
  list = chosen(review, filters);
  drawn.forEach((tile) => tile.remove());
  drawn = new Map();
  $("grid").scrollTop = 0;
  choose(Math.max(0, list.indexOf(face)));
}

function say(news) {
  const total = review.faces.length, done = review.count("decided");
  const where = review.isKept ? "" : " · not kept in this browser: export before you close it";
  $("status").textContent = `${news ? news + " · " : ""}${done} of ${total} reviewed · ${list.length} shown${where}`;
  $("bar").setAttribute("aria-valuemax", total);
  $("bar").setAttribute("aria-valuenow", done);
  $("bar").firstElementChild.style.width = (total ? (100 * done) / total : 0) + "%";
  $("undo").disabled = !review.steps.length;
}

function exportFile() {
  const text = review.csv(), lines = text.split("\n").length - 2;
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: url, download: "corrections.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  say(`corrections.csv: ${review.count("decided")} lines`);
  if (review.isKept) return;  // where nothing can be kept, as in a frame, downloads may be forbidden, too
  $("file-facts").textContent = `${lines} lines. If your browser has saved no file, copy the text.`;
  $("text").value = text;
  $("file").showModal();
}

function draw() {
  drawList();
  drawFace();
  say("");
}

// Once, at the start.

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
}

function counted(key) {
  const counts = new Array(DATA.classes.length).fill(0);
  DATA.faces.forEach((face) => counts[face[key]]++);
  return [["", "any class"], ...DATA.classes.map((text, c) => [c, `${text} (${counts[c]})`])];
}

function prepareFilters() {
  options($("given"), counted("label"));
  options($("suggested"), counted("suggested"));
  options($("split"), [["", "all"], ...[...new Set(DATA.faces.map((face) => face.split))].map((split) => [split, split])]);
  for (const verdict of ["all", ...VERDICTS]) {
    const button = element("button", { type: "button", "aria-pressed": String(verdict === "all") }, verdict);
    act(button, () => {
      filters.verdict = verdict;
      for (const other of $("verdicts").children) other.setAttribute("aria-pressed", String(other === button));
      filter();
    });
    $("verdicts").append(button);
  }
  for (const key of ["given", "suggested", "split", "review", "sort"]) {
    $(key).addEventListener("change", () => { filters[key] = $(key).value; filter(); if (byMouse) toList(); });
  }
  $("least").addEventListener("input", () => {
    filters.least = Number($("least").value);
    $("least-shown").textContent = filters.least.toFixed(2);
    filter();
  });
  $("least").addEventListener("change", () => { if (byMouse) toList(); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
}

function prepareClasses() {
  DATA.classes.forEach((text, c) => {
    const key = c < 9 ? element("kbd", {}, String(c + 1)) : element("span");
    const bars = element("span", { class: "bars" }, element("i"), element("i", { class: "share" }));
    const button = element("button", { type: "button" }, key, element("span", { class: "name" }, text), bars, element("span", { class: "percent" }));
    button.title = text;
    if (c < 9) button.setAttribute("aria-keyshortcuts", String(c + 1));
    act(button, () => decide(review.choice(current(), c)));
    $("classes").append(element("li", {}, button));
  });
}

/** A click acts. After one by mouse, keys go to the list: Enter would press the same button for the next face. */
function act(button, action) {
  button.addEventListener("click", (event) => {
    action();
    if (event.detail > 0) toList();
  });
}

function toList() {
  $("grid").focus({ preventScroll: true });
}

const KEYS = {
  a: () => decide(review.suggestion(current())),
  enter: () => decide(review.suggestion(current())),
  k: () => decide({ action: "keep" }),
  d: () => decide({ action: "drop" }),
  s: () => decide({ action: SKIP }),
  z: undo,
  e: exportFile,
  "?": () => $("help").showModal(),
  arrowleft: () => choose(at - 1),
  arrowright: () => choose(at + 1),
  arrowup: () => choose(at - columns().count),
  arrowdown: () => choose(at + columns().count),
  home: () => choose(0),
  end: () => choose(list.length - 1),
};

function onKey(event) {
  const key = event.key.toLowerCase(), target = event.target;
  const isUndo = key === "z" && (event.ctrlKey || event.metaKey);
  if ((event.ctrlKey || event.metaKey || event.altKey) && !isUndo) return;
  if (document.querySelector("dialog[open]") || target.closest("select, input, textarea")) return;
  if (key === "enter" && target.closest("button")) return;
  const label = /^[1-9]$/.test(key) ? Number(key) - 1 : -1;
  const needsFace = label >= 0 || ["a", "enter", "k", "d", "s"].includes(key);
  if (needsFace && !current()) return;
  if (label >= 0 && label < DATA.classes.length) decide(review.choice(current(), label));
  else if (Object.hasOwn(KEYS, key)) KEYS[key]();
  else return;
  event.preventDefault();
}

function start() {
  const { faces, total, source: from, thumbnails } = DATA;
  $("source").textContent = `${from} · ${faces.length} of ${total} audited labels`;
  $("embeds").textContent = thumbnails
    ? `This file embeds ${faces.length} faces as small images (${thumbnails} pixels), with paths, labels and probabilities: share it only as you may share the data. It loads nothing from any network.`
    : "This file embeds no images, but paths, labels and probabilities. It loads nothing from any network.";
  prepareFilters();
  prepareClasses();
  act($("accept"), KEYS.a);
  act($("keep"), KEYS.k);
  act($("drop"), KEYS.d);
  act($("skip"), KEYS.s);
  act($("undo"), undo);
  act($("export"), exportFile);
  $("help-button").addEventListener("click", KEYS["?"]);
  document.addEventListener("pointerdown", () => { byMouse = true; }, { capture: true });
  document.addEventListener("keydown", () => { byMouse = false; }, { capture: true });
  document.addEventListener("keydown", onKey);
  $("grid").addEventListener("scroll", () => requestAnimationFrame(drawList), { passive: true });
  new ResizeObserver(() => requestAnimationFrame(drawList)).observe($("grid"));
  filter();
  toList();
}

start();
