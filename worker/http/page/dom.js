// Elements and their text. Whatever comes from the worker becomes text, never markup: names of streams are anybody's.

export const $ = (id) => document.getElementById(id);

// A new element; attributes that are null or false are left out.
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Nothing is touched where nothing changed: a screen reader says again what is written again.
export function write(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

export function attribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Children of `parent`, one an item in their order: kept by key, so that the focus stays where it is.
export function keyed(parent, items, keyOf, make, update) {
  const focused = document.activeElement;
  const before = new Map([...parent.children].map((node) => [node.key, node]));
  const wanted = items.map((item) => {
    const node = before.get(keyOf(item)) ?? Object.assign(make(item), { key: keyOf(item) });
    before.delete(keyOf(item)); // of two items with one key the second gets a node of its own
    update(node, item);
    return node;
  });
  const kept = new Set(wanted);
  for (const node of [...parent.children]) if (!kept.has(node)) node.remove();
  wanted.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
  if (parent.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

// Terms and their figures: pairs of words.
export function figures(list, pairs) {
  const make = () => element("div", {}, element("dt"), element("dd"));
  keyed(list, pairs, ([term]) => term, make, (node, [term, figure]) => {
    write(node.firstChild, term);
    write(node.lastChild, figure);
  });
}

// The head of a table: words, one a column.
export function head(table, columns) {
  keyed(table.tHead.rows[0], columns, (words) => words, () => element("th", { scope: "col" }), write);
}

// The rows of a table: the first cell is the row's head. A cell is words, or {words, mark} with a class for the eye.
export function body(table, rows) {
  const tbody = table.tBodies[0];
  while (tbody.rows.length > rows.length) tbody.lastChild.remove();
  rows.forEach((cells, i) => {
    const row = tbody.rows[i] ?? tbody.appendChild(element("tr"));
    while (row.cells.length > cells.length) row.lastChild.remove();
    cells.forEach((cell, k) => {
      const node = row.cells[k] ?? row.appendChild(k ? element("td") : element("th", { scope: "row" }));
      if (cell instanceof Node) {
        if (node.firstChild !== cell) node.replaceChildren(cell);
        return;
      }
      write(node, cell.words ?? cell);
      attribute(node, "class", cell.mark ?? null);
    });
  });
}
