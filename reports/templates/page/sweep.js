// The sweep: what the strength does to one prompt

let sweep = null;

// Of the chosen prompt, by ascending beta: what a sweep stores, or else the evaluation.
function readSweep() {
  const method = chosenMethod();
  const [split, place] = chosenPrompt();
  const found = sweepOf(method, split, place);
  const stored = found || own(method.stored, split);
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
  asked = askedOf(chosenMethod(), split)[place] ?? null;
  const prompt = block(current()).prompts[asked];
  $("prompt-text").textContent = prompt ? `${prompt.clean} → ${prompt.answer} (answer), ${prompt.foil} (foil)` : "";
  $("sweep-box").hidden = !sweep;
  $("sweep-note").textContent = sweepNote(chosenMethod());
  if (!sweep) return remember();
  const slider = $("beta");
  slider.max = sweep.beta.length - 1;
  const wanted = state.beta === undefined ? sweep.star ?? 1 : Number(state.beta);
  const distance = sweep.beta.map((beta) => Math.abs(beta - wanted));
  slider.value = distance.indexOf(Math.min(...distance));
  drawSweep();
  return remember();
}

function sweepNote(method) {
  const reasons = [leftOut(method, "sweeps"), leftOut(method, "strengths of the evaluation")].join(" ").trim();
  if (!sweep) return method.missing || reasons || "Nothing is stored of this prompt.";
  const evaluated = "No sweep of this prompt is stored: the strengths are those of the evaluation. "
    + "Prompts marked ~ have one.";
  return `Of ${method.cell}. ${sweep.full ? "" : reasons || evaluated}`;
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

// Where the axes of the curves lie, in units of their picture
const FRAME = { width: 420, height: 190, left: 54, right: 8, top: 8, bottom: 26 };

function scalesOf(curves) {
  const all = curves.flatMap(([, values]) => values).filter(Number.isFinite);
  if (!all.length) return null;
  if (!sweep.logit_answer) all.push(0);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const [first, last] = [sweep.beta[0], sweep.beta[sweep.beta.length - 1]];
  const wide = FRAME.width - FRAME.left - FRAME.right;
  const tall = FRAME.height - FRAME.top - FRAME.bottom;
  return {
    low, high, first, last,
    x: (beta) => FRAME.left + ((beta - first) / (last - first || 1)) * wide,
    y: (value) => FRAME.top + 4 + ((high - value) / (high - low || 1)) * (tall - 8),
  };
}

function axes({ low, high, first, last, x, y }) {
  const base = FRAME.height - FRAME.bottom;
  const up = (beta, kind) => shape("line", { x1: x(beta), x2: x(beta), y1: FRAME.top, y2: base, class: kind });
  const parts = [shape("line", { x1: FRAME.left, x2: FRAME.width - FRAME.right, y1: base, y2: base, class: "axis" })];
  for (const beta of [0, -1, 1, ...(sweep.star === null ? [] : [sweep.star, -sweep.star])]) {
    if (beta >= first && beta <= last) parts.push(up(beta, beta === 0 ? "axis" : "axis dashed"));
  }
  for (const value of new Set([low, high])) {
    parts.push(shape("text", { x: FRAME.left - 5, y: y(value) + 4, "text-anchor": "end" }, significant(value)));
  }
  const labels = new Map([[first, "start"], [last, "end"]]);
  if (x(0) - x(first) > 60 && x(last) - x(0) > 60) labels.set(0, "middle");
  for (const [beta, anchor] of labels) {
    parts.push(shape("text", { x: x(beta), y: FRAME.height - 8, "text-anchor": anchor }, significant(beta)));
  }
  return [...parts, up(sweep.beta[Number($("beta").value)], "now")];
}

function drawCurves(index) {
  const curves = sweep.logit_answer
    ? [["answer", sweep.logit_answer], ["foil", sweep.logit_foil]] : [["answer", sweep.ld]];
  const scales = scalesOf(curves);
  $("curves-key").textContent = !scales ? "No number of this prompt is defined: there is nothing to draw."
    : sweep.logit_answer ? "logits against β; answer: solid line, foil: dashed" : "LD against β";
  $("curves").replaceChildren(...(scales ? axes(scales) : []));
  if (!scales) return;
  for (const [name, values] of curves) {
    const points = values.map((value, i) => [sweep.beta[i], value]).filter(([, value]) => Number.isFinite(value))
      .map(([beta, value]) => `${scales.x(beta)},${scales.y(value)}`);
    $("curves").append(shape("polyline", { class: name, points: points.join(" ") }));
    if (!Number.isFinite(values[index])) continue;
    const at = { cx: scales.x(sweep.beta[index]), cy: scales.y(values[index]) };
    $("curves").append(shape("circle", { class: name, ...at, r: 4 }));
  }
}
