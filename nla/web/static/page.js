"use strict";
// An image, or frames of the webcam, go to POST /predict; boxes, bars and the triangle show what comes back.

const $ = (id) => document.getElementById(id);
const LONGEST = 1280;      // pixels of a frame of the webcam: more than the detector looks at
const ENLARGED = 384;      // side to which a small crop is enlarged on the screen
const QUALITY = 0.9;       // of a frame as JPEG
const ANNOUNCE = 2000;     // milliseconds between two spoken labels of the webcam
const SVG = "http://www.w3.org/2000/svg";

let token = "";            // in memory alone
let shown = null;          // the answer to the image that is seen
let chosen = 0;            // which of its faces
let stream = null;         // of the webcam
let asked = 0;             // number of the newest request: an older answer is not shown

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const leastConfidence = () => Number($("least").value) / 100;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// Requests.

async function fetchJson(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers });
  const answer = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (response.status === 401) $("token-form").hidden = false;
  if (!response.ok) throw new Error(answer.error || `status ${response.status}`);
  return answer;
}

async function loadFacts() {
  try {
    const health = await fetchJson("/health");
    if (!health.model) {
      $("model").textContent = "This server asks for a token.";
      $("token-form").hidden = false;
      return;
    }
    $("token-form").hidden = true;
    showFacts(health.model);
    if (!health.detector) {                     // the server takes every image as a crop
      $("cropped").checked = true;
      $("cropped").disabled = true;
    }
  } catch (error) {
    $("model").textContent = "The server does not answer.";
    say(error.message, true);
  }
}

function showFacts(model) {
  const version = model.version === null ? "" : ` version ${model.version}`;
  $("model").textContent = `${model.name}${version} · trained on ${model.source} · ${model.classes.length} classes`;
  $("caution").hidden = !model.caution;
  $("caution").textContent = model.caution && `Beware: ${model.caution}.`;
}

/** Asks about an encoded image; null if a newer question has been asked meanwhile. */
async function ask(blob) {
  const number = ++asked;
  const cropped = $("cropped").checked ? "?cropped=true" : "";
  const answer = await fetchJson(`/predict${cropped}`, { method: "POST", body: blob, headers: { "Content-Type": blob.type } });
  if (number !== asked) return null;
  showFacts(answer.model);
  return answer.images[0];
}

// One image.

async function open(blob) {
  stopWebcam();
  if (!blob || !blob.type.startsWith("image/")) return say("This is not an image.", true);
  try {
    const bitmap = await createImageBitmap(blob);
    drawImage(bitmap);
    bitmap.close();
  } catch {
    clear();                                    // the server may read it, or say why not
  }
  show(null);
  say("Asking …");
  try {
    const answer = await ask(blob);
    if (answer) { show(answer); report(answer); }
  } catch (error) {
    say(error.message, true);
  }
}

function drawImage(bitmap) {
  const canvas = $("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const isTiny = Math.max(bitmap.width, bitmap.height) < ENLARGED;
  canvas.style.width = isTiny ? `${(ENLARGED * bitmap.width) / Math.max(bitmap.width, bitmap.height)}px` : "";
  canvas.classList.toggle("tiny", isTiny);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  reveal("canvas");
}

function reveal(which) {
  $("canvas").hidden = which !== "canvas";
  $("video").hidden = which !== "video";
  $("view").hidden = false;
  $("invite").hidden = true;
  $("drop").classList.add("filled");
}

function clear() {
  $("view").hidden = true;
  $("invite").hidden = false;
  $("drop").classList.remove("filled");
}

function report(answer) {
  const { faces, note } = answer;
  if (!faces.length) return say(note || "No face found.");
  const first = `${faces[0].label}, ${percent(faces[0].confidence)}${isUncertain(faces[0]) ? ", uncertain" : ""}`;
  say(faces.length === 1 ? `One face: ${first}.` : `${faces.length} faces. Face 1: ${first}.`);
}

// The webcam.

async function startWebcam() {
  if (!navigator.mediaDevices) return say("The browser permits the webcam only on this machine or over HTTPS.", true);
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGEST } }, audio: false });
  } catch (error) {
    return say(`No webcam: ${error.message}`, true);
  }
  $("webcam").textContent = "Stop webcam";
  $("webcam").setAttribute("aria-pressed", "true");
  $("video").srcObject = stream;
  await $("video").play();
  reveal("video");
  show(null);
  say("The webcam is on.");
  followWebcam(stream);
}

function stopWebcam() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  asked++;
  $("video").srcObject = null;
  $("webcam").textContent = "Start webcam";
  $("webcam").setAttribute("aria-pressed", "false");
  show(null);
  clear();
  say("The webcam is off.");
}

/** Sends the frame that is seen as soon as the one before is answered. */
async function followWebcam(own) {
  const canvas = element("canvas");
  let told = "", since = 0;
  while (stream === own) {
    try {
      const answer = await ask(await frame(canvas));
      if (stream !== own || !answer) continue;
      show(answer);
      const label = answer.faces.length ? answer.faces.map((face) => face.label).join(", ") : "no face";
      if (label !== told && performance.now() - since > ANNOUNCE) {
        [told, since] = [label, performance.now()];
        say(`Webcam: ${label}`);
      }
    } catch (error) {
      if (stream !== own) return;
      say(error.message, true);
      await new Promise((done) => setTimeout(done, 1000));
    }
    await new Promise(requestAnimationFrame);   // not while the page is hidden
  }
}

function frame(canvas) {
  const video = $("video"), scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done, failed) => {
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no frame"))), "image/jpeg", QUALITY);
  });
}

// What came back.

const isUncertain = (face) => face.confidence < leastConfidence();

function show(answer) {
  if (!answer || chosen >= answer.faces.length) chosen = 0;
  shown = answer;
  draw();
}

function draw() {
  const faces = shown ? shown.faces : [];
  drawBoxes(faces);
  drawFaces(faces);
  $("nothing").hidden = faces.length > 0;
  $("nothing").textContent = shown ? shown.note || "No face found." : "The result will be here.";
  $("face").hidden = !faces.length;
  if (faces.length) drawFace(faces[chosen]);
}

function drawBoxes(faces) {
  const boxes = $("boxes");
  boxes.replaceChildren();
  if (!shown) return;
  boxes.setAttribute("viewBox", `0 0 ${shown.width} ${shown.height}`);
  boxes.setAttribute("preserveAspectRatio", "none");
  const seen = $("view").clientWidth || shown.width, unit = shown.width / seen;   // pixels of the image per one here
  faces.forEach((face, number) => {
    const group = document.createElementNS(SVG, "g");
    group.append(rectangle(face.box, "edge"), rectangle(face.box, ""));
    const text = document.createElementNS(SVG, "text"), size = 15 * unit;
    const above = face.box.top - 6 * unit;
    text.setAttribute("x", Math.max(face.box.left, 0) + 4 * unit);
    text.setAttribute("y", above > size ? above : Math.max(face.box.top, 0) + size + 3 * unit);
    text.setAttribute("font-size", size);
    text.textContent = `${faces.length > 1 ? `${number + 1} ` : ""}${face.label}${isUncertain(face) ? "?" : ""}`;
    if (number === chosen) group.setAttribute("class", "chosen");
    group.append(text);
    boxes.append(group);
  });
  const spoken = faces.map((face, number) => `face ${number + 1}: ${face.label}`).join(", ");
  $("canvas").setAttribute("aria-label", faces.length ? `Your image, with ${spoken}` : "Your image");
  $("video").setAttribute("aria-label", faces.length ? `Webcam, with ${spoken}` : "Webcam");
}

function rectangle(box, name) {
  const made = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ x: box.left, y: box.top, width: box.width, height: box.height, class: name })) {
    made.setAttribute(key, value);
  }
  return made;
}

function drawFaces(faces) {
  const list = $("faces");
  list.hidden = faces.length < 2;
  while (list.children.length > faces.length) list.lastChild.remove();
  faces.forEach((face, number) => {             // buttons stay while the webcam runs, and with them the focus
    if (number === list.children.length) {
      const button = element("button", { type: "button" });
      button.addEventListener("click", () => { chosen = number; draw(); });
      list.append(element("li", {}, button));
    }
    const button = list.children[number].firstChild;
    button.textContent = `${number + 1} ${face.label}${isUncertain(face) ? "?" : ""}`;
    button.setAttribute("aria-pressed", String(number === chosen));
  });
}

function drawFace(face) {
  $("label").textContent = face.label;
  $("confidence").textContent = percent(face.confidence);
  $("uncertain").hidden = !isUncertain(face);
  $("ambiguity").textContent = `Ambiguity ${face.ambiguity.toFixed(2)} (0 is certain, 1 a tie of two classes)`;
  const bars = Object.entries(face.probabilities).map(([name, p]) => {
    const fill = element("i");
    fill.style.width = `${100 * p}%`;
    const item = element("li", name === face.label ? { class: "first" } : {},
      element("span", { class: "name", title: name }, name), element("span", { class: "track", "aria-hidden": "true" }, fill),
      element("span", { class: "percent" }, percent(p)));
    return item;
  });
  $("bars").replaceChildren(...bars);
  const [p1, p2 = 0] = Object.values(face.probabilities).sort((a, b) => b - a);
  $("spot").setAttribute("cx", 100 * p1);
  $("spot").setAttribute("cy", 50 - 100 * p2);
  $("spot").setAttribute("class", isUncertain(face) ? "doubt" : "");
  $("triangle-text").textContent = `Triangle of the two largest probabilities: p1 is ${p1.toFixed(2)}, p2 is ${p2.toFixed(2)}`;
}

// Once, at the start.

function imageOf(items) {
  return [...items].find((file) => file.type.startsWith("image/"));
}

function prepareDrop() {
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const file = imageOf(event.dataTransfer.files);
    if (file) open(file);
    else say("This is not an image file.", true);
  });
  document.addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData.files);
    if (file) open(file);
  });
}

function start() {
  prepareDrop();
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) open(file);
    $("file").value = "";                       // the same file can be chosen again
  });
  $("webcam").addEventListener("click", () => (stream ? stopWebcam() : startWebcam()));
  $("least").addEventListener("input", () => {
    $("least-shown").textContent = `${$("least").value} %`;
    draw();
  });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    loadFacts();
  });
  new ResizeObserver(() => drawBoxes(shown ? shown.faces : [])).observe($("view"));
  loadFacts();
}

start();
