({ isPhone }) => {
  // What can be computed of WCAG 2.2: names, contrast, unique ids, headings, sizes of targets, no sideways scroll.
  // Returns a list of sentences, one for each fault.
  const CONTRAST_MIN = 4.5, LARGE_MIN = 3, TARGET_PX_MIN = 40;
  const faults = [];
  const say = (element, text) => faults.push(`${element.outerHTML.slice(0, 120)}: ${text}`);
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;

  function channels(text) {
    const numbers = text.match(/[\d.]+(?:e-\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return { rgb: numbers.slice(0, 3).map((each) => each * scale), alpha: numbers[3] ?? 1 };
  }
  const over = (top, below) => top.rgb.map((each, i) => each * top.alpha + below[i] * (1 - top.alpha));
  function background(element) {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const layer = channels(getComputedStyle(each).backgroundColor);
      if (layer.alpha > 0) layers.push(layer);
      if (layer.alpha === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  }
  function luminance(rgb) {
    const [r, g, b] = rgb.map((each) => each / 255).map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function contrast(a, b) {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  }

  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !isShown(element) || element.closest("[disabled], .unseen, .skip, option, svg")) continue;
    const style = getComputedStyle(element);
    const behind = background(element);
    const found = contrast(over(channels(style.color), behind), behind);
    const px = parseFloat(style.fontSize);
    const isLarge = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
    if (found < (isLarge ? LARGE_MIN : CONTRAST_MIN)) say(element, `the contrast is ${found.toFixed(2)}`);
  }

  const nameOf = (element) => (element.getAttribute("aria-label") ?? document.getElementById(element.getAttribute("aria-labelledby"))?.textContent ?? [...(element.labels ?? [])].map((each) => each.textContent).join(" ")) || element.textContent;
  for (const element of document.querySelectorAll("a[href], button, input, select, textarea, canvas, svg[role=img], nav, dialog")) {
    if (!isShown(element)) continue;
    const isControl = element.matches("input, select, textarea");
    const name = isControl ? element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent : nameOf(element);
    if (!name?.trim()) say(element, "it has no name");
  }
  for (const element of document.querySelectorAll("th")) if (!element.scope) say(element, "it has no scope");
  for (const element of document.querySelectorAll("table")) if (!element.caption) say(element, "it has no caption");
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`the id ${id} is there twice`);
  for (const element of document.querySelectorAll("[aria-describedby], [aria-labelledby]")) {
    const named = `${element.getAttribute("aria-describedby") ?? ""} ${element.getAttribute("aria-labelledby") ?? ""}`.split(/\s+/).filter(Boolean);
    for (const id of named) if (!document.getElementById(id)) say(element, `nothing has the id ${id}`);
  }
  for (const element of document.querySelectorAll("h1, h2, p, td > div, label")) {
    const { width, height } = element.getBoundingClientRect();
    if (isShown(element) && !element.matches(".unseen") && width < 40 && height > 100) say(element, `it is squeezed to ${Math.round(width)} px`);
  }
  const titles = [...document.querySelectorAll("h1")].filter(isShown);
  if (titles.length !== 1) faults.push(`there are ${titles.length} first headings`);
  if (!document.documentElement.lang) faults.push("the language is not said");
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`it scrolls sideways: ${document.documentElement.scrollWidth} px`);
  for (const element of isPhone ? document.querySelectorAll("button, select, input:not([type=checkbox], [type=radio]), textarea, nav a") : []) {
    const { height } = element.getBoundingClientRect();
    if (isShown(element) && height < TARGET_PX_MIN - 0.5) say(element, `it is ${height} px high`);
  }
  return [...new Set(faults)];
}
