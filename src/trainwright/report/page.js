"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];

  // Theme: auto follows the system; what was chosen is remembered where the browser lets a file remember anything.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const remembered = () => { try { return localStorage.getItem("trainwright-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("trainwright-theme", theme); } catch { /* not allowed here */ } };
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  const show = () => {
    if (theme === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    plots.filter((plot) => plot.dataset.drawn).forEach(drawn);
  };
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remember(theme);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

  // Figures. "@blue" in their data is the colour of that name in the theme.
  const inTheme = (value, style) => {
    if (typeof value === "string") return value.startsWith("@") ? style.getPropertyValue(`--${value.slice(1)}`).trim() || value : value;
    if (Array.isArray(value)) return value.map((item) => inTheme(item, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inTheme(item, style)]));
    return value;
  };
  const asked = new Map(plots.map((plot) => [plot, plot.nextElementSibling.textContent]));
  function draw(plot) {
    const { data, layout } = inTheme(JSON.parse(asked.get(plot)), getComputedStyle(root));
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger on a figure scrolls the page
    return Plotly.react(plot, data, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
  }
  const inWords = (plot, why, error) => {
    plot.textContent = `${why} ${plot.getAttribute("aria-label")}`;
    console.warn(error);
  };
  async function drawn(plot) { // a figure that fails takes nothing from the others
    try {
      plot.dataset.drawn = "yes";
      await draw(plot);
    } catch (error) {
      delete plot.dataset.drawn;
      inWords(plot, "This figure could not be drawn.", error);
    }
  }
  async function unpack() {
    const packed = document.getElementById("plotly");
    const text = packed.textContent;
    const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
  }
  async function drawAll() {
    if (!plots.length) return;
    try {
      await unpack();
    } catch (error) {
      plots.forEach((plot) => inWords(plot, "This browser is too old to draw the figure.", error));
      return;
    }
    for (const plot of plots) { // in their order, so that what is on the screen comes first and scrolling stays smooth
      await drawn(plot);
      if (plot === plots[0]) performance.mark("first figure"); // benchmarks/report_page.py reads it
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  // Tables: a click on a head sorts by its column, a second one the other way round. Empty cells stay last.
  const order = (down) => ([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    const found = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
    return down ? -found : found;
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.first === "down" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.value ?? row.cells[column].textContent, row]);
      table.tBodies[0].append(...rows.sort(order(direction === "descending")).map(([, row]) => row));
    }));
  });

  show();
  drawAll().then(() => { root.dataset.ready = "yes"; });
})();
