// SPDX-License-Identifier: Apache-2.0
// The review page: shows what the server says, sends decisions. Texts of others go into text nodes only.
"use strict";

const byId = (id) => document.getElementById(id);
const DIGITS = 9;
const POLL_MS = 10000;
let state = null; // the server's last answer
let busy = false; // a decision is on its way: keys wait, so that nobody answers a cell unseen

// The token comes behind the # of the address, which browsers send nowhere.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname + location.search);
}
const token = given || sessionStorage.getItem("token") || "";
let reviewer = new URLSearchParams(location.search).get("reviewer") || "";
let mode = sessionStorage.getItem("mode") === "adjudicate" ? "adjudicate" : "review";

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function show(id, visible) {
  byId(id).hidden = !visible;
}

function fill(id, text) {
  byId(id).textContent = text;
  show(id, text !== "");
}

function complain(text) {
  fill("error", text);
}

async function call(path, body) {
  const headers = { Authorization: "Bearer " + token };
  const options = { headers };
  if (body) {
    headers["Content-Type"] = "application/json";
    options.method = "POST";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw new Error("No answer from the server: is quorum review still running? Press the key again.");
  }
  const content = await answer.json().catch(() => ({ error: `The server answers ${answer.status}; try again.` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

// One call at a time. A decision that failed leaves everything as it is, for another try.
async function run(path, body, isNews = () => true) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const next = await call(path, body);
    complain("");
    if (isNews(next)) render(next);
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function refresh() {
  return run("/api/state?" + new URLSearchParams({ reviewer, mode }));
}

// Whoever has run out of cells gets those that others leave; a window out of sight would keep them from all.
function poll() {
  if (!state || state.card || state.reviewers.length < 2 || document.hidden || byId("help").open) return;
  const before = JSON.stringify(state);
  run("/api/state?" + new URLSearchParams({ reviewer, mode }), undefined, (next) => JSON.stringify(next) !== before);
}

function decide(verdict, answer) {
  if (!state || !state.card) return undefined;
  const { product, attribute } = state.card;
  const body = { reviewer, mode, product, attribute, verdict, note: byId("note").value, ...answer };
  return run("/api/decide", body);
}

function choose(number) {
  const candidate = state && state.card && state.card.candidates[number - 1];
  return candidate ? decide("answer", { chosen: candidate.value }) : undefined;
}

function switchMode() {
  mode = mode === "review" ? "adjudicate" : "review";
  sessionStorage.setItem("mode", mode);
  return refresh();
}

// ---- what is shown

function render(next) {
  state = next;
  reviewer = next.reviewer;
  const card = next.card;
  renderHeader(next);
  show("card", card !== null);
  show("done", card === null);
  show("guide", card !== null);
  show("other", false);
  if (card) renderCard(card);
  else renderDone(next);
  renderTally(next);
  renderAgreement(next.agreement);
  for (const button of document.querySelectorAll("#actions button")) {
    const name = button.dataset.do;
    button.disabled = name === "undo" ? next.undo === 0 : name !== "help" && card === null;
  }
  if (card) {
    document.querySelector('[data-do="accept"]').disabled = !card.answer;
    document.querySelector('[data-do="na"]').disabled = !card.guide.allow_na;
  }
  // Focus away from the last button, so that Enter accepts; screen readers read the new question.
  byId(card ? "question" : "done-title").focus({ preventScroll: true });
  scrollTo(0, 0);
  document.body.dataset.step = String(Number(document.body.dataset.step || 0) + 1);
}

function renderHeader(next) {
  const select = byId("reviewer");
  select.replaceChildren(...next.reviewers.map((name) => new Option(name, name, false, name === next.reviewer)));
  byId("mode-review").setAttribute("aria-pressed", String(next.mode === "review"));
  byId("mode-adjudicate").setAttribute("aria-pressed", String(next.mode === "adjudicate"));
  const { done, left, unsure, skipped, unsettled, seconds_left: seconds } = next.progress;
  byId("unsettled").textContent = unsettled ? `(${unsettled})` : "";
  byId("bar").max = Math.max(1, done + left);
  byId("bar").value = done;
  const more = [`${done} done`, `${left} left`];
  if (unsure) more.push(`${unsure} unsure`);
  if (skipped) more.push(`${skipped} skipped`);
  if (seconds !== null && left) more.push(`about ${Math.max(1, Math.round(seconds / 60))} min`);
  byId("progress").textContent = more.join(", ");
  document.body.dataset.done = String(done);
}

function renderCard(card) {
  byId("category").textContent = card.category;
  byId("product").textContent = card.product;
  byId("reason").textContent = card.reason;
  byId("question").textContent = card.attribute;
  byId("note").value = card.before ? card.before.note : "";
  const before = card.before && (card.before.gold.join(" | ") || card.before.verdict);
  fill("before", before ? `Taken back: ${before}` : "");
  renderText(card);
  byId("candidates").replaceChildren(...card.candidates.map((one, at) => candidateRow(card, one, at + 1)));
  fill("silent", card.silent.length ? `No vote (abstained): ${card.silent.join(", ")}` : "");
  byId("people").replaceChildren(...card.people.map(personRow));
  show("people", card.people.length > 0);
  renderGuide(card);
}

function renderText(card) {
  const pieces = card.text.map((piece, at) => {
    if (!piece.by.length) return document.createTextNode(piece.text);
    const mark = make("mark", piece.text, piece.by[0] === 1 ? "first" : "");
    // A candidate's number stands where its words end.
    const next = at + 1 < card.text.length ? card.text[at + 1].by : [];
    const ending = piece.by.filter((number) => !next.includes(number));
    if (ending.length) mark.dataset.by = ending.join(",");
    return mark;
  });
  byId("text").replaceChildren(...pieces);
  if (!pieces.length) byId("text").textContent = "(no text)";
}

function candidateRow(card, candidate, number) {
  const button = make("button");
  button.type = "button";
  button.addEventListener("click", () => choose(number));
  const isFirst = candidate.value === card.answer;
  if (isFirst) button.className = "first";
  button.append(number <= DIGITS ? make("kbd", String(number)) : make("span"));
  const value = make("bdi", undefined, "value");
  candidate.parts.forEach((part, at) => {
    if (at && !part.type) value.append(make("span", "|", "between"));
    value.append(make("span", part.text, "part"));
    if (part.type) value.append(make("span", part.type, "type"));
  });
  if (!candidate.parts.length) value.append(make("span", "(none)", "part"));
  if (isFirst) value.append(make("span", "ensemble", "badge"));
  for (const name of candidate.people) value.append(make("span", name, "badge"));
  button.append(value, shareText(card, candidate, isFirst));
  const share = isFirst ? card.confidence : candidate.share;
  if (share !== null) {
    const track = make("span", undefined, "track");
    const part = make("span");
    part.style.width = `${Math.round(100 * share)}%`;
    track.append(part);
    button.append(track);
  }
  if (candidate.votes.length) {
    const votes = make("span", undefined, "votes");
    votes.append(...candidate.votes.map((vote) => make("span", voteText(vote))));
    button.append(votes);
  }
  const row = make("li");
  row.append(button);
  return row;
}

function shareText(card, candidate, isFirst) {
  const share = isFirst ? card.confidence : candidate.share;
  if (share === null) return make("span", "", "share");
  const node = make("span", `${Math.round(100 * share)} %`, "share");
  node.title = card.calibrated ? "probability of being right" : "share of the weights";
  return node;
}

function voteText(vote) {
  const score = vote.score === null ? "" : ` · ${vote.score}`;
  return `${vote.member} · weight ${vote.weight.toFixed(2)}${score}`;
}

function personRow(person) {
  const answer = person.gold.join(" | ") || person.verdict;
  return make("li", `${person.name}: ${answer}${person.note ? ` (${person.note})` : ""}`);
}

function renderGuide(card) {
  const guide = card.guide;
  byId("guide-question").textContent = guide.question || `What does the text say about ${card.attribute}?`;
  fill("guide-more", guide.instructions);
  byId("guide-na").textContent = guide.allow_na
    ? "n/a if the text does not say."
    : "n/a is no answer here.";
  byId("guide-values").replaceChildren(...guide.values.map((value) => make("span", value)));
  fill("synonyms", guide.synonyms.join("; "));
  show("guide-synonyms", guide.synonyms.length > 0);
  byId("allowed").replaceChildren(...(card.kind === "spans" ? [] : guide.values.map((value) => new Option(value))));
  byId("typed-hint").textContent = guide.closed ? "One of the listed values." : guide.allowed;
}

function renderDone(next) {
  const { unsettled, skipped } = next.progress;
  const review = next.mode === "review";
  byId("done-title").textContent = review ? "All cells are decided" : "No differences are open";
  const more = [];
  if (review && unsettled) more.push(`${unsettled} cells wait for an answer that settles them: press d.`);
  if (!review) more.push("Press d to go back to the review.");
  if (skipped) more.push(`${skipped} were skipped.`);
  more.push(`Next, in a terminal: quorum learn ${next.out}`);
  byId("done-text").textContent = more.join(" ");
}

function renderTally(next) {
  const { cells, accepted, promised, right } = next.tally;
  const expected = promised === null ? "" : ` (it expected ${promised.toFixed(1)})`;
  byId("tally").textContent = cells
    ? `Of ${cells} decided cells the ensemble was right in ${accepted}${expected}; decisions changed ${cells - accepted}.`
    : "Nothing is decided yet.";
  const rows = cells ? Object.entries(right).sort((one, other) => other[1] - one[1]) : [];
  byId("members").tBodies[0].replaceChildren(
    ...rows.map(([name, count]) => {
      const row = make("tr");
      row.append(make("td", name), make("td", `${count} right`, "number"));
      return row;
    }),
  );
}

function renderAgreement(pairs) {
  show("agreement-part", pairs.length > 0);
  byId("agreement").tBodies[0].replaceChildren(
    ...pairs.map((pair) => {
      const row = make("tr");
      const kappa = pair.kappa === null ? "-" : pair.kappa.toFixed(2);
      row.append(make("td", `${pair.first}, ${pair.second}`));
      row.append(...[pair.cells, pair.agreed, kappa].map((text) => make("td", String(text))));
      return row;
    }),
  );
}

// ---- keys and buttons

function typeOther() {
  if (!state || !state.card) return;
  show("other", true);
  const field = byId("typed");
  // Spans are edited from the ensemble's answer, which is long.
  field.value = state.card.kind === "spans" ? state.card.answer : "";
  field.focus();
  field.scrollIntoView({ block: "nearest" });
}

const actions = {
  accept: () => state && state.card && state.card.answer && decide("answer", { chosen: state.card.answer }),
  na: () => state && state.card && state.card.guide.allow_na && decide("answer", { chosen: "n/a" }),
  other: typeOther,
  unsure: () => decide("unsure"),
  skip: () => decide("skip"),
  undo: () => run("/api/undo", { reviewer, mode }),
  help: () => byId("help").showModal(),
  note: () => state && state.card && byId("note").focus(),
  differences: switchMode,
};
const keys = {
  Enter: "accept", n: "na", "/": "other", u: "unsure", s: "skip", z: "undo", "?": "help", m: "note", d: "differences",
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || byId("help").open) return;
  const target = event.target;
  if (target.matches("input")) {
    // Esc closes the answer's field, and leaves the note's; Enter leaves the note's.
    if (event.key === "Escape" || (event.key === "Enter" && target.id === "note")) {
      event.preventDefault();
      if (target.id === "typed") show("other", false);
      byId("question").focus();
    }
    return;
  }
  if (target.matches("select") || (event.key === "Enter" && target.matches("button, summary"))) return;
  const name = keys[event.key];
  const isDigit = event.key >= "1" && event.key <= "9" && event.key.length === 1;
  if (!name && !isDigit) return;
  event.preventDefault();
  // A key that is held down would decide cell after cell.
  if (event.repeat) return;
  if (isDigit) choose(Number(event.key));
  else actions[name]();
});

byId("actions").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) actions[button.dataset.do]();
});
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("answer", { typed: byId("typed").value });
});
byId("cancel").addEventListener("click", () => show("other", false));
byId("mode-review").addEventListener("click", () => mode === "adjudicate" && switchMode());
byId("mode-adjudicate").addEventListener("click", () => mode === "review" && switchMode());
byId("reviewer").addEventListener("change", (event) => {
  reviewer = event.target.value;
  history.replaceState(null, "", "?" + new URLSearchParams({ reviewer }));
  refresh();
});

refresh();
setInterval(poll, POLL_MS);
