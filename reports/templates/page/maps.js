// Score maps

const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attributes, text = "") => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
};
const PALETTE = JSON.parse($("palette").textContent);
const DARK = matchMedia("(prefers-color-scheme: dark)");
let onPaper = false;
const FAINT = 0.1; // as in the figures: a smaller share of the scale has no visible colour, no dash

function colour(share) {
  const stops = DARK.matches && !onPaper ? PALETTE.dark : PALETTE.light;
  const place = ((Math.max(-1, Math.min(1, share)) + 1) / 2) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return [1, 3, 5].map((at) => {
    const [from, to] = [low, low + 1].map((stop) => parseInt(stops[stop].slice(at, at + 2), 16));
    return Math.round(from + (place - low) * (to - from));
  });
}

const isDark = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, channel) =>
  sum + weight * (rgb[channel] / 255) ** 2.2, 0) < 0.18;

function leftOut(method, part) {
  if (!(method.left_out || []).includes(part)) return "";
  return `The ${part} of ${method.label} are left out, to keep this page small; the run has them.`;
}

function drawMaps(method) {
  const missing = method.maps ? ""
    : method.missing || leftOut(method, "score maps") || `No map: ${method.no_maps}.`;
  $("maps").replaceChildren(...(method.maps || []).map(drawMap));
  $("maps-note").textContent = missing
    || `Raw scores of ${method.label}, ${method.maps_of}; tokens of the first train prompt. `
      + `In the maps ${PALETTE.signs}.`;
  $("point").hidden = Boolean(missing);
  $("point").textContent = "Point at a map, touch it, or walk over it with the arrow keys.";
}

// Where things lie in the picture of a map, in its own units
function frameOf(map) {
  const [width, height, left] = [13, 6.5, 26];
  const longest = Math.max(...map.columns.map((name) => name.length));
  return {
    width, height, left, bottom: map.layers * height,
    across: left + map.columns.length * width + 4,
    down: map.layers * height + 12 + 5.4 * longest,
    x: (column) => left + column * width,
    y: (layer) => (map.layers - 1 - layer) * height,
  };
}

function drawCells(map, values, { width, height, x, y }) {
  const dashes = { dark: "", light: "" };
  const cells = [];
  values.forEach((share, index) => {
    const [layer, column] = [Math.floor(index / map.columns.length), index % map.columns.length];
    const rgb = Number.isNaN(share) ? null : colour(share);
    const fill = rgb ? `rgb(${rgb.join(",")})` : "url(#out)";
    cells.push(shape("rect", { x: x(column), y: y(layer), width, height, fill }));
    if (share > -FAINT || !rgb) return;
    dashes[isDark(rgb) ? "light" : "dark"] += `M${x(column) + 0.22 * width} ${y(layer) + height / 2}h${0.56 * width}`;
  });
  return [...cells, ...Object.entries(dashes).map(([ink, d]) => shape("path", { d, class: `dash ${ink}` }))];
}

function drawNames(map, { width, height, left, bottom, x, y }) {
  const every = map.layers > 12 ? 5 : 1;
  const layers = Array.from({ length: Math.ceil(map.layers / every) }, (_, place) => place * every);
  return [
    ...layers.map((layer) => shape("text", {
      x: left - 4, y: y(layer) + height - 1, "text-anchor": "end",
    }, String(layer))),
    ...map.columns.map((name, column) => shape("text", {
      x: 0, y: 0, "text-anchor": "end",
      transform: `translate(${x(column) + 0.8 * width} ${bottom + 4}) rotate(-90)`,
    }, name)),
  ];
}

const STEPS = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// What is under the pointer, the finger or the arrow keys, is read out
function follow(svg, map, values, { width, height, left, across, x, y }) {
  const last = { layer: map.layers - 1, column: map.columns.length - 1 };
  const at = { ...last };
  const cursor = shape("rect", { class: "cursor", width, height, visibility: "hidden" });
  svg.append(cursor);
  const go = (layer, column) => {
    if (layer < 0 || layer > last.layer || column < 0 || column > last.column) return;
    Object.assign(at, { layer, column });
    const share = values[layer * map.columns.length + column];
    for (const [name, value] of [["x", x(column)], ["y", y(layer)], ["visibility", "visible"]]) {
      cursor.setAttribute(name, value);
    }
    const score = Number.isNaN(share) ? "left out" : `score ≈ ${significant(share * map.scale, 2)}`;
    $("point").textContent = `${map.title} · layer ${layer} · ${map.columns[column]} · ${score}`;
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = across / box.width;
    const row = Math.floor(((event.clientY - box.top) * scale) / height);
    go(last.layer - row, Math.floor(((event.clientX - box.left) * scale - left) / width));
  };
  for (const how of ["pointerdown", "pointermove"]) svg.addEventListener(how, point);
  svg.addEventListener("focus", () => go(at.layer, at.column));
  svg.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    go(at.layer + step[0], at.column + step[1]);
  });
}

function drawMap(map) {
  const values = [...halves(map.values)];
  const frame = frameOf(map);
  const svg = shape("svg", {
    viewBox: `0 0 ${frame.across} ${frame.down}`, width: frame.across, height: frame.down,
    tabindex: 0, role: "application",
    "aria-label": `${map.title}: scores over layers and ${map.columns.length} columns; arrow keys move`,
  });
  svg.append(...drawCells(map, values, frame), ...drawNames(map, frame));
  follow(svg, map, values, frame);
  const figure = make("figure");
  const limit = significant(map.scale, 2);
  figure.append(make("figcaption", {}, `${map.title}, from ${MINUS}${limit} to ${limit}`), svg);
  return figure;
}
