// Keys: for people, dashboards and programs, each with what it may do.

import { confirmed, field, table, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { checkbox, formDialog, textOf } from "../../widgets/forms.js";
import { moment } from "../../widgets/moments.js";
import { button, partHead, tag, textInput } from "../../widgets/pieces.js";
import { showSecret } from "../../widgets/secret.js";

const KEYS_MAX = 1_000;
const SCOPES = [
  ["read", "every value, alert and setting, but no change"],
  ["ingest", "send events of any device"],
  ["metrics", "the metrics of Voltwire itself, for Prometheus"],
  ["admin", "everything"],
];

// Draws them; returns a function that reads them again. `changed` is called after a change.
export function keys(app, place, changed) {
  const add = async () => {
    const made = await addKey(app);
    if (!made) return;
    const line = `curl -H 'Authorization: Bearer ${made.secret}' ${app.info.http_url}/v1/devices`;
    await showSecret(`The key ${made.name}`, made.secret, [{ label: "A request shows it as:", line }]);
    await changed();
  };
  const revoke = async ({ name }) => {
    const text = "Whoever uses it is refused at once. This cannot be undone.";
    if (!(await confirmed(`Revoke the key ${name}?`, text, "Revoke"))) return;
    await app.api.send("DELETE", `/v1/keys/${encodeURIComponent(name)}`).catch((problem) => toast(problem.detail, { kind: "bad" }));
    await changed();
  };
  return async () => {
    const rows = await app.api.get("/v1/keys", { limit: KEYS_MAX });
    const may = app.may("admin");
    fill(place,
      partHead("Keys", may && button("Make a key", add, { kind: "main" })),
      rows.length ? table("Keys", columns(app.time, may && revoke), rows) : nothing());
  };
}

function nothing() {
  return h("p", { class: "soft" }, "There is no key yet. The first one that may do everything is best made with ",
    h("code", {}, "voltwire key create admin --scope admin"), " (in a checkout: ", h("code", {}, ".venv/bin/voltwire"), ").");
}

function columns(time, revoke) {
  const all = [
    { name: "Name", class: "plain", cell: ({ name }) => h("b", {}, name) },
    { name: "May", class: "plain", cell: ({ scopes }) => scopes.map(tag) },
    { name: "Made", cell: ({ created_at: at }) => moment(time, at) },
    { name: "Last used", cell: ({ last_used_at: at }) => (at ? moment(time, at) : "never") },
  ];
  const cell = (key) => button("Revoke", () => revoke(key), { kind: "danger", label: `Revoke the key ${key.name}` });
  return revoke ? [...all, { name: "", class: "buttons", cell }] : all;
}

function addKey(app) {
  const hint = "Who or what uses it; the audit shows it.";
  const name = field("Name", textInput({ maxLength: 64, placeholder: "grafana" }), { name: "name", hint });
  const boxes = SCOPES.map(([scope, text]) => checkbox(`${scope}: ${text}`, { value: scope, checked: scope === "read" }));
  const inputs = boxes.map((box) => box.querySelector("input"));
  const chosen = () => inputs.filter((each) => each.checked).map((each) => each.value);
  const scopes = scopesField(boxes, inputs);
  return formDialog("Make a key", {
    fields: [name, scopes],
    action: "Make the key",
    send: () => app.api.send("POST", "/v1/keys", { name: textOf(name) ?? "", scopes: chosen() }),
  });
}

function scopesField(boxes, inputs) {
  const error = h("p", { class: "error", hidden: true });
  const setError = (text) => { error.textContent = text ?? ""; error.hidden = !text; };
  const element = h("fieldset", { class: "field", onchange: () => setError(null) }, h("legend", {}, "It may"), boxes, error);
  return { name: "scopes", element, control: inputs[0], setError };
}
