// @ts-check
"use strict";

/** @typedef {{index: number, value: number}} Activation */
/** @typedef {{text: string, isBos: boolean, latents: Activation[]}} Token */
/** @typedef {{hook: string, name: string, page: string | null, described: boolean}} Sae */
/**
 * What evaluation knows of all latents; null where it described none.
 * @typedef {{latents: number, columns: {top_token: string[], density: number[], max_activation: number[], block: number[]}} | null} Known
 */

const { el, number, percent, visible, chip, shade } = latentView;
const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const select = /** @type {HTMLSelectElement} */ (byId("sae"));
const textarea = /** @type {HTMLTextAreaElement} */ (byId("text"));

/** Examples of a latent shown here; its own page has all of them. */
const EXAMPLES = 4;

/** @type {Sae[]} */ let saes = [];
/** @type {Token[]} */ let tokens = [];
/** @type {number | null} */ let chosenToken = null;
/** @type {number | null} */ let chosenLatent = null;
/** Counts the questions, so that of two answers the one to the later question stays. */
let asked = 0;
/** Answers that do not change, by address. @type {Map<string, Promise<any>>} */ const answers = new Map();

const say = (/** @type {string} */ line) => { byId("status").textContent = line; };

const sae = () => saes[Number(select.value)];

async function json(/** @type {string} */ url, /** @type {RequestInit | undefined} */ options = undefined) {
  const response = await fetch(url, options);
  if (!response.ok) { throw new Error(`${response.status} ${await response.text()}`); }
  return response.json();
}

/** What lies in the run's folder, asked for once. */
function stored(/** @type {string} */ path, /** @type {Record<string, string>} */ query) {
  const url = `api/${path}?${new URLSearchParams(query)}`;
  const answer = answers.get(url) ?? json(url);
  answers.set(url, answer);
  answer.catch(() => answers.delete(url));
  return answer;
}

/** @returns {Promise<Known>} */
const known = async () => {
  const { hook, name, described } = sae();
  return described ? stored("features", { hook, name }) : null;
};

/** @returns {Promise<Latent | undefined>} */
async function describedLatent(/** @type {Known} */ all, /** @type {number} */ latent) {
  const block = all?.columns.block[latent] ?? -1;
  if (block < 0) { return undefined; }
  const { hook, name } = sae();
  const found = await stored("features/block", { hook, name, number: String(block) });
  return found.latents.find((/** @type {Latent} */ each) => each.index === latent);
}

const valueOf = (/** @type {Token} */ token, /** @type {number | null} */ latent) =>
  token.latents.find(each => each.index === latent)?.value ?? 0;

function showTokens() {
  const most = Math.max(0, ...tokens.filter(token => !token.isBos).map(token => valueOf(token, chosenLatent)));
  byId("tokens").replaceChildren(...tokens.map((token, i) => {
    const value = valueOf(token, chosenLatent);
    const title = chosenLatent === null ? `${token.latents.length} latents` : `latent ${chosenLatent}: ${number(value)}`;
    const button = el("button", {
      type: "button", title, "aria-pressed": String(i === chosenToken),
      class: [token.isBos ? "bos" : "", chosenLatent === null ? "" : `a${shade(value, most)}`].join(" "),
    }, visible(token.text), el("span", { class: "sr" }, value > 0 ? ` ${number(value)}` : ""));
    button.addEventListener("click", () => { chosenToken = i === chosenToken ? null : i; show(); byToken(i)?.focus(); });
    return button;
  }));
}

const byToken = (/** @type {number} */ i) => /** @type {HTMLElement | undefined} */ (byId("tokens").children[i]);

/** The chosen token's latents, or the strongest of the whole text, whose BOS would drown all others. */
function listed() {
  if (chosenToken !== null) { return tokens[chosenToken].latents; }
  /** @type {Map<number, number>} */ const strongest = new Map();
  for (const latent of tokens.filter(token => !token.isBos).flatMap(token => token.latents)) {
    strongest.set(latent.index, Math.max(latent.value, strongest.get(latent.index) ?? 0));
  }
  return [...strongest].map(([index, value]) => ({ index, value })).sort((a, b) => b.value - a.value).slice(0, 50);
}

function showLatents(/** @type {Known} */ all) {
  byId("which").textContent = chosenToken === null ? "strongest in the text" : `on “${visible(tokens[chosenToken].text)}”`;
  byId("latents").replaceChildren(...listed().map(({ index, value }) => {
    const top = all?.columns.top_token[index] ?? "";
    const button = el("button",
      { type: "button", "aria-pressed": String(index === chosenLatent), title: `latent ${index}, activation ${number(value)}` },
      el("span", { class: "number" }, String(index)), top ? chip(top) : el("span"), el("span", { class: "v" }, number(value)));
    button.addEventListener("click", () => {
      chosenLatent = index === chosenLatent ? null : index;
      const at = [...byId("latents").children].indexOf(/** @type {HTMLElement} */ (button.parentElement));
      show().then(() => /** @type {HTMLElement} */ (byId("latents").children[at]?.firstElementChild)?.focus());
    });
    return el("li", {}, button);
  }));
}

async function showFeature(/** @type {Known} */ all) {
  const panel = byId("feature");
  const latent = chosenLatent;
  if (latent === null) { panel.replaceChildren("Choose a latent."); return; }
  const { page } = sae();
  const head = el("h3", {}, `Latent ${latent}`,
    ...(page ? [el("a", { href: `${page}#latent=${latent}` }, "open its page")] : []));
  if (!all) { panel.replaceChildren(head, "The latents of this autoencoder are not described."); return; }
  const figures = el("p", { class: "muted" },
    `Fires on ${percent(all.columns.density[latent])} of tokens, at most ${number(all.columns.max_activation[latent])}.`);
  const full = await describedLatent(all, latent);
  if (latent !== chosenLatent) { return; }
  panel.replaceChildren(head, figures, ...(full ? details(full)
    : ["No examples of it were kept: the setting report.features says how many latents are described."]));
}

function details(/** @type {Latent} */ full) {
  return [
    ...full.top.slice(0, EXAMPLES).map(example => latentView.example(example, full.max_activation)),
    ...(full.n2g && full.n2g.patterns.length > 0 ? [
      el("h4", {}, "Patterns (N2G) ", el("span", { class: "muted" },
        `precision ${number(full.n2g.precision)}, recall ${number(full.n2g.recall)}`)),
      latentView.patterns({ ...full.n2g, patterns: full.n2g.patterns.slice(0, 5) }),
    ] : []),
    el("h4", {}, "Raises the logits of"),
    el("p", {}, ...full.top_logits.flatMap(effect => [chip(effect.token), " "])),
  ];
}

/** Draws everything as chosen; what must be asked for comes after what is here. */
async function show() {
  const question = asked;
  showTokens();
  try {
    const all = await known();
    if (question !== asked) { return; }
    showLatents(all);
    await showFeature(all);
  } catch (error) {
    say(`It failed: ${error}`);
  }
}

async function ask() {
  const question = ++asked;
  const { hook, name, page } = sae();
  say("Running the model…");
  const link = byId("browser");
  link.hidden = page === null;
  link.querySelector("a")?.setAttribute("href", page ?? "");
  try {
    const answer = await json("api/latents", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ hook, name, text: textarea.value }),
    });
    if (question !== asked) { return; }
    tokens = answer;
    chosenToken = chosenLatent = null;
    say(`${tokens.length} tokens.`);
    await show();
  } catch (error) {
    say(`It failed: ${error}`);
  }
}

async function start() {
  const about = await json("api/saes");
  saes = about.saes;
  byId("run").textContent = about.run;
  byId("limit").textContent = `At most ${about.maximumTokens} tokens are read. Ctrl+Enter asks, too.`;
  select.replaceChildren(...saes.map((each, i) => new Option(`${each.hook}  ${each.name}`, String(i))));
  byId("ask").addEventListener("submit", event => { event.preventDefault(); ask(); });
  textarea.addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { ask(); } });
  select.addEventListener("change", ask);
  await ask();
}

start().catch(error => say(`It failed: ${error}`));
