// Every rule: what it says, for whom, and whether it is in force.

import { confirmed, emptyState, pill, table, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { duration, plural } from "../../lib/format.js";
import { postLine } from "../../lib/publish.js";
import { button, soft, tag, viewHead } from "../../widgets/pieces.js";
import { bodyOf, conditionText, scopeText, titleOf } from "./model.js";

export const title = "Rules";

const RULES_MAX = 1_000;

export async function show(root, route, app) {
  const list = h("div", {});
  const reload = async () => {
    const { rows, next } = await app.api.page("/v1/alerts", { limit: RULES_MAX });
    fill(list, rows.length ? table("Rules", columns(app, reload), rows) : nothing(app),
      next && h("p", { class: "hint" }, `The oldest ${RULES_MAX.toLocaleString("en")} are listed.`));
  };
  fill(root, viewHead("Rules", app.may("admin") && h("a", { class: "button main", href: "#/rules/new" }, "New rule")), list);
  await reload();
  return () => {};
}

function columns(app, reload) {
  const all = [
    { name: "Rule", class: "plain", wide: true, cell: nameCell },
    { name: "For", class: "fit plain", cell: scopeText },
    { name: "Severity", class: "plain", cell: ({ severity }) => pill(severity) },
    { name: "Channels", cell: ({ channels }) => (channels.length ? channels.map(tag) : soft("none")) },
    { name: "State", class: "plain", cell: (rule) => (app.may("admin") ? enabledSwitch(rule, app, reload) : tag(stateText(rule))) },
  ];
  return app.may("admin") ? [...all, { name: "", class: "buttons", cell: (rule) => actions(rule, app, reload) }] : all;
}

function nameCell(rule) {
  const condition = conditionText(rule, (seconds) => duration(seconds * 1000));
  return [h("a", { class: "name", href: hrefOf(rule) }, titleOf(rule)), h("small", { class: "mono" }, condition)];
}

function stateText({ enabled }) {
  return enabled ? "in force" : "off";
}

function enabledSwitch(rule, app, reload) {
  const box = h("input", { type: "checkbox", role: "switch", checked: rule.enabled, "aria-label": `${titleOf(rule)} is in force` });
  box.addEventListener("change", async () => {
    if (!box.checked && !(await mayResolve(rule, app))) return void (box.checked = true);
    await changed(() => putInForce(app.api, rule, box.checked), reload);
  });
  return h("label", { class: "check" }, box, h("span", { "aria-hidden": "true" }, stateText(rule)));
}

// A change is of the whole rule: somebody else may have changed it since it was listed.
async function putInForce(api, rule, enabled) {
  await api.send("PUT", pathOf(rule), { ...bodyOf(await api.get(pathOf(rule))), enabled });
}

// Switching a rule off and deleting it resolve what it has open: ask before that.
async function mayResolve(rule, app) {
  const { rows } = await app.api.page("/v1/incidents", { rule_id: rule.id, state: "open", limit: 100 });
  if (!rows.length) return true;
  return confirmed(`Switch ${titleOf(rule)} off?`, `It has ${openText(rows)}, which will be resolved.`, "Switch it off");
}

function openText(rows) {
  return rows.length >= 100 ? "100 open incidents or more" : plural(rows.length, "open incident");
}

function actions(rule, app, reload) {
  const remove = async () => {
    const text = "Its open incidents are resolved, and its history stays. This cannot be undone.";
    if (await confirmed(`Delete ${titleOf(rule)}?`, text, "Delete")) await changed(() => app.api.send("DELETE", pathOf(rule)), reload);
  };
  return [
    h("a", { class: "button", href: hrefOf(rule), "aria-label": `Edit ${titleOf(rule)}` }, "Edit"),
    button("Delete", remove, { kind: "danger", label: `Delete ${titleOf(rule)}` }),
  ];
}

async function changed(work, reload) {
  await work().catch((problem) => toast(problem.detail ?? String(problem), { kind: "bad" }));
  await reload();
}

const pathOf = ({ id }) => `/v1/alerts/${id}`;
const hrefOf = ({ id }) => `#/rules/${id}`;

function nothing(app) {
  const line = postLine(app.info, "/v1/alerts", { metric: "temp_c", op: ">", threshold: 60, for_s: 300 });
  return emptyState("There is no rule yet",
    "A rule says when something is wrong: a value passes a threshold, changes too fast, or stays away."
      + " Before you save one, its back-test shows what it would have found.",
    [{ label: "With curl:", line }]);
}
