// Of every text that is shown: its colour on what lies below it. Below a text of the page are the grounds of what it stands in;
// below one of a figure also the marks that its middle lies on (bars), and the pixels of a heat map.
(async () => {
  const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const rgba = (text) => { const [r, g, b, a = 1] = parse(text); return text.startsWith("rgb") ? [r, g, b, a] : null; };
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]));
  const light = (one) => { const v = one / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const chain = (element) => { const all = []; for (let e = element; e instanceof Element; e = e.parentElement) all.push(e); return all; };
  const ground = (element) => {
    let colour = [255, 255, 255];
    for (const one of chain(element).reverse()) {
      const own = rgba(getComputedStyle(one).backgroundColor);
      if (own && own[3] > 0) colour = over(own, colour);
    }
    return colour;
  };
  const inside = (box, x, y) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
  const pixel = async (image, x, y) => {
    const source = new Image();
    source.src = image.getAttribute("href") || image.getAttributeNS("http://www.w3.org/1999/xlink", "href");
    await source.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [source.width, source.height];
    const context = canvas.getContext("2d");
    context.drawImage(source, 0, 0);
    const box = image.getBoundingClientRect();
    const at = [(x - box.left) / box.width * source.width, (y - box.top) / box.height * source.height];
    const [r, g, b, a] = context.getImageData(Math.min(at[0], source.width - 1), Math.min(at[1], source.height - 1), 1, 1).data;
    return [r, g, b, a / 255];
  };
  const below = async (text, colour) => {
    const own = text.getBoundingClientRect(), [x, y] = [(own.left + own.right) / 2, (own.top + own.bottom) / 2];
    for (const mark of text.closest(".plot").querySelectorAll(".plot-container path, .plot-container rect, .plot-container image")) {
      if (mark.contains(text) || !inside(mark.getBoundingClientRect(), x, y)) continue;
      if (mark.tagName === "image") { colour = over(await pixel(mark, x, y), colour); continue; }
      const style = getComputedStyle(mark), fill = rgba(style.fill);
      if (!fill || style.fill === "none") continue;
      const matrix = mark.getScreenCTM();
      if (!matrix || !mark.isPointInFill(new DOMPoint(x, y).matrixTransform(matrix.inverse()))) continue;
      const seen = chain(mark).reduce((part, one) => part * Number(getComputedStyle(one).opacity), 1);
      colour = over([...fill.slice(0, 3), fill[3] * Number(style.fillOpacity) * seen], colour);
    }
    return colour;
  };
  const low = []; let texts = 0, ofFigures = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, said = walk.currentNode.textContent.trim();
    if (!said || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const seen = chain(element).reduce((part, one) => part * Number(getComputedStyle(one).opacity), 1);
    if (!box.width || !box.height || style.visibility === "hidden" || seen === 0) continue;
    const drawn = element instanceof SVGElement;
    const ink = rgba(drawn ? style.fill : style.color);
    if (!ink) continue;
    const under = drawn ? await below(element, ground(element.closest(".plot"))) : ground(element);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = ratio(over([ink[0], ink[1], ink[2], ink[3] * seen * (drawn ? Number(style.fillOpacity) : 1)], under), under);
    texts += 1; ofFigures += drawn;
    if (found < (large ? 3 : 4.5) /* WCAG 2.2, success criterion 1.4.3 (AA) */) low.push(`${found.toFixed(2)} “${said.slice(0, 40)}” rgb(${ink}) on rgb(${under.map(Math.round)})`);
  }
  return { low, texts, ofFigures };
})()
