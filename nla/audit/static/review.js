"use strict";
// What is known of the faces, and what the reviewer has decided. Nothing in this file touches the document.

const SKIP = "skip";

/** Faces with the decisions on them, in the order in which they were made. */
class Review {
  constructor(data, store) {
    this.classes = data.classes;
    this.faces = data.faces;
    this.store = store;
    this.key = "nla-audit:" + data.fingerprint;
    this.steps = [];      // {id, decision}: the whole history, so that undo is exact
    this.decisions = new Map();
    this.isKept = true;   // whether the browser keeps the progress
    this.known = new Set(this.faces.map((face) => face.id));
    this.restore();
  }

  restore() {
    try {
      const kept = JSON.parse(this.store.getItem(this.key) || "[]");
      this.steps = Array.isArray(kept) ? kept.filter((step) => this.isStep(step)) : [];
    } catch (error) {     // no storage here, as in a frame of another page, or a damaged entry
      this.steps = [];
      this.isKept = error instanceof SyntaxError;
    }
    this.replay();
  }

  isStep(step) {
    if (!step || typeof step.id !== "string" || !step.decision) return false;
    const { action, to } = step.decision;
    return action === "relabel" ? Number.isInteger(to) && to >= 0 && to < this.classes.length
      : ["distribution", "drop", "keep", SKIP].includes(action);
  }

  replay() {
    this.decisions = new Map(this.steps.map((step) => [step.id, step.decision]));
  }

  save() {
    try {
      this.store.setItem(this.key, JSON.stringify(this.steps));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
  }

  decide(face, decision) {
    this.steps.push({ id: face.id, decision });
    this.decisions.set(face.id, decision);
    this.save();
  }

  /** Takes the last decision back. Returns the id of its face, or null. */
  undo() {
    const step = this.steps.pop();
    if (!step) return null;
    this.replay();
    this.save();
    return step.id;
  }

  of(face) {
    return this.decisions.get(face.id);
  }

  /** "open", "decided" or "skipped". */
  state(face) {
    const decision = this.of(face);
    return !decision ? "open" : decision.action === SKIP ? "skipped" : "decided";
  }

  /** What accepting the suggestion decides. */
  suggestion(face) {
    if (face.q) return { action: "distribution" };
    return face.suggested === face.label ? { action: "keep" } : { action: "relabel", to: face.suggested };
  }

  /** What choosing a class decides. */
  choice(face, label) {
    return label === face.label ? { action: "keep" } : { action: "relabel", to: label };
  }

  count(state) {
    return this.faces.reduce((sum, face) => sum + (this.state(face) === state), 0);
  }

  /** The lines of corrections.csv, as nla/data/corrections.py reads them. */
  csv() {
    const rows = [["image", "old", "action", "new", ...this.classes.map((name) => "p_" + name), "path"]];
    for (const face of this.faces) {
      const decision = this.of(face);
      if (decision && decision.action !== SKIP) rows.push(this.line(face, decision));
    }
    return rows.map((row) => row.map(cell).join(",") + "\n").join("");
  }

  line(face, { action, to }) {
    const shares = this.classes.map((_, c) => (action === "distribution" && face.q[c] ? face.q[c].toFixed(4) : ""));
    const label = action === "distribution" ? largest(shares.map(Number)) : to;
    const name = action === "relabel" || action === "distribution" ? this.classes[label] : "";
    return ["blake2b:" + face.image, this.classes[face.label], action, name, ...shares, harmless(face.path)];
  }
}

function largest(numbers) {
  return numbers.indexOf(Math.max(...numbers));
}

/** A cell of a CSV file, in quotes where it needs them. */
function cell(text) {
  return /[",;\t\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

/** A path that no spreadsheet takes for a formula. */
function harmless(path) {
  return /^[=+\-@\t\r]/.test(path) ? "./" + path : path;
}

const ORDERS = {
  score: (a, b) => b.score - a.score,
  "-score": (a, b) => a.score - b.score,
  ambiguity: (a, b) => b.ambiguity - a.ambiguity,
  pair: (a, b) => a.label - b.label || a.suggested - b.suggested || b.score - a.score,
  blur: (a, b) => a.sharpness - b.sharpness,
  dark: (a, b) => a.brightness - b.brightness,
  path: (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0),
};

/** Faces that fit the filters, in order. */
function chosen(review, filters) {
  const fits = (face) =>
    (filters.verdict === "all" || face.verdict === filters.verdict) &&
    (filters.given === "" || face.label === Number(filters.given)) &&
    (filters.suggested === "" || face.suggested === Number(filters.suggested)) &&
    (filters.split === "" || face.split === filters.split) &&
    (filters.review === "all" || review.state(face) === filters.review) &&
    face.score >= filters.least;
  return review.faces.filter(fits).sort(ORDERS[filters.sort]);
}
