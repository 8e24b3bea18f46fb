// The search page: axis pickers, chart, front table and the chooser, all showing one state that lives in the URL.

import { drawHypervolume, drawPareto, hoverPoint } from "./charts.js";
import { EMPTY_CLOUD, fetchChart, fetchCloud } from "./data.js";
import { shownNumber, sourceText } from "./format.js";
import { wireFrontTable } from "./front-table.js";
import { follow } from "./live.js";
import { readState, writeState } from "./url-state.js";

const page = document.getElementById("search");
const plot = document.getElementById("pareto");
const volume = document.getElementById("hypervolume");
const byId = (id) => document.getElementById(id);

let chart = await fetchChart(page.dataset.chart);
let cloud = EMPTY_CLOUD;
const defaults = chart.defaults;
const state = readState(defaults);
const axisOf = (key) => chart.axes.find((axis) => axis.key === key);
for (const side of ["x", "y", "best"]) if (!axisOf(state[side])) state[side] = defaults[side];

// --- what the state makes of the front ------------------------------------------------------------------------------

/** A member's cell for a quantity in the current view: its measured value where the view asks for it and there is one. */
function cellOf(member, key) {
  const verified = state.view === "verified" ? member.verified?.[key] : undefined;
  return verified ?? member.believed[key] ?? null;
}

/** A chart point of a member, or null where it lacks one of the two quantities. */
function pointOf(member) {
  const [x, y] = [cellOf(member, state.x), cellOf(member, state.y)];
  if (!x || !y) return null;
  // Sizes (parameters, MACs) are exact: they neither make a point measured nor predicted.
  const kinds = [x, y].map((cell) => cell.kind).filter((kind) => kind !== "exact");
  const measured = kinds.length > 0 && kinds.every((kind) => kind === "measured");
  return { number: member.number, x: x.value, y: y.value, dx: x.error, dy: y.error, measured };
}

/** Lines from believed to measured, drawn in the verified view. */
function driftLinks() {
  if (state.view !== "verified") return [];
  return chart.members.flatMap((member) => {
    if (!member.verified) return [];
    const to = pointOf(member);
    const [x, y] = [member.believed[state.x], member.believed[state.y]];
    return to?.measured && x && y ? [{ from: { x: x.value, y: y.value }, to }] : [];
  });
}

/** The member with the best value of the chosen objective among those within every limit; null where there is none. */
function bestWithinLimits() {
  const axis = axisOf(state.best);
  const sign = axis.direction === "max" ? -1 : 1;
  const fits = (member) => Object.entries(state.limits).every(([key, bound]) => {
    const cell = cellOf(member, key);
    return cell && (axisOf(key)?.direction === "max" ? cell.value >= bound : cell.value <= bound);
  });
  const able = chart.members.filter((member) => cellOf(member, state.best) && fits(member));
  if (!able.length) return null;
  return able.reduce((a, b) => (sign * cellOf(b, state.best).value < sign * cellOf(a, state.best).value ? b : a));
}

// --- drawing ----------------------------------------------------------------------------------------------------------

function draw() {
  const points = chart.members.map(pointOf).filter(Boolean);
  const picked = points.find((point) => point.number === state.pick) ?? null;
  byId("pareto-loading")?.remove();
  const links = driftLinks();
  const empty = points.length === 0 && cloud.x.length === 0;
  byId("pareto-empty").hidden = !empty;
  plot.hidden = empty;
  byId("drift-legend").hidden = links.length === 0;
  byId("infeasible-legend").hidden = state.feasible || cloud.feasible.every((flag) => flag === 1);
  if (!empty) {
    drawPareto(plot, {
      x: axisOf(state.x), y: axisOf(state.y), cloud, points, links, picked,
      xlog: state.xlog, ylog: state.ylog, feasibleOnly: state.feasible,
    });
    wireChart();
  }
  byId("hypervolume-empty").hidden = chart.history.length > 0;
  if (chart.history.length) drawHypervolume(volume, chart.history, state.against);
  drawChosen();
}

/** The card of the selected member: its values with source and error, and where to go next. */
function drawChosen() {
  const member = chart.members.find((one) => one.number === state.pick);
  byId("chosen").hidden = !member;
  byId("chosen-hint").hidden = Boolean(member);
  if (!member) return;
  byId("chosen-title").textContent = `Trial ${member.number}`;
  byId("chosen-link").href = member.href;
  byId("chosen-knee").hidden = member.number !== chart.knee;
  byId("chosen-rows").replaceChildren(...chart.axes.flatMap((axis) => {
    const cell = cellOf(member, axis.key);
    return cell ? [chosenRow(axis, cell)] : [];
  }));
}

function chosenRow(axis, cell) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = axis.label;
  const value = document.createElement("td");
  value.className = "num";
  const unit = axis.unit ? ` ${axis.unit}` : "";
  value.textContent = `${shownNumber(cell.value, axis)}${cell.error ? ` ± ${shownNumber(cell.error, axis)}` : ""}${unit}`;
  const source = document.createElement("td");
  source.className = "source";
  if (cell.kind !== "exact") {
    const mark = document.createElement("i");
    mark.className = `mark ${cell.kind}`;
    source.append(mark);
  }
  source.append(cell.kind);
  source.title = sourceText(cell.source);
  row.append(head, value, source);
  return row;
}

// --- controls ---------------------------------------------------------------------------------------------------------

const table = wireFrontTable(byId("front-holder"), {
  onHover: (number) => { if (wired) hoverPoint(plot, number); },
  onPick: (number) => pick(number === state.pick ? null : number, false),
});

function changed() {
  writeState(state, defaults);
  draw();
}

function pick(number, reveal) {
  state.pick = number;
  table.pick(number, reveal);
  changed();
}

function showLimitResult() {
  const best = bestWithinLimits();
  byId("limit-result").textContent = best
    ? `Trial ${best.number} is the best ${Object.keys(state.limits).length ? "within these limits" : "of the whole front"}.`
    : chart.members.length ? "No front member is within these limits. Relax one of them." : "";
  return best;
}

function fillControls() {
  byId("axis-x").value = state.x;
  byId("axis-y").value = state.y;
  byId("best").value = state.best;
  byId("log-x").checked = state.xlog;
  byId("log-y").checked = state.ylog;
  byId("feasible-only").checked = state.feasible;
  for (const button of page.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  for (const button of page.querySelectorAll("[data-against]")) button.setAttribute("aria-pressed", String(button.dataset.against === state.against));
  for (const input of page.querySelectorAll("[data-limit]")) {
    const bound = state.limits[input.dataset.limit];
    input.value = bound === undefined ? "" : Number((bound * axisOf(input.dataset.limit).factor).toPrecision(6));
    input.closest(".limit").hidden = input.dataset.limit === state.best;
  }
}

async function changeAxes() {
  await loadCloud();
  changed();
}

function wireControls() {
  byId("axis-x").addEventListener("change", (event) => { state.x = event.target.value; changeAxes(); });
  byId("axis-y").addEventListener("change", (event) => { state.y = event.target.value; changeAxes(); });
  byId("log-x").addEventListener("change", (event) => { state.xlog = event.target.checked; changed(); });
  byId("log-y").addEventListener("change", (event) => { state.ylog = event.target.checked; changed(); });
  byId("feasible-only").addEventListener("change", (event) => { state.feasible = event.target.checked; changed(); });
  byId("best").addEventListener("change", (event) => {
    state.best = event.target.value;
    delete state.limits[state.best];
    fillControls();
    showLimitResult();
    changed();
  });
  page.addEventListener("click", (event) => {
    const button = event.target.closest("[data-view], [data-against], [data-pick]");
    if (!button) return;
    if (button.dataset.view) state.view = button.dataset.view;
    if (button.dataset.against) state.against = button.dataset.against;
    if (button.dataset.pick === "knee") pick(chart.knee, true);
    if (button.dataset.pick === "best") pick(showLimitResult()?.number ?? null, true);
    fillControls();
    changed();
  });
  for (const input of page.querySelectorAll("[data-limit]")) {
    input.addEventListener("input", () => {
      const axis = axisOf(input.dataset.limit);
      if (input.value === "" || !Number.isFinite(input.valueAsNumber)) delete state.limits[axis.key];
      else state.limits[axis.key] = input.valueAsNumber / axis.factor;
      showLimitResult();
      writeState(state, defaults);
    });
  }
}

let wired = false;

/** Pointer on the chart, once it is drawn: a hovered point heats its row, a clicked one is selected. */
function wireChart() {
  if (wired) return;
  wired = true;
  plot.on("plotly_hover", (event) => table.heat(event.points[0]?.customdata ?? null));
  plot.on("plotly_unhover", () => table.heat(null));
  plot.on("plotly_click", (event) => {
    const number = event.points[0]?.customdata;
    if (number !== undefined) pick(number, true);
  });
}

// --- loading and live updates -----------------------------------------------------------------------------------------

async function loadCloud() {
  cloud = await fetchCloud(page.dataset.points, state.x, state.y);
  byId("cloud-legend").hidden = cloud.x.length === 0;
}

let refreshing = false;
let stale = false;

/** Fetches what changed and redraws; updates that arrive meanwhile are folded into one more round. */
async function refresh() {
  if (refreshing) { stale = true; return; }
  refreshing = true;
  try {
    do {
      stale = false;
      [chart] = await Promise.all([fetchChart(page.dataset.chart), loadCloud()]);
      draw();
    } while (stale);
  } finally {
    refreshing = false;
  }
}

fillControls();
wireControls();
showLimitResult();
await loadCloud();
draw();
table.pick(state.pick, false);
page.dataset.ready = "true";

document.body.addEventListener("htmx:afterSettle", (event) => { if (event.target.id === "front") table.restore(); });
document.body.addEventListener("archsmith:update", refresh);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
follow(page.dataset.events, page.dataset.eventKinds.split(" "), byId("live"));
