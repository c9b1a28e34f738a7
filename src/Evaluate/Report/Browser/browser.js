// @ts-check
"use strict";

/**
 * @typedef {{
 *   latents: number, tokens: number, block: number, definitions?: Record<string, string>,
 *   columns: {
 *     density: number[], max_activation: number[], mean_activation: number[], top_token: string[], dead: number[],
 *     dense: number[], n2g_f1: (number | null)[], block: number[]
 *   }
 * }} Index
 * @typedef {"index" | "top_token" | "density" | "max_activation" | "mean_activation" | "n2g_f1" | "block"} Column
 */

/** Data scripts hand their content over here; whoever loaded one waits under its name. */
/** @type {Map<string, (json: string) => void>} */ const awaited = new Map();
// A property of the window, so that the scripts find it by that name.
Object.assign(window, { saeData: (/** @type {string} */ name, /** @type {string} */ json) => awaited.get(name)?.(json) });

(() => {
  const { el, number, percent, count, chip } = latentView;
  const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const search = /** @type {HTMLInputElement} */ (byId("search"));
  const filter = /** @type {HTMLSelectElement} */ (byId("filter"));
  const table = /** @type {HTMLTableElement} */ (byId("table"));
  const scroller = byId("scroller");
  const body = table.tBodies[0];
  const headings = /** @type {HTMLElement[]} */ ([...table.querySelectorAll("th[data-column]")]);
  const rowHeight = parseFloat(getComputedStyle(table).getPropertyValue("--row"));
  const title = document.title;

  /** Rows drawn above and below those in sight. */
  const MARGIN = 12;
  /** Blocks kept after they were shown. */
  const KEPT_BLOCKS = 8;

  /** @type {Index} */ let index;
  /** @type {number[]} */ let order = [];
  /** @type {{column: Column, ascending: boolean}} */ let sort = { column: "block", ascending: true };
  let selected = 0;
  /** @type {Map<number, Promise<{latents: Latent[]}>>} */ const blocks = new Map();

  /**
   * Loads a data script that lies beside the page.
   * @returns {Promise<any>}
   */
  function load(/** @type {string} */ name) {
    return new Promise((resolve, reject) => {
      const script = /** @type {HTMLScriptElement} */ (el("script", { src: `${name}.js` }));
      awaited.set(name, json => resolve(JSON.parse(json)));
      script.onerror = () => reject(new Error(`${name}.js is not beside this page. Build the report again.`));
      script.onload = () => {
        script.remove();
        awaited.delete(name);
        reject(new Error(`${name}.js holds no data. Build the report again.`)); // nothing, once resolved
      };
      document.head.append(script);
    });
  }

  // ── table ──

  /** @type {Record<string, (latent: number) => boolean>} */
  const filters = {
    all: () => true,
    described: latent => index.columns.block[latent] >= 0,
    alive: latent => !index.columns.dead[latent],
    dense: latent => Boolean(index.columns.dense[latent]),
    dead: latent => Boolean(index.columns.dead[latent]),
  };

  const value = (/** @type {Column} */ column, /** @type {number} */ latent) =>
    column === "index" ? latent : index.columns[column][latent];

  /** Entries without a value stay last, whichever the direction. */
  function compare(/** @type {number} */ a, /** @type {number} */ b) {
    const [x, y] = [value(sort.column, a), value(sort.column, b)];
    const missing = (/** @type {string | number | null} */ found) =>
      found === null || found === "" || (sort.column === "block" && found === -1);
    const [noX, noY] = [missing(x), missing(y)];
    if (noX || noY) return Number(noX) - Number(noY) || a - b;
    const order = /** @type {any} */ (x) < /** @type {any} */ (y) ? -1 : /** @type {any} */ (x) > /** @type {any} */ (y) ? 1 : 0;
    return (sort.ascending ? order : -order) || a - b;
  }

  /** Digits find the latent of that number, and tokens that hold them; other text finds tokens. */
  function matches(/** @type {number} */ latent, /** @type {string} */ wanted) {
    return wanted === "" || String(latent) === wanted.trim() || index.columns.top_token[latent].toLowerCase().includes(wanted);
  }

  function arrange() {
    const wanted = search.value.toLowerCase();
    const keep = filters[filter.value];
    order = Array.from({ length: index.latents }, (_, latent) => latent)
      .filter(latent => keep(latent) && matches(latent, wanted))
      .sort(compare);
    // The latent of the very number that was asked for comes first.
    const asked = order.indexOf(wanted.trim() === "" ? -1 : Number(wanted));
    if (asked > 0) order.unshift(...order.splice(asked, 1));
    selected = 0;
    scroller.scrollTop = 0;
    headings.forEach(heading => {
      if (heading.dataset.column === sort.column) heading.setAttribute("aria-sort", sort.ascending ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
    byId("count").textContent = order.length === index.latents
      ? `${count(index.latents)} latents`
      : `${count(order.length)} of ${count(index.latents)} latents`;
    table.setAttribute("aria-rowcount", String(order.length + 1));
    draw();
  }

  function row(/** @type {number} */ at) {
    const latent = order[at];
    const columns = index.columns;
    const density = el("span", { class: "meter", "aria-hidden": "true" });
    // Five decades below 1 are worth telling apart.
    density.style.width = `${Math.max(0, 100 + 20 * Math.log10(columns.density[latent] || 1e-9)).toFixed(0)}%`;
    const flags = [
      ...(columns.dead[latent] ? [el("span", { class: "flag" }, "dead")] : []),
      ...(columns.dense[latent] ? [el("span", { class: "flag" }, "dense")] : []),
    ];
    const line = el("tr",
      {
        id: `row-${latent}`, "aria-rowindex": String(at + 2), "aria-selected": String(at === selected),
        ...(columns.block[latent] < 0 ? { class: "bare", title: "No examples of this latent were kept." } : {}),
      },
      el("td", { class: "n" }, el("a", { href: `#latent=${latent}`, tabindex: "-1" }, String(latent))),
      el("td", { class: "token" }, ...(columns.top_token[latent] ? [chip(columns.top_token[latent])] : []), ...flags),
      el("td", { class: "n density" }, density, percent(columns.density[latent], 2)),
      el("td", { class: "n" }, number(columns.max_activation[latent])),
      el("td", { class: "n wide" }, number(columns.mean_activation[latent])),
      el("td", { class: "n" }, columns.n2g_f1[latent] === null ? "–" : /** @type {number} */ (columns.n2g_f1[latent]).toFixed(2)));
    line.addEventListener("click", event => {
      if (!(event.target instanceof HTMLAnchorElement)) location.hash = `latent=${latent}`;
    });
    return line;
  }

  /** A cell over all columns that are shown: on a small screen some are not. */
  const acrossAll = (/** @type {(Node | string)[]} */ ...children) =>
    el("td", { colspan: String(headings.filter(heading => heading.offsetWidth > 0).length || 1), class: "muted" }, ...children);

  const gap = (/** @type {number} */ rows) => {
    const cell = acrossAll();
    cell.style.height = `${rows * rowHeight}px`;
    return el("tr", { class: "gap", "aria-hidden": "true" }, cell);
  };

  /** Only the rows in sight exist, between two gaps as high as the others. */
  function draw() {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - MARGIN);
    const last = Math.min(order.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / rowHeight) + MARGIN);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(row(at));
    body.replaceChildren(
      ...(first > 0 ? [gap(first)] : []),
      ...rows,
      ...(last < order.length ? [gap(order.length - last)] : []),
      ...(order.length === 0 ? [el("tr", {}, acrossAll("No latent matches."))] : []));
    if (order.length > 0) table.setAttribute("aria-activedescendant", `row-${order[selected]}`);
    else table.removeAttribute("aria-activedescendant");
  }

  /** Moves the selection and keeps it in sight, clear of the heading that covers the top. */
  function select(/** @type {number} */ at) {
    selected = Math.max(0, Math.min(order.length - 1, at));
    const heading = /** @type {HTMLElement} */ (table.tHead).offsetHeight;
    const top = selected * rowHeight;
    const page = scroller.clientHeight - heading;
    scroller.scrollTop = Math.max(top + rowHeight - page, Math.min(top, scroller.scrollTop));
    draw();
  }

  // ── one latent ──

  /** @returns {Promise<Latent | undefined>} */
  async function described(/** @type {number} */ latent) {
    const number = index.columns.block[latent];
    if (number < 0) return undefined;
    /** @type {Promise<{latents: Latent[]}>} */ const block = blocks.get(number) ?? load(`block-${String(number).padStart(5, "0")}`);
    blocks.delete(number);
    blocks.set(number, block);
    block.catch(() => blocks.delete(number));
    if (blocks.size > KEPT_BLOCKS) blocks.delete(/** @type {number} */ (blocks.keys().next().value));
    return (await block).latents.find(each => each.index === latent);
  }

  const panel = (/** @type {string} */ heading, /** @type {string} */ definition, /** @type {(Node | string)[]} */ ...children) =>
    el("section", { class: "panel" }, el("h2", definition ? { title: definition } : {}, heading), ...children);

  const figure = (/** @type {string} */ name, /** @type {string} */ text) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, text));

  /** Figures of every latent, described or not. */
  function figures(/** @type {number} */ latent, /** @type {Latent | undefined} */ full) {
    const columns = index.columns;
    const n2g = full?.n2g;
    return el("dl", { class: "figures panel" },
      figure("Share of tokens", percent(columns.density[latent])),
      figure("Max activation", number(columns.max_activation[latent])),
      figure("Mean where it fires", number(columns.mean_activation[latent])),
      figure("N2G F1", columns.n2g_f1[latent] === null ? "–" : number(columns.n2g_f1[latent])),
      ...(n2g ? [figure("N2G precision, recall", `${number(n2g.precision)}, ${number(n2g.recall)}`)] : []));
  }

  function bands(/** @type {Latent} */ full) {
    return full.quantiles.map((band, i) => {
      const details = el("details", { class: "panel" },
        el("summary", {},
          el("strong", {}, `${number(band.from)} to ${number(band.to)}`),
          el("span", { class: "muted" }, ` ${count(band.count)} tokens`)),
        ...band.examples.map(example => latentView.example(example, full.max_activation)));
      if (i < 2) details.setAttribute("open", "");
      return details;
    });
  }

  /** Nothing for a latent that was not taken away. */
  function directEffect(/** @type {DirectEffect | null | undefined} */ effect, /** @type {Record<string, string>} */ about) {
    if (!effect) return [];
    return [panel("Taken away where it is highest", about.direct_effect ?? "", el("dl", { class: "pairs" },
      ...Object.entries(effect).flatMap(([name, found]) => [
        el("dt", { title: about[`direct_effect.${name}`] ?? "" }, name.replaceAll("_", " ")),
        el("dd", {}, number(found)),
      ])))];
  }

  function describe(/** @type {Latent} */ full) {
    const about = index.definitions ?? {};
    const near = (/** @type {Neighbour[]} */ list) =>
      latentView.neighbours(list, latent => index.columns.top_token[latent], latent => `#latent=${latent}`);
    return [
      el("div", { class: "column" },
        panel("Where it fires most", about.top ?? "", ...(full.top.length > 0
          ? full.top.map(example => latentView.example(example, full.max_activation))
          : [el("p", { class: "muted" }, "It fires nowhere in the evaluated text.")])),
        ...(full.quantiles.length > 0 ? [el("h2", { class: "apart", title: about.quantiles ?? "" }, "By strength of activation")] : []),
        ...bands(full)),
      el("div", { class: "column" },
        ...(full.histogram.counts.length > 0 ? [panel("Activations above 0", about.histogram ?? "",
          latentView.histogram(full.histogram), el("p", { class: "muted" }, "Height is the logarithm of the count."))] : []),
        ...(full.n2g ? [panel("Patterns (N2G)", about.n2g ?? "",
          ...(full.n2g.patterns.length > 0
            ? [latentView.patterns(full.n2g), el("p", { class: "muted" }, "Right: the activation on the pattern alone.")]
            : [el("p", { class: "muted" }, "None was found.")]))] : []),
        panel("Raises the logits of", about.top_logits ?? "", latentView.effects(full.top_logits)),
        panel("Lowers the logits of", about.bottom_logits ?? "", latentView.effects(full.bottom_logits)),
        ...directEffect(full.direct_effect, about),
        panel("Nearest by cosine", about.nearest_cosine ?? "", near(full.nearest_cosine)),
        panel("Nearest by co-activation", about.nearest_coactivation ?? "", near(full.nearest_coactivation))),
    ];
  }

  /** Draws a latent's page; of two asked for in haste the later one stays. */
  async function showLatent(/** @type {number} */ latent) {
    const at = order.indexOf(latent);
    const step = (/** @type {string} */ id, /** @type {number} */ to) => {
      const link = byId(id);
      if (at >= 0 && order[to] !== undefined) link.setAttribute("href", `#latent=${order[to]}`);
      else link.removeAttribute("href");
    };
    step("previous", at - 1);
    step("next", at + 1);
    if (at >= 0) selected = at;
    byId("name").textContent = `Latent ${latent}`;
    byId("flags").replaceChildren(
      ...(index.columns.top_token[latent] ? [chip(index.columns.top_token[latent])] : []),
      ...["dead", "dense"].filter(flag => index.columns[/** @type {"dead" | "dense"} */ (flag)][latent])
        .map(flag => el("span", { class: "flag" }, flag)));
    document.title = `Latent ${latent}, ${title}`;
    document.body.className = "one";
    byId("content").replaceChildren(figures(latent, undefined));
    byId("name").focus({ preventScroll: true });
    scrollTo(0, 0);
    try {
      const full = await described(latent);
      if (location.hash !== `#latent=${latent}`) return;
      byId("content").replaceChildren(figures(latent, full), ...(full
        ? [el("div", { class: "columns" }, ...describe(full)), definitions()]
        : [el("p", { class: "panel" }, "No examples of this latent were kept: the setting report.features says how many latents are described.")]));
    } catch (error) {
      byId("content").append(el("p", { class: "warning", role: "alert" }, String(error)));
    }
  }

  const definitions = () =>
    el("details", { class: "panel" }, el("summary", {}, "What the figures are"),
      el("dl", { class: "glossary" }, ...Object.entries(index.definitions ?? {}).flatMap(([name, text]) =>
        [el("dt", { class: "key" }, name), el("dd", {}, text)])));

  // ── where the reader is ──

  function showTable() {
    document.title = title;
    document.body.className = "all";
    select(selected);
    table.focus({ preventScroll: true });
  }

  function route() {
    const wanted = /^#latent=(\d+)$/.exec(location.hash);
    const latent = Number(wanted?.[1]);
    say(wanted && latent >= index.latents ? `There is no latent ${latent}: the last one is ${index.latents - 1}.` : "");
    if (wanted && latent < index.latents) showLatent(latent);
    else showTable();
  }

  const say = (/** @type {string} */ line) => { byId("status").textContent = line; };

  const inTable = () => document.body.className === "all";

  function press(/** @type {KeyboardEvent} */ event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === search || event.target === filter;
    if (event.key === "Escape") {
      if (!inTable()) location.hash = "";
      else if (event.target === search) { search.value = ""; arrange(); table.focus({ preventScroll: true }); }
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      if (!inTable()) location.hash = "";
      setTimeout(() => search.focus()); // after the change of the hash has given the table the focus
    } else if (inTable()) {
      if (event.target === search && (event.key === "ArrowDown" || event.key === "Enter")) {
        event.preventDefault();
        if (event.key === "Enter" && order.length > 0) location.hash = `latent=${order[selected]}`;
        else table.focus({ preventScroll: true });
      } else if (event.target === table) {
        move(event);
      }
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      byId(event.key === "ArrowLeft" ? "previous" : "next").click();
    }
  }

  function move(/** @type {KeyboardEvent} */ event) {
    const page = Math.max(1, Math.floor(scroller.clientHeight / rowHeight) - 2);
    const to = /** @type {Record<string, number>} */ ({
      ArrowDown: selected + 1, ArrowUp: selected - 1, PageDown: selected + page, PageUp: selected - page,
      Home: 0, End: order.length - 1,
    })[event.key];
    if (to !== undefined) {
      event.preventDefault();
      select(to);
    } else if (event.key === "Enter" && order.length > 0) {
      location.hash = `latent=${order[selected]}`;
    }
  }

  function listen() {
    search.addEventListener("input", arrange);
    filter.addEventListener("change", arrange);
    scroller.addEventListener("scroll", draw, { passive: true });
    addEventListener("resize", () => { if (inTable()) draw(); });
    addEventListener("hashchange", route);
    addEventListener("keydown", press);
    headings.forEach(heading => heading.querySelector("button")?.addEventListener("click", () => {
      const column = /** @type {Column} */ (heading.dataset.column);
      // Figures begin with the largest, names and numbers with the first.
      sort = { column, ascending: sort.column === column ? !sort.ascending : column === "index" || column === "top_token" };
      arrange();
    }));
  }

  async function start() {
    index = await load("columns");
    headings.forEach(heading => {
      const definition = index.definitions?.[heading.dataset.column ?? ""];
      if (definition) heading.title = definition;
    });
    [...filter.options].forEach(option => {
      const found = Array.from({ length: index.latents }, (_, latent) => latent).filter(filters[option.value]).length;
      option.text += ` (${count(found)})`;
    });
    // Latents that patterns explain are the ones a reader likes to meet first; without patterns, those with examples.
    if (index.columns.n2g_f1.some(f1 => f1 !== null)) sort = { column: "n2g_f1", ascending: false };
    listen();
    arrange();
    route();
  }

  start().catch(error => say(String(error)));
})();
