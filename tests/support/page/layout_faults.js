({ isPhone }) => {
  // What the rules of axe-core leave out: one first heading, captions, no sideways scroll, nothing squeezed, large targets.
  // Returns a list of sentences, one for each fault.
  const TARGET_PX_MIN = 40;
  const faults = [];
  const say = (element, text) => faults.push(`${element.outerHTML.slice(0, 120)}: ${text}`);
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;

  for (const element of document.querySelectorAll("table")) if (!element.caption) say(element, "it has no caption");
  for (const element of document.querySelectorAll("h1, h2, p, td > div, label")) {
    const { width, height } = element.getBoundingClientRect();
    if (isShown(element) && !element.matches(".unseen") && width < 40 && height > 100) say(element, `it is squeezed to ${Math.round(width)} px`);
  }
  const titles = [...document.querySelectorAll("h1")].filter(isShown);
  if (titles.length !== 1) faults.push(`there are ${titles.length} first headings`);
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`it scrolls sideways: ${document.documentElement.scrollWidth} px`);
  for (const element of isPhone ? document.querySelectorAll("button, select, input:not([type=checkbox], [type=radio]), textarea, nav a") : []) {
    const { height } = element.getBoundingClientRect();
    if (isShown(element) && height < TARGET_PX_MIN - 0.5) say(element, `it is ${height} px high`);
  }
  return faults;
}
