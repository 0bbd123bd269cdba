"use strict";
// The page's behaviour: plain script, no library, nothing fetched. Strings of the run reach the
// document as text only (textContent), never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, text = "") => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const MINUS = "\u2212";

  // ---------- numbers and arrays

  // As reports.text.number: so many decimals, ties to even, a real minus sign.
  function number(value, digits) {
    if (Number.isNaN(value)) return "undefined";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : MINUS + "∞";
    const scaled = Math.abs(value) * 10 ** digits;
    const floor = Math.floor(scaled);
    const even = scaled - floor === 0.5 ? floor + (floor % 2) : null;
    let text = even === null ? Math.abs(value).toFixed(digits) : (even / 10 ** digits).toFixed(digits);
    if (value < 0 && Number(text) !== 0) text = MINUS + text;
    return text;
  }

  function significant(value, digits = 3) {
    if (!Number.isFinite(value)) return number(value, 0);
    return String(Number(value.toPrecision(digits))).replace("-", MINUS);
  }

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  }
  const floats = (text) => new Float32Array(bytes(text));
  const integers = (text) => new Uint32Array(bytes(text));

  function halves(text) {
    return Float32Array.from(new Uint16Array(bytes(text)), (bits) => {
      const sign = bits & 0x8000 ? -1 : 1;
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      if (exponent === 31) return fraction ? NaN : sign * Infinity;
      if (exponent === 0) return sign * fraction * 2 ** -24;
      return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    });
  }

  // ---------- what is chosen: kept in the address, so that a link shows the same

  const sections = [...document.querySelectorAll("section.pair")];
  const state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const blocks = new Map();

  function block(index) {
    if (!blocks.has(index)) blocks.set(index, JSON.parse($("data-" + index).textContent));
    return blocks.get(index);
  }

  function remember() {
    const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== undefined);
    const hash = "#" + new URLSearchParams(kept);
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }

  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, text]) => {
      const option = make("option", { value }, text);
      option.selected = value === chosen;
      return option;
    }));
    return options.some(([value]) => value === chosen) ? chosen : (options[0] || [""])[0];
  }

  const pairOf = (section) => [section.dataset.model, section.dataset.task];
  const current = () => Math.max(0, sections.findIndex((section) => {
    const [model, task] = pairOf(section);
    return model === state.model && task === state.task;
  }));

  function choosePair() {
    const models = [...new Set(sections.map((section) => section.dataset.model))];
    state.model = fill($("model"), models.map((name) => [name, name]), state.model);
    const tasks = sections.map(pairOf).filter(([model]) => model === state.model);
    state.task = fill($("task"), tasks.map(([, task]) => [task, task]), state.task);
    sections.forEach((section, index) => section.classList.toggle("shown", index === current()));
    chooseMethod();
    arrange();
  }

  function chooseMethod() {
    const methods = block(current()).methods.map(({ label }) => [label, label]);
    state.method = fill($("method"), methods, state.method);
    choosePrompt();
  }

  function choosePrompt() {
    const { splits, prompts } = block(current());
    const method = chosenMethod();
    const options = splits.flatMap((split) => prompts[split].map((prompt, place) => {
      const swept = sweepOf(method, split, place) ? " ~" : "";
      return [`${split}.${place}`, `${split} ${place + 1}${swept}: ${prompt.clean}`];
    }));
    state.prompt = fill($("prompt"), options, state.prompt);
    drawMaps(method);
    prepareSweep();
  }

  const chosenMethod = () =>
    block(current()).methods.find(({ label }) => label === state.method) || {};
  const chosenPrompt = () => {
    const cut = (state.prompt || "").lastIndexOf(".");
    return [(state.prompt || "").slice(0, cut), Number((state.prompt || "").slice(cut + 1))];
  };
  const sweepOf = (method, split, place) => {
    const sweep = method.sweeps && method.sweeps[split];
    return sweep && sweep.prompts.includes(place) ? sweep : null;
  };

  // ---------- leaderboard: sort and filter

  function sortValue(cell) {
    const text = cell.textContent.trim().replaceAll(MINUS, "-").replaceAll(",", "");
    const found = parseFloat(text);
    return Number.isNaN(found) ? null : found;
  }

  function arrange() {
    const section = sections[current()];
    if (!section) return;
    const table = section.querySelector("table.board");
    const [head] = table.tHead.rows;
    const column = Number(state.sort ?? -1);
    [...head.cells].forEach((cell, index) => {
      if (index === column) cell.setAttribute("aria-sort", state.order === "up" ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    const rows = [...table.tBodies[0].rows];
    rows.forEach((row, index) => { row.dataset.place ??= index; });
    const sign = state.order === "up" ? 1 : -1;
    rows.sort((one, other) => {
      if (column < 0 || column >= head.cells.length) return one.dataset.place - other.dataset.place;
      const [a, b] = [one, other].map((row) => sortValue(row.cells[column]));
      if (a === null && b === null) {
        const [x, y] = [one, other].map((row) => row.cells[column].textContent.trim());
        return sign * x.localeCompare(y) || one.dataset.place - other.dataset.place;
      }
      if (a === null || b === null) return a === null ? 1 : -1; // what is no number stands last
      return sign * (a - b) || one.dataset.place - other.dataset.place;
    });
    const words = (state.filter || "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = [0, 1, 2].map((place) => row.cells[place].textContent).join(" ").toLowerCase();
      const control = row.classList.contains("control") && state.controls === "no";
      row.hidden = control || !words.every((word) => text.includes(word));
      row.classList.toggle("chosen", row.dataset.method === state.method);
      shown += row.hidden ? 0 : 1;
    }
    table.tBodies[0].append(...rows);
    $("count").textContent = `${shown} of ${rows.length} rows`;
    remember();
  }

  function sortable() {
    for (const table of document.querySelectorAll("table.board")) {
      [...table.tHead.rows[0].cells].forEach((cell, index) => {
        if (cell.dataset.fixed !== undefined) return;
        const button = make("button", { type: "button" }, cell.textContent);
        button.addEventListener("click", () => {
          const again = Number(state.sort ?? -1) === index;
          state.order = again && state.order !== "up" ? "up" : "down";
          state.sort = String(index);
          arrange();
        });
        cell.replaceChildren(button);
      });
      table.tBodies[0].addEventListener("click", (event) => {
        const row = event.target.closest("tr");
        if (row && row.dataset.method && !getSelection().toString()) {
          state.method = row.dataset.method;
          chooseMethod();
          arrange();
        }
      });
    }
  }

  // ---------- score maps

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes, text = "") => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  };
  const STOPS = JSON.parse($("palette").textContent).map((colour) =>
    [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16)));

  function colour(share) {
    const place = ((Math.max(-1, Math.min(1, share)) + 1) / 2) * (STOPS.length - 1);
    const low = Math.min(Math.floor(place), STOPS.length - 2);
    const mixed = STOPS[low].map((value, channel) =>
      Math.round(value + (place - low) * (STOPS[low + 1][channel] - value)));
    return `rgb(${mixed.join(",")})`;
  }

  function drawMaps(method) {
    const missing = method.maps ? "" : method.missing || "no scores are stored";
    $("maps").replaceChildren(...(method.maps || []).map(drawMap));
    $("maps-note").textContent = missing
      || `Raw scores of ${method.label}, averaged over train prompts (${method.cell}); `
        + "tokens of the first train prompt. Blue favours the answer, orange the foil.";
    $("point").textContent = missing ? "" : "Point at a map, or walk over it with the arrow keys.";
  }

  function drawMap(map) {
    const values = halves(map.values);
    const longest = Math.max(...map.columns.map((name) => name.length));
    const [width, height, left, down] = [13, 6.5, 26, 12 + 4.4 * longest];
    const n = map.columns.length;
    const [w, h] = [left + n * width + 4, map.layers * height + down];
    const svg = shape("svg", {
      viewBox: `0 0 ${w} ${h}`, width: w, height: h, tabindex: 0, role: "application",
      "aria-label": `${map.title}: scores over layers and ${n} columns; arrow keys move`,
    });
    for (let layer = 0; layer < map.layers; layer += 1) {
      for (let column = 0; column < n; column += 1) {
        const share = values[layer * n + column];
        svg.append(shape("rect", {
          x: left + column * width, y: (map.layers - 1 - layer) * height, width, height,
          fill: Number.isNaN(share) ? "url(#out)" : colour(share),
        }));
      }
      if (layer % (map.layers > 12 ? 5 : 1) === 0) {
        svg.append(shape("text", {
          x: left - 4, y: (map.layers - layer) * height - 1, "text-anchor": "end",
        }, String(layer)));
      }
    }
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
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const scale = w / box.width;
      const column = Math.floor(((event.clientX - box.left) * scale - left) / width);
      const row = Math.floor(((event.clientY - box.top) * scale) / height);
      if (column < 0 || column >= n || row < 0 || row >= map.layers) return;
      Object.assign(at, { layer: map.layers - 1 - row, column });
      show();
    });
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

  // ---------- the sweep: what the strength does to one prompt

  let sweep = null;

  // Of the chosen prompt, by ascending beta: what a sweep stores, or else the evaluation.
  function readSweep() {
    const method = chosenMethod();
    const [split, place] = chosenPrompt();
    const found = sweepOf(method, split, place);
    const stored = found || (method.stored && method.stored[split]);
    if (!stored) return null;
    const beta = [...floats(stored.beta)];
    const row = found ? found.prompts.indexOf(place) : place;
    const order = beta.map((_, index) => index).sort((a, b) => beta[a] - beta[b])
      .filter((index, rank, all) => rank === 0 || beta[index] !== beta[all[rank - 1]]);
    const pick = (name) => {
      if (!stored[name]) return null;
      const values = floats(stored[name]);
      return order.map((index) => values[row * beta.length + index]);
    };
    const result = { full: Boolean(found), beta: order.map((index) => beta[index]), star: method.star };
    for (const name of ["logit_answer", "logit_foil", "ld", "p_answer", "p_foil", "kl"]) result[name] = pick(name);
    if (found && found.top) {
      const [ids, p] = [integers(found.top), floats(found.top_p)];
      result.top = order.map((index) => Array.from({ length: found.n_top }, (_, rank) => {
        const place = (row * beta.length + index) * found.n_top + rank;
        return [block(current()).strings[ids[place]], p[place]];
      }));
    }
    return result;
  }

  function prepareSweep() {
    sweep = readSweep();
    const [split, place] = chosenPrompt();
    const prompt = (block(current()).prompts[split] || [])[place];
    $("prompt-text").textContent = prompt ? `${prompt.clean} → ${prompt.answer} (answer), ${prompt.foil} (foil)` : "";
    $("sweep-box").hidden = !sweep;
    $("sweep-note").textContent = !sweep
      ? chosenMethod().missing || "Nothing is stored of this prompt."
      : sweep.full ? "" : "No sweep of this prompt is stored: the strengths are those of the evaluation. "
        + "Prompts marked ~ have one.";
    if (!sweep) return remember();
    const slider = $("beta");
    slider.max = sweep.beta.length - 1;
    const wanted = state.beta === undefined ? sweep.star ?? 1 : Number(state.beta);
    const distance = sweep.beta.map((beta) => Math.abs(beta - wanted));
    slider.value = distance.indexOf(Math.min(...distance));
    drawSweep();
    return remember();
  }

  function drawSweep() {
    const index = Number($("beta").value);
    const beta = sweep.beta[index];
    const text = significant(beta);
    $("beta").setAttribute("aria-valuetext", `beta ${text}`);
    $("beta-value").textContent = `β = ${text}`;
    const rows = [
      ["logit of the answer", sweep.logit_answer, 3], ["logit of the foil", sweep.logit_foil, 3],
      ["LD (answer − foil)", sweep.ld || (sweep.logit_answer && sweep.logit_answer.map((a, i) => a - sweep.logit_foil[i])), 3],
      ["P(answer)", sweep.p_answer, 3], ["P(foil)", sweep.p_foil, 3], ["KL from unsteered, nats", sweep.kl, 3],
    ].filter(([, values]) => values);
    $("readings").replaceChildren(...rows.flatMap(([name, values, digits]) =>
      [make("dt", {}, name), make("dd", {}, number(values[index], digits))]));
    $("top").replaceChildren(...((sweep.top && sweep.top[index]) || []).map(([name, p]) => {
      const item = make("li");
      const bar = make("span", { class: "bar" });
      bar.style.width = `${100 * p}%`;
      item.append(make("span", { class: "token" }, name), make("span", { class: "p" }, number(p, 3)), bar);
      return item;
    }));
    $("top-head").hidden = !sweep.top;
    drawCurves(index);
  }

  function drawCurves(index) {
    const curves = sweep.logit_answer
      ? [["answer", sweep.logit_answer], ["foil", sweep.logit_foil]] : [["answer", sweep.ld]];
    const all = curves.flatMap(([, values]) => values).filter(Number.isFinite);
    if (!sweep.logit_answer) all.push(0);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const [first, last] = [sweep.beta[0], sweep.beta[sweep.beta.length - 1]];
    const [w, h, left, bottom] = [420, 190, 44, 26];
    const x = (beta) => left + ((beta - first) / (last - first || 1)) * (w - left - 8);
    const y = (value) => 8 + ((high - value) / (high - low || 1)) * (h - bottom - 16);
    const parts = [shape("line", { x1: left, x2: w - 8, y1: h - bottom, y2: h - bottom, class: "axis" })];
    for (const beta of [0, -1, 1, ...(sweep.star === null ? [] : [sweep.star, -sweep.star])]) {
      if (beta >= first && beta <= last) {
        parts.push(shape("line", { x1: x(beta), x2: x(beta), y1: 8, y2: h - bottom, class: beta === 0 ? "axis" : "axis dashed" }));
      }
    }
    for (const value of [low, high]) parts.push(shape("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, number(value, 1)));
    for (const beta of [first, 0, last]) parts.push(shape("text", { x: x(beta), y: h - 8, "text-anchor": "middle" }, significant(beta, 2)));
    for (const [name, values] of curves) {
      const points = values.map((value, i) => [sweep.beta[i], value]).filter(([, value]) => Number.isFinite(value));
      parts.push(shape("polyline", { class: name, points: points.map(([b, v]) => `${x(b)},${y(v)}`).join(" ") }));
      if (Number.isFinite(values[index])) parts.push(shape("circle", { class: name, cx: x(sweep.beta[index]), cy: y(values[index]), r: 4 }));
    }
    const [px] = [x(sweep.beta[index])];
    parts.push(shape("line", { x1: px, x2: px, y1: 8, y2: h - bottom, class: "now" }));
    $("curves").replaceChildren(...parts);
    $("curves-key").textContent = sweep.logit_answer ? "answer: blue, solid; foil: orange, dashed; logits against β" : "LD against β";
  }

  // ---------- start

  function listen() {
    $("model").addEventListener("change", (event) => { state.model = event.target.value; choosePair(); });
    $("task").addEventListener("change", (event) => { state.task = event.target.value; choosePair(); });
    $("method").addEventListener("change", (event) => { state.method = event.target.value; chooseMethod(); arrange(); });
    $("prompt").addEventListener("change", (event) => { state.prompt = event.target.value; prepareSweep(); });
    $("beta").addEventListener("input", (event) => {
      state.beta = String(sweep.beta[Number(event.target.value)]);
      drawSweep();
      remember();
    });
    $("filter").addEventListener("input", (event) => { state.filter = event.target.value; arrange(); });
    $("controls").addEventListener("change", (event) => { state.controls = event.target.checked ? "" : "no"; arrange(); });
    addEventListener("hashchange", () => {
      if (!location.hash.includes("=")) return; // a link within the page
      for (const key of Object.keys(state)) delete state[key];
      Object.assign(state, Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
      show();
    });
  }

  function show() {
    $("filter").value = state.filter || "";
    $("controls").checked = state.controls !== "no";
    choosePair();
  }

  if (sections.length) {
    sortable();
    listen();
    if (location.hash && !location.hash.includes("=")) {
      for (const key of Object.keys(state)) delete state[key];
    }
    show();
  }
})();
