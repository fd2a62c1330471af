// Text fields that suggest what exists.

import { fill, h } from "../lib/dom.js";
import { debounce } from "../lib/throttle.js";

const QUIET_MS = 150;
const DEVICES_MAX = 20;

let lists = 0;

// An input with a list of suggestions: { input, suggest(values) }. `values` are [{ value, label? }].
export function suggestingInput(props) {
  const id = `suggestions-${(lists += 1)}`;
  const list = h("datalist", { id });
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: false, ...props });
  input.setAttribute("list", id);
  const suggest = (values) => fill(list, values.map(({ value, label }) => h("option", { value }, label)));
  return { input, list, suggest };
}

// An input for a device_id, which suggests devices by what was typed of their id, name or tags.
export function deviceInput(app, props) {
  const made = suggestingInput({ placeholder: "all devices", ...props });
  const look = debounce(QUIET_MS, async () => {
    const query = { q: made.input.value || null, limit: DEVICES_MAX };
    const found = await app.api.get("/v1/devices", query).catch(() => []);
    made.suggest(found.map(({ device_id: value, name }) => ({ value, label: name })));
  });
  made.input.addEventListener("focus", look);
  made.input.addEventListener("input", look);
  return made;
}
