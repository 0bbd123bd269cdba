// What is chosen: kept in the address, so that a link shows the same

const sections = [...document.querySelectorAll("section.pair")];
const state = {};
const blocks = new Map();

function block(index) {
  if (!blocks.has(index)) blocks.set(index, JSON.parse($("data-" + index).textContent));
  return blocks.get(index);
}

function address(changes = {}) {
  const kept = Object.entries({ ...state, ...changes });
  return "#" + new URLSearchParams(kept.filter(([, value]) => value !== "" && value !== undefined));
}

// Links within the page carry what is chosen, too: opened, copied or gone back to.
function remember() {
  if (address() !== location.hash) history.replaceState(null, "", address());
  for (const link of document.querySelectorAll("a[data-part]")) {
    link.setAttribute("href", address({ part: link.dataset.part }));
  }
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
  asked = null;
  chooseMethod();
  arrange();
}

function chooseMethod() {
  const methods = block(current()).methods.map(({ label }) => [label, label]);
  state.method = fill($("method"), methods, state.method);
  choosePrompt();
}

// Methods may have been asked different prompts: each offers its own, and where it has the one that
// was looked at, that one stays.
let asked = null;
const own = (object, key) => (object && Object.hasOwn(object, key) ? object[key] : undefined);
const askedOf = (method, split) => own(block(current()).asked[method.asked], split) || [];

function choosePrompt() {
  const { splits, prompts } = block(current());
  const method = chosenMethod();
  const options = splits.flatMap((split) => askedOf(method, split).map((number, place) => {
    const swept = sweepOf(method, split, place) ? " ~" : "";
    return [`${split}.${place}`, `${split} ${place + 1}${swept}: ${prompts[number].clean}`];
  }));
  const same = askedOf(method, chosenPrompt()[0]).indexOf(asked);
  if (same >= 0) state.prompt = `${chosenPrompt()[0]}.${same}`;
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
  const sweep = own(method.sweeps, split);
  return sweep && sweep.prompts.includes(place) ? sweep : null;
};
