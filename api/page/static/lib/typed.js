// What somebody typed into the forms of a view, so that it can be put back after the view is drawn again.

// The controls of all forms below an element, in their order.
function controlsOf(root) {
  return [...root.querySelectorAll("form")].flatMap((form) => [...form.elements]).filter((each) => "value" in each && each.type !== "submit");
}

export function typedIn(root) {
  return controlsOf(root).map(({ value, checked }) => ({ value, checked }));
}

// Put it back into the same forms. False if they have other controls, as in place of a view that could not be read.
export function typeAgain(root, typed) {
  const controls = controlsOf(root);
  if (controls.length !== typed.length) return false;
  controls.forEach((control, place) => restore(control, typed[place]));
  return true;
}

// The form hears of it as if it was typed.
function restore(control, { value, checked }) {
  if (control.value === value && control.checked === checked) return;
  if (control.type === "checkbox" || control.type === "radio") control.checked = checked;
  else control.value = value;
  if (control.type !== "radio" || checked) control.dispatchEvent(new Event("change", { bubbles: true }));
}
