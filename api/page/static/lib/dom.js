// Elements. Text is always text: nothing here or in any view is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

// An element with properties and children. `on…` is a listener, `class`, `aria-…`, `data-…`, `role` and `for` are
// attributes, `style` an object of CSS properties; null, undefined and false leave a property or a child out.
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) setProperty(element, name, value);
  return fill(element, children);
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Replace what an element holds.
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(isContent));
  return element;
}

// Change a text only where it differs, so that nothing is laid out or read aloud again for nothing.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function isContent(child) {
  return child !== null && child !== undefined && child !== false;
}

function setProperty(element, name, value) {
  if (!isContent(value)) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
  else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (name in element && !name.includes("-") && !READ_ONLY.has(name)) element[name] = value;
  else element.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
}

// Properties that are objects or cannot be set; their attributes can.
const READ_ONLY = new Set(["list", "form", "width", "height", "role", "style"]);
