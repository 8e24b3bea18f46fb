// The two charts of a search, drawn with Plotly in the page's own colours.
//
// Meaning of the marks, as in the legend below the chart: a hollow blue ring is a predicted value, a filled orange disc is a
// measured one with its spread as error bars, small grey dots are the other trials. Every trace is WebGL ("scattergl").

import { shownNumber, shownText } from "./format.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize", showTips: false };

/** The page's colours now; they change with the system's light or dark scheme. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"), muted: of("text-3"), border: of("border"), strong: of("border-strong"), surface: of("surface"),
    predicted: of("predicted"), measured: of("measured"), cloud: of("cloud"), infeasible: of("infeasible"),
    accent: of("accent"), font: of("font"),
  };
}

function axisLayout(axis, log, colors) {
  const arrow = axis.direction === "max" ? " (higher is better)" : axis.direction === "min" ? " (lower is better)" : "";
  return {
    title: { text: `${axis.label}${axis.unit ? `, ${axis.unit}` : ""}${arrow}`, font: { size: 12, color: colors.muted }, standoff: 10 },
    type: log ? "log" : "linear",
    gridcolor: colors.border, linecolor: colors.strong, tickcolor: colors.strong, zeroline: false, showline: true,
    ticks: "outside", ticklen: 4, tickfont: { size: 11, color: colors.muted }, automargin: true, exponentformat: "SI",
    ...(log ? { dtick: "D2" } : { nticks: 8 }),
  };
}

function baseLayout(colors, margin) {
  return {
    margin, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    hoverdistance: 14, dragmode: "zoom", font: { family: colors.font, color: colors.text, size: 12 },
    hoverlabel: { bgcolor: colors.surface, bordercolor: colors.strong, align: "left", font: { family: colors.font, size: 12, color: colors.text } },
  };
}

const scaled = (values, axis) => (axis.factor === 1 ? values : values.map((value) => value * axis.factor));

/** Background trials, in two shades: feasible, and (fainter) violating a constraint. */
function cloudTraces(cloud, x, y, feasibleOnly, colors) {
  const groups = [[true, colors.cloud, 0.55], [false, colors.infeasible, 0.5]];
  return groups.filter(([feasible]) => feasible || !feasibleOnly).map(([feasible, color, opacity]) => {
    const keep = cloud.feasible.reduce((rows, flag, row) => { if (Boolean(flag) === feasible) rows.push(row); return rows; }, []);
    return {
      type: "scattergl", mode: "markers", hoverinfo: "skip", name: feasible ? "Other trials" : "Infeasible trials",
      x: keep.map((row) => cloud.x[row] * x.factor), y: keep.map((row) => cloud.y[row] * y.factor),
      marker: { size: keep.length > 5000 ? 3 : 4, color, opacity },
    };
  });
}

function errorBars(errors, axis, color) {
  if (!errors.some((error) => error > 0)) return undefined;
  return { type: "data", array: errors.map((error) => (error ?? 0) * axis.factor), color, thickness: 1.2, width: 3 };
}

/** One trace of front points: all predicted (hollow) or all measured (filled, with error bars). */
function pointTrace(points, measured, x, y, colors) {
  const color = measured ? colors.measured : colors.predicted;
  return {
    type: "scattergl", mode: "markers", name: measured ? "Measured" : "Predicted",
    x: scaled(points.map((point) => point.x), x), y: scaled(points.map((point) => point.y), y),
    customdata: points.map((point) => point.number),
    // No <b> here: Plotly would set it by a style attribute, which the Content-Security-Policy refuses.
    text: points.map((point) => `Trial ${point.number} · ${measured ? "measured" : "predicted"}<br>`
      + `${x.label} ${shownText(point.x, x)}${point.dx ? ` ± ${shownNumber(point.dx, x)}` : ""}<br>`
      + `${y.label} ${shownText(point.y, y)}${point.dy ? ` ± ${shownNumber(point.dy, y)}` : ""}`),
    hovertemplate: "%{text}<extra></extra>",
    marker: { size: measured ? 9 : 8, color, symbol: measured ? "circle" : "circle-open", line: { width: measured ? 0 : 2, color } },
    ...(measured ? { error_x: errorBars(points.map((p) => p.dx), x, color), error_y: errorBars(points.map((p) => p.dy), y, color) } : {}),
  };
}

/**
 * The best attainable edge in these two axes, as a step line; none where an axis has no direction. Measured and predicted
 * points never share an edge: it runs through the measured ones where there are any, else through the predicted ones.
 */
function edgeTrace(predicted, measured, x, y, colors) {
  if (!x.direction || !y.direction || x.key === y.key) return [];
  const sx = x.direction === "max" ? -1 : 1;
  const sy = y.direction === "max" ? -1 : 1;
  const order = [...(measured.length ? measured : predicted)].sort((a, b) => sx * (a.x - b.x) || sy * (a.y - b.y));
  const edge = [];
  for (const point of order) if (!edge.length || sy * point.y < sy * edge.at(-1).y) edge.push(point);
  return [{
    type: "scattergl", mode: "lines", hoverinfo: "skip", name: "Edge", opacity: 0.5,
    line: { color: measured.length ? colors.measured : colors.predicted, width: 1, shape: "hv" },
    x: scaled(edge.map((point) => point.x), x), y: scaled(edge.map((point) => point.y), y),
  }];
}

/** Thin lines from where the search believed a member to be to where it was measured. */
function driftTrace(links, x, y, colors) {
  if (!links.length) return [];
  const gaps = (key, axis) => links.flatMap((link) => [link.from[key] * axis.factor, link.to[key] * axis.factor, null]);
  return [{
    type: "scattergl", mode: "lines", hoverinfo: "skip", name: "Believed to measured", opacity: 0.6,
    line: { color: colors.muted, width: 1 }, x: gaps("x", x), y: gaps("y", y),
  }];
}

function ringTrace(point, x, y, colors) {
  if (!point) return [];
  return [{
    type: "scattergl", mode: "markers", hoverinfo: "skip", name: "Selected", x: [point.x * x.factor], y: [point.y * y.factor],
    marker: { size: 18, symbol: "circle-open", color: colors.text, line: { width: 2, color: colors.text } },
  }];
}

/**
 * The range that an axis shows first: the whole front and the middle 98 % of the other trials, so that one bad trial does
 * not squeeze the rest. A double click shows everything.
 */
function firstRange(front, others, axis, log) {
  const shown = (values) => values.map((value) => value * axis.factor).filter((value) => Number.isFinite(value) && (!log || value > 0));
  const sorted = Float64Array.from(shown([...others])).sort();
  const inner = sorted.length ? [sorted[Math.floor(0.01 * (sorted.length - 1))], sorted[Math.ceil(0.99 * (sorted.length - 1))]] : [];
  const values = [...shown(front), ...inner].map((value) => (log ? Math.log10(value) : value));
  if (!values.length) return undefined;
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * 0.05;
  return [low - margin, high + margin];
}

/**
 * Draws the Pareto scatter.
 *
 * `scene` holds: axes x and y; cloud {x, y, feasible}; points [{number, x, y, dx, dy, measured}]; links [{from, to}];
 * picked (a point or null); xlog, ylog, feasibleOnly.
 */
export function drawPareto(element, scene) {
  const colors = palette();
  const { x, y, points } = scene;
  const predicted = points.filter((point) => !point.measured);
  const measured = points.filter((point) => point.measured);
  const traces = [
    ...cloudTraces(scene.cloud, x, y, scene.feasibleOnly, colors),
    ...edgeTrace(predicted, measured, x, y, colors),
    ...driftTrace(scene.links, x, y, colors),
    ...(predicted.length ? [pointTrace(predicted, false, x, y, colors)] : []),
    ...(measured.length ? [pointTrace(measured, true, x, y, colors)] : []),
    ...ringTrace(scene.picked, x, y, colors),
  ];
  const shown = [...points, ...scene.links.map((link) => link.from)];
  const layout = {
    ...baseLayout(colors, { l: 64, r: 24, t: 16, b: 52 }),
    xaxis: { ...axisLayout(x, scene.xlog, colors), range: firstRange(shown.map((point) => point.x), scene.cloud.x, x, scene.xlog) },
    yaxis: { ...axisLayout(y, scene.ylog, colors), range: firstRange(shown.map((point) => point.y), scene.cloud.y, y, scene.ylog) },
    // A reader's zoom survives live updates, and is dropped when the axes change.
    uirevision: [x.key, y.key, scene.xlog, scene.ylog].join(" "),
  };
  return window.Plotly.react(element, traces, layout, CONFIG);
}

/** Draws hypervolume over trials or minutes, as a step line that holds its last value. */
export function drawHypervolume(element, history, against) {
  const colors = palette();
  const time = against === "time";
  const trace = {
    type: "scatter", mode: history.length > 1 ? "lines" : "markers", line: { color: colors.accent, width: 1.75, shape: "hv" },
    marker: { color: colors.accent, size: 6 },
    x: history.map((point) => (time ? point.seconds / 60 : point.trials)), y: history.map((point) => point.hypervolume),
    hovertemplate: time ? "%{x:.1f} min<br>%{y:.4g}<extra></extra>" : "%{x:,} trials<br>%{y:.4g}<extra></extra>",
  };
  const axis = { label: time ? "Minutes" : "Trials", unit: "" };
  const layout = {
    ...baseLayout(colors, { l: 44, r: 16, t: 10, b: 40 }), hovermode: "x", dragmode: false,
    xaxis: { ...axisLayout(axis, false, colors), nticks: 5, rangemode: "tozero" },
    yaxis: { ...axisLayout({ label: "", unit: "" }, false, colors), nticks: 5, title: { text: "" }, exponentformat: "power" },
  };
  return window.Plotly.react(element, [trace], layout, CONFIG);
}

/** Shows Plotly's hover label of the trial with this number, or hides it for null. */
export function hoverPoint(element, number) {
  if (number === null) { window.Plotly.Fx.unhover(element); return; }
  // WebGL traces are hovered by position; on a log axis Plotly wants the logarithm.
  const position = (value, axis) => (axis.type === "log" ? Math.log10(value) : value);
  for (const trace of element.data ?? []) {
    const index = trace.customdata?.indexOf(number) ?? -1;
    if (index < 0) continue;
    const { xaxis, yaxis } = element.layout;
    window.Plotly.Fx.hover(element, { xval: position(trace.x[index], xaxis), yval: position(trace.y[index], yaxis) });
    return;
  }
}
