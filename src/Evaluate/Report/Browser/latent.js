// @ts-check
"use strict";

/**
 * One latent as DOM nodes, for the feature browser and the live page. Text from artifacts is hostile: it reaches the page
 * as text nodes and attribute values, never as markup.
 *
 * @typedef {{tokens: string[], activations: number[], peak: number, document?: number, position?: number}} Example
 * @typedef {{token: string, value: number}} Effect
 * @typedef {{latent: number, value: number}} Neighbour
 * @typedef {{tokens: (string | null)[], can_pad_start: boolean, activation: number}} Pattern
 * @typedef {Record<"top_token_drop" | "predicted_top_token_drop" | "random_token_drop" | "correlation", number | null>} DirectEffect
 * @typedef {{precision: number | null, recall: number | null, f1: number | null, patterns: Pattern[]}} N2G
 * @typedef {{
 *   index: number, density: number, max_activation: number, mean_activation: number, dead: boolean, dense: boolean,
 *   histogram: {edges: number[], counts: number[]}, top_logits: Effect[], bottom_logits: Effect[],
 *   nearest_cosine: Neighbour[], nearest_coactivation: Neighbour[], direct_effect?: DirectEffect | null,
 *   n2g: N2G | null, top: Example[], quantiles: {from: number, to: number, count: number, examples: Example[]}[]
 * }} Latent
 */
const latentView = (() => {
  const SHADES = 8;
  const SVG = "http://www.w3.org/2000/svg";

  /** An element; strings among the children become text nodes. */
  function el(
    /** @type {string} */ tag,
    /** @type {Record<string, string>} */ attributes = {},
    /** @type {(Node | string)[]} */ ...children
  ) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  }

  /** As many digits as a reader compares; a dash for what is undefined. */
  function number(/** @type {number | null | undefined} */ value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    const text = size === 0 ? "0"
      : size < 0.001 ? value.toExponential(1)
      : size < 10 ? value.toFixed(3)
      : size < 100 ? value.toFixed(2)
      : size < 10000 ? value.toFixed(1)
      : Math.round(value).toLocaleString("en");
    return text.replace(/^-/, "\u2212");
  }

  /** A share of tokens; the smallest ones keep their digits. */
  const percent = (/** @type {number} */ share, digits = 3) =>
    share === 0 ? "0%" : `${Number((100 * share).toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 8 })}%`;

  const count = (/** @type {number} */ value) => value.toLocaleString("en");

  /** White space and control characters that would not show, as signs that do. */
  const visible = (/** @type {string} */ token) =>
    token.replace(/\r\n|\n|\r/g, "↵").replace(/\t/g, "⇥").replace(/[\u0000-\u001f\u007f-\u009f]/g, "\ufffd");

  /** A token apart from its text: a leading or trailing space must show. */
  const chip = (/** @type {string} */ token) =>
    el("code", { class: "chip", dir: "auto" }, visible(token).replace(/^ | $/g, "\u2423") || "∅");

  /** 0 to 8, by the share of the largest activation. */
  const shade = (/** @type {number} */ value, /** @type {number} */ most) =>
    most > 0 && value > 0 ? Math.ceil(Math.min(1, value / most) * SHADES) : 0;

  /** Text with its tokens shaded; what the shades say stands after it for readers who do not see them. */
  function example(/** @type {Example} */ given, /** @type {number} */ most) {
    const line = el("p", { class: "example", dir: "auto" });
    /** @type {string[]} */ const fired = [];
    given.tokens.forEach((token, i) => {
      const text = i === 0 ? visible(token).trimStart() : visible(token);
      const value = given.activations[i];
      const level = shade(value, most);
      // The space before a word stays outside the shade, which a line break would otherwise leave hanging.
      const word = text.trimStart() || text;
      line.append(text.slice(0, text.length - word.length));
      if (level === 0 && i !== given.peak) {
        line.append(word);
        return;
      }
      line.append(el(i === given.peak ? "mark" : "span", { class: `a${level}`, title: number(value) }, word));
      fired.push(`${word} ${number(value)}`);
    });
    line.append(el("span", { class: "sr" }, ` Fires on ${fired.join(", ")}.`));
    if (given.document !== undefined) {
      line.append(el("small", { class: "source" }, ` document ${given.document}, token ${given.position}`));
    }
    return line;
  }

  /** Bars as high as log(1 + count): the few strongest activations would not show beside the many weak ones. */
  function histogram(/** @type {{edges: number[], counts: number[]}} */ { edges, counts }) {
    const [width, height] = [320, 96];
    const most = Math.log1p(Math.max(1, ...counts));
    const svg = document.createElementNS(SVG, "svg");
    const total = counts.reduce((sum, n) => sum + n, 0);
    svg.setAttribute("viewBox", `0 0 ${width} ${height + 18}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("class", "histogram");
    svg.setAttribute("aria-label",
      `Histogram of ${count(total)} activations above 0, from ${number(edges[0])} to ${number(edges[edges.length - 1])}.`);
    /** @param {string} tag @param {Record<string, string | number>} attributes @param {string} text */
    const add = (tag, attributes, text, parent = /** @type {Element} */ (svg)) => {
      const element = document.createElementNS(SVG, tag);
      Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, String(value)));
      element.textContent = text;
      parent.append(element);
      return element;
    };
    const step = width / Math.max(1, counts.length);
    counts.forEach((n, i) => {
      const title = `${count(n)} from ${number(edges[i])} to ${number(edges[i + 1])}`;
      const high = n > 0 ? Math.max(2, Math.log1p(n) / most * height) : 0;
      add("rect", { class: "count", x: i * step + 0.5, y: height - high, width: Math.max(0.5, step - 1), height: high }, "");
      add("title", {}, title, add("rect", { class: "hit", x: i * step, y: 0, width: step, height }, ""));
    });
    add("line", { class: "base", x1: 0, y1: height, x2: width, y2: height }, "");
    add("text", { x: 0, y: height + 14 }, number(edges[0]));
    add("text", { x: width, y: height + 14, "text-anchor": "end" }, number(edges[edges.length - 1]));
    return svg;
  }

  /** Tokens whose logits it moves, with bars as long as the effect. */
  function effects(/** @type {Effect[]} */ list) {
    const most = Math.max(1e-12, ...list.map(effect => Math.abs(effect.value)));
    return el("ol", { class: "bars" }, ...list.map(({ token, value }) => {
      const bar = el("span", { class: value < 0 ? "bar down" : "bar", "aria-hidden": "true" });
      bar.style.width = `${(100 * Math.abs(value) / most).toFixed(1)}%`;
      return el("li", {}, chip(token), el("span", { class: "track" }, bar), el("span", { class: "v" }, number(value)));
    }));
  }

  /** Latents like it, as links. */
  function neighbours(
    /** @type {Neighbour[]} */ list,
    /** @type {(latent: number) => string} */ topToken,
    /** @type {(latent: number) => string} */ linkTo
  ) {
    return list.length === 0 ? el("p", { class: "muted" }, "None.") : el("ol", { class: "bars" }, ...list.map(({ latent, value }) =>
      el("li", {},
        el("a", { href: linkTo(latent) }, String(latent)),
        el("span", { class: "track" }, topToken(latent) ? chip(topToken(latent)) : ""),
        el("span", { class: "v" }, number(value)))));
  }

  /** What must stand before a token for the latent to fire on it. */
  const pattern = (/** @type {Pattern} */ { tokens, can_pad_start: canPadStart, activation }) =>
    el("li", { class: "pattern" },
      ...(canPadStart ? [] : [el("span", { class: "any", title: "begins the text" }, "start"), " "]),
      ...tokens.flatMap(token => [token === null ? el("span", { class: "any", title: "any token" }, "any") : chip(token), " "]),
      el("span", { class: "v", title: "activation on this stretch alone" }, number(activation)));

  /** Of patterns that read the same the strongest. */
  function patterns(/** @type {N2G} */ n2g) {
    /** @type {Map<string, Pattern>} */ const unlike = new Map();
    for (const each of n2g.patterns) {
      const key = JSON.stringify([each.tokens, each.can_pad_start]);
      if (!((unlike.get(key)?.activation ?? -1) >= each.activation)) unlike.set(key, each);
    }
    return el("ul", { class: "patterns" }, ...[...unlike.values()].map(pattern));
  }

  return { el, number, percent, count, visible, chip, shade, example, histogram, effects, neighbours, patterns };
})();
