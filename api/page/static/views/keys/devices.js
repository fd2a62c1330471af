// Secrets of devices: made, replaced, revoked.

import { confirmed, field, table, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { mosquittoLine } from "../../lib/publish.js";
import { durationField } from "../../widgets/duration_field.js";
import { checkbox, formDialog, textOf } from "../../widgets/forms.js";
import { moment } from "../../widgets/moments.js";
import { button, moreRow, partHead, tag } from "../../widgets/pieces.js";
import { deviceInput } from "../../widgets/suggestions.js";
import { pageRows } from "./page_rows.js";
import { showSecret } from "../../widgets/secret.js";

// Draws them; returns a function that reads them again. `changed` is called after a change.
export function devices(app, place, changed) {
  const act = actionsOf(app, changed);
  return async () => {
    const { rows, next } = await app.api.page("/v1/credentials", { limit: pageRows() });
    const may = app.may("admin");
    const body = h("div", {});
    const draw = (all, following) => fill(body,
      table("Devices that may log in", columns(app.time, may && act), all), following && moreButton(app, all, following, draw));
    fill(place,
      partHead("Secrets of devices", may && button("Make a secret", act.add)),
      rows.length ? body : h("p", { class: "soft" }, "No device has a secret. With authentication on, a device without one cannot send."));
    if (rows.length) draw(rows, next);
  };
}

function moreButton(app, rows, next, draw) {
  const more = async () => {
    const page = await app.api.pageAt(next);
    draw([...rows, ...page.rows], page.next);
  };
  return moreRow(button("Show more", more));
}

function actionsOf(app, changed) {
  const shown = async (title, { device_id: device, login, secret }) => {
    if (secret) await showSecret(title, secret, [{ label: "At the broker:", line: mosquittoLine(app.info, device, { login, secret }) }]);
    await changed();
  };
  return {
    add: async () => {
      const made = await addSecret(app);
      if (made) await shown(`The secret of ${made.device_id}`, made);
    },
    rotate: async (device) => {
      const made = await rotateSecret(app, device);
      if (made) await shown(`The new secret of ${made.device_id}`, made);
    },
    revoke: async ({ device_id: id }) => {
      const text = "It is refused at once, and the broker cuts it off within 5 s. Its events stay.";
      if (!(await confirmed(`Revoke all credentials of ${id}?`, text, "Revoke"))) return;
      await app.api.send("DELETE", pathOf(id)).catch((problem) => toast(problem.detail, { kind: "bad" }));
      await changed();
    },
  };
}

function columns(time, act) {
  const all = [
    { name: "Device", class: "plain", cell: ({ device_id: id }) => h("a", { class: "name", href: `#/devices/${encodeURIComponent(id)}` }, id) },
    { name: "Login", cell: ({ login }) => h("span", { class: "mono" }, login) },
    { name: "By", class: "plain", cell: ({ secret, certificate }) => [secret && tag("secret"), " ", certificate && tag("certificate")] },
    { name: "Made", cell: ({ created_at: at }) => moment(time, at) },
    { name: "Last used over HTTP", cell: ({ last_used_at: at }) => (at ? moment(time, at) : "never") },
  ];
  const buttons = (device) => [
    device.secret && button("New secret", () => act.rotate(device), { label: `New secret for ${device.device_id}` }),
    button("Revoke", () => act.revoke(device), { kind: "danger", label: `Revoke ${device.device_id}` }),
  ];
  return act ? [...all, { name: "", class: "buttons", cell: buttons }] : all;
}

function addSecret(app) {
  const { input, list } = deviceInput(app, { placeholder: "deviceA" });
  const device = field("Device", input, { name: "device_id", hint: "It need not exist yet." });
  device.element.append(list);
  const certificate = checkbox("Accept its client certificates instead; no secret is made", {});
  const box = { name: "certificate", element: certificate, control: certificate.querySelector("input"), setError() {} };
  return formDialog("Make the secret of a device", {
    fields: [device, box],
    action: "Make it",
    send: async () => {
      const made = await app.api.send("POST", pathOf(textOf(device) ?? ""), undefined, box.control.checked ? { certificate: true } : {});
      if (!made.secret) toast(`Certificates of ${made.device_id} are accepted.`, { kind: "good" });
      return made;
    },
  });
}

function rotateSecret(app, { device_id: id }) {
  const hint = "Over HTTP and at the embedded broker. Mosquitto takes the new one when this ends.";
  const overlap = durationField("The old one stays valid for", { name: "overlap_s", seconds: 3600, hint });
  return formDialog(`A new secret for ${id}`, {
    fields: [overlap],
    action: "Make it",
    send: () => app.api.send("POST", `${pathOf(id)}/rotate`, { overlap_s: overlap.seconds ?? 0 }),
  });
}

function pathOf(id) {
  return `/v1/devices/${encodeURIComponent(id)}/credentials`;
}
