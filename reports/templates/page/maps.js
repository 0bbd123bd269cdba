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

function drawMap(map) {
  const values = halves(map.values);
  const longest = Math.max(...map.columns.map((name) => name.length));
  const [width, height, left, down] = [13, 6.5, 26, 12 + 5.4 * longest];
  const n = map.columns.length;
  const [w, h] = [left + n * width + 4, map.layers * height + down];
  const svg = shape("svg", {
    viewBox: `0 0 ${w} ${h}`, width: w, height: h, tabindex: 0, role: "application",
    "aria-label": `${map.title}: scores over layers and ${n} columns; arrow keys move`,
  });
  const dashes = { dark: "", light: "" };
  for (let layer = 0; layer < map.layers; layer += 1) {
    for (let column = 0; column < n; column += 1) {
      const share = values[layer * n + column];
      const known = !Number.isNaN(share);
      const [x, y, rgb] = [left + column * width, (map.layers - 1 - layer) * height, colour(known ? share : 0)];
      svg.append(shape("rect", { x, y, width, height, fill: known ? `rgb(${rgb.join(",")})` : "url(#out)" }));
      if (share <= -FAINT) {
        dashes[isDark(rgb) ? "light" : "dark"] += `M${x + 0.22 * width} ${y + height / 2}h${0.56 * width}`;
      }
    }
    if (layer % (map.layers > 12 ? 5 : 1) === 0) {
      svg.append(shape("text", {
        x: left - 4, y: (map.layers - layer) * height - 1, "text-anchor": "end",
      }, String(layer)));
    }
  }
  for (const [ink, d] of Object.entries(dashes)) svg.append(shape("path", { d, class: `dash ${ink}` }));
  const bottom = map.layers * height;
  map.columns.forEach((name, column) => svg.append(shape("text", {
    x: 0, y: 0, "text-anchor": "end",
    transform: `translate(${left + (column + 0.8) * width} ${bottom + 4}) rotate(-90)`,
  }, name)));
  const cursor = shape("rect", { class: "cursor", width, height, visibility: "hidden" });
  svg.append(cursor);
  const at = { layer: map.layers - 1, column: n - 1 };
  const show = () => {
    const share = values[at.layer * n + at.column];
    cursor.setAttribute("x", left + at.column * width);
    cursor.setAttribute("y", (map.layers - 1 - at.layer) * height);
    cursor.setAttribute("visibility", "visible");
    const score = Number.isNaN(share) ? "left out" : `score ≈ ${significant(share * map.scale, 2)}`;
    $("point").textContent = `${map.title} · layer ${at.layer} · ${map.columns[at.column]} · ${score}`;
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = w / box.width;
    const column = Math.floor(((event.clientX - box.left) * scale - left) / width);
    const row = Math.floor(((event.clientY - box.top) * scale) / height);
    if (column < 0 || column >= n || row < 0 || row >= map.layers) return;
    Object.assign(at, { layer: map.layers - 1 - row, column });
    show();
  };
  for (const how of ["pointerdown", "pointermove"]) svg.addEventListener(how, point);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    at.layer = Math.max(0, Math.min(map.layers - 1, at.layer + step[0]));
    at.column = Math.max(0, Math.min(n - 1, at.column + step[1]));
    show();
  });
  svg.addEventListener("focus", show);
  const figure = make("figure");
  const limit = significant(map.scale, 2);
  figure.append(make("figcaption", {}, `${map.title}, from ${MINUS}${limit} to ${limit}`), svg);
  return figure;
}
