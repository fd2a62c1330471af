// Login: the key is asked for once, and a cookie that no script can read stands for it for 12 hours.

import { Problem } from "../lib/api.js";
import { field, toast } from "../lib/components.js";
import { fill, h } from "../lib/dom.js";
import { sendingForm } from "../widgets/forms.js";
import { HOME } from "../routes.js";

export const title = "Log in";

const TEXT = "This installation asks for a key. Keys of the scope read see everything, those of the scope admin may also change it.";
// Browsers keep cookies of plain http for the machine itself alone.
const NOT_KEPT = "The key is right, but this browser did not keep the session: from another machine, the page must be opened with https.";

export async function show(root, route, app) {
  const input = h("input", { type: "password", autocomplete: "current-password", placeholder: "vwk_…", required: true });
  const key = field("Key", input, { name: "key" });
  const next = route.params.next?.startsWith("#/") ? route.params.next : HOME;
  await app.refreshInfo();  // A session that has ended is not known here yet.
  if (app.info.authentication === false) return app.navigate(next, { replace: true });
  const form = sendingForm({
    fields: [key],
    content: [accountName(), key.element],
    action: "Log in",
    send: async () => {
      await app.api.send("POST", "/v1/session", { key: key.value.trim() });
      await app.refreshInfo();
      if (app.isStranger) throw new Problem(0, NOT_KEPT);
    },
    done: () => app.navigate(next, { replace: true }),
  });
  fill(root, h("div", { class: "login card pad" },
    h("h1", {}, "Log in"),
    h("p", { class: "soft" }, TEXT),
    form,
    h("details", {}, h("summary", {}, "I have no key"),
      h("p", {}, "Whoever runs this installation makes one, here or on the machine with ",
        h("code", {}, "voltwire key create NAME --scope read"), "."))));
  key.control.focus();
  return () => {};
}

// A password manager keeps the key under a name.
function accountName() {
  return h("input", { type: "text", autocomplete: "username", value: "Voltwire", hidden: true, readOnly: true });
}

// For the bar: who is logged in, and the way out. Null without a session.
export function logoutButton(app) {
  if (!app.info.authentication || app.isStranger) return null;
  const leave = async () => {
    try {
      await app.api.send("DELETE", "/v1/session");
    } catch (problem) {
      toast(problem.detail ?? String(problem), { kind: "bad" });
      return;
    }
    await app.refreshInfo();
    app.login();
  };
  return h("button", { type: "button", class: "leave", onclick: leave, title: app.info.key ? `Logged in with the key ${app.info.key}` : null }, "Log out");
}
