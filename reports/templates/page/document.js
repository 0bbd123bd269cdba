// The page's behaviour: plain script, no library, nothing fetched. Strings of the run reach the
// document as text only (textContent), never as markup. These files are one script (reports.html).

const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, text = "") => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};
const MINUS = "\u2212";
