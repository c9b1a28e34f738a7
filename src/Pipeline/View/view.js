// @ts-check
"use strict";

/** @typedef {{index: number, value: number}} Latent */
/** @typedef {{text: string, isBos: boolean, latents: Latent[]}} Token */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const select = /** @type {HTMLSelectElement} */ (byId("sae"));
const textarea = /** @type {HTMLTextAreaElement} */ (byId("text"));

/** @type {{hook: string, name: string}[]} */ let saes = [];
/** @type {Token[]} */ let tokens = [];
/** @type {number | null} */ let chosenToken = null;
/** @type {number | null} */ let chosenLatent = null;
/** @type {Map<string, Map<number, any>>} */ const features = new Map();

const say = (/** @type {string} */ line) => { byId("status").textContent = line; };

async function json(/** @type {string} */ url, /** @type {RequestInit | undefined} */ options = undefined) {
  const response = await fetch(url, options);
  if (!response.ok) { throw new Error(`${response.status} ${await response.text()}`); }
  return response.json();
}

function heat(/** @type {HTMLElement} */ element, /** @type {number} */ value, /** @type {number} */ most) {
  const share = most > 0 ? Math.min(1, Math.max(0, value) / most) : 0;
  if (share > 0) { element.style.background = `rgba(var(--hot), ${(0.15 + 0.75 * share).toFixed(3)})`; }
}

const valueOf = (/** @type {Token} */ token, /** @type {number | null} */ latent) =>
  latent === null ? token.latents[0]?.value ?? 0 : token.latents.find(l => l.index === latent)?.value ?? 0;

function showTokens() {
  const most = Math.max(0, ...tokens.filter(token => !token.isBos).map(token => valueOf(token, chosenLatent)));
  byId("tokens").replaceChildren(...tokens.map((token, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = token.text;
    button.setAttribute("aria-pressed", String(i === chosenToken));
    const value = valueOf(token, chosenLatent);
    button.title = chosenLatent === null ? `${token.latents.length} latents` : `latent ${chosenLatent}: ${value.toFixed(3)}`;
    if (chosenLatent !== null) { heat(button, value, most); }
    button.addEventListener("click", () => { chosenToken = i === chosenToken ? null : i; showTokens(); showLatents(); });
    return button;
  }));
}

/** The chosen token's latents, or the strongest of the whole text, whose BOS would drown all others. */
function listed() {
  if (chosenToken !== null) { return tokens[chosenToken].latents; }
  /** @type {Map<number, number>} */ const strongest = new Map();
  for (const latent of tokens.filter(token => !token.isBos).flatMap(token => token.latents)) {
    strongest.set(latent.index, Math.max(latent.value, strongest.get(latent.index) ?? 0));
  }
  return [...strongest].map(([index, value]) => ({ index, value })).sort((a, b) => b.value - a.value).slice(0, 50);
}

function showLatents() {
  byId("which").textContent = chosenToken === null ? "strongest in the text" : `on “${tokens[chosenToken].text}”`;
  byId("latents").replaceChildren(...listed().map(latent => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(latent.index === chosenLatent));
    for (const part of [`latent ${latent.index}`, latent.value.toFixed(3)]) {
      const span = document.createElement("span");
      span.textContent = part;
      button.append(span);
    }
    button.addEventListener("click", () => {
      chosenLatent = latent.index === chosenLatent ? null : latent.index;
      showTokens(); showLatents(); showFeature();
    });
    item.append(button);
    return item;
  }));
}

async function featuresOf(/** @type {{hook: string, name: string}} */ sae) {
  const key = `${sae.hook}/${sae.name}`;
  if (!features.has(key)) {
    const query = new URLSearchParams(sae);
    const found = await json(`api/features?${query}`).catch(() => ({ features: [] }));
    features.set(key, new Map(found.features.map((/** @type {any} */ f) => [f.index, f])));
  }
  return /** @type {Map<number, any>} */ (features.get(key));
}

async function showFeature() {
  const panel = byId("feature");
  if (chosenLatent === null) { panel.textContent = "Choose a latent."; return; }
  const feature = (await featuresOf(saes[Number(select.value)])).get(chosenLatent);
  if (!feature) { panel.textContent = `No examples of latent ${chosenLatent} were kept (report.features chooses how many).`; return; }
  const head = document.createElement("p");
  head.textContent = `Latent ${feature.index}: fires on ${(100 * feature.density).toPrecision(3)} % of tokens, at most ${feature.max_activation.toFixed(3)}.`;
  panel.replaceChildren(head, ...feature.examples.map((/** @type {any} */ example) => {
    const line = document.createElement("p");
    line.className = "example";
    line.append(...example.tokens.map((/** @type {string} */ token, /** @type {number} */ i) => {
      const span = document.createElement("span");
      span.textContent = token;
      heat(span, example.activations[i], feature.max_activation);
      return span;
    }));
    return line;
  }));
}

async function ask() {
  say("Running the model…");
  const { hook, name } = saes[Number(select.value)];
  try {
    tokens = await json("api/latents", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ hook, name, text: textarea.value }),
    });
    chosenToken = chosenLatent = null;
    say(`${tokens.length} tokens.`);
    showTokens(); showLatents(); showFeature();
  } catch (error) {
    say(`It failed: ${error}`);
  }
}

async function start() {
  const about = await json("api/saes");
  saes = about.saes;
  byId("run").textContent = about.run;
  select.replaceChildren(...saes.map((sae, i) => new Option(`${sae.hook}  ${sae.name}`, String(i))));
  byId("ask").addEventListener("submit", event => { event.preventDefault(); ask(); });
  select.addEventListener("change", ask);
  await ask();
}

start().catch(error => say(`It failed: ${error}`));
