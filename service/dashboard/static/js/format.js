// Numbers in the browser, written as service/dashboard/format.py writes them on the server.

/** The shown number of a stored value, for an axis or column format {factor, decimals}. */
export function shownNumber(value, format) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const digits = (value * format.factor).toFixed(format.decimals);
  const [whole, fraction] = digits.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  return fraction ? `${grouped}.${fraction}` : grouped;
}

/** The shown number with its unit. */
export function shownText(value, format) {
  const number = shownNumber(value, format);
  return number === "–" || !format.unit ? number : `${number}\u00a0${format.unit}`;
}

/** "measured:onnxruntime" -> "measured (onnxruntime)". */
export function sourceText(source) {
  const [kind, how] = source.split(":");
  return how ? `${kind} (${how})` : kind;
}

/** A moment's age in one unit, as on the server. */
export function ageText(moment, now = Date.now()) {
  const seconds = Math.max((now - moment) / 1000, 0);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return seconds < 10 ? "just now" : `${Math.floor(seconds)} s ago`;
}
