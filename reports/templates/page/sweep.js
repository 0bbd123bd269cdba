// The sweep: what the strength does to one prompt

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
