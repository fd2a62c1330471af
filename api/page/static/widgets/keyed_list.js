// A list that is drawn again and again: an element whose item did not change stays, with the focus in it.

const FOCUSABLE = "a[href], button, input, select, textarea, summary";

export class KeyedList {
  // `render(item)` makes the element of an item, `keyOf(item)` says which item it is. Items are plain data.
  constructor(parent, keyOf, render) {
    Object.assign(this, { parent, keyOf, render });
    this.drawn = new Map();  // key → { element, signature }
  }

  draw(items) {
    const before = this.drawn;
    this.drawn = new Map(items.map((item) => [this.keyOf(item), this.entry(before.get(this.keyOf(item)), item)]));
    for (const [key, { element }] of before) if (this.drawn.get(key)?.element !== element) element.remove();
    this.order();
  }

  entry(old, item) {
    const signature = JSON.stringify(item);
    if (old?.signature === signature) return old;
    const element = this.render(item);
    if (old) replaceKeepingFocus(old.element, element);
    return { element, signature };
  }

  // Elements that stand where they belong are not touched: moving one would take the focus from it.
  order() {
    let place = this.parent.firstChild;
    for (const { element } of this.drawn.values()) {
      if (element === place) place = place.nextSibling;
      else this.parent.insertBefore(element, place);
    }
  }
}

function replaceKeepingFocus(old, element) {
  const place = [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  old.replaceWith(element);
  if (place >= 0) element.querySelectorAll(FOCUSABLE)[place]?.focus();
}

// Whether somebody points at a list or works in it: rows that move under the pointer get the wrong click. A finger
// points only while it clicks. `onFree` is called when it may move again.
export function holdOf(list, onFree) {
  let isPointedAt = false;
  const point = (isInside) => (event) => {
    isPointedAt = isInside && event.pointerType === "mouse";
    if (!isInside) onFree();
  };
  list.addEventListener("pointerenter", point(true));
  list.addEventListener("pointerleave", point(false));
  list.addEventListener("focusout", () => setTimeout(onFree));
  return () => isPointedAt || list.contains(document.activeElement);
}
