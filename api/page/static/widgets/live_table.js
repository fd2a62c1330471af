// A table whose rows come and go: only rows that changed are made again.

import { table, tableRow } from "../lib/components.js";
import { KeyedList } from "./keyed_list.js";

// { element, body, draw(rows) }; `columns` as in components.js.
export function liveTable(caption, columns, keyOf) {
  const element = table(caption, columns, []);
  const body = element.querySelector("tbody");
  const list = new KeyedList(body, keyOf, (row) => tableRow(columns, row));
  return { element, body, draw: (rows) => list.draw(rows) };
}
