// Tables that are sorted by a click on a column's name, and stay so when the numbers change.

import { element, setAttribute, setChildren, setHidden, setName, setText } from "./dom.js";

/// A table without rows is hidden. A column has an `id`, a `label`, and either `text` of a row or `make` a node and `show` a row in it.
/// With `value` it can be sorted by; `first` is the direction at first. Rows that are equal keep their order.
/// Where a text is a `name`, as that of the first column, lines end between its parts.
/// With `present` it is there only if that is true of the rows.
export class Table {
  #columns;
  #key;
  #sort;
  #rows = [];
  #rest = null;
  #body = element("tbody", { role: "rowgroup" });
  #foot = element("tfoot", { role: "rowgroup" });
  #heads = new Map();
  #headRow = element("tr", { role: "row" });
  #absent = [];
  #whole;

  constructor(container, { label, columns, key, sort = null, className = "" }) {
    this.#columns = columns;
    this.#key = key;
    this.#sort = sort;
    for (const column of columns) this.#headRow.append(this.#head(column));
    const head = element("thead", { role: "rowgroup" }, this.#headRow);
    // The roles say what is a table to who reads it aloud, where a phone's layout makes it none.
    const attributes = { "aria-label": label, class: className, role: "table" };
    const table = element("table", attributes, head, this.#body, this.#foot);
    this.#whole = container.appendChild(element("div", { class: "scroll" }, table));
    this.#mark();
  }

  /// Shows rows, and one below them that is never sorted.
  show(rows, rest = null) {
    this.#rows = rows;
    this.#rest = rest;
    this.#absent = this.#columns.map(({ present }) => present !== undefined && !present(rows));
    this.#render();
  }

  #head(column) {
    const cell = element("th", { scope: "col", role: "columnheader", class: this.#class(column) });
    if (column.title) cell.title = column.title;
    if (column.value) {
      const button = element("button", { type: "button" }, column.label);
      button.addEventListener("click", () => this.#sortBy(column));
      cell.append(button);
      this.#heads.set(column.id, cell);
    } else cell.append(column.label);
    return cell;
  }

  #class(column) {
    return `${column.id}${column.left ? " left" : ""}`;
  }

  #sortBy({ id, first = "descending" }) {
    const other = { ascending: "descending", descending: "ascending" };
    const again = this.#sort?.id === id;
    this.#sort = { id, direction: again ? other[this.#sort.direction] : first };
    this.#mark();
    this.#render();
  }

  #mark() {
    for (const [id, cell] of this.#heads)
      setAttribute(cell, "aria-sort", id === this.#sort?.id ? this.#sort.direction : "none");
  }

  #sorted() {
    const column = this.#columns.find(({ id }) => id === this.#sort?.id);
    if (!column) return this.#rows;
    const sign = this.#sort.direction === "ascending" ? 1 : -1;
    const compare = (left, right) => {
      // What has no value comes last in either direction.
      if (left === null || right === null) return (left === null) - (right === null);
      return sign * (typeof left === "string" ? left.localeCompare(right) : left - right);
    };
    return [...this.#rows].sort((left, right) => compare(column.value(left), column.value(right)));
  }

  #render() {
    setHidden(this.#whole, this.#rows.length === 0);
    this.#hideAbsent(this.#headRow);
    const make = () => this.#makeRow();
    const show = (node, row) => this.#showRow(node, row);
    setChildren(this.#body, this.#sorted(), this.#key, make, show);
    setChildren(this.#foot, this.#rest ? [this.#rest] : [], () => "rest", make, show);
  }

  #makeRow() {
    const row = element("tr", { role: "row" });
    this.#columns.forEach((column, index) => {
      const head = index === 0;
      const attributes = head ? { scope: "row", role: "rowheader" } : { role: "cell" };
      const cell = element(head ? "th" : "td", { ...attributes, class: this.#class(column) });
      if (column.make) cell.append(column.make());
      row.append(cell);
    });
    return row;
  }

  #hideAbsent(row) {
    this.#absent.forEach((absent, index) => setHidden(row.children[index], absent));
  }

  #showRow(node, row) {
    this.#hideAbsent(node);
    this.#columns.forEach((column, index) => {
      const cell = node.children[index];
      if (column.make) column.show(cell.firstElementChild, row);
      else (index === 0 || column.name ? setName : setText)(cell, column.text(row));
      if (column.mark) cell.classList.toggle("bad", column.mark(row));
      if (column.hint) setAttribute(cell, "title", column.hint(row));
    });
  }
}
